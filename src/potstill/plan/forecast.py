"""Foresee: what each form of student will cost, told from a few that are timed before anything learns."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from potstill.learn.anatomy import spread
from potstill.plan.forms import Bench
from potstill.plan.limits import Limits
from potstill.plan.predict import Predictor
from potstill.recipe import Budget, Compress, Distill, Student


@dataclass(frozen=True)
class Forecast:
    """What is known of a form before it has learnt: times of an answer on one thread, and the size of its files."""

    form: Student
    p50_ms: float
    p95_ms: float
    size_bytes: float
    operations: float
    weights: int

    def fits(self, budget: Budget) -> bool:
        """Whether it is foreseen to keep the budget's time and size."""
        return self.p95_ms <= budget.latency_p95_ms and self.size_bytes <= budget.size_mb * 1e6

    def limit_share(self, limits: Limits, p50_ms: float) -> float:
        """Least time that its products could take on this machine in float32, over the time that it takes."""
        return limits.least_ms(self.operations, 4 * self.weights) / p50_ms


def foresee(dataset: Path, teacher: Path, form: Student, distill: Distill, compress: Compress) -> list[Forecast]:
    """What each form will cost, cheapest first; three forms are timed, and tell of the others."""
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        bench = Bench(dataset, teacher, form, distill, compress, Path(scratch))
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
    return sorted(found, key=lambda forecast: (forecast.p50_ms, forecast.size_bytes))


def probes_of(forms: Sequence[Student]) -> list[Student]:
    """Three forms that tell of all: the smallest and the largest that are whole, and a pruned one in between."""
    whole, pruned = ([form for form in forms if bool(form.prune) is wanted] for wanted in (False, True))
    between = (pruned or whole)[len(pruned or whole) // 2]
    return [whole[0], between, whole[-1]]


def promising(forecasts: Sequence[Forecast], budget: Budget) -> list[Forecast]:
    """Those that are foreseen to keep the budget's time and size; where none is, the cheapest.

    It shows by how much the budget is missed.
    """
    fitting = [forecast for forecast in forecasts if forecast.fits(budget)]
    print(f"{len(fitting)} of {len(forecasts)} forms are foreseen to keep time and size of the budget")
    return fitting or [*forecasts[:1]]


def picked(forecasts: Sequence[Forecast], most: int) -> list[Forecast]:
    """So many of them at most, evenly spread from the first to the last."""
    return [forecasts[place] for place in spread(min(most, len(forecasts)), len(forecasts))]


def to_text(forecasts: Sequence[Forecast]) -> str:
    """What was foreseen, as JSON."""
    return json.dumps([asdict(one) | {"form": plain(one.form)} for one in forecasts], indent=1)


def from_text(text: str) -> list[Forecast]:
    """What `to_text` wrote."""
    return [Forecast(**one | {"form": Student.model_validate(one["form"])}) for one in json.loads(text)]


def plain(form: Student) -> dict[str, Any]:
    """A form as a recipe's section and a pipeline's parameters hold it."""
    return form.model_dump(mode="json", exclude_none=True)
