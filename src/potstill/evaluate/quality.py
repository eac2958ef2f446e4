"""Quality with intervals: paired bootstrap over the test rows.

All models are resampled with the same rows, so that differences and ratios between them are paired
(Efron & Tibshirani 1993, chapter 13: percentile intervals).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from potstill.metrics import Metric, Truth
from potstill.progress import Progress

Labels = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]
PERCENTILES = (2.5, 97.5)
# Share of resamples that may lack a figure without a doubt about its interval.
UNKNOWN = 0.05


@dataclass(frozen=True)
class Interval:
    """A figure on all test rows, and the 95 % interval of its resamples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Resampled:
    """A metric of a model on all rows, and on each resample `[resamples]`."""

    value: float
    values: Scores


def confusion_matrix(labels: Labels, guesses: Labels, outcomes: int) -> npt.NDArray[np.int64]:
    """Counts `[label, guess]`."""
    flat = np.bincount(labels * outcomes + guesses, minlength=outcomes * outcomes)
    return flat.reshape(outcomes, outcomes)


def resample(
    metrics: Mapping[str, Mapping[str, Metric]], truth: Truth, resamples: int, seed: int
) -> dict[str, dict[str, Resampled]]:
    """Every model's metrics on all rows and on the same resamples of them: model → metric → figures.

    Rows of one group are drawn together, since they are no independent witnesses.

    Args:
        metrics: model → metric → its function.
        truth: of the rows to draw from.
        resamples: how often the rows (or groups) are drawn again, with replacement.
        seed: of the draws.
    """
    drawn: dict[str, dict[str, list[Scores]]] = {
        model: {name: [] for name in found} for model, found in metrics.items()
    }
    progress, done = Progress(resamples, "resample"), 0
    for draws in _draws(truth, resamples, seed):
        for model, found in metrics.items():
            for name, metric in found.items():
                drawn[model][name].append(metric(draws))
        done += len(draws)
        progress.at(done)
    everything = np.ones((1, len(truth)))
    return {
        model: {
            name: Resampled(float(f(everything)[0]), np.concatenate(drawn[model][name])) for name, f in found.items()
        }
        for model, found in metrics.items()
    }


def interval(found: Resampled) -> Interval:
    """A figure with the percentile interval of its resamples."""
    low, high = np.percentile(found.values, PERCENTILES)
    return Interval(found.value, float(low), float(high))


def difference(first: Resampled, second: Resampled) -> Interval:
    """The first model's figure minus the second's, paired."""
    return interval(Resampled(first.value - second.value, first.values - second.values))


def ratio(first: Resampled, second: Resampled) -> Interval:
    """The first model's figure over the second's, paired. Not a number where the second's is 0."""
    return interval(_over(first.value, first.values, second.value, second.values))


def gain_kept(model: Resampled, teacher: Resampled, trivial: Resampled, higher_is_better: bool) -> Interval:
    """Share of the teacher's gain over the trivial forecast that a model keeps, paired.

    Not a number where the teacher gains nothing; nor are its ends where that is so in resamples beyond chance.
    """
    sign = 1 if higher_is_better else -1
    own = Resampled(sign * (model.value - trivial.value), sign * (model.values - trivial.values))
    whole, wholes = sign * (teacher.value - trivial.value), sign * (teacher.values - trivial.values)
    nothing = float("nan")
    kept = _over(own.value, own.values, max(whole, 0.0), np.maximum(wholes, 0.0))
    if whole <= 0 or np.mean(wholes <= 0) > UNKNOWN:
        return Interval(kept.value, nothing, nothing)
    return interval(replace(kept, values=kept.values[wholes > 0]))


def _over(value: float, values: Scores, whole: float, wholes: Scores) -> Resampled:
    unknown = np.full_like(wholes, np.nan)
    ratios = np.divide(values, wholes, out=unknown, where=wholes != 0)
    return Resampled(value / whole if whole else float("nan"), ratios)


def _draws(truth: Truth, resamples: int, seed: int, block: int = 100) -> Iterator[Scores]:
    """How often each row is drawn, `[some resamples, rows]` at a time so that memory stays small."""
    random = np.random.default_rng(seed)
    groups = np.arange(len(truth)) if truth.groups is None else truth.groups
    drawn = int(groups.max()) + 1
    for start in range(0, resamples, block):
        chosen = random.integers(drawn, size=(min(block, resamples - start), drawn))
        counts = np.stack([np.bincount(row, minlength=drawn) for row in chosen]).astype(np.float64)
        yield counts if truth.groups is None else counts[:, groups]
