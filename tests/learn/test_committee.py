"""Several teachers as one: their mean, and the weights that the labels ask for."""

import numpy as np
import pytest

from potstill.learn.committee import likeliest, mixed
from potstill.metrics import Truth
from potstill.outcomes import Classification, Together, softmax

COLOURS = Classification(("blue", "green", "red"))
SIZES = Classification(("large", "small"))


def logits_of(*shares: list[float]) -> np.ndarray:
    """Logits with these probabilities; each row has a scale of its own, which says nothing."""
    return (np.log(shares) + np.arange(len(shares))[:, None]).astype(np.float32)


def test_what_teachers_say_together_is_the_weighed_mean_of_their_probabilities():
    first, second = logits_of([0.7, 0.2, 0.1], [0.1, 0.1, 0.8]), logits_of([0.1, 0.8, 0.1], [0.3, 0.3, 0.4])
    together = mixed(COLOURS, [first, second], np.array([[0.75], [0.25]]))
    np.testing.assert_allclose(softmax(together), [[0.55, 0.35, 0.1], [0.15, 0.15, 0.7]], atol=1e-6)


def test_each_task_has_weights_of_its_own():
    outcome = Together((("colour", COLOURS), ("size", SIZES)))
    first = np.hstack([logits_of([0.6, 0.2, 0.2]), logits_of([0.9, 0.1])])
    second = np.hstack([logits_of([0.2, 0.6, 0.2]), logits_of([0.5, 0.5])])
    together = mixed(outcome, [first, second], np.array([[1.0, 0.5], [0.0, 0.5]]))
    np.testing.assert_allclose(softmax(together[:, :3]), [[0.6, 0.2, 0.2]], atol=1e-6)
    np.testing.assert_allclose(softmax(together[:, 3:]), [[0.7, 0.3]], atol=1e-6)


def test_one_teachers_logits_stay_as_they_are():
    said = logits_of([0.7, 0.2, 0.1])
    assert mixed(COLOURS, [said], np.ones((1, 1))) is said


def test_what_no_teacher_holds_for_possible_stays_finite():
    sure = np.array([[200.0, 0.0, 0.0]], dtype=np.float32)
    together = mixed(COLOURS, [sure, sure], np.full((2, 1), 0.5))
    assert np.isfinite(together.astype(np.float16)).all()
    assert together[0, 1] < -15


def likelihood(weight: float, first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> float:
    mean = weight * softmax(first) + (1 - weight) * softmax(second)
    return float(np.log(mean[np.arange(len(labels)), labels]).sum())


def test_the_weights_make_the_labels_likeliest():
    random = np.random.default_rng(3)
    labels = random.integers(0, 3, 400)
    first, second = (skill * np.eye(3)[labels] + random.normal(size=(400, 3)) for skill in (1.3, 1.1))
    found = likeliest(COLOURS, [first, second], Truth(labels.astype(float)))
    assert found.sum() == pytest.approx(1)
    # A search over all weights knows no better.
    grid = np.linspace(0, 1, 1001)
    best = grid[np.argmax([likelihood(weight, first, second, labels) for weight in grid])]
    assert 0.5 < best < 1
    assert found[0, 0] == pytest.approx(best, abs=2e-3)


def test_the_weights_of_a_task_are_found_on_the_rows_with_its_label():
    outcome = Together((("colour", COLOURS), ("size", SIZES)))
    values = np.array([[0.0, np.nan], [1.0, np.nan], [np.nan, 0.0], [np.nan, 1.0]])
    sure, wrong = 8 * np.eye(3), -8 * np.eye(3)
    # The first teacher knows colours, the second sizes.
    first = np.hstack([sure[[0, 1, 2, 2]], wrong[[2, 2, 0, 1], :2]])
    second = np.hstack([wrong[[0, 1, 2, 2]], sure[[2, 2, 0, 1], :2]])
    found = likeliest(outcome, [first, second], Truth(values))
    np.testing.assert_allclose(found, [[1, 0], [0, 1]], atol=1e-2)


def test_a_task_without_labels_weighs_all_alike():
    outcome = Together((("colour", COLOURS), ("size", SIZES)))
    values = np.array([[0.0, np.nan], [1.0, np.nan]])
    said = np.zeros((2, 5))
    assert likeliest(outcome, [said, said], Truth(values))[:, 1].tolist() == [0.5, 0.5]


def test_rows_that_count_more_are_heard_more():
    labels = Truth(np.array([0.0, 0.0]), weights=np.array([9.0, 1.0]))
    first, second = logits_of([0.8, 0.1, 0.1], [0.1, 0.1, 0.8]), logits_of([0.1, 0.1, 0.8], [0.8, 0.1, 0.1])
    (one,), (other,) = likeliest(COLOURS, [first, second], labels)
    assert one > 0.9 > 0.1 > other
