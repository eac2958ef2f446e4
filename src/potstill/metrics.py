"""The quality of predictions, a family of outcomes at a time.

A metric takes drawn rows `[draws, rows]`, indices of the test rows, and gives one figure a draw `[draws]`: so the
figure on all rows and its bootstrap come from the same code.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from potstill.outcomes import HIGH, LOW, Classification, Floats, Outcome, Probabilities, Value

Draws = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64]
Metric = Callable[[Draws], Floats]
# Shares at which the pinball loss looks.
DECILES = tuple(i / 10 for i in range(1, 10))


@dataclass(frozen=True)
class Meaning:
    """How a metric is written, and which way is up."""

    title: str
    higher_is_better: bool
    form: str = "{:.3f}"


# The first of a family is the one that decides: early stopping, retention, the champion.
MEANINGS: Mapping[str, Mapping[str, Meaning]] = {
    Classification.kind: {
        "macro_f1": Meaning("macro-F1", True),
        "accuracy": Meaning("accuracy", True),
    },
    Value.kind: {
        "mae_log": Meaning("MAE of log", False),
        "mae": Meaning("MAE", False, "{:,.4g}"),
        "mdape": Meaning("median APE", False, "{:.1%}"),
        "rmsle": Meaning("RMSLE", False),
        "r2": Meaning("R²", True),
        "pinball": Meaning("pinball", False, "{:,.4g}"),
        "coverage": Meaning("in 80 % band", True, "{:.1%}"),
    },
}

# What speaks of factors, so of values above zero only.
OF_FACTORS = ("mae_log", "rmsle")


def meanings_of(outcome: Outcome) -> Mapping[str, Meaning]:
    """The family's metrics; the first is the one that decides."""
    found = MEANINGS[outcome.kind]
    if isinstance(outcome, Value) and outcome.scale != "log":
        return {name: meaning for name, meaning in found.items() if name not in OF_FACTORS}
    return found


def primary(outcome: Outcome) -> str:
    """Name of the metric that decides."""
    return next(iter(meanings_of(outcome)))


def metrics_of(outcome: Outcome, values: Floats, probabilities: Probabilities) -> dict[str, Metric]:
    """The family's metrics, ready to be asked about drawn rows.

    Args:
        outcome: the family.
        values: labels as numbers `[rows]`.
        probabilities: predictions `[rows, outcomes]`.
    """
    if isinstance(outcome, Classification):
        return _of_classes(values.astype(np.int64), probabilities.argmax(axis=1), len(outcome))
    return _of_values(outcome, values, probabilities)


def score(outcome: Outcome, values: Floats, probabilities: Probabilities) -> dict[str, float]:
    """Every metric of the family on all rows."""
    everything = np.arange(len(values))[None]
    found = metrics_of(outcome, values, probabilities)
    return {name: float(metric(everything)[0]) for name, metric in found.items()}


def better(outcome: Outcome, figure: float) -> float:
    """The deciding figure with a sign that makes more better."""
    return figure if meanings_of(outcome)[primary(outcome)].higher_is_better else -figure


def _of_classes(labels: Labels, guesses: Labels, outcomes: int) -> dict[str, Metric]:
    right = labels == guesses
    return {
        "macro_f1": lambda rows: macro_f1(labels[rows], guesses[rows], outcomes),
        "accuracy": lambda rows: right[rows].mean(axis=1),
    }


def macro_f1(labels: Labels, guesses: Labels, outcomes: int) -> Floats:
    """Mean F1 `[draws]` over the outcomes that occur among the labels `[draws, rows]`; one never right counts as 0."""
    offsets = np.arange(len(labels))[:, None] * outcomes

    def count(values: Labels, weights: Floats | None = None) -> Floats:
        total = np.bincount((values + offsets).ravel(), weights, minlength=len(labels) * outcomes)
        return total.reshape(len(labels), outcomes).astype(np.float64)

    right = count(labels, (labels == guesses).ravel().astype(np.float64))
    labelled, guessed = count(labels), count(guesses)
    f1 = 2 * right / np.maximum(labelled + guessed, 1)
    present = labelled > 0
    total: Floats = (f1 * present).sum(axis=1) / present.sum(axis=1)
    return total


def _of_values(outcome: Value, values: Floats, probabilities: Probabilities) -> dict[str, Metric]:
    median, mean = outcome.quantile(probabilities, 0.5), outcome.mean(probabilities)
    low, high = outcome.quantile(probabilities, LOW), outcome.quantile(probabilities, HIGH)
    size = np.maximum(np.abs(values), 1e-9)
    distance = np.abs(values - median)
    pinball = np.mean([_pinball(values, outcome.quantile(probabilities, share), share) for share in DECILES], axis=0)
    found = {
        "mae": _mean_of(distance),
        "mdape": lambda rows: np.median((distance / size)[rows], axis=1),
        "r2": lambda rows: 1 - ((values - mean) ** 2)[rows].mean(axis=1) / values[rows].var(axis=1),
        "pinball": _mean_of(pinball),
        "coverage": _mean_of(((low <= values) & (values <= high)).astype(np.float64)),
    }
    if outcome.scale != "log":
        return found
    factor = np.abs(np.log(values) - np.log(median))
    return {
        "mae_log": _mean_of(factor),
        "rmsle": lambda rows: np.sqrt(((np.log1p(values) - np.log1p(median)) ** 2)[rows].mean(axis=1)),
        **found,
    }


def _mean_of(figures: Floats) -> Metric:
    return lambda rows: figures[rows].mean(axis=1)


def _pinball(values: Floats, quantile: Floats, share: float) -> Floats:
    """Loss of a quantile forecast, a row `[rows]` (Koenker & Bassett 1978): lowest where the share is right."""
    short = values - quantile
    return np.maximum(share * short, (share - 1) * short)
