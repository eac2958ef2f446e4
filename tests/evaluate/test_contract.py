import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import Figures, held

from potstill.evaluate.contract import Verdict
from potstill.evaluate.quality import Interval
from potstill.metrics import Meaning
from potstill.recipe import Budget

F1 = Meaning("macro-F1", True, zero_is_nothing=True)
BUDGET = Budget(retention=0.95, agreement=0.8, flips=0.02, latency_p95_ms=5.0, size_mb=20.0)
GOOD = Figures(F1, 0.97, 0.9, 0.01, 4.0, 18.0, Interval(0.01, -0.01, 0.03), Interval(0.1, 0.05, 0.15), None)
WORSE = Interval(-0.05, -0.08, -0.001)
# Clause, the field that it looks at, a value just inside the limit and one just outside.
EDGES = [
    ("retention", "retention", 0.95, 0.9499),
    ("agreement", "agreement", 0.8, 0.7999),
    ("flips", "flips", 0.02, 0.0201),
    ("control", "over_control", Interval(-0.05, -0.1, 0.0), WORSE),
    ("baseline", "over_baseline", Interval(-0.05, -0.1, 0.0), WORSE),
    ("latency", "latency_p95_ms", 5.0, 5.001),
    ("size", "size_mb", 20.0, 20.001),
]


def test_a_model_within_every_limit_is_accepted():
    verdict = held(GOOD, BUDGET, "none")
    assert verdict.accepted
    assert verdict.reasons == ()
    assert [clause.name for clause in verdict.clauses] == [name for name, *_ in EDGES]


@pytest.mark.parametrize(("name", "field", "inside", "outside"), EDGES)
def test_each_clause_alone_refuses_just_outside_its_limit_and_is_named(name, field, inside, outside):
    assert held(replace(GOOD, **{field: inside}), BUDGET, "none").accepted
    verdict = held(replace(GOOD, **{field: outside}), BUDGET, "none")
    assert not verdict.accepted
    assert [clause.name for clause in verdict.clauses if not clause.passed] == [name]
    assert len(verdict.reasons) == 1
    assert verdict.reasons[0].startswith(f"{name}: ")


@pytest.mark.parametrize("field", ["retention", "agreement", "flips", "latency_p95_ms", "size_mb"])
def test_a_figure_that_is_no_number_is_refused(field: str):
    assert not held(replace(GOOD, **{field: math.nan}), BUDGET, "none").accepted


@pytest.mark.parametrize("field", ["over_control", "over_baseline"])
def test_a_difference_that_is_no_number_is_refused(field: str):
    assert not held(replace(GOOD, **{field: Interval(math.nan, math.nan, math.nan)}), BUDGET, "none").accepted


@given(st.floats(0, 1.2), st.floats(0, 1), st.floats(0, 0.1), st.floats(0, 20), st.floats(0, 80), st.floats(-0.5, 0.5))
def test_accepted_means_that_every_limit_holds(retention, agreement, flips, latency, size, high):
    measured = Figures(
        F1, retention, agreement, flips, latency, size, Interval(high, -1, high), GOOD.over_baseline, None
    )
    expected = retention >= 0.95 and agreement >= 0.8 and flips <= 0.02 and latency <= 5 and size <= 20 and high >= 0
    assert held(measured, BUDGET, "none").accepted == expected


@pytest.mark.parametrize(("difference", "better"), [(0.01, True), (0.0, False), (-0.01, False), (math.nan, False)])
def test_better_than_the_champion_means_more_macro_f1_on_the_same_rows(difference: float, better: bool):
    verdict = held(replace(GOOD, over_champion=Interval(difference, -0.02, 0.04)), BUDGET, "3")
    assert verdict.accepted
    assert verdict.champion is not None
    assert (verdict.champion.better, verdict.champion.version) == (better, "3")


def test_without_a_champion_there_is_no_comparison():
    assert held(GOOD, BUDGET, "none").champion is None


def test_words_say_what_was_found_and_what_is_required():
    words = {clause.name: clause.words for clause in held(GOOD, BUDGET, "none").clauses}
    assert words["retention"] == "retention: keeps 97.0% of the teacher's macro-F1; at least 95.0%"
    assert words["latency"] == "latency: answers within 4.00 ms (p95); at most 5.00 ms"
    assert words["size"] == "size: weighs 18.0 MB; at most 20.0 MB"


def test_a_verdict_survives_json():
    verdict = held(replace(GOOD, flips=0.5, over_champion=Interval(0.1, 0.0, 0.2)), BUDGET, "3")
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_for_an_error_less_is_better_against_rivals_and_champion():
    error = Meaning("MAE", False)
    better, worse = Interval(-0.1, -0.2, -0.05), Interval(0.1, 0.05, 0.2)
    verdict = held(
        replace(GOOD, metric=error, over_control=better, over_baseline=worse, over_champion=better), BUDGET, "3"
    )
    assert [clause.name for clause in verdict.clauses if not clause.passed] == ["baseline"]
    assert verdict.reasons[0].endswith("95 % interval +0.050 to +0.200; must not lie above 0")
    assert verdict.champion is not None
    assert verdict.champion.better
    assert "gain in MAE over the plain forecast" in verdict.clauses[0].words


def test_a_small_difference_is_told_with_digits_that_show_it():
    rate = replace(GOOD, metric=Meaning("log loss", False, "{:.4f}"), over_control=Interval(-2.3e-5, -4.1e-5, -0.5e-5))
    words = {clause.name: clause.words for clause in held(rate, BUDGET, "none").clauses}
    assert words["control"].startswith("control: -0.000023 log loss against the control")
    assert "interval -0.000041 to -0.000005" in words["control"]


def test_no_share_of_no_gain_is_kept():
    verdict = held(replace(GOOD, retention=math.nan), BUDGET, "none")
    assert verdict.reasons == ("retention: the teacher gains nothing over the plain forecast",)
    assert Verdict.from_json(verdict.to_json()).clauses[0].found is None
