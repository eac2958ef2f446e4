"""Compare: a window's histograms against the training data's, by how much they differ and whether chance explains it.

How much is the population stability index (PSI: Siddiqi 2006), the symmetrised Kullback-Leibler divergence of the bins'
shares. Chance is tested by Kolmogorov and Smirnov's largest gap between the cumulative shares of ordered bins, and by
Pearson's chi-square of names. Their p-values are those of the permutation test, which needs no more than the counts:
rows of both sides, shuffled, fall into bins as a multivariate hypergeometric draw. So they hold for few rows, for ties
and for bins, where the usual tables don't. Many columns are tested; Holm (1979) holds the chance of any false alarm at
the level.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from potstill.drift.histogram import Counts, Histogram, Values
from potstill.outcomes import Floats

# Chance that any column of a window that is like the training data is called different from it.
LEVEL = 0.01
# So many draws lie beyond the strictest p-value that is asked for, on the average.
DRAWS_BEYOND = 10
SEED = 7
# What an ordered column of numbers has between its outermost edges.
BINS = 10
Statistic = Callable[[Counts, Counts], Floats]


@dataclass(frozen=True)
class Finding:
    """What became of a column.

    Attributes:
        column: its name.
        psi: population stability index.
        test: name of the statistic, `ks` or `chi_square`.
        statistic: its value.
        p: chance of such a value or a larger one among rows of one kind.
        p_adjusted: the same, were it the only column, that would be as convincing.
        drifted: whether it differs by enough and beyond chance.
        bins: names of the bins.
        reference: shares of the training data in them.
        window: shares of the window.
    """

    column: str
    psi: float
    test: str
    statistic: float
    p: float
    p_adjusted: float
    drifted: bool
    bins: tuple[str, ...]
    reference: tuple[float, ...]
    window: tuple[float, ...]


def compare(reference: Mapping[str, Histogram], window: Mapping[str, Values], psi_from: float) -> list[Finding]:
    """Every column that both have, those that differ most first.

    Args:
        reference: of the training data.
        window: values of the rows to compare.
        psi_from: index from which on a difference that is beyond chance counts as drift.
    """
    names = [name for name in reference if name in window]
    draws = math.ceil(DRAWS_BEYOND * len(names) / LEVEL)
    counts = {name: (np.array(reference[name].counts), reference[name].count(window[name])) for name in names}
    tests = [_of(reference[name]) for name in names]
    p = [chance(*counts[name], statistic, draws) for name, (_, statistic) in zip(names, tests, strict=True)]
    found = []
    for name, (test, statistic), own, adjusted in zip(names, tests, p, holm(p), strict=True):
        index, value = psi(*counts[name]), float(statistic(*counts[name]))
        drifted = index >= psi_from and adjusted <= LEVEL
        shares = (tuple((side / side.sum()).tolist()) for side in counts[name])
        found.append(Finding(name, index, test, value, own, adjusted, drifted, reference[name].bins.names, *shares))
    return sorted(found, key=lambda finding: (not finding.drifted, -finding.psi))


def _of(histogram: Histogram) -> tuple[str, Statistic]:
    return ("ks", ks) if histogram.bins.ordered else ("chi_square", chi_square)


def rows_needed(reference_rows: int, psi_from: float) -> int | None:
    """Rows that a window needs for differences of that size to stand out; none: no window has enough.

    What ten bins show by chance (see `psi`) may be half of what counts as drift, at most.

    Args:
        reference_rows: n, those of the training data.
        psi_from: index from which on a difference counts as drift.
    """
    left = psi_from / 2 / (BINS - 1) - 1 / reference_rows
    return math.ceil(1 / left) if left > 0 else None


def psi(reference: Counts, window: Counts) -> float:
    """Population stability index of counts `[bins]`, less what rows of one kind show by chance; not below 0.

    Half a row more in each bin, so that none is empty. By chance it is about (bins − 1) · (1 / n + 1 / m) for n and m
    rows (Yurdakul & Naranjo 2020), which many classes or few rows would raise above any threshold.
    """
    filled = reference + window > 0
    sides = [side[filled] + 0.5 for side in (reference, window)]
    before, now = (side / side.sum() for side in sides)
    by_chance = (filled.sum() - 1) * (1 / reference.sum() + 1 / window.sum())
    return max(0.0, float(((now - before) * np.log(now / before)).sum() - by_chance))


def ks(reference: Counts, window: Counts) -> Floats:
    """Kolmogorov and Smirnov's distance of counts in ordered bins `[…, bins]`: the largest gap between both sums."""
    below = [side.cumsum(axis=-1) / side.sum(axis=-1, keepdims=True) for side in (reference, window)]
    return np.asarray(np.abs(below[0] - below[1]).max(axis=-1))


def chi_square(reference: Counts, window: Counts) -> Floats:
    """Pearson's chi-square of the table of both counts `[…, bins]`; a bin that is empty on both sides adds nothing."""
    pooled = reference + window
    n, m = (side.sum(axis=-1, keepdims=True) for side in (reference, window))
    scaled = (reference * np.sqrt(m / n) - window * np.sqrt(n / m)) ** 2
    return np.asarray((scaled / np.maximum(pooled, 1)).sum(axis=-1))


def chance(reference: Counts, window: Counts, statistic: Statistic, draws: int) -> float:
    """Permutation p-value of counts `[bins]`, in which the rows as they are count as a draw (Phipson & Smyth 2010)."""
    pooled = reference + window
    draw = np.random.default_rng(SEED).multivariate_hypergeometric
    windows = draw(pooled, int(window.sum()), size=draws, method="marginals")
    drawn, found = statistic(pooled - windows, windows), statistic(reference, window)
    # The same table may give sums that differ in their last digits.
    as_far = np.count_nonzero(drawn >= found * (1 - 1e-9))
    return float((as_far + 1) / (draws + 1))


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the same order: what is at most the level may be believed."""
    order = np.argsort(p, kind="stable")
    steps = np.array(p)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(value) for value in adjusted]
