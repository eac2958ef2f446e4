import itertools
import json
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.outcomes import Classification, Rate, Value, outcome_of


def test_the_order_of_outcomes_depends_on_nothing_but_the_labels():
    assert Classification.from_labels(["b", "a", "b"]) == Classification.from_labels(["a", "b"])
    assert Classification.from_labels(["b", "a"]).names == ("a", "b")


def test_labels_survive_encoding_and_decoding():
    outcome = Classification(("no", "perhaps", "yes"))
    labels = ["yes", "no", "yes", "perhaps"]
    assert outcome.decode(outcome.targets(outcome.encode(labels))) == labels
    assert len(outcome) == 3


def test_an_unknown_label_is_refused():
    with pytest.raises(KeyError):
        Classification(("no", "yes")).encode(["maybe"])


PRICE = Value(low=float(np.log(10)), high=float(np.log(1000)), bins=100, scale="log", smoothing=0.75)

DEMAND = Value.from_values(np.arange(200.0), 64, "count", 0.3, service_level=0.95)


def test_every_family_survives_its_spec():
    for outcome in (Classification(("no", "yes"), "accuracy"), Rate(bid=0.01, grouped=True), PRICE, DEMAND):
        assert outcome_of(json.loads(json.dumps(outcome.spec()))) == outcome
        assert len(outcome.names) == len(outcome)


def test_a_target_is_the_histogram_of_a_normal_distribution_around_the_value():
    (target,) = PRICE.targets(np.array([100.0]))
    edges = np.linspace(PRICE.low, PRICE.high, 101)
    by_hand = [
        NormalDist(np.log(100), 0.75 * PRICE.width).cdf(b) - NormalDist(np.log(100), 0.75 * PRICE.width).cdf(a)
        for a, b in itertools.pairwise(edges)
    ]
    assert target == pytest.approx(by_hand, abs=1e-6)
    assert target.sum() == pytest.approx(1)


@given(st.floats(12, 900), st.sampled_from(["log", "linear"]))
def test_a_value_survives_its_own_target(value: float, scale: str):
    outcome = PRICE if scale == "log" else Value(0.0, 1000.0, 2000, "linear", 0.75)
    target = outcome.targets(np.array([value]))
    half = 0.75 * outcome.width * (value if scale == "log" else 1)
    assert outcome.quantile(target, 0.5)[0] == pytest.approx(value, abs=half)
    assert outcome.mean(target)[0] == pytest.approx(value, abs=half)


def test_a_value_beyond_the_ends_counts_as_the_end():
    low, high = PRICE.targets(np.array([0.01, 1e9]))
    assert low.argmax() == 0
    assert high.argmax() == 99
    assert np.isfinite([low, high]).all()


def test_quantiles_and_mean_of_an_even_histogram_are_those_worked_out_by_hand():
    outcome = Value(0.0, 10.0, 10, "linear", 0.75)
    even = np.full((1, 10), 0.1)
    for share in (0.1, 0.25, 0.5, 0.9, 1.0):
        assert outcome.quantile(even, share)[0] == pytest.approx(10 * share)
    assert outcome.mean(even)[0] == pytest.approx(5)


def test_the_mean_of_a_log_histogram_is_the_mean_of_the_price_not_of_its_logarithm():
    even = np.full((1, 100), 0.01)
    # Spread evenly over the logarithm from 10 to 1000: (1000 − 10) / ln 100.
    assert PRICE.mean(even)[0] == pytest.approx(990 / np.log(100))


def test_an_answer_holds_its_median_and_its_band_in_the_labels_units():
    answer = PRICE.answers(PRICE.targets(np.array([100.0])))[0]
    assert set(answer) == {"median", "mean", "low", "high"}
    assert answer["low"] < answer["median"] < answer["high"]
    assert answer["median"] == pytest.approx(100, rel=0.01)


def test_bins_cover_the_training_values_but_for_the_outermost():
    values = np.append(np.exp(np.random.default_rng(0).normal(5, 1, size=5000)), 1e12)
    outcome = Value.from_values(values, 64, "log", 0.75)
    inside = (values > outcome.edges[0]) & (values < outcome.edges[-1])
    assert inside.mean() > 0.998
    assert outcome.edges[-1] < 1e5


def test_equal_values_still_give_bins_with_a_width():
    assert Value.from_values(np.array([5.0, 5.0]), 8, "log", 0.75).width > 0


def test_a_forecast_is_the_same_while_it_stays_in_the_references_middle_half():
    reference = Value(PRICE.low, PRICE.high, 100, "log", 5.0).targets(np.full(3, 100.0))
    sigma = 5 * PRICE.width
    others = PRICE.targets(100 * np.exp(sigma * np.array([0.0, 0.6, 0.8])))
    # The middle half of a normal distribution ends 0.674 standard deviations from its centre.
    assert PRICE.same(reference, others).tolist() == [True, True, False]


def test_another_models_histogram_keeps_its_quantiles_over_our_bins():
    theirs = Value(PRICE.low - 0.5, PRICE.high + 0.3, 150, "log", 4.0)
    probabilities = theirs.targets(np.array([30.0, 200.0]))
    ours = PRICE.adopt(theirs, probabilities)
    assert ours.sum(axis=1) == pytest.approx(1)
    for share in (0.1, 0.5, 0.9):
        assert PRICE.quantile(ours, share) == pytest.approx(theirs.quantile(probabilities, share), rel=0.01)


def test_classes_of_another_model_are_joined_by_name_and_kinds_are_not_mixed():
    ours, theirs = Classification(("a", "b", "c")), Classification(("c", "a"))
    assert ours.adopt(theirs, np.array([[0.3, 0.7]])).tolist() == [[0.7, 0, 0.3]]
    with pytest.raises(TypeError, match="answers with a value, not with a classification"):
        ours.adopt(PRICE, np.ones((1, 100)))


def test_nothing_sold_is_an_outcome_of_its_own():
    sold = DEMAND.targets(np.array([0.0, 1.0, 2.0]))
    assert sold[0].argmax() == 0
    assert len({int(row.argmax()) for row in sold}) == 3
    assert DEMAND.quantile(sold, 0.5) == pytest.approx([0, 1, 2])
    assert DEMAND.mean(sold) == pytest.approx([0, 1, 2], abs=0.06)


@given(st.integers(0, 190))
def test_counts_survive_their_own_targets_and_stay_whole(count: int):
    median = DEMAND.quantile(DEMAND.targets(np.array([float(count)])), 0.5)[0]
    assert median == int(median)
    assert median == pytest.approx(count, abs=max(0.5, 0.06 * count))


def test_the_reorder_point_lasts_as_often_as_asked():
    sold = np.random.default_rng(0).poisson(6, size=20_000).astype(float)
    share = DEMAND.targets(sold).mean(axis=0, keepdims=True)
    answer = DEMAND.answers(share)[0]
    # 95 % of a Poisson distribution with mean 6 lie at or below 10.
    assert answer["reorder_point"] == 10
    assert answer["safety_stock"] == pytest.approx(10 - 6, abs=0.15)


def test_a_rate_says_what_a_try_is_worth_at_a_bid():
    answers = Rate(bid=0.02).answers(np.array([[0.95, 0.05], [0.99, 0.01]]))
    assert [answer["value"] for answer in answers] == pytest.approx([0.03, -0.01])
    assert set(Rate().answers(np.array([[0.95, 0.05]]))[0]) == {"rate"}


def test_rates_are_the_same_while_their_odds_are_near():
    reference = Rate().targets(np.array([0.010, 0.010, 0.5]))
    other = Rate().targets(np.array([0.012, 0.014, 0.55]))
    assert Rate().same(reference, other).tolist() == [True, False, True]


def test_families_do_not_adopt_each_other():
    with pytest.raises(TypeError, match="rate"):
        PRICE.adopt(Rate(), np.array([[0.5, 0.5]]))
    with pytest.raises(TypeError, match="value"):
        Rate().adopt(PRICE, np.full((1, 100), 0.01))


def test_a_reply_is_filled_from_the_row_and_what_is_missing_stays_visible():
    outcome = Classification.from_labels(
        ["return", "other"], replies={"return": "Hello $name, send order $order back."}
    )
    assert outcome_of(json.loads(json.dumps(outcome.spec()))) == outcome
    assert outcome.fields == ("label", "confidence", "probabilities", "reply")
    assert outcome.reply("return", {"name": "Ada", "order": 7}) == "Hello Ada, send order 7 back."
    assert outcome.reply("return", {"name": "$order"}) == "Hello $order, send order $order back."
    assert outcome.reply("other", {}) is None


def test_a_version_from_before_replies_is_still_read():
    assert outcome_of({"kind": "classification", "names": ["b", "a"]}) == Classification(("b", "a"))
