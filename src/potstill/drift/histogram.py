"""Histograms: how the training data's values are spread, in bins that a later window is counted into as well."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from potstill.outcomes import Floats

Counts = npt.NDArray[np.int64]
# Of a column: numbers `[rows]`, NaN where one is missing, or a list of names, None where one is missing.
Values = Floats | Sequence[str | None]
# Ten bins of equally many rows, as is the custom for the population stability index.
SHARES = np.arange(1, 10) / 10
MOST_NAMES = 30
MISSING, OTHER = "missing", "other"


@dataclass(frozen=True)
class Ordered:
    """Bins of numbers: missing; below all that were seen; between the edges, upper ends included; above all.

    Attributes:
        edges: ascending; the first lies just below the least number, the last is the greatest.
    """

    edges: tuple[float, ...]
    ordered = True

    @classmethod
    def learn(cls, values: Floats) -> "Ordered":
        """Edges at the deciles of the numbers; fewer where they have few different values."""
        known = values[np.isfinite(values)]
        if not len(known):
            return cls(())
        inner = np.quantile(known, SHARES, method="inverted_cdf")
        ends = [np.nextafter(known.min(), -np.inf), known.max()]
        return cls(tuple(np.unique([*ends, *inner]).tolist()))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the bins, for a reader."""
        if not self.edges:
            return (MISSING, "any")
        least = np.nextafter(self.edges[0], np.inf)
        # From just below zero the way back leads to a negative zero.
        ends = [f"{edge + 0.0:.4g}" for edge in (least, *self.edges[1:])]
        within = (low if low == high else f"{low} – {high}" for low, high in pairwise(ends))
        return (MISSING, f"below {ends[0]}", *within, f"above {ends[-1]}")

    def count(self, values: Values) -> Counts:
        """Rows in each bin `[bins]`."""
        numbers = np.asarray(values, dtype=np.float64)
        known = np.isfinite(numbers)
        places = np.searchsorted(self.edges, numbers[known], side="left")
        counts = np.bincount(places, minlength=len(self.edges) + 1)
        return np.concatenate([[(~known).sum()], counts])


@dataclass(frozen=True)
class Named:
    """Bins of names: some have one each, all others one together; and missing.

    Attributes:
        values: those that have one.
    """

    values: tuple[str, ...]
    ordered = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of the bins, for a reader."""
        return (*self.values, OTHER, MISSING)

    def count(self, values: Values) -> Counts:
        """Rows in each bin `[bins]`."""
        place = {name: i for i, name in enumerate(self.values)}
        others, missing = len(place), len(place) + 1
        places = [missing if value is None else place.get(value, others) for value in values]
        return np.bincount(places, minlength=len(place) + 2)


@dataclass(frozen=True)
class Histogram:
    """A column of the training data.

    Attributes:
        bins: into which values are counted.
        counts: rows in each.
    """

    bins: Ordered | Named
    counts: tuple[int, ...]

    @classmethod
    def learn(cls, values: Values, names: Sequence[str] = ()) -> "Histogram":
        """Bins that fit numbers, or for these names, and the values counted into them.

        The names must not be chosen by these values: what is common in them by chance would seem to become rarer.
        """
        bins = Ordered.learn(values) if isinstance(values, np.ndarray) else Named(tuple(names))
        return cls(bins, tuple(bins.count(values).tolist()))

    def count(self, values: Values) -> Counts:
        """Other rows in each bin `[bins]`."""
        return self.bins.count(values)

    def spec(self) -> dict[str, Any]:
        """As JSON; `from_spec` reads it."""
        bins = {"edges": self.bins.edges} if isinstance(self.bins, Ordered) else {"names": self.bins.values}
        return {**bins, "counts": self.counts}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "Histogram":
        """Read what `spec` wrote."""
        bins = Ordered(tuple(spec["edges"])) if "edges" in spec else Named(tuple(spec["names"]))
        return cls(bins, tuple(spec["counts"]))


def commonest(values: Values) -> list[str]:
    """The commonest of some names, in alphabetical order."""
    counts = Counter(value for value in values if value is not None)
    return sorted(sorted(counts, key=lambda name: (-counts[name], name))[:MOST_NAMES])
