"""Drift is what differs by enough and beyond chance; figures are held against SciPy's and against hand-worked ones."""

import numpy as np
import pytest
from scipy import stats

from potstill.drift.compare import LEVEL, chance, chi_square, compare, holm, ks, psi, rows_needed
from potstill.drift.histogram import Histogram


def test_psi_is_the_hand_worked_one_less_what_chance_shows():
    # Shares 50.5 : 50.5 and 25.5 : 75.5 of 101: 25 / 101 · ln(75.5 / 25.5) = 0.268677; by chance 1 / 100 + 1 / 100.
    assert psi(np.array([50, 50]), np.array([25, 75])) == pytest.approx(0.268677 - 0.02, abs=1e-6)


def test_psi_of_the_same_shares_is_none_and_bins_that_nobody_has_change_nothing():
    assert psi(np.array([30, 70]), np.array([300, 700])) == 0
    few, many = (psi(np.array([5, 95, *more]), np.array([30, 70, *more])) for more in ([], [0, 0, 0]))
    assert few == many > 0.2


def test_psi_of_rows_of_one_kind_is_about_none_however_many_the_bins():
    random = np.random.default_rng(3)
    drawn = [psi(*random.multinomial(500, np.full(77, 1 / 77), size=2)) for _ in range(50)]
    assert np.mean(drawn) < 0.03


def test_statistics_are_scipys():
    random = np.random.default_rng(1)
    first, second = random.integers(8, size=120), random.integers(6, size=75)
    counts = [np.bincount(side, minlength=8) for side in (first, second)]
    assert ks(*counts) == pytest.approx(stats.ks_2samp(first, second).statistic)
    assert chi_square(*counts) == pytest.approx(stats.chi2_contingency(np.stack(counts)).statistic)


def test_chances_are_those_of_exact_and_of_asymptotic_tests():
    random = np.random.default_rng(2)
    first, second = random.normal(size=60), random.normal(0.4, size=40)
    # A bin for each value, so that nothing is lost by them.
    order = np.concatenate([first, second]).argsort()
    counts = [np.isin(order, places).astype(int) for places in (range(60), range(60, 100))]
    exact = stats.ks_2samp(first, second, method="exact").pvalue
    assert chance(*counts, ks, 20_000) == pytest.approx(exact, abs=0.01)
    table = np.array([[200, 300, 500], [170, 310, 420]])
    assert chance(*table, chi_square, 20_000) == pytest.approx(stats.chi2_contingency(table).pvalue, abs=0.01)


def test_a_chance_is_never_none_and_the_same_each_time():
    counts = np.array([100, 0]), np.array([0, 100])
    assert chance(*counts, ks, 999) == chance(*counts, ks, 999) == 1 / 1000


def test_of_rows_of_one_kind_a_twentieth_seems_different_at_a_twentieth():
    random = np.random.default_rng(4)
    drawn = [chance(*random.multinomial(300, np.full(10, 0.1), size=2), ks, 199) for _ in range(300)]
    assert 0.02 < np.mean(np.array(drawn) <= 0.05) < 0.09


def test_holm_multiplies_by_how_many_are_left():
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def found(reference: np.ndarray, window: np.ndarray, psi_from: float = 0.2) -> tuple[bool, bool]:
    """Whether it is drift, and whether it is beyond chance."""
    (finding,) = compare({"price": Histogram.learn(reference)}, {"price": window}, psi_from)
    return finding.drifted, finding.p_adjusted <= LEVEL


def test_a_small_difference_is_no_drift_however_many_rows_prove_it():
    random = np.random.default_rng(5)
    assert found(random.normal(size=5000), random.normal(0.15, size=10_000)) == (False, True)


def test_a_large_difference_of_few_rows_is_no_drift():
    assert found(np.arange(500.0), np.array([499.0, 300.0])) == (False, False)


def test_dearer_prices_are_drift_and_the_bins_say_where():
    prices = np.random.default_rng(6).lognormal(3, 1, size=1000)
    (finding,) = compare({"price": Histogram.learn(prices)}, {"price": prices[:400] * 2}, 0.2)
    assert finding.drifted
    assert (finding.test, len(finding.bins)) == ("ks", len(finding.window))
    assert sum(finding.reference) == pytest.approx(1) == pytest.approx(sum(finding.window))
    assert finding.window[-2] > 2 * finding.reference[-2]


def test_what_drifted_comes_first_and_what_the_window_lacks_is_left_out():
    random = np.random.default_rng(7)
    reference = {name: Histogram.learn(random.normal(size=500)) for name in ("same", "lacking", "other")}
    window = {"same": random.normal(size=500), "other": random.normal(1, size=500), "new": random.normal(size=500)}
    assert [(f.column, f.drifted) for f in compare(reference, window, 0.2)] == [("other", True), ("same", False)]


def test_the_fewer_rows_the_profile_has_the_more_a_window_needs_until_none_is_enough():
    # 9 · (1 / 450 + 1 / m) is half of 0.2 for m = 112.5.
    assert rows_needed(450, 0.2) == 113
    assert rows_needed(5000, 0.2) < 113 < rows_needed(91, 0.2)
    assert rows_needed(90, 0.2) is None
