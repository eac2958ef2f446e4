import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from potstill.evaluate.calibration import (
    brier_score,
    calibration_error,
    figures,
    quantile_error,
    quantile_shares,
    reliability,
)
from potstill.metrics import Truth
from potstill.outcomes import Classification, Rate, Value


def sure(confidence: float, rows: int) -> np.ndarray:
    """Rows that answer outcome 0 with one confidence."""
    return np.tile([confidence, 1 - confidence], (rows, 1))


def test_a_confidence_that_comes_true_has_no_error():
    labels = np.array([0] * 8 + [1] * 2)
    assert calibration_error(reliability(sure(0.8, 10), Truth(labels))) == pytest.approx(0)


def test_the_error_is_the_gap_weighted_by_rows():
    probabilities = np.concatenate([sure(0.9, 10), sure(0.7, 30)])
    labels = np.array([0] * 5 + [1] * 5 + [0] * 24 + [1] * 6)
    # Ten rows say 0.9 and are right half the time; thirty say 0.7 and are right four times in five.
    assert calibration_error(reliability(probabilities, Truth(labels))) == pytest.approx((10 * 0.4 + 30 * 0.1) / 40)


def test_gaps_of_opposite_sign_in_different_bins_do_not_cancel():
    probabilities = np.concatenate([sure(0.9, 10), sure(0.6, 10)])
    labels = np.array([0] * 6 + [1] * 4 + [0] * 9 + [1])
    assert calibration_error(reliability(probabilities, Truth(labels))) == pytest.approx(0.3)


def test_the_diagram_shows_filled_bins_from_low_to_high():
    bins = reliability(np.concatenate([sure(0.95, 3), sure(0.55, 2)]), Truth(np.array([0, 0, 1, 0, 1])))
    assert [b.weight for b in bins] == [2, 3]
    assert [b.confidence for b in bins] == pytest.approx([0.55, 0.95])
    assert [b.accuracy for b in bins] == pytest.approx([1 / 2, 2 / 3])


def test_a_bin_holds_its_upper_bound_and_full_confidence_has_a_place():
    bins = reliability(np.concatenate([sure(0.6, 1), sure(0.61, 1), sure(1.0, 1)]), Truth(np.zeros(3)))
    assert [b.confidence for b in bins] == pytest.approx([0.6, 0.61, 1.0])


def test_every_row_lies_in_one_bin():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(4), size=500)
    assert sum(b.weight for b in reliability(probabilities, Truth(random.integers(4, size=500)))) == 500


def test_brier_matches_values_worked_out_by_hand():
    assert brier_score(np.array([[1.0, 0.0]]), Truth(np.array([0]))) == 0
    assert brier_score(np.array([[1.0, 0.0]]), Truth(np.array([1]))) == 2
    assert brier_score(np.array([[0.5, 0.3, 0.2]]), Truth(np.array([1]))) == pytest.approx(0.25 + 0.49 + 0.04)


def test_brier_is_twice_sklearns_for_two_outcomes():
    random = np.random.default_rng(0)
    probabilities, labels = random.dirichlet(np.ones(2), size=100), random.integers(2, size=100)
    assert brier_score(probabilities, Truth(labels)) == pytest.approx(2 * brier_score_loss(labels, probabilities[:, 1]))


def test_deciles_of_an_honest_forecast_hold_their_shares_and_of_a_narrow_one_do_not():
    random = np.random.default_rng(0)
    centre = random.normal(50, 5, size=5000)
    values = centre + random.normal(0, 4, size=5000)
    bins = Value(0.0, 100.0, 500, "linear", 0.75)
    honest, narrow = (Value(0.0, 100.0, 500, "linear", s / bins.width).targets(centre) for s in (4.0, 1.0))
    assert list(quantile_shares(bins, honest, Truth(values)).values()) == pytest.approx(np.arange(1, 10) / 10, abs=0.02)
    assert quantile_error(bins, honest, Truth(values)) < 0.02
    assert quantile_error(bins, narrow, Truth(values)) > 0.1


def test_rows_count_by_their_weight():
    # The one row in three that is wrong weighs as much as both others.
    truth = Truth(np.array([0.0, 0.0, 1.0]), np.array([1.0, 1.0, 2.0]))
    found = figures(Classification(("a", "b")), sure(0.5, 3), truth)
    assert found["ece"] == pytest.approx(0)
    assert found["brier"] == pytest.approx(0.5)
    # Tries: one text with 900 of a rate of 0.1, one with 100 of 0.5; both are told 0.14.
    rates, shown = np.array([[0.86, 0.14]] * 20), np.tile([900.0, 100.0], 10)
    clicks = Truth(np.tile([0.1, 0.5], 10), shown)
    assert figures(Rate(), rates, clicks)["ece"] == pytest.approx(0)
    values = Value(0.0, 10.0, 10, "linear", 0.75)
    told = values.targets(np.array([2.5, 2.5]))
    heavy = Truth(np.array([1.0, 9.0]), np.array([9.0, 1.0]))
    assert quantile_shares(values, told, heavy)[0.9] == pytest.approx(0.9)
