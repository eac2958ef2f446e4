"""Quality with intervals: accuracy, macro-F1, and paired bootstrap over the test rows.

All models are resampled with the same rows, so that differences and ratios between them are paired
(Efron & Tibshirani 1993, chapter 13: percentile intervals).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Interval:
    """A figure on all test rows, and the 95 % interval of its resamples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Resampled:
    """A model's figures on all rows, and on each resample `[resamples]`."""

    accuracy: float
    macro_f1: float
    accuracies: Scores
    macro_f1s: Scores


def accuracy(labels: Labels, guesses: Labels) -> float:
    """Share of right answers."""
    return float((labels == guesses).mean())


def macro_f1(labels: Labels, guesses: Labels, outcomes: int) -> float:
    """Mean F1 over the outcomes that occur among the labels; one without a right answer counts as 0."""
    return float(_macro_f1(*_counts(labels[None], guesses[None], outcomes))[0])


def confusion_matrix(labels: Labels, guesses: Labels, outcomes: int) -> npt.NDArray[np.int64]:
    """Counts `[label, guess]`."""
    flat = np.bincount(labels * outcomes + guesses, minlength=outcomes * outcomes)
    return flat.reshape(outcomes, outcomes)


def resample(
    labels: Labels, guesses: Mapping[str, Labels], outcomes: int, resamples: int, seed: int
) -> dict[str, Resampled]:
    """Every model's figures on the rows and on the same resamples of them.

    Args:
        labels: `[rows]`, indices of outcomes.
        guesses: model → `[rows]`.
        outcomes: how many there are.
        resamples: how often the rows are drawn again, with replacement.
        seed: of the draws.
    """
    accuracies: dict[str, list[Scores]] = {model: [] for model in guesses}
    macro_f1s: dict[str, list[Scores]] = {model: [] for model in guesses}
    for rows in _draws(len(labels), resamples, seed):
        for model, guess in guesses.items():
            drawn_labels, drawn_guesses = labels[rows], guess[rows]
            accuracies[model].append((drawn_labels == drawn_guesses).mean(axis=1))
            macro_f1s[model].append(_macro_f1(*_counts(drawn_labels, drawn_guesses, outcomes)))
    return {
        model: Resampled(
            accuracy(labels, guess),
            macro_f1(labels, guess, outcomes),
            np.concatenate(accuracies[model]),
            np.concatenate(macro_f1s[model]),
        )
        for model, guess in guesses.items()
    }


def interval(value: float, resampled: Scores) -> Interval:
    """A figure with the percentile interval of its resamples."""
    low, high = np.percentile(resampled, PERCENTILES)
    return Interval(value, float(low), float(high))


def difference(first: Resampled, second: Resampled) -> Interval:
    """Macro-F1 of the first model minus the second's, paired."""
    return interval(first.macro_f1 - second.macro_f1, first.macro_f1s - second.macro_f1s)


def ratio(first: Resampled, second: Resampled) -> Interval:
    """Macro-F1 of the first model over the second's, paired. Not a number where the second's is 0."""
    value = first.macro_f1 / second.macro_f1 if second.macro_f1 else float("nan")
    unknown = np.full_like(second.macro_f1s, np.nan)
    return interval(value, np.divide(first.macro_f1s, second.macro_f1s, out=unknown, where=second.macro_f1s > 0))


def _draws(rows: int, resamples: int, seed: int, block: int = 100) -> Iterator[npt.NDArray[np.int64]]:
    """Resampled row indices, `[some resamples, rows]` at a time so that memory stays small."""
    random = np.random.default_rng(seed)
    for start in range(0, resamples, block):
        yield random.integers(rows, size=(min(block, resamples - start), rows))


def _counts(labels: Labels, guesses: Labels, outcomes: int) -> tuple[Scores, Scores, Scores]:
    """Right answers, labels and guesses an outcome, each `[resamples, outcomes]`, from `[resamples, rows]`."""
    offsets = np.arange(len(labels))[:, None] * outcomes

    def count(values: Labels, weights: Scores | None = None) -> Scores:
        total = np.bincount((values + offsets).ravel(), weights, minlength=len(labels) * outcomes)
        return total.reshape(len(labels), outcomes).astype(np.float64)

    return count(labels, (labels == guesses).ravel().astype(np.float64)), count(labels), count(guesses)


def _macro_f1(right: Scores, labelled: Scores, guessed: Scores) -> Scores:
    present = labelled > 0
    f1 = 2 * right / np.maximum(labelled + guessed, 1)
    total: Scores = (f1 * present).sum(axis=1) / present.sum(axis=1)
    return total
