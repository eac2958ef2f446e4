"""What a prediction means: every prediction is a distribution over outcomes.

A family of outcomes reads a label as a number, spreads that number over its outcomes as the target to learn, and reads
probabilities back in the units of the business. This file also travels with each registered version, so it needs
nothing but NumPy.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from string import Template
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Probabilities = npt.NDArray[np.floating[Any]]
# The band of a forecast: eight of ten values should fall in it.
LOW, HIGH = 0.1, 0.9
# Share of the values, at either end, for which no bins of their own are made.
TAIL = 0.001
# Bins beyond those ends, so that smoothing has room.
MARGIN_BINS = 2
# Two rates give the same answer where their log-odds differ by at most this: by about a quarter of the rate.
SAME_LOG_ODDS = 0.25
# How many of a catalogue's answers are given.
ANSWERS_GIVEN = 5


_Transform = Callable[[Floats], Floats]
_FORWARD: dict[str, _Transform] = {"log": np.log, "count": np.log1p, "linear": np.asarray}
_BACK: dict[str, _Transform] = {"log": np.exp, "count": np.expm1, "linear": np.asarray}


def fits(values: npt.ArrayLike, scale: str) -> npt.NDArray[np.bool_]:
    """Whether each number is one that a scale has: above zero on `log`, from zero on for a `count`."""
    given = np.asarray(values)
    return np.asarray(given > 0 if scale == "log" else (given >= 0) | (scale == "linear"))


@dataclass(frozen=True)
class Classification:
    """K unordered classes. Their order is an artifact (`schema.json`): it never changes between steps.

    Attributes:
        names: of the classes.
        decides: name of the metric that decides; none: the family's first. Every family has it.
        replies: class and template of the answer to it, with `$column` where a column of the row is to stand.
        refuse: share of texts with a class that may be refused as out of scope, so that others are; none: none is.
        threshold: the confidence below which a text is refused; each model has its own.
        temperature: divides the logits, so that a confidence is as often right as it says; each model has its own.
    """

    names: tuple[str, ...]
    decides: str | None = None
    replies: tuple[tuple[str, str], ...] = ()
    refuse: float | None = None
    threshold: float | None = None
    temperature: float = 1.0
    kind = "classification"

    @classmethod
    def from_labels(
        cls,
        labels: Iterable[str],
        decides: str | None = None,
        replies: Mapping[str, str] | None = None,
        refuse: float | None = None,
    ) -> "Classification":
        """Classes in alphabetical order, so that the order depends on nothing but the labels."""
        return cls(tuple(sorted(set(labels))), decides, tuple(sorted((replies or {}).items())), refuse)

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "Classification":
        """Read what `spec` wrote, whose classes stay in their order."""
        names, replies = tuple(spec["names"]), tuple(sorted(spec.get("replies", {}).items()))
        knobs = {name: spec[name] for name in ("decides", "refuse", "threshold", "temperature") if name in spec}
        return cls(names, replies=replies, **knobs)

    def spec(self) -> dict[str, Any]:
        """The family as JSON; `outcome_of` reads it."""
        knobs = {"decides": self.decides, "refuse": self.refuse, "threshold": self.threshold}
        told = {"kind": self.kind, "names": list(self.names), "replies": dict(self.replies), **knobs}
        return told | _found(self.temperature)

    @property
    def fields(self) -> tuple[str, ...]:
        """What an answer says."""
        told = {"in_scope": self.threshold is not None, "reply": bool(self.replies)}
        return ("label", "confidence", "probabilities", *(name for name, there in told.items() if there))

    def refusing(self, probabilities: Probabilities) -> "Classification":
        """The same with the threshold that refuses, of these rows with a class, the share that may be refused."""
        if self.refuse is None:
            return self
        return replace(self, threshold=float(np.quantile(probabilities.max(axis=1), self.refuse)))

    def reply(self, label: str, row: Mapping[Any, Any]) -> str | None:
        """The answer to a class, its `$column` places filled from the row; none where there is no template."""
        template = dict(self.replies).get(label)
        return None if template is None else Template(template).safe_substitute({**row, "label": label})

    def encode(self, labels: Sequence[str]) -> Floats:
        """Indices `[rows]` of the labels, as floats like every family's values. Raises KeyError on an unknown one."""
        index = {name: i for i, name in enumerate(self.names)}
        return np.array([index[label] for label in labels], dtype=np.float64)

    def targets(self, values: Floats) -> npt.NDArray[np.float32]:
        """All weight on the label: `[rows, outcomes]`."""
        return np.eye(len(self), dtype=np.float32)[values.astype(np.int64)]

    def same(self, reference: Probabilities, other: Probabilities) -> npt.NDArray[np.bool_]:
        """Rows `[rows]` on which both give the same class."""
        found: npt.NDArray[np.bool_] = reference.argmax(axis=1) == other.argmax(axis=1)
        return found

    def adopt(self, other: "Outcome", probabilities: Probabilities) -> Floats:
        """Another model's probabilities in this order of classes; a class that it does not know gets 0.

        Raises TypeError where the other answers with no class.
        """
        if not isinstance(other, Classification):
            raise TypeError(f"it answers with a {other.kind}, not with a {self.kind}")
        if other.names == self.names:
            return probabilities.astype(np.float64)
        known = {name: i for i, name in enumerate(other.names)}
        ours = np.zeros((len(probabilities), len(self)))
        for i, name in enumerate(self.names):
            if name in known:
                ours[:, i] = probabilities[:, known[name]]
        return ours

    def decode(self, probabilities: Probabilities) -> list[str]:
        """The likeliest class of each row."""
        return [self.names[i] for i in probabilities.argmax(axis=1)]

    def answers(self, probabilities: Probabilities) -> list[dict[str, Any]]:
        """For each row its `label`, the `confidence` in it, and the `probabilities` by class.

        With a threshold also whether it is `in_scope`; where it is not, the label is only the nearest.
        """
        rows = probabilities.astype(float)
        best = rows.argmax(axis=1)
        return [
            {
                "label": self.names[i],
                "confidence": float(row[i]),
                "probabilities": dict(zip(self.names, row.tolist(), strict=True)),
            }
            | ({} if self.threshold is None else {"in_scope": bool(row[i] >= self.threshold)})
            for i, row in zip(best, rows, strict=True)
        ]


@dataclass(frozen=True)
class Rate:
    """The chance of a yes, such as a click or a purchase; a label is the share of yes among its tries.

    Attributes:
        prior: share of yes among all tries of the training rows.
        bid: what a try costs, in units of what a yes is worth; none: not asked.
        grouped: whether rows are compared within groups, as candidates of one user.
        decides: name of the metric that decides; none: the family's first.
    """

    prior: float = 0.5
    bid: float | None = None
    grouped: bool = False
    decides: str | None = None
    kind = "rate"
    # Where a yes is rare, dividing the log-odds moves the mean rate, which is no cure for being too sure.
    temperature = 1.0
    names = ("no", "yes")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def fields(self) -> tuple[str, ...]:
        """What an answer says."""
        return ("rate",) if self.bid is None else ("rate", "value")

    def spec(self) -> dict[str, Any]:
        """The family as JSON; `outcome_of` reads it."""
        knobs = {"bid": self.bid, "grouped": self.grouped, "decides": self.decides}
        return {"kind": self.kind, "prior": self.prior, **knobs}

    def encode(self, labels: Sequence[Any]) -> Floats:
        """The labels `[rows]` as numbers. Raises ValueError on one that isn't."""
        return np.array([float(label) for label in labels])

    def targets(self, values: Floats) -> npt.NDArray[np.float32]:
        """Shares of no and yes `[rows, 2]`."""
        return np.stack([1 - values, values], axis=1).astype(np.float32)

    def same(self, reference: Probabilities, other: Probabilities) -> npt.NDArray[np.bool_]:
        """Rows `[rows]` on which both rates are alike, by their log-odds."""
        first, second = (_log_odds(found[:, 1]) for found in (reference, other))
        found: npt.NDArray[np.bool_] = np.abs(first - second) <= SAME_LOG_ODDS
        return found

    def adopt(self, other: "Outcome", probabilities: Probabilities) -> Floats:
        """Another model's probabilities. Raises TypeError where the other answers with no rate."""
        if not isinstance(other, Rate):
            raise TypeError(f"it answers with a {other.kind}, not with a {self.kind}")
        return probabilities.astype(np.float64)

    def decode(self, probabilities: Probabilities) -> list[float]:
        """The rate of each row."""
        return [float(rate) for rate in probabilities[:, 1]]

    def answers(self, probabilities: Probabilities) -> list[dict[str, Any]]:
        """For each row its `rate` and, with a bid, the expected `value` of a try: the rate less the bid."""
        rates = self.decode(probabilities)
        if self.bid is None:
            return [{"rate": rate} for rate in rates]
        return [{"rate": rate, "value": rate - self.bid} for rate in rates]


def _log_odds(rates: Probabilities) -> Floats:
    safe = np.clip(rates.astype(np.float64), 1e-9, 1 - 1e-9)
    odds: Floats = np.log(safe) - np.log1p(-safe)
    return odds


@dataclass(frozen=True)
class Value:
    """A number, such as a price, as a histogram: K bins of equal width on a transformed scale.

    The target is the histogram of a normal distribution around the label (HL-Gauss: Imani & White 2018; Farebrother
    et al. 2024), so that near misses cost less than far ones and a teacher's doubts have a shape to pass on.

    Attributes:
        low: lower end of the first bin, on the transformed scale.
        high: upper end of the last bin; labels beyond an end count as the end.
        bins: how many.
        scale: `log` for values above zero that differ by factors, `count` for whole numbers from zero on (by log1p),
            `linear` otherwise.
        smoothing: standard deviation of the target, in bins.
        service_level: share of cases in which the stock is to last; none: no stock is planned.
        head: what the model says of a row: a whole `histogram`, or the centre of a `normal` distribution.
        decides: name of the metric that decides; none: the family's first.
        temperature: divides the logits, so that bands hold the share that they say; each model has its own.
    """

    low: float
    high: float
    bins: int
    scale: str
    smoothing: float
    service_level: float | None = None
    head: str = "histogram"
    decides: str | None = None
    temperature: float = 1.0
    kind = "value"

    @classmethod
    def from_values(
        cls,
        values: Floats,
        bins: int,
        scale: str,
        smoothing: float,
        service_level: float | None = None,
        head: str = "histogram",
        decides: str | None = None,
    ) -> "Value":
        """Bins over all but the outermost thousandths of the training values, with a margin.

        The first bin of counts is centred at zero, so that nothing sold is an outcome of its own.
        """
        low, high = np.quantile(_FORWARD[scale](values), [TAIL, 1 - TAIL])
        if scale == "count":
            width = max(float(high), 1e-6) / (bins - MARGIN_BINS - 0.5)
            ends = -width / 2, float(high) + MARGIN_BINS * width
        else:
            width = max(float(high - low), 1e-6) / (bins - 2 * MARGIN_BINS)
            ends = float(low) - MARGIN_BINS * width, float(high) + MARGIN_BINS * width
        return cls(*ends, bins, scale, smoothing, service_level, head, decides)

    def __len__(self) -> int:
        return self.bins

    @property
    def fields(self) -> tuple[str, ...]:
        """What an answer says."""
        forecast = ("median", "mean", "low", "high")
        return (*forecast, "reorder_point", "safety_stock") if self.service_level else forecast

    def forward(self, values: Floats) -> Floats:
        """Values on the transformed scale."""
        return _FORWARD[self.scale](values)

    def back(self, places: Floats) -> Floats:
        """Places on the transformed scale in the label's units; no count is below zero."""
        found = _BACK[self.scale](places)
        return np.maximum(found, 0) if self.scale == "count" else found

    @property
    def width(self) -> float:
        """Width of a bin, on the transformed scale."""
        return (self.high - self.low) / self.bins

    @cached_property
    def edges(self) -> Floats:
        """Ends of the bins `[bins + 1]`, in the label's units."""
        return self.back(np.linspace(self.low, self.high, self.bins + 1))

    @cached_property
    def centres(self) -> Floats:
        """Mean of each bin `[bins]` in the label's units, were its weight spread evenly on the transformed scale."""
        if self.scale == "linear":
            return (self.edges[:-1] + self.edges[1:]) / 2
        if self.scale == "log":
            return np.diff(self.edges) / self.width
        means: Floats = np.diff(np.expm1(np.linspace(self.low, self.high, self.bins + 1))) / self.width - 1
        # All counts within the first bin are zero.
        return np.where(np.arange(self.bins) == 0, 0.0, means)

    @property
    def names(self) -> tuple[str, ...]:
        """Each bin's ends."""
        return tuple(f"{a:.6g} to {b:.6g}" for a, b in zip(self.edges[:-1], self.edges[1:], strict=True))

    def spec(self) -> dict[str, Any]:
        """The family as JSON; `outcome_of` reads it."""
        ends = {"low": self.low, "high": self.high, "bins": self.bins}
        knobs = {"smoothing": self.smoothing, "service_level": self.service_level, "head": self.head}
        told = {"kind": self.kind, **ends, "scale": self.scale, **knobs, "decides": self.decides}
        return told | _found(self.temperature)

    def encode(self, labels: Sequence[Any]) -> Floats:
        """The labels `[rows]` as numbers. Raises ValueError on one that isn't."""
        return np.array([float(label) for label in labels])

    def targets(self, values: Floats) -> npt.NDArray[np.float32]:
        """Histograms `[rows, bins]` of a normal distribution around each value, cut off at the ends."""
        # Only training needs it; where a model serves there is no SciPy.
        from scipy.special import ndtr

        centre = np.clip(self.forward(values), self.low + self.width / 2, self.high - self.width / 2)
        edges = np.linspace(self.low, self.high, self.bins + 1)
        below = ndtr((edges[None] - centre[:, None]) / (self.smoothing * self.width))
        weight = np.diff(below, axis=1)
        targets: npt.NDArray[np.float32] = (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)
        return targets

    def mean(self, probabilities: Probabilities) -> Floats:
        """Expected value `[rows]`: the forecast that is right on the whole, as for a turnover."""
        return probabilities.astype(np.float64) @ self.centres

    def quantile(self, probabilities: Probabilities, share: float) -> Floats:
        """The value `[rows]` below which that share of the probability lies, spread evenly in a bin; counts whole."""
        mass = probabilities.astype(np.float64)
        below = np.cumsum(mass / mass.sum(axis=1, keepdims=True), axis=1)
        bins = np.minimum((below < share).sum(axis=1), self.bins - 1)
        rows = np.arange(len(mass))
        before = np.where(bins > 0, below[rows, bins - 1], 0.0)
        inside = np.clip((share - before) / np.maximum(below[rows, bins] - before, 1e-12), 0, 1)
        found = self.back(self.low + (bins + inside) * self.width)
        return np.round(found) if self.scale == "count" else found

    def same(self, reference: Probabilities, other: Probabilities) -> npt.NDArray[np.bool_]:
        """Rows `[rows]` on which the other's median lies in the reference's middle half (25 to 75 %)."""
        middle = self.quantile(other, 0.5)
        return np.logical_and(
            self.quantile(reference, 0.25) <= middle,
            middle <= self.quantile(reference, 0.75),
        )

    def adopt(self, other: "Outcome", probabilities: Probabilities) -> Floats:
        """Another model's histogram over its bins, as one over these.

        Raises TypeError where the other answers with no value.
        """
        if not isinstance(other, Value):
            raise TypeError(f"it answers with a {other.kind}, not with a {self.kind}")
        mass = probabilities.astype(np.float64)
        below = np.concatenate([np.zeros((len(mass), 1)), np.cumsum(mass, axis=1)], axis=1)
        ours = np.stack([np.interp(self.edges, other.edges, row) for row in below])
        # What lies beyond our ends belongs to the outermost bins.
        ours[:, 0], ours[:, -1] = 0, below[:, -1]
        return np.diff(ours, axis=1)

    def decode(self, probabilities: Probabilities) -> list[float]:
        """The median of each row."""
        return [float(value) for value in self.quantile(probabilities, 0.5)]

    def answers(self, probabilities: Probabilities) -> list[dict[str, Any]]:
        """For each row its `median` and `mean`, and `low` and `high`, between which four of five values should lie.

        With a service level also the `reorder_point`, the stock that lasts in that share of cases until the next
        delivery (one period away), and the `safety_stock`, which is what it holds beyond the mean.
        """
        low, middle, high = (self.quantile(probabilities, share) for share in (LOW, 0.5, HIGH))
        mean = self.mean(probabilities)
        columns = [middle, mean, low, high]
        if self.service_level:
            point = self.quantile(probabilities, self.service_level)
            columns += [point, point - mean]
        return [dict(zip(self.fields, map(float, row), strict=True)) for row in zip(*columns, strict=True)]


@dataclass(frozen=True)
class Retrieval:
    """The best of a catalogue's answers to a text: a softmax over the likeness of their vectors.

    A model gives each text a vector of length 1; the likeness of two is their cosine. A row's value is the place of
    its answer among those of its split, in alphabetical order.

    Attributes:
        tau: divides the cosine before the softmax; lower is more decided.
        names: the catalogue, once there is one.
        decides: name of the metric that decides; none: the family's first.
    """

    tau: float = 0.05
    names: tuple[str, ...] = ()
    decides: str | None = None
    kind = "retrieval"
    # Its tau is one.
    temperature = 1.0
    fields = ("answer", "confidence", "answers")

    def __len__(self) -> int:
        return len(self.names)

    def spec(self) -> dict[str, Any]:
        """The family as JSON, without the catalogue; `outcome_of` reads it."""
        return {"kind": self.kind, "tau": self.tau, "decides": self.decides}

    def over(self, catalogue: Sequence[str]) -> "Retrieval":
        """The same with a catalogue to choose from."""
        return Retrieval(self.tau, tuple(catalogue), self.decides)

    def encode(self, labels: Sequence[str]) -> Floats:
        """Places `[rows]` of the answers among these very answers, in alphabetical order."""
        index = {answer: i for i, answer in enumerate(sorted(set(labels)))}
        return np.array([index[label] for label in labels], dtype=np.float64)

    def targets(self, values: Floats) -> npt.NDArray[np.float32]:
        """None `[rows, 0]`: what is to be chosen from differs from batch to batch."""
        return np.zeros((len(values), 0), dtype=np.float32)

    def probabilities(self, vectors: Probabilities, catalogue: Probabilities) -> Floats:
        """Probabilities `[rows, answers]` of vectors `[rows, width]` and the catalogue's `[answers, width]`."""
        return softmax(vectors @ catalogue.T / self.tau)

    def of_pairs(self, vectors: Probabilities, values: Floats) -> Floats:
        """Probabilities `[rows, answers]` of whole splits: their texts' and answers' vectors `[rows, 2 · width]`."""
        first = np.unique(values, return_index=True)[1]
        asked, answers = np.split(vectors, 2, axis=1)
        return self.probabilities(asked, answers[first])

    def same(self, reference: Probabilities, other: Probabilities) -> npt.NDArray[np.bool_]:
        """Rows `[rows]` on which both choose the same answer."""
        found: npt.NDArray[np.bool_] = reference.argmax(axis=1) == other.argmax(axis=1)
        return found

    def adopt(self, other: "Outcome", probabilities: Probabilities) -> Floats:
        """Another model's probabilities. Raises TypeError where the other doesn't choose answers."""
        if not isinstance(other, Retrieval):
            raise TypeError(f"it answers with a {other.kind}, not with a {self.kind}")
        return probabilities.astype(np.float64)

    def decode(self, probabilities: Probabilities) -> list[str]:
        """The chosen answer of each row."""
        return [self.names[i] for i in probabilities.argmax(axis=1)]

    def answers(self, probabilities: Probabilities) -> list[dict[str, Any]]:
        """For each row its best `answer`, the `confidence` in it, and the best few `answers` with theirs."""
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :ANSWERS_GIVEN]
        few = [{self.names[i]: float(row[i]) for i in places} for row, places in zip(probabilities, best, strict=True)]
        return [{"answer": next(iter(found)), "confidence": max(found.values()), "answers": found} for found in few]


Single = Classification | Rate | Value | Retrieval


@dataclass(frozen=True)
class Part:
    """One task of those that a model answers.

    Attributes:
        task: its name; empty where it is the only one.
        outcome: its family.
        place: of its labels among `values` `[rows, tasks]`; none where it is the only one, with `values` `[rows]`.
        columns: of its logits and probabilities among `[rows, outcomes]`.
    """

    task: str
    outcome: Single
    place: int | None
    columns: slice

    def named(self, figure: str) -> str:
        """A figure's name among those of all tasks."""
        return f"{self.task}_{figure}" if self.task else figure

    def values(self, values: Floats) -> Floats:
        """Its labels `[rows]`, NaN where a row has none."""
        return values if self.place is None else values[:, self.place]


@dataclass(frozen=True)
class Together:
    """Several tasks at once: a distribution for each, side by side. A row may have labels for some of them only.

    Attributes:
        tasks: name and family of each, by name.
    """

    tasks: tuple[tuple[str, Single], ...]
    decides = None
    kind = "together"

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "Together":
        """Read what `spec` wrote."""
        return cls(tuple((task, _single_of(outcome)) for task, outcome in spec["tasks"]))

    def __len__(self) -> int:
        return sum(len(outcome) for _, outcome in self.tasks)

    @property
    def names(self) -> tuple[str, ...]:
        """Each outcome with its task."""
        return tuple(f"{task}: {name}" for task, outcome in self.tasks for name in outcome.names)

    @property
    def fields(self) -> tuple[str, ...]:
        """What an answer says: a task's answer each."""
        return tuple(task for task, _ in self.tasks)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The single tasks, and where each stands."""
        ends = np.cumsum([0, *(len(outcome) for _, outcome in self.tasks)]).tolist()
        return tuple(
            Part(task, outcome, i, slice(ends[i], ends[i + 1])) for i, (task, outcome) in enumerate(self.tasks)
        )

    def spec(self) -> dict[str, Any]:
        """The family as JSON; `outcome_of` reads it."""
        return {"kind": self.kind, "tasks": [[task, outcome.spec()] for task, outcome in self.tasks]}

    def encode(self, labels: Sequence[Any]) -> Floats:
        """Values `[rows, tasks]` of joined labels, NaN where a row has none.

        Raises KeyError on an unknown class, ValueError where a number is none.
        """
        found = np.full((len(labels), len(self.tasks)), np.nan)
        columns = zip(*map(split_label, labels), strict=True)
        for part, column in zip(self.parts, columns, strict=False):
            told = {i: label for i, label in enumerate(column) if label is not None}
            found[list(told), part.place] = part.outcome.encode(list(told.values()))
        return found

    def targets(self, values: Floats) -> npt.NDArray[np.float32]:
        """Each task's targets side by side `[rows, outcomes]`; zeros where a row has no label."""
        found = np.zeros((len(values), len(self)), dtype=np.float32)
        for part in self.parts:
            told = np.flatnonzero(np.isfinite(part.values(values)))
            found[told, part.columns] = part.outcome.targets(part.values(values)[told])
        return found

    def same(self, reference: Probabilities, other: Probabilities) -> npt.NDArray[np.bool_]:
        """Rows `[rows]` on which both give the same answer to every task."""
        each = [part.outcome.same(reference[:, part.columns], other[:, part.columns]) for part in self.parts]
        found: npt.NDArray[np.bool_] = np.all(each, axis=0)
        return found

    def adopt(self, other: "Outcome", probabilities: Probabilities) -> Floats:
        """Another model's probabilities as ours, task by task. Raises TypeError where it hasn't the same tasks."""
        known = {part.task: part for part in other.parts} if isinstance(other, Together) else {}
        missing = [part.task for part in self.parts if part.task not in known]
        if missing:
            raise TypeError(f"it has no task {missing[0]!r}")
        theirs = [(part, known[part.task]) for part in self.parts]
        each = [part.outcome.adopt(their.outcome, probabilities[:, their.columns]) for part, their in theirs]
        return np.concatenate(each, axis=1)

    def decode(self, probabilities: Probabilities) -> list[tuple[Any, ...]]:
        """Each task's answer in short."""
        return list(zip(*(p.outcome.decode(probabilities[:, p.columns]) for p in self.parts), strict=True))

    def answers(self, probabilities: Probabilities) -> list[dict[str, Any]]:
        """For each row the answer to each task, by its name."""
        each = [part.outcome.answers(probabilities[:, part.columns]) for part in self.parts]
        return [dict(zip(self.fields, row, strict=True)) for row in zip(*each, strict=True)]


Outcome = Single | Together


def _found(temperature: float) -> dict[str, float]:
    """A temperature once a model has found it: before, a family knows none."""
    return {} if temperature == 1 else {"temperature": temperature}


def parts_of(outcome: Outcome) -> tuple[Part, ...]:
    """The tasks that an outcome consists of; one, without a name, where it is a single one."""
    return outcome.parts if isinstance(outcome, Together) else (Part("", outcome, None, slice(None)),)


def confidence(outcome: Outcome, probabilities: Probabilities) -> Floats:
    """How sure a model is of each row `[rows]`: the likeliest outcome's probability, the least of several tasks."""
    each = [probabilities[:, part.columns].max(axis=1) for part in parts_of(outcome)]
    found: Floats = np.min(each, axis=0)
    return found


def unsure(outcome: Outcome, probabilities: Probabilities, sure_from: float) -> npt.NDArray[np.bool_]:
    """Rows `[rows]` of which a model is less sure than asked, or which would be refused by its word in any task."""
    found: npt.NDArray[np.bool_] = confidence(outcome, probabilities) < sure_from
    for part in parts_of(outcome):
        if isinstance(part.outcome, Classification) and part.outcome.threshold is not None:
            found |= probabilities[:, part.columns].max(axis=1) < part.outcome.threshold
    return found


def refusing(outcome: Outcome, probabilities: Probabilities, values: Floats) -> Outcome:
    """The outcome with the thresholds below which a model refuses, from its probabilities on labelled rows."""

    def settled(part: Part) -> Single:
        if not isinstance(part.outcome, Classification):
            return part.outcome
        return part.outcome.refusing(probabilities[np.isfinite(part.values(values))][:, part.columns])

    return with_each(outcome, settled)


def with_each(outcome: Outcome, settled: Callable[[Part], Single]) -> Outcome:
    """The outcome with each of its tasks as `settled` gives it."""
    each = tuple((part.task, settled(part)) for part in parts_of(outcome))
    return Together(each) if isinstance(outcome, Together) else each[0][1]


def join_label(labels: Sequence[str]) -> str:
    """A row's labels as one text: the very label of one task, a JSON list of several; empty where there is none."""
    if len(labels) == 1:
        return labels[0]
    return json.dumps([label or None for label in labels], ensure_ascii=False) if any(labels) else ""


def split_label(joined: str) -> list[str | None]:
    """The labels of several tasks, as `join_label` joined them; None where a row has none."""
    labels: list[str | None] = json.loads(joined)
    return labels


def outcome_of(spec: Mapping[str, Any]) -> Outcome:
    """The family that `spec()` described."""
    return Together.from_spec(spec) if spec["kind"] == Together.kind else _single_of(spec)


def _single_of(spec: Mapping[str, Any]) -> Single:
    values = dict(spec)
    kind = values.pop("kind")
    if kind == Classification.kind:
        return Classification.from_spec(values)
    if kind == Retrieval.kind:
        return Retrieval(**values)
    return Rate(**values) if kind == Rate.kind else Value(**values)


def probabilities_of(outcome: Outcome, logits: Probabilities, values: Floats) -> Floats:
    """Probabilities `[rows, outcomes]` of what a model said of a whole split: a distribution for each task.

    Args:
        outcome: the family.
        logits: `[rows, outcomes]`; of a retrieval vectors `[rows, 2 · width]`.
        values: labels of the rows, which tell where a retrieval's answers are the same.
    """
    if isinstance(outcome, Retrieval):
        return outcome.of_pairs(logits, values)
    return side_by_side(outcome, logits)


def side_by_side(outcome: Outcome, logits: Probabilities) -> Floats:
    """Probabilities `[rows, outcomes]` of logits `[rows, outcomes]`: a softmax for each task, at its temperature."""
    each = [softmax(logits[:, part.columns] / part.outcome.temperature) for part in parts_of(outcome)]
    return each[0] if len(each) == 1 else np.concatenate(each, axis=1)


def softmax(logits: Probabilities) -> Floats:
    """Probabilities `[rows, outcomes]` of the logits of one task."""
    # In place: for one row a new array takes longer than what is done with it.
    found: Floats = logits.astype(np.float64)
    found -= found.max(axis=1, keepdims=True)
    np.exp(found, out=found)
    found /= found.sum(axis=1, keepdims=True)
    return found
