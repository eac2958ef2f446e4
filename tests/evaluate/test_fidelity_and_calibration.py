import math

import numpy as np
import pytest

from potstill.evaluate import calibration, fidelity

TEACHER = np.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [0.5, 0.5]])
STUDENT = np.array([[0.7, 0.3], [0.4, 0.6], [0.2, 0.8], [0.5, 0.5]])


def test_agreement_counts_equal_answers_and_flips_the_rest():
    assert fidelity.agreement(TEACHER, STUDENT) == 0.75
    assert fidelity.flips(TEACHER, STUDENT) == 0.25


def test_kl_matches_hand_computed_value():
    by_hand = (
        0.8 * math.log(0.8 / 0.7) + 0.2 * math.log(0.2 / 0.3)
        + 0.6 * math.log(0.6 / 0.4) + 0.4 * math.log(0.4 / 0.6)
        + 0.1 * math.log(0.1 / 0.2) + 0.9 * math.log(0.9 / 0.8)
    ) / 4  # fmt: skip
    assert fidelity.kl_divergence(TEACHER, STUDENT) == pytest.approx(by_hand)


def test_kl_stays_finite_where_the_student_gives_nothing():
    assert math.isfinite(fidelity.kl_divergence(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])))


def test_softmax_of_large_logits_is_finite_and_sums_to_one():
    found = fidelity.softmax(np.array([[1000.0, 1000.0, -1000.0]], dtype=np.float32))
    assert found.tolist() == [[0.5, 0.5, 0.0]]


def test_calibration_error_matches_hand_computed_value():
    # Two rows at 0.9 of which one is right, two rows at 0.6 which are both right.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    labels = np.array([0, 1, 0, 0])
    assert calibration.expected_calibration_error(probabilities, labels) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)
    assert [b.rows for b in calibration.reliability(probabilities, labels)] == [2, 2]


def test_full_confidence_falls_into_the_last_bin():
    assert calibration.expected_calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0


def test_brier_score_matches_hand_computed_value():
    probabilities, labels = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]]), np.array([0, 1])
    assert calibration.brier_score(probabilities, labels) == pytest.approx((0.09 + 0.04 + 0.01) / 2)
