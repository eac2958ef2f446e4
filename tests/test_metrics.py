import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from potstill.metrics import Truth, auc, better, macro_f1, meanings_of, metrics_of, primary, score
from potstill.outcomes import Classification, Rate, Retrieval, Together, Value

PRICE = Value(low=0.0, high=8.0, bins=800, scale="log", smoothing=0.75)


def f1(labels: np.ndarray, guesses: np.ndarray, outcomes: int) -> float:
    return float(macro_f1(np.ones((1, len(labels))), labels, guesses, outcomes)[0])


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
    found = score(PRICE, Truth(values), probabilities)
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
    truth = Truth(np.exp(centre + random.normal(0, 0.3, size=4000)))
    found = score(PRICE, truth, wide.targets(np.exp(centre)).astype(float))
    assert found["coverage"] == pytest.approx(0.8, abs=0.02)


def test_a_metric_answers_for_each_draw():
    values = np.array([10.0, 20.0, 40.0])
    metric = metrics_of(PRICE, Truth(values), PRICE.targets(np.array([10.0, 10.0, 10.0])).astype(float))["mae_log"]
    expected = [np.log(2), np.log(4) * 2 / 3 + np.log(2) / 3]
    # Once each; then the second once and the third twice.
    assert metric(np.array([[1.0, 1.0, 1.0], [0.0, 1.0, 2.0]])) == pytest.approx(expected, abs=1e-2)


def test_the_first_metric_decides_and_better_turns_errors_round():
    two = Classification(("a", "b"))
    assert (primary(two), better(two, 0.5)) == ("macro_f1", 0.5)
    assert (primary(PRICE), better(PRICE, 0.5)) == ("mae_log", -0.5)


def test_what_speaks_of_factors_is_not_asked_of_values_that_may_be_below_zero():
    change = Value(-5.0, 5.0, 100, "linear", 0.75)
    found = score(change, Truth(np.array([-1.0, 0.0, 2.0])), change.targets(np.array([-1.0, 1.0, 2.0])).astype(float))
    assert primary(change) == "mae"
    assert set(found) == set(meanings_of(change))
    assert found["mae"] == pytest.approx(1 / 3, abs=0.02)


def rates(values: list[float]) -> np.ndarray:
    return Rate().targets(np.array(values)).astype(float)


@pytest.mark.parametrize("seed", range(3))
def test_figures_of_rates_match_scikit_learn_with_weights_and_ties(seed: int):
    random = np.random.default_rng(seed)
    labels, weights = random.integers(2, size=300).astype(float), random.uniform(0.1, 5, size=300)
    guesses = np.round(random.uniform(0.01, 0.99, size=300), 1)
    found = score(Rate(), Truth(labels, weights), rates(list(guesses)))
    safe = np.clip(guesses, 1e-12, 1 - 1e-12)
    assert found["auc"] == pytest.approx(reference.roc_auc_score(labels, guesses, sample_weight=weights))
    assert found["log_loss"] == pytest.approx(reference.log_loss(labels, safe, sample_weight=weights), rel=1e-5)
    assert found["calibration"] == pytest.approx((weights * guesses).sum() / (weights * labels).sum())


def test_a_row_with_counts_is_worth_its_single_tries():
    # 3 clicks of 10 and 1 of 4, against the same tries written out one by one.
    counted = score(Rate(bid=0.2), Truth(np.array([0.3, 0.25]), np.array([10.0, 4.0])), rates([0.4, 0.1]))
    tries = np.array([1.0] * 3 + [0.0] * 7 + [1.0] + [0.0] * 3)
    single = score(Rate(bid=0.2), Truth(tries), rates([0.4] * 10 + [0.1] * 4))
    assert counted == pytest.approx(single)
    # Only the first row is above the bid: its 10 of 14 tries bring 0.3 and cost 0.2.
    assert counted["value_at_bid"] == pytest.approx(0.1 * 10 / 14)


def test_figures_of_groups_are_those_worked_out_by_hand():
    values = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    guesses = [0.9, 0.5, 0.1, 0.8, 0.2, 0.3, 0.3]
    groups = np.array([0, 0, 0, 1, 1, 2, 2])
    found = score(Rate(grouped=True), Truth(values, groups=groups), rates(guesses))
    # Group 0: the yes comes second of three; group 1: first of two; group 2 has no yes, so nothing to order.
    assert found["pair_order"] == pytest.approx(2 / 3)
    assert found["ndcg_at_10"] == pytest.approx((1 / np.log2(3) + 1) / 2)
    assert found["mrr"] == pytest.approx(3 / 4)
    assert found["recall_at_10"] == 1


def test_ndcg_matches_scikit_learn_and_only_ten_places_are_seen():
    random = np.random.default_rng(3)
    values, guesses = random.uniform(size=(2, 40))
    found = score(Rate(grouped=True), Truth(values, groups=np.zeros(40, dtype=int)), rates(list(guesses)))
    assert found["ndcg_at_10"] == pytest.approx(reference.ndcg_score(values[None], guesses[None], k=10))
    assert found["pair_order"] == pytest.approx((stats.kendalltau(values, guesses).statistic + 1) / 2)
    last = np.zeros(40)
    last[guesses.argmin()] = 1
    hidden = score(Rate(grouped=True), Truth(last, groups=np.zeros(40, dtype=int)), rates(list(guesses)))
    assert (hidden["recall_at_10"], hidden["ndcg_at_10"], hidden["mrr"]) == (0, 0, pytest.approx(1 / 40))


def test_a_forecast_that_looks_at_nothing_orders_half_of_the_pairs():
    values, groups = np.tile([1.0, 0.0], 500), np.repeat(np.arange(500), 2)
    found = score(Rate(grouped=True), Truth(values, groups=groups), rates([0.5] * 1000))
    assert (found["pair_order"], found["auc"]) == (0.5, 0.5)
    # The label stands first in each group; equal scores must not profit from it.
    assert found["mrr"] == pytest.approx(0.75, abs=0.03)


def test_auc_without_a_yes_is_not_a_number():
    assert np.isnan(auc(np.ones((1, 3)), np.zeros(3), np.arange(3.0)))


def test_the_weight_of_a_row_counts_like_so_many_rows():
    weights = np.array([1.0, 3.0, 2.0])
    values, guesses = np.array([10.0, 20.0, 40.0]), PRICE.targets(np.array([12.0, 30.0, 33.0])).astype(float)
    rows = np.repeat(np.arange(3), [1, 3, 2])
    weighted, repeated = score(PRICE, Truth(values, weights), guesses), score(PRICE, Truth(values[rows]), guesses[rows])
    assert weighted == pytest.approx(repeated)
    classes, labels = Classification(("a", "b")), np.array([0, 1, 1])
    answers = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    one, other = score(classes, Truth(labels, weights), answers), score(classes, Truth(labels[rows]), answers[rows])
    assert one == pytest.approx(other)


def test_counts_are_judged_by_their_sum_and_by_the_stock_that_lasts():
    demand = Value.from_values(np.arange(60.0), 64, "count", 0.3, service_level=0.9)
    values = np.array([0.0, 3.0, 9.0, 30.0])
    found = score(demand, Truth(values), demand.targets(np.array([0.0, 4.0, 9.0, 20.0])).astype(float))
    assert primary(demand) == "wape"
    assert found["wape"] == pytest.approx(11 / 42, abs=0.03)
    assert found["service"] == 0.75


def test_the_recipe_may_choose_what_decides():
    outcome = Classification(("a", "b"), decides="accuracy")
    assert primary(outcome) == "accuracy"
    assert list(meanings_of(outcome)) == ["accuracy", "macro_f1"]


def test_a_retrieval_is_judged_by_the_rank_of_the_own_answer():
    outcome = Retrieval().over(("a", "b", "c", "d", "e", "f", "g"))
    probabilities = np.array(
        [
            [0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],  # own is first
            [0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1],  # own is second
            [0.2, 0.2, 0.15, 0.15, 0.1, 0.1, 0.1],  # own is among the last three: place 6
        ]
    )
    found = score(outcome, Truth(np.array([0.0, 1.0, 6.0])), probabilities)
    assert found == pytest.approx({"mrr": (1 + 1 / 2 + 1 / 6) / 3, "recall_at_1": 1 / 3, "recall_at_5": 2 / 3})


def test_who_can_not_tell_answers_apart_has_found_none():
    outcome = Retrieval().over([str(i) for i in range(9)])
    found = score(outcome, Truth(np.arange(9.0)), np.full((9, 9), 1 / 9))
    assert found == {"mrr": pytest.approx(1 / 5), "recall_at_1": 0.0, "recall_at_5": 1.0}


def test_several_tasks_have_the_mean_skill_each_on_the_rows_with_its_label():
    price = Value(0.0, 10.0, 10, "linear", 0.75)
    both = Together((("tone", Classification(("good", "bad"))), ("price", price)))
    values = np.array([[0, np.nan], [1, np.nan], [1, np.nan], [np.nan, 2.5], [np.nan, 8.5]])
    sharp = np.eye(10)
    prices = np.stack([sharp[0], sharp[0], sharp[0], sharp[2], sharp[6]])
    tones = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5], [0.5, 0.5]])
    found = score(both, Truth(values), np.concatenate([tones, prices], axis=1))
    alone = score(both.tasks[0][1], Truth(values[:3, 0]), tones[:3])
    assert {name: found[f"tone_{name}"] for name in alone} == alone
    assert found["price_mae"] == pytest.approx(1.0)
    # A constant forecast, the rows' own distribution, has its median at an end of the lower bin: 3 and 5.5 away.
    constant = score(price, Truth(values[3:, 1]), np.tile(price.targets(values[3:, 1]).mean(axis=0), (2, 1)))
    assert found["skill"] == pytest.approx((alone["macro_f1"] + 1 - 1.0 / constant["mae"]) / 2)
    assert next(iter(meanings_of(both))) == "skill"
