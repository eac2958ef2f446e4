"""Calibration: whether a confidence of 80 % is right four times in five."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from potstill.metrics import DECILES, Labels, Truth
from potstill.outcomes import Floats, Outcome, Probabilities, Rate, Value

BINS = 15
TENTHS = 10


@dataclass(frozen=True)
class Bin:
    """Rows of like confidence (for a rate: of like rate): their weight, mean confidence and share that came true."""

    weight: float
    confidence: float
    accuracy: float


def figures(outcome: Outcome, probabilities: Probabilities, truth: Truth) -> dict[str, float]:
    """The calibration figures of the outcome's family, by name; rows count by their weight."""
    if isinstance(outcome, Value):
        return {"quantile_error": quantile_error(outcome, probabilities, truth)}
    if isinstance(outcome, Rate):
        return {"ece": calibration_error(rate_bins(probabilities[:, 1], truth))}
    return {"ece": calibration_error(reliability(probabilities, truth)), "brier": brier_score(probabilities, truth)}


def reliability(probabilities: Probabilities, truth: Truth) -> list[Bin]:
    """Filled bins of equal width over the confidence of the answer, lowest first (Guo et al. 2017)."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth.values
    # A bin holds its upper bound, not its lower one, as in the paper.
    place = np.ceil(confidence * BINS).astype(int) - 1
    return [_bin(np.flatnonzero(place == i), confidence, right, truth) for i in range(BINS) if (place == i).any()]


def rate_bins(rates: Probabilities, truth: Truth) -> list[Bin]:
    """Tenths of the rows by their rate, lowest first: the mean rate, and the share of yes that came true."""
    tenths = np.array_split(np.argsort(rates, kind="stable"), TENTHS)
    return [_bin(rows, rates, truth.values, truth) for rows in tenths if len(rows)]


def _bin(rows: Labels, confidence: Probabilities, came: npt.NDArray[Any], truth: Truth) -> Bin:
    weights = _weights(truth)[rows]
    means = (float(np.average(found[rows], weights=weights)) for found in (confidence, came))
    return Bin(float(weights.sum()), *means)


def _weights(truth: Truth) -> Floats:
    return np.ones(len(truth)) if truth.weights is None else truth.weights


def calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance of confidence and accuracy over the bins, by their weight (Guo et al. 2017)."""
    return sum(b.weight * abs(b.confidence - b.accuracy) for b in bins) / sum(b.weight for b in bins)


def quantile_shares(outcome: Value, probabilities: Probabilities, truth: Truth) -> dict[float, float]:
    """Decile → share of the values at or below the forecast quantile; equal where the bands are honest."""
    weights = _weights(truth)
    return {
        share: float(np.average(truth.values <= outcome.quantile(probabilities, share), weights=weights))
        for share in DECILES
    }


def quantile_error(outcome: Value, probabilities: Probabilities, truth: Truth) -> float:
    """Mean distance of the deciles from the shares that they hold (Kuleshov et al. 2018)."""
    shares = quantile_shares(outcome, probabilities, truth)
    return float(np.mean([abs(found - share) for share, found in shares.items()]))


def brier_score(probabilities: Probabilities, truth: Truth) -> float:
    """Mean over rows of the squared distance of the probabilities `[rows, outcomes]` from the truth (Brier 1950)."""
    right = np.eye(probabilities.shape[1])[truth.values.astype(np.int64)]
    return float(np.average(((probabilities - right) ** 2).sum(axis=1), weights=_weights(truth)))
