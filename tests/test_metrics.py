import numpy as np
import pytest
from sklearn import metrics as reference

from potstill.metrics import better, macro_f1, meanings_of, metrics_of, primary, score
from potstill.outcomes import Classification, Value

PRICE = Value(low=0.0, high=8.0, bins=800, scale="log", smoothing=0.75)


def f1(labels: np.ndarray, guesses: np.ndarray, outcomes: int) -> float:
    return float(macro_f1(labels[None], guesses[None], outcomes)[0])


def test_macro_f1_matches_hand_computed_value():
    labels, guesses = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 0])
    # class 0: precision 2/3, recall 2/3; class 1: precision 2/3, recall 1; class 2: never answered.
    assert f1(labels, guesses, 3) == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_matches_scikit_learn(seed: int):
    random = np.random.default_rng(seed)
    labels, guesses = random.integers(7, size=(2, 300))
    assert f1(labels, guesses, 7) == pytest.approx(reference.f1_score(labels, guesses, average="macro"))


def test_an_outcome_that_no_row_has_does_not_count():
    labels, guesses = np.array([0, 0, 1]), np.array([0, 2, 1])
    expected = reference.f1_score(labels, guesses, average="macro", labels=[0, 1])
    assert f1(labels, guesses, 3) == pytest.approx(expected)


def test_metrics_of_values_match_scikit_learn():
    random = np.random.default_rng(0)
    values = np.exp(random.normal(4, 1, size=200))
    probabilities = PRICE.targets(values * np.exp(random.normal(0, 0.2, size=200))).astype(float)
    median, mean = PRICE.quantile(probabilities, 0.5), PRICE.mean(probabilities)
    found = score(PRICE, values, probabilities)
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(values, median))
    assert found["rmsle"] == pytest.approx(reference.root_mean_squared_log_error(values, median))
    assert found["r2"] == pytest.approx(reference.r2_score(values, mean))
    assert found["mdape"] == pytest.approx(np.median(np.abs(values - median) / values))
    assert found["mae_log"] == pytest.approx(reference.mean_absolute_error(np.log(values), np.log(median)))
    shares = np.arange(1, 10) / 10
    losses = [reference.mean_pinball_loss(values, PRICE.quantile(probabilities, q), alpha=q) for q in shares]
    assert found["pinball"] == pytest.approx(np.mean(losses))


def test_an_honest_forecast_holds_eight_of_ten_values_in_its_band():
    random = np.random.default_rng(1)
    centre = random.normal(4, 0.5, size=4000)
    wide = Value(PRICE.low, PRICE.high, PRICE.bins, "log", smoothing=0.3 / PRICE.width)
    found = score(PRICE, np.exp(centre + random.normal(0, 0.3, size=4000)), wide.targets(np.exp(centre)).astype(float))
    assert found["coverage"] == pytest.approx(0.8, abs=0.02)


def test_a_metric_answers_for_each_draw():
    values = np.array([10.0, 20.0, 40.0])
    metric = metrics_of(PRICE, values, PRICE.targets(np.array([10.0, 10.0, 10.0])).astype(float))["mae_log"]
    expected = [np.log(2), np.log(4) * 2 / 3 + np.log(2) / 3]
    assert metric(np.array([[0, 1, 2], [2, 2, 1]])) == pytest.approx(expected, abs=1e-2)


def test_the_first_metric_decides_and_better_turns_errors_round():
    two = Classification(("a", "b"))
    assert (primary(two), better(two, 0.5)) == ("macro_f1", 0.5)
    assert (primary(PRICE), better(PRICE, 0.5)) == ("mae_log", -0.5)


def test_what_speaks_of_factors_is_not_asked_of_values_that_may_be_below_zero():
    change = Value(-5.0, 5.0, 100, "linear", 0.75)
    found = score(change, np.array([-1.0, 0.0, 2.0]), change.targets(np.array([-1.0, 1.0, 2.0])).astype(float))
    assert primary(change) == "mae"
    assert set(found) == set(meanings_of(change))
    assert found["mae"] == pytest.approx(1 / 3, abs=0.02)
