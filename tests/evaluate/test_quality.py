import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import f1_score

from potstill.evaluate import quality
from potstill.metrics import Metric, Truth, metrics_of
from potstill.outcomes import Classification


def draw(rows: int, outcomes: int, seed: int, right: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(outcomes, size=rows)
    guesses = np.where(random.random(rows) < right, labels, random.integers(outcomes, size=rows))
    return labels, guesses


def metrics(labels: np.ndarray, guesses: np.ndarray, outcomes: int) -> dict[str, Metric]:
    names = Classification(tuple(map(str, range(outcomes))))
    return metrics_of(names, Truth(labels.astype(float)), np.eye(outcomes)[guesses])


def rows(count: int) -> Truth:
    return Truth(np.zeros(count))


def test_confusion_matches_scikit_learn():
    labels, guesses = draw(200, 4, 1)
    assert (quality.confusion_matrix(labels, guesses, 4) == sklearn_confusion(labels, guesses)).all()


def test_resamples_of_one_model_equal_the_figures_of_the_drawn_rows():
    labels, guesses = draw(60, 3, 2)
    found = quality.resample({"m": metrics(labels, guesses, 3)}, rows(60), resamples=150, seed=5)["m"]
    draws = np.concatenate(list(quality._draws(rows(60), 150, 5)))
    for i in (0, 99, 100, 149):
        drawn = np.repeat(np.arange(60), draws[i].astype(int))
        assert len(drawn) == 60
        present = np.unique(labels[drawn])
        expected = f1_score(labels[drawn], guesses[drawn], average="macro", labels=present, zero_division=0)
        assert found["macro_f1"].values[i] == pytest.approx(expected)
        assert found["accuracy"].values[i] == pytest.approx((labels[drawn] == guesses[drawn]).mean())


def test_same_seed_same_interval():
    made = {"m": metrics(*draw(100, 3, 3), 3)}
    first, again, other = (quality.resample(made, rows(100), 200, seed)["m"]["macro_f1"] for seed in (1, 1, 2))
    assert (first.values == again.values).all()
    assert (first.values != other.values).any()


def test_a_model_against_itself_differs_by_nothing_on_every_resample():
    labels, guesses = draw(100, 3, 4)
    made = {"a": metrics(labels, guesses, 3), "b": metrics(labels, guesses.copy(), 3)}
    found = {model: f["macro_f1"] for model, f in quality.resample(made, rows(100), 200, 1).items()}
    assert quality.difference(found["a"], found["b"]) == quality.Interval(0, 0, 0)
    assert quality.ratio(found["a"], found["b"]) == quality.Interval(1, 1, 1)


def test_pairing_narrows_the_interval_of_a_difference():
    labels, guesses = draw(400, 3, 5)
    nearly = guesses.copy()
    nearly[:8] = (nearly[:8] + 1) % 3
    made = {"a": metrics(labels, guesses, 3), "b": metrics(labels, nearly, 3)}
    found = {model: f["macro_f1"] for model, f in quality.resample(made, rows(400), 500, 1).items()}
    paired, alone = quality.difference(found["a"], found["b"]), quality.interval(found["a"])
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_the_interval_of_accuracy_covers_the_truth_about_95_times_in_100():
    truth, hits = 0.8, 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        labels = np.zeros(300, dtype=np.int64)
        guesses = (random.random(300) > truth).astype(np.int64)
        found = quality.resample({"m": metrics(labels, guesses, 2)}, rows(300), 300, seed)["m"]["accuracy"]
        interval = quality.interval(found)
        hits += interval.low <= truth <= interval.high
    assert 0.90 <= hits / 200 <= 0.985


def resampled(*values: float) -> quality.Resampled:
    return quality.Resampled(values[0], np.array(values))


def test_the_gain_kept_is_the_same_share_for_a_score_and_for_an_error():
    # From 0.2 the teacher gains 0.6 and the student 0.45; from an error of 2.0 the one loses 1.0, the other 0.75.
    assert quality.gain_kept(resampled(0.65), resampled(0.8), resampled(0.2), True).value == pytest.approx(0.75)
    assert quality.gain_kept(resampled(1.25), resampled(1.0), resampled(2.0), False).value == pytest.approx(0.75)


def test_of_a_teacher_that_gains_nothing_no_share_is_kept():
    assert np.isnan(quality.gain_kept(resampled(0.5), resampled(0.5), resampled(0.5), True).value)
    # Errors: the teacher's is above the plain forecast's, the student's still higher.
    assert np.isnan(quality.gain_kept(resampled(0.8), resampled(0.6), resampled(0.5), False).value)
    assert np.isnan(quality.gain_kept(resampled(0.4), resampled(0.6), resampled(0.5), False).value)


def test_a_gain_that_is_there_by_chance_alone_has_no_interval():
    draws = np.linspace(-0.2, 0.8, 100)
    teacher = quality.Resampled(0.3, draws)
    found = quality.gain_kept(quality.Resampled(0.15, draws / 2), teacher, quality.Resampled(0.0, 0 * draws), True)
    assert found.value == pytest.approx(0.5)
    assert np.isnan(found.low)
    assert np.isnan(found.high)
    rare = quality.Resampled(0.3, np.linspace(-0.01, 0.99, 100))
    found = quality.gain_kept(quality.Resampled(0.15, rare.values / 2), rare, quality.Resampled(0.0, 0 * draws), True)
    assert (found.low, found.high) == pytest.approx((0.5, 0.5))


def test_rows_of_one_group_are_drawn_together():
    groups = np.repeat(np.arange(20), 5)
    draws = next(quality._draws(Truth(np.zeros(100), groups=groups), 50, 3)).reshape(50, 20, 5)
    assert (draws == draws[:, :, :1]).all()
    assert (draws[:, :, 0].sum(axis=1) == 20).all()
