"""The frontier: models held against teacher and budget on the validation rows, and which of them is the one to take."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from potstill.data.dataset import read_rows
from potstill.data.split import SPLITS
from potstill.evaluate.candidates import Candidate, baseline_of, from_edge, taught_probabilities
from potstill.evaluate.judge import Judge
from potstill.evaluate.latency import measure
from potstill.metrics import better, meanings_of, primary
from potstill.outcomes import Part, parts_of
from potstill.plan.forecast import Forecast
from potstill.plan.limits import Limits
from potstill.recipe import Budget, Evaluate

MOST_DIGITS = 6


@dataclass(frozen=True)
class Tried:
    """A model as the validation rows found it.

    Attributes:
        name: what it is.
        figure: the deciding metric.
        retention: how much of the teacher's it keeps, in the task that keeps least; NaN where it can't be told.
        p50_ms: median time of an answer to one row on one thread.
        p95_ms: 95th percentile.
        size_bytes: of all files.
        forecast: what was foreseen, of a form of the plan.
    """

    name: str
    figure: float
    retention: float
    p50_ms: float
    p95_ms: float
    size_bytes: int
    forecast: Forecast | None = None

    def keeps(self, budget: Budget) -> bool:
        """Whether it keeps the time, the size and the retention that are asked for."""
        fits = self.p95_ms <= budget.latency_p95_ms and self.size_bytes <= budget.size_mb * 1e6
        return fits and self.retention >= budget.retention

    def told(self, limits: Limits, budget: Budget) -> dict[str, Any]:
        """What the tables and the picture show of it; none where there is nothing to tell."""
        foreseen = self.forecast
        return {
            "name": self.name,
            "figure": self.figure,
            "retention": None if math.isnan(self.retention) else self.retention,
            "p50_ms": self.p50_ms,
            "foreseen_ms": foreseen and foreseen.p50_ms,
            "p95_ms": self.p95_ms,
            "size_bytes": self.size_bytes,
            "limit_share": foreseen and foreseen.limit_share(limits, self.p50_ms),
            "keeps": foreseen is not None and self.keeps(budget),
        }


@dataclass
class Frontier:
    """What was tried.

    Attributes:
        dataset: what ingest wrote.
        signals: what extract wrote.
        settings: how to measure.
        tried: models that were judged.
    """

    dataset: Path
    signals: Path
    settings: Evaluate
    tried: list[Tried] = field(default_factory=list)

    @cached_property
    def judge(self) -> Judge:
        """Holds models against the validation rows: those of the test are kept for the contract."""
        return Judge(self.dataset, "validation")

    def add_baseline(self) -> None:
        """Judge what all are held against: the linear baseline."""
        judge = self.judge
        splits = {split: read_rows(self.dataset, split, judge.schema) for split in SPLITS}
        self._add("linear baseline", baseline_of(judge.schema, splits, judge.records(judge.rows)), None)

    def add(self, name: str, folder: Path, forecast: Forecast | None = None) -> Tried:
        """Judge a packed model, and say what was found."""
        rows = self.judge.rows
        return self._add(name, from_edge(folder, self.judge.records(rows), rows), forecast)

    def _add(self, name: str, model: Candidate, forecast: Forecast | None) -> Tried:
        judge = self.judge
        figures = judge.figures(model.probabilities)
        time = measure(model.answer, judge.records(judge.rows.spread(self.settings.latency_rows)))
        kept = self.retention(figures)
        tried = Tried(name, figures[judge.first], kept, time.p50_ms, time.p95_ms, model.size_bytes, forecast)
        self.tried.append(tried)
        foreseen = f", foreseen {forecast.p50_ms:.2f}" if forecast else ""
        print(
            f"{name}: {judge.words(tried.figure)}, {kept:.1%} of the teacher's; "
            f"{time.p50_ms:.2f} ms{foreseen}; {model.size_bytes / 1e6:.1f} MB"
        )
        return tried

    @cached_property
    def _teachers_figures(self) -> dict[str, float]:
        judge = self.judge
        return judge.figures(taught_probabilities(self.signals, judge.outcome, judge.all_rows, judge.rows))

    def retention(self, figures: Mapping[str, float]) -> float:
        """The least that is kept in any task, NaN where the teacher gains nothing.

        Of the teacher's figure or, where 0 is nothing special, of its gain over the plain forecast.
        """
        # Unlike min, NumPy's says NaN where any is.
        return float(np.min([self._kept(part, figures) for part in parts_of(self.judge.outcome)]))

    def _kept(self, part: Part, figures: Mapping[str, float]) -> float:
        first = primary(part.outcome)
        name, start = part.named(first), 0.0
        if not meanings_of(part.outcome)[first].zero_is_nothing:
            start = better(part.outcome, self.judge.trivial[name])
        own, its = (better(part.outcome, found[name]) - start for found in (figures, self._teachers_figures))
        return own / its if its > 0 else math.nan


def cheapest(tried: Sequence[Tried], budget: Budget) -> Tried | None:
    """The fastest of the forms that keep the budget, if one does."""
    return min((one for one in tried if one.forecast and one.keeps(budget)), key=lambda one: one.p50_ms, default=None)


def nearest(tried: Sequence[Tried], budget: Budget) -> Tried:
    """The form that misses the budget by the least factor, in what it misses most."""
    return min((one for one in tried if one.forecast), key=lambda one: _excess(one, budget))


def _excess(one: Tried, budget: Budget) -> float:
    lost = budget.retention / one.retention if one.retention > 0 else math.inf
    return max(lost, one.p95_ms / budget.latency_p95_ms, one.size_bytes / (budget.size_mb * 1e6))


def missed(one: Tried, budget: Budget) -> str:
    """By how much the nearest form misses the budget."""
    told = []
    if not one.retention >= budget.retention:
        told.append(f"{_apart(one.retention, budget.retention, 1, '%')} of the teacher")
    if one.p95_ms > budget.latency_p95_ms:
        told.append(f"{_apart(one.p95_ms, budget.latency_p95_ms, 2)} ms (p95)")
    if one.size_bytes > budget.size_mb * 1e6:
        told.append(f"{_apart(one.size_bytes / 1e6, budget.size_mb, 1)} MB")
    return f"no form keeps the budget on the validation rows; {one.name} comes nearest: {', '.join(told)}"


def _apart(found: float, allowed: float, digits: int, kind: str = "f") -> str:
    """Both with as many digits as tell them apart."""
    if math.isnan(found):
        return f"what can't be told instead of {allowed:.{digits}{kind}}"
    while digits < MOST_DIGITS and f"{found:.{digits}{kind}}" == f"{allowed:.{digits}{kind}}":
        digits += 1
    return f"{found:.{digits}{kind}} instead of {allowed:.{digits}{kind}}"


def kept_words(one: Tried) -> str:
    """What a form that keeps the budget does."""
    measured = f"{one.retention:.1%} of the teacher, {one.p95_ms:.2f} ms (p95), {one.size_bytes / 1e6:.1f} MB"
    return f"{one.name} keeps time, size and retention of the budget: {measured}"
