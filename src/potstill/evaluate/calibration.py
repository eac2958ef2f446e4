"""Calibration: whether a confidence of 80 % is right four times in five."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from potstill.metrics import DECILES, Truth
from potstill.outcomes import Floats, Outcome, Probabilities, Rate, Value

BINS = 15
TENTHS = 10


@dataclass(frozen=True)
class Bin:
    """Rows of like confidence (for a rate: of like rate), their mean confidence and the share that came true."""

    rows: int
    confidence: float
    accuracy: float


def figures(outcome: Outcome, probabilities: Probabilities, truth: Truth) -> dict[str, float]:
    """The calibration figures of the outcome's family, by name."""
    if isinstance(outcome, Value):
        return {"quantile_error": quantile_error(outcome, probabilities, truth.values)}
    if isinstance(outcome, Rate):
        bins = rate_bins(probabilities[:, 1], truth)
        return {"ece": sum(b.rows * abs(b.confidence - b.accuracy) for b in bins) / len(truth)}
    labels = truth.values.astype(np.int64)
    return {
        "ece": expected_calibration_error(probabilities, labels),
        "brier": brier_score(probabilities, labels),
    }


def reliability(probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.int64]) -> list[Bin]:
    """Filled bins of equal width over the confidence of the answer, lowest first (Guo et al. 2017)."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    # A bin holds its upper bound, not its lower one, as in the paper.
    place = np.ceil(confidence * BINS).astype(int) - 1
    chosen = [place == i for i in range(BINS)]
    return [
        Bin(int(rows.sum()), float(confidence[rows].mean()), float(right[rows].mean())) for rows in chosen if rows.any()
    ]


def rate_bins(rates: npt.NDArray[np.floating], truth: Truth) -> list[Bin]:
    """Tenths of the rows by their rate, lowest first: the mean rate, and the share of yes that came true."""
    weights = np.ones(len(truth)) if truth.weights is None else truth.weights
    tenths = [rows for rows in np.array_split(np.argsort(rates, kind="stable"), TENTHS) if len(rows)]
    return [
        Bin(
            len(rows),
            float(np.average(rates[rows], weights=weights[rows])),
            float(np.average(truth.values[rows], weights=weights[rows])),
        )
        for rows in tenths
    ]


def quantile_shares(outcome: Value, probabilities: Probabilities, values: Floats) -> dict[float, float]:
    """Decile → share of values `[rows]` at or below the forecast quantile; equal where the bands are honest."""
    return {share: float((values <= outcome.quantile(probabilities, share)).mean()) for share in DECILES}


def quantile_error(outcome: Value, probabilities: Probabilities, values: Floats) -> float:
    """Mean distance of the deciles from the shares that they hold (Kuleshov et al. 2018)."""
    shares = quantile_shares(outcome, probabilities, values)
    return float(np.mean([abs(found - share) for share, found in shares.items()]))


def expected_calibration_error(probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.int64]) -> float:
    """Mean distance of confidence and accuracy over the bins, weighted by rows (Guo et al. 2017)."""
    bins = reliability(probabilities, labels)
    return sum(b.rows * abs(b.confidence - b.accuracy) for b in bins) / len(labels)


def brier_score(probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.int64]) -> float:
    """Mean over rows of the squared distance of the probabilities `[rows, outcomes]` from the truth (Brier 1950)."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())
