"""Choose: the cheapest student that keeps the budget, with as few trainings as can be."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from potstill.data.dataset import Rows, read_rows
from potstill.data.split import SPLITS
from potstill.evaluate.candidates import Candidate, baseline_of, from_edge
from potstill.evaluate.latency import measure
from potstill.evaluate.trivial import of_all_tasks
from potstill.learn.model import load_model
from potstill.learn.signals import read_signals
from potstill.metrics import Meaning, better, meanings_of, primary, score
from potstill.outcomes import Outcome, Probabilities, Retrieval, probabilities_of
from potstill.plan.forms import Bench
from potstill.plan.limits import Limits
from potstill.plan.predict import Predictor
from potstill.plan.rungs import words_of
from potstill.recipe import Static, Student
from potstill.steps.press import Origin, Press
from potstill.store import folder_digest
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
        retention: how much of the teacher's it keeps, as the contract counts it.
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
        """The first that keeps the whole budget; halving, for dearer forms keep more. None where none does."""
        done: dict[int, Tried] = {}

        def keeps(place: int) -> bool:
            done[place] = self._learn(forecasts[place])
            return self.keeps_budget(done[place])

        place = first_that(keeps, len(forecasts))
        return None if place is None else done[place]

    def keeps_budget(self, tried: Tried) -> bool:
        """Whether a model keeps what the recipe asks for."""
        budget = self.workshop.recipe.budget
        fits = tried.p95_ms <= budget.latency_p95_ms and tried.size_bytes <= budget.size_mb * 1e6
        return fits and tried.retention >= budget.retention

    def beside(self) -> None:
        """Judge what a plan is held against: the linear baseline, and a static student where it can be."""
        splits = {split: read_rows(self.workshop.dataset, split, self.workshop.schema) for split in SPLITS}
        self._judge("linear baseline", baseline_of(self.workshop.schema, splits, self._records), None)
        recipe = self.workshop.recipe
        if recipe.teacher.pooling == "mean" and not any(task.kind == "retrieval" for task in recipe.tasks.values()):
            config: Any = load_model(self.workshop.teacher)[0].encoder.config
            self._press("static student", Student(static=Static(width=min(STATIC_WIDTH, config.hidden_size))), None)

    @cached_property
    def rows(self) -> Rows:
        """The validation rows: those of the test are kept for the contract."""
        return read_rows(self.workshop.dataset, "validation", self.workshop.schema).judged()

    @property
    def meaning(self) -> Meaning:
        """Of the deciding metric."""
        return meanings_of(self._outcome)[primary(self._outcome)]

    @cached_property
    def teachers_figure(self) -> float:
        """The teacher's deciding metric."""
        said = read_signals(self.workshop.signals, self.rows.row).astype(np.float32)
        return self._figure(probabilities_of(self._outcome, said, self.rows.value))

    @cached_property
    def _outcome(self) -> Outcome:
        found = self.workshop.schema.outcome
        return found.over(self.rows.catalogue) if isinstance(found, Retrieval) else found

    @property
    def _records(self) -> list[dict[str, object]]:
        return [dict(record) for record in self.rows.records(self.workshop.schema.text[0])]

    def _figure(self, probabilities: Probabilities) -> float:
        return score(self._outcome, self.rows.truth, probabilities)[primary(self._outcome)]

    @cached_property
    def _trivial_figure(self) -> float:
        shop = self.workshop
        train = read_rows(shop.dataset, "train", shop.schema)
        return self._figure(of_all_tasks(shop.schema, train, self.rows, self.rows))

    def _learn(self, forecast: Forecast) -> Tried:
        pruned = ", half of each layer pruned" if forecast.form.prune else ""
        return self._press(words_of(forecast.form) + pruned, forecast.form, forecast)

    def _press(self, name: str, form: Student, forecast: Forecast | None) -> Tried:
        shop = self.workshop
        student = shop.student(form)
        digests = shop.schema.digest, folder_digest(shop.teacher), folder_digest(student)
        with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
            press = Press(shop.dataset, shop.recipe.compress, Origin(shop.recipe.name, *digests), Path(scratch))
            folder = press.run(student)[-1].folder
            return self._judge(name, from_edge(folder, self._records, self.rows), forecast)

    def _judge(self, name: str, model: Candidate, forecast: Forecast | None) -> Tried:
        figure = self._figure(model.probabilities)
        time = measure(model.answer, self._records)
        tried = Tried(name, figure, self._retention(figure), time.p50_ms, time.p95_ms, model.size_bytes, forecast)
        self.tried.append(tried)
        foreseen = f", foreseen {forecast.p50_ms:.2f}" if forecast else ""
        print(
            f"{name}: {self.meaning.title} {self.meaning.form.format(figure)}, {tried.retention:.1%} of the teacher's; "
            f"{time.p50_ms:.2f} ms{foreseen}; {model.size_bytes / 1e6:.1f} MB"
        )
        return tried

    def _retention(self, figure: float) -> float:
        """Over the teacher's, or of its gain over the plain forecast where 0 means nothing."""
        if self.meaning.zero_is_nothing:
            return figure / self.teachers_figure
        own, its, plain = (better(self._outcome, x) for x in (figure, self.teachers_figure, self._trivial_figure))
        return (own - plain) / (its - plain)


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
