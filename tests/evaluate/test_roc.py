from dataclasses import asdict

import numpy as np
import pytest
from sklearn.metrics import auc, roc_auc_score, roc_curve
from sklearn.preprocessing import label_binarize

from potstill.evaluate.roc import POINTS, Curve, roc_of
from potstill.metrics import Truth
from potstill.outcomes import Classification, Outcome, Rate, Retrieval, Value
from potstill.store import to_json

TWO, FOUR = (Classification(tuple("abcd"[:count])) for count in (2, 4))


def predicted(outcomes: int, rows: int = 60) -> tuple[Truth, np.ndarray]:
    """Labels and probabilities that know something of them; rounded, so that some scores are equal."""
    random = np.random.default_rng(outcomes)
    labels = random.integers(outcomes, size=rows)
    raw = random.random((rows, outcomes)) + 0.8 * np.eye(outcomes)[labels]
    return Truth(labels.astype(float)), np.round(raw / raw.sum(axis=1, keepdims=True), 2)


def same(found: Curve | None, expected: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    assert found
    for own, theirs in zip((found.false_positive_rate, found.true_positive_rate), expected, strict=False):
        np.testing.assert_allclose(own, theirs, atol=1e-12)
    # scikit-learn begins at infinity.
    np.testing.assert_allclose(found.threshold[1:], expected[2][1:])


def test_of_two_classes_the_second_is_found_as_scikit_learn_says():
    truth, probabilities = predicted(2)
    expected = roc_curve(truth.values, probabilities[:, 1], drop_intermediate=False)
    assert len(expected[0]) < len(truth) + 1, "no equal scores"
    same(roc_of(TWO, truth, probabilities), expected)


def test_of_four_classes_it_is_scikit_learns_micro_average():
    truth, probabilities = predicted(4)
    each = label_binarize(truth.values, classes=[0, 1, 2, 3])
    found = roc_of(FOUR, truth, probabilities)
    same(found, roc_curve(each.ravel(), probabilities.ravel(), drop_intermediate=False))
    assert found
    area = auc(found.false_positive_rate, found.true_positive_rate)
    assert area == pytest.approx(roc_auc_score(each, probabilities, average="micro"))


def test_a_rates_rows_count_in_parts_by_their_weights():
    random = np.random.default_rng(3)
    tries, rates = random.integers(1, 9, 40), np.round(random.random(40), 1)
    clicks = random.binomial(tries, 0.3 + 0.4 * rates)
    truth = Truth(clicks / tries, tries.astype(float))
    single = np.concatenate([[1.0] * yes + [0.0] * (all_ - yes) for yes, all_ in zip(clicks, tries, strict=True)])
    expected = roc_curve(single, np.repeat(rates, tries), drop_intermediate=False)
    same(roc_of(Rate(), truth, np.stack([1 - rates, rates], axis=1)), expected)


def test_it_begins_at_a_finite_threshold_that_takes_no_row():
    found = roc_of(TWO, Truth(np.array([0.0, 1.0])), np.array([[0.0, 1.0], [0.0, 1.0]], dtype=np.float32))
    assert found
    assert (found.false_positive_rate, found.true_positive_rate) == ([0, 1], [0, 1])
    assert found.threshold[0] > found.threshold[1] == 1
    assert "null" not in to_json(asdict(found))


def test_a_long_curve_keeps_its_ends_its_course_and_its_area():
    random = np.random.default_rng(5)
    values = random.integers(2, size=20_000).astype(float)
    scores = random.beta(2 + values, 2)
    found = roc_of(TWO, Truth(values), np.stack([1 - scores, scores], axis=1))
    assert found
    false, true = np.array(found.false_positive_rate), np.array(found.true_positive_rate)
    assert POINTS // 2 < len(false) == len(true) == len(found.threshold) <= POINTS
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert (np.diff(false) + np.diff(true)).max() < 2.1 / POINTS
    assert auc(false, true) == pytest.approx(roc_auc_score(values, scores), abs=1e-3)
    # Each point is one of the whole curve's.
    for threshold, share in zip(found.threshold[:-1:20], true[:-1:20], strict=True):
        assert share == pytest.approx((scores[values == 1] >= threshold).mean())


@pytest.mark.parametrize(
    ("outcome", "values"),
    [
        (TWO, [1.0, 1.0]),
        (Rate(), [0.0, 0.0]),
        (Value(0, 1, 2, "linear", 0.5), [0.0, 1.0]),
        (Retrieval(names=("a", "b")), [0.0, 1.0]),
    ],
)
def test_where_there_is_no_yes_and_no_there_is_no_curve(outcome: Outcome, values: list[float]):
    assert roc_of(outcome, Truth(np.array(values)), np.full((2, 2), 0.5)) is None
