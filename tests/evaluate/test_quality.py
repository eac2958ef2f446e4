import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import f1_score

from potstill.evaluate import quality


def draw(rows: int, outcomes: int, seed: int, right: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(outcomes, size=rows)
    guesses = np.where(random.random(rows) < right, labels, random.integers(outcomes, size=rows))
    return labels, guesses


def test_macro_f1_matches_hand_computed_value():
    labels, guesses = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 0])
    # class 0: precision 2/3, recall 2/3; class 1: precision 2/3, recall 1; class 2: never answered.
    assert quality.macro_f1(labels, guesses, 3) == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_matches_scikit_learn(seed: int):
    labels, guesses = draw(300, 7, seed)
    assert quality.macro_f1(labels, guesses, 7) == pytest.approx(f1_score(labels, guesses, average="macro"))


def test_an_outcome_that_no_row_has_does_not_count():
    labels, guesses = np.array([0, 0, 1]), np.array([0, 2, 1])
    expected = f1_score(labels, guesses, average="macro", labels=[0, 1])
    assert quality.macro_f1(labels, guesses, 3) == pytest.approx(expected)


def test_confusion_matches_scikit_learn():
    labels, guesses = draw(200, 4, 1)
    assert (quality.confusion_matrix(labels, guesses, 4) == sklearn_confusion(labels, guesses)).all()


def test_resamples_of_one_model_equal_the_figures_of_the_drawn_rows():
    labels, guesses = draw(60, 3, 2)
    found = quality.resample(labels, {"m": guesses}, 3, resamples=150, seed=5)["m"]
    draws = np.concatenate(list(quality._draws(60, 150, 5)))
    for i in (0, 99, 100, 149):
        rows = draws[i]
        present = np.unique(labels[rows])
        expected = f1_score(labels[rows], guesses[rows], average="macro", labels=present, zero_division=0)
        assert found.macro_f1s[i] == pytest.approx(expected)
        assert found.accuracies[i] == pytest.approx((labels[rows] == guesses[rows]).mean())


def test_same_seed_same_interval():
    labels, guesses = draw(100, 3, 3)
    first, again, other = (quality.resample(labels, {"m": guesses}, 3, 200, seed)["m"] for seed in (1, 1, 2))
    assert (first.macro_f1s == again.macro_f1s).all()
    assert (first.macro_f1s != other.macro_f1s).any()


def test_a_model_against_itself_differs_by_nothing_on_every_resample():
    labels, guesses = draw(100, 3, 4)
    found = quality.resample(labels, {"a": guesses, "b": guesses.copy()}, 3, 200, 1)
    assert quality.difference(found["a"], found["b"]) == quality.Interval(0, 0, 0)
    assert quality.ratio(found["a"], found["b"]) == quality.Interval(1, 1, 1)


def test_pairing_narrows_the_interval_of_a_difference():
    labels, guesses = draw(400, 3, 5)
    nearly = guesses.copy()
    nearly[:8] = (nearly[:8] + 1) % 3
    found = quality.resample(labels, {"a": guesses, "b": nearly}, 3, 500, 1)
    paired = quality.difference(found["a"], found["b"])
    alone = quality.interval(found["a"].macro_f1, found["a"].macro_f1s)
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_the_interval_of_accuracy_covers_the_truth_about_95_times_in_100():
    truth, hits = 0.8, 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        labels = np.zeros(300, dtype=np.int64)
        guesses = (random.random(300) > truth).astype(np.int64)
        found = quality.resample(labels, {"m": guesses}, 2, 300, seed)["m"]
        interval = quality.interval(found.accuracy, found.accuracies)
        hits += interval.low <= truth <= interval.high
    assert 0.90 <= hits / 200 <= 0.985
