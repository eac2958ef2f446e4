"""What is foreseen of forms, and which of them are worth teaching."""

import pytest

from potstill.plan.forecast import Forecast, from_text, picked, probes_of, promising, to_text
from potstill.plan.forms import candidates
from potstill.plan.limits import Limits
from potstill.recipe import Budget, Prune, Student

BUDGET = Budget(latency_p95_ms=5.5, size_mb=6)


def foreseen(layers: int, p95_ms: float) -> Forecast:
    return Forecast(Student(layers=layers), p95_ms / 2, p95_ms, layers * 1e6, 1e9, 1000)


def layers_of(forecasts: list[Forecast]) -> list[int]:
    return [one.form.layers for one in forecasts]


def test_probes_are_the_extremes_and_one_pruned_in_between():
    forms = candidates(6, Student(), can_prune=True)
    assert [(form.layers, bool(form.prune)) for form in probes_of(forms)] == [(1, False), (3, True), (6, False)]


def test_only_forms_that_are_foreseen_to_fit_are_promising(capsys: pytest.CaptureFixture[str]):
    forecasts = [foreseen(layers, layers) for layers in range(1, 8)]
    assert layers_of(promising(forecasts, BUDGET)) == [1, 2, 3, 4, 5]
    assert "5 of 7 forms" in capsys.readouterr().out
    assert layers_of(promising([foreseen(layers, 0.1) for layers in range(1, 8)], BUDGET)) == [1, 2, 3, 4, 5, 6]


def test_where_none_fits_the_cheapest_shows_by_how_much():
    assert layers_of(promising([foreseen(layers, 9.0) for layers in (1, 2)], BUDGET)) == [1]


@pytest.mark.parametrize(
    ("count", "most", "places"), [(8, 3, [1, 5, 8]), (8, 2, [1, 8]), (3, 4, [1, 2, 3]), (1, 4, [1])]
)
def test_candidates_are_spread_from_the_cheapest_to_the_dearest(count: int, most: int, places: list[int]):
    forecasts = [foreseen(layers, 1.0) for layers in range(1, count + 1)]
    assert layers_of(picked(forecasts, most)) == places


def test_what_was_foreseen_is_read_as_it_was_written():
    forecasts = [foreseen(1, 2.0), Forecast(Student(layers=2, prune=Prune(heads=0.5)), 1.0, 2.0, 3.0, 4.0, 5)]
    assert from_text(to_text(forecasts)) == forecasts


def test_the_share_of_the_limit_is_the_least_time_over_the_time_taken():
    limits = Limits(gflops=50.0, gbytes_s=10.0, overhead_ms=0.01)
    # 10^9 operations take 20 ms; 4 kB of weights far less.
    assert foreseen(1, 2.0).limit_share(limits, 40.0) == pytest.approx(0.5)
