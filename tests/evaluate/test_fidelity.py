import math

import numpy as np
import pytest

from potstill.evaluate.fidelity import agreement, flips, kl_divergence
from potstill.outcomes import Classification, softmax

TWO = Classification(("a", "b"))


def test_agreement_is_the_share_of_equal_answers():
    first = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    second = np.array([[0.6, 0.4], [0.1, 0.9], [0.4, 0.6], [0.4, 0.6]])
    assert agreement(TWO, first, second) == 0.75
    assert flips(TWO, first, second) == 0.25
    assert agreement(TWO, first, first) == 1
    assert flips(TWO, first, first) == 0


@pytest.mark.parametrize("changed", range(0, 101, 3))
def test_flips_are_counted_exactly(changed: int):
    before = np.tile([0.9, 0.1], (100, 1))
    after = before.copy()
    after[:changed] = [0.1, 0.9]
    assert flips(TWO, before, after) == changed / 100, "3 of 100 rows must satisfy a budget of exactly 0.03"


def test_kl_matches_a_value_worked_out_by_hand():
    teacher, student = np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([[0.25, 0.75], [0.5, 0.5]])
    first = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert kl_divergence(teacher, student) == pytest.approx((first + math.log(2)) / 2)


def test_kl_runs_from_teacher_to_student():
    certain, doubting = np.array([[0.98, 0.02]]), np.array([[0.5, 0.5]])
    assert kl_divergence(certain, doubting) < kl_divergence(doubting, certain)


def test_kl_to_itself_is_nothing_and_never_below():
    random = np.random.default_rng(0)
    first, second = (softmax(random.normal(size=(50, 7))) for _ in range(2))
    assert kl_divergence(first, first) == pytest.approx(0, abs=1e-12)
    assert kl_divergence(first, second) > 0


def test_kl_stays_finite_where_a_student_rules_out_what_the_teacher_says():
    assert math.isfinite(kl_divergence(np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])))


def test_softmax_adds_up_and_bears_large_logits():
    found = softmax(np.array([[1000.0, 1000.0], [0.0, math.log(3)]], dtype=np.float32))
    assert found == pytest.approx(np.array([[0.5, 0.5], [0.25, 0.75]]))
