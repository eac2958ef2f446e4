"""What the contract must not be talked into: infinities, holes in intervals, and rounding."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import Figures, held

from potstill.evaluate.contract import Verdict
from potstill.evaluate.quality import Interval, ratio, resample
from potstill.metrics import Meaning, Truth, metrics_of
from potstill.outcomes import Classification
from potstill.recipe import Budget

BUDGET = Budget(retention=0.97, agreement=0.9, flips=0.03, latency_p95_ms=5, size_mb=15)
F1 = Meaning("macro-F1", True, zero_is_nothing=True)
SOUND = Figures(
    metric=F1,
    retention=0.985,
    agreement=0.94,
    flips=0.01,
    latency_p95_ms=3.2,
    size_mb=11.4,
    over_control=Interval(0.01, -0.005, 0.025),
    over_baseline=Interval(0.1, 0.07, 0.13),
    over_champion=None,
)
WORSE = Interval(-0.04, -0.06, -0.02)
shares = st.floats(0, 1, allow_nan=False)


def failed(verdict: Verdict) -> set[str]:
    return {clause.name for clause in verdict.clauses if not clause.passed}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("figure", ["retention", "agreement", "flips", "latency_p95_ms", "size_mb"])
def test_what_is_not_a_finite_number_never_passes(figure: str, bad: float):
    assert not held(replace(SOUND, **{figure: bad}), BUDGET, "none").accepted


@pytest.mark.parametrize("rival", ["over_control", "over_baseline"])
@pytest.mark.parametrize("part", ["value", "low", "high"])
def test_an_interval_with_a_hole_never_passes(rival: str, part: str):
    holed = replace(getattr(SOUND, rival), **{part: math.nan})
    assert not held(replace(SOUND, **{rival: holed}), BUDGET, "none").accepted


def test_a_teacher_without_a_right_answer_gives_no_retention_and_so_no_acceptance():
    labels = np.array([0, 1] * 20)
    outcome, guesses = Classification(("a", "b")), {"student": labels, "teacher": 1 - labels}
    truth = Truth(labels.astype(float))
    metrics = {name: metrics_of(outcome, truth, np.eye(2)[guess]) for name, guess in guesses.items()}
    found = resample(metrics, truth, 100, seed=7)
    retention = ratio(found["student"]["macro_f1"], found["teacher"]["macro_f1"])
    assert np.isnan([retention.value, retention.low, retention.high]).all()
    assert failed(held(replace(SOUND, retention=retention.value), BUDGET, "none")) == {"retention"}


def test_all_failures_are_told_not_only_the_first():
    verdict = held(Figures(F1, 0.1, 0.1, 0.9, 900, 900, WORSE, WORSE, None), BUDGET, "none")
    assert len(failed(verdict)) == 7
    assert [reason.split(":")[0] for reason in verdict.reasons] == [clause.name for clause in verdict.clauses]


@given(shares, shares, shares, st.floats(0, 100), st.floats(0, 100), shares, shares, shares)
def test_a_better_figure_never_turns_acceptance_into_refusal(
    retention: float, agreement: float, flips: float, latency: float, size: float, up: float, down: float, gain: float
):
    spans = [Interval(high - 0.3, high - 0.6, high) for high in (up - 0.5, down - 0.5)]
    better_spans = [Interval(s.value + gain, s.low + gain, s.high + gain) for s in spans]
    plain = Figures(F1, retention, agreement, flips, latency, size, *spans, None)
    better = Figures(
        F1, retention + gain, agreement + gain, flips - gain, latency - gain, size - gain, *better_spans, None
    )
    assert failed(held(better, BUDGET, "none")) <= failed(held(plain, BUDGET, "none"))


def test_losing_to_the_champion_is_no_refusal():
    verdict = held(replace(SOUND, over_champion=WORSE), BUDGET, "3")
    assert verdict.accepted
    assert verdict.champion is not None
    assert not verdict.champion.better


@pytest.mark.parametrize(
    ("change", "clause"),
    [({"retention": 0.96996}, "retention"), ({"size_mb": 15.04}, "size"), ({"flips": 0.0304}, "flips")],
)
def test_a_narrow_miss_does_not_read_as_a_hit(change: dict[str, float], clause: str):
    verdict = held(replace(SOUND, **change), BUDGET, "none")
    said = next(c.words for c in verdict.clauses if c.name == clause)
    found, required = (
        next(word for word in part.split() if word[0].isdigit()) for part in said.removeprefix(clause).split(";")
    )
    assert found != required, said
