"""Which of the models that were tried is the one to take."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from potstill.metrics import meanings_of, primary
from potstill.outcomes import Classification, Rate, Together
from potstill.plan.forecast import Forecast
from potstill.plan.frontier import Frontier, Tried, cheapest, missed, nearest
from potstill.plan.limits import Limits
from potstill.recipe import Budget, Evaluate, Student

BUDGET = Budget(retention=0.94, latency_p95_ms=5.5, size_mb=6)
FORECAST = Forecast(Student(layers=2), 1.0, 2.0, 3e6, 1e9, 1000)


def tried(name: str, retention: float, ms: float, size_mb: float = 1.0, forecast: Forecast | None = FORECAST) -> Tried:
    return Tried(name, 0.9, retention, ms, 1.5 * ms, int(size_mb * 1e6), forecast)


def test_the_fastest_form_that_keeps_the_budget_is_taken_and_never_what_stands_beside():
    found = [
        tried("baseline", 0.99, 0.1, forecast=None),
        tried("fast but dull", 0.93, 0.5),
        tried("slow", 0.99, 3.5),
        tried("large", 0.97, 0.9, size_mb=7),
        tried("slow at times", 0.97, 3.7),
        tried("right", 0.95, 2.0),
    ]
    chosen = cheapest(found, BUDGET)
    assert chosen is not None
    assert chosen.name == "right"
    assert cheapest([one for one in found if one.name not in {"right", "slow"}], BUDGET) is None


def test_nearest_is_what_misses_by_the_least_factor():
    dull, large = tried("dull", 0.939, 1.0), tried("large", 0.99, 1.0, size_mb=9)
    assert nearest([large, dull], BUDGET) is dull
    assert nearest([large, tried("duller", 0.5, 1.0)], BUDGET) is large


def test_nearest_is_never_what_stands_beside_or_cannot_be_told():
    found = [tried("untold", math.nan, 1.0), tried("beside", 0.99, 0.1, forecast=None), tried("best", 0.9, 9.0)]
    assert nearest(found, BUDGET).name == "best"
    assert nearest(found[::-1], BUDGET).name == "best"
    assert missed(nearest(found, BUDGET), BUDGET) == (
        "no form keeps the budget on the validation rows; best comes nearest: 90.0% instead of 94.0% of the teacher, "
        "13.50 instead of 5.50 ms (p95)"
    )
    untold = missed(tried("untold", math.nan, 1.0), BUDGET)
    assert untold.endswith("untold comes nearest: what can't be told instead of 94.0% of the teacher")


def test_a_near_miss_is_told_with_as_many_digits_as_show_it():
    told = missed(tried("near", 0.93996, 3.667, size_mb=6.0004), BUDGET)
    assert "93.996% instead of 94.000% of the teacher" in told
    assert "5.5005 instead of 5.5000 ms (p95)" in told
    assert "6.0004 instead of 6.0000 MB" in told


def test_what_is_told_has_a_dash_where_there_is_nothing_to_tell():
    limits = Limits(gflops=50.0, gbytes_s=10.0, overhead_ms=0.01)
    told = tried("untold", math.nan, 40.0).told(limits, BUDGET)
    assert (told["retention"], told["foreseen_ms"], told["limit_share"], told["keeps"]) == (None, 1.0, 0.5, False)
    beside = tried("baseline", 0.99, 0.1, forecast=None).told(limits, BUDGET)
    assert (beside["foreseen_ms"], beside["limit_share"], beside["keeps"]) == (None, None, False)
    assert tried("right", 0.95, 2.0).told(limits, BUDGET)["keeps"]


@pytest.fixture
def frontier() -> Frontier:
    return Frontier(Path("nowhere"), Path("nowhere"), Evaluate())


def test_retention_is_the_least_of_the_tasks_and_untold_where_one_is(
    frontier: Frontier, monkeypatch: pytest.MonkeyPatch
):
    outcome = Together((("mood", Classification(("a", "b"))), ("tone", Classification(("x", "y")))))
    teacher = {"mood_macro_f1": 0.8, "tone_macro_f1": 0.5}
    monkeypatch.setitem(frontier.__dict__, "judge", SimpleNamespace(outcome=outcome))
    monkeypatch.setitem(frontier.__dict__, "_teachers_figures", teacher)
    assert frontier.retention({"mood_macro_f1": 0.76, "tone_macro_f1": 0.45}) == pytest.approx(0.9)
    monkeypatch.setitem(frontier.__dict__, "_teachers_figures", teacher | {"tone_macro_f1": 0.0})
    assert math.isnan(frontier.retention({"mood_macro_f1": 0.76, "tone_macro_f1": 0.45}))


def test_a_teacher_that_gains_nothing_over_the_plain_forecast_keeps_no_budget(
    frontier: Frontier, monkeypatch: pytest.MonkeyPatch
):
    first = primary(Rate(prior=0.1))
    monkeypatch.setitem(frontier.__dict__, "judge", SimpleNamespace(outcome=Rate(prior=0.1), trivial={first: 0.65}))
    monkeypatch.setitem(frontier.__dict__, "_teachers_figures", {first: 0.69})
    assert meanings_of(Rate(prior=0.1))[first].higher_is_better is False
    assert math.isnan(frontier.retention({first: 0.70}))
    monkeypatch.setitem(frontier.__dict__, "_teachers_figures", {first: 0.55})
    assert frontier.retention({first: 0.57}) == pytest.approx(0.8)
