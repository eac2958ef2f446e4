"""Choose: the cheapest student that keeps the budget, with as few trainings as can be."""

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
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
from potstill.learn.model import load_model
from potstill.metrics import better, meanings_of, primary
from potstill.outcomes import Part, Retrieval, parts_of
from potstill.plan.forms import Bench, is_allowed
from potstill.plan.limits import Limits
from potstill.plan.predict import Predictor
from potstill.plan.rungs import pressed, words_of
from potstill.recipe import Static, Student
from potstill.workshop import Workshop

STATIC_WIDTH = 256


@dataclass(frozen=True)
class Forecast:
    """What is known of a form before it has learnt: times of an answer on one thread, and the size of its files."""

    form: Student
    p50_ms: float
    p95_ms: float
    size_bytes: float
    operations: float
    weights: int


@dataclass(frozen=True)
class Tried:
    """A model as the validation rows found it.

    Attributes:
        name: what it is.
        figure: the deciding metric.
        retention: how much of the teacher's it keeps, in the task that keeps least.
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

    def limit_share(self, limits: Limits) -> float | None:
        """Least time that its products could take on this machine in float32, over the time that it takes."""
        if self.forecast is None:
            return None
        return limits.least_ms(self.forecast.operations, 4 * self.forecast.weights) / self.p50_ms


@dataclass
class Planner:
    """Foresees, trains and judges forms of student.

    Attributes:
        workshop: has dataset, teacher and signals.
        tried: models that were judged.
    """

    workshop: Workshop
    tried: list[Tried] = field(default_factory=list)

    def foresee(self) -> list[Forecast]:
        """What each form will cost, cheapest first; three forms are timed, and tell of the others."""
        with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
            bench = Bench(self.workshop, Path(scratch))
            probes = [bench.timed(form) for form in probes_of(bench.forms)]
            predictor = Predictor.fit([timed for timed, _ in probes])
            weights = [timed.measures.layer_weights for timed, _ in probes]
            # Files grow by the layers' weights: a straight line.
            slope, start = np.polyfit(weights, [size for _, size in probes], 1)
            found = []
            for form in bench.forms:
                measures = bench.measures(form)
                p50, p95 = np.percentile(predictor.ms(measures, bench.tokens), [50, 95])
                size = float(start + slope * measures.layer_weights)
                operations = float(np.median(measures.operations(bench.tokens)))
                found.append(Forecast(form, float(p50), float(p95), size, operations, measures.layer_weights))
        return sorted(found, key=lambda forecast: forecast.p50_ms)

    def promising(self, forecasts: Sequence[Forecast]) -> list[Forecast]:
        """Those that are foreseen to keep the budget's time and size."""
        budget = self.workshop.recipe.budget
        return [
            forecast
            for forecast in forecasts
            if forecast.p95_ms <= budget.latency_p95_ms and forecast.size_bytes <= budget.size_mb * 1e6
        ]

    def cheapest(self, forecasts: Sequence[Forecast]) -> Tried | None:
        """The first that keeps enough of the teacher, found by halving, for dearer forms keep more.

        None where none does, or where this one takes more time or room than it may: dearer ones take more still.
        """
        done: dict[int, Tried] = {}

        def keeps_enough(place: int) -> bool:
            done[place] = self._learn(forecasts[place])
            return done[place].retention >= self.workshop.recipe.budget.retention

        place = first_that(keeps_enough, len(forecasts))
        return None if place is None or not self.keeps_budget(done[place]) else done[place]

    def keeps_budget(self, tried: Tried) -> bool:
        """Whether a model keeps the time, the size and the retention that the recipe asks for."""
        budget = self.workshop.recipe.budget
        fits = tried.p95_ms <= budget.latency_p95_ms and tried.size_bytes <= budget.size_mb * 1e6
        return fits and tried.retention >= budget.retention

    def beside(self) -> None:
        """Judge what a plan is held against: the linear baseline, and a static student where it can be."""
        judge = self.judge
        splits = {split: read_rows(self.workshop.dataset, split, self.workshop.schema) for split in SPLITS}
        self._judge("linear baseline", baseline_of(judge.schema, splits, judge.records(judge.rows)), None)
        config: Any = load_model(self.workshop.teacher)[0].encoder.config
        form = Student(static=Static(width=min(STATIC_WIDTH, config.hidden_size)))
        if is_allowed(self.workshop.recipe, form) and not isinstance(judge.outcome, Retrieval):
            self._press(form, None)

    @cached_property
    def judge(self) -> Judge:
        """Holds models against the validation rows: those of the test are kept for the contract."""
        return Judge(self.workshop.dataset, "validation")

    @cached_property
    def _teachers_figures(self) -> dict[str, float]:
        judge = self.judge
        return judge.figures(taught_probabilities(self.workshop.signals, judge.outcome, judge.all_rows, judge.rows))

    def _learn(self, forecast: Forecast) -> Tried:
        return self._press(forecast.form, forecast)

    def _press(self, form: Student, forecast: Forecast | None) -> Tried:
        rows = self.judge.rows
        with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
            last = pressed(self.workshop, form, self.workshop.recipe.compress, Path(scratch))[-1]
            return self._judge(words_of(form), from_edge(last.folder, self.judge.records(rows), rows), forecast)

    def _judge(self, name: str, model: Candidate, forecast: Forecast | None) -> Tried:
        judge = self.judge
        figures = judge.figures(model.probabilities)
        figure, kept = figures[judge.first], self.retention(figures)
        timed = judge.rows.spread(self.workshop.recipe.evaluate.latency_rows)
        time = measure(model.answer, judge.records(timed))
        tried = Tried(name, figure, kept, time.p50_ms, time.p95_ms, model.size_bytes, forecast)
        self.tried.append(tried)
        foreseen = f", foreseen {forecast.p50_ms:.2f}" if forecast else ""
        print(
            f"{name}: {judge.words(figure)}, {tried.retention:.1%} of the teacher's; "
            f"{time.p50_ms:.2f} ms{foreseen}; {model.size_bytes / 1e6:.1f} MB"
        )
        return tried

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


def probes_of(forms: Sequence[Student]) -> list[Student]:
    """Three forms that tell of all: the smallest and the largest that are whole, and a pruned one in between."""
    whole, pruned = ([form for form in forms if bool(form.prune) is wanted] for wanted in (False, True))
    between = (pruned or whole)[len(pruned or whole) // 2]
    return [whole[0], between, whole[-1]]


def first_that(holds: Callable[[int], bool], count: int) -> int | None:
    """The first place from 0 that holds, where all after one that holds do too; as few as can be are asked."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low if low < count else None
