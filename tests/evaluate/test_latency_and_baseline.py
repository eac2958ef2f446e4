import time

import numpy as np
import pytest

from potstill.evaluate import latency
from potstill.evaluate.baseline import Baseline, _without_spaces
from tests.conftest import reviews


def test_percentiles_are_those_of_the_calls_in_milliseconds():
    slow = {"slow": 0.03}
    found = latency.measure(lambda text: time.sleep(slow.get(text, 0.002)), ["quick"] * 17 + ["slow"] * 3, warmup=0)
    assert 1.9 < found.p50_ms < 15
    assert found.p95_ms >= 29


def test_warm_up_calls_are_not_counted():
    seen: list[str] = []
    latency.measure(seen.append, ["a", "b", "c"], warmup=2)
    assert seen == ["a", "b", "a", "b", "c"]


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    made = reviews(200)
    labels = np.array([label == "positive" for label in made["sentiment"]], dtype=np.int64)
    return Baseline(made["text"][:150], labels[:150], made["text"][150:], labels[150:], 2)


def test_the_baseline_learns_words(baseline: Baseline):
    found = baseline.probabilities(["the lamp is very broken", "a lovely radio"])
    assert found.argmax(axis=1).tolist() == [0, 1]
    assert found.sum(axis=1).tolist() == pytest.approx([1, 1])


def test_the_size_counts_weights_and_vocabulary(baseline: Baseline):
    vectorizer, classifier = baseline._pipeline[0], baseline._pipeline[-1]
    weights = 4 * (len(vectorizer.vocabulary_) * 2 + len(classifier.intercept_))
    assert weights < baseline.size_bytes() < weights + 60 * len(vectorizer.vocabulary_)


def test_an_outcome_unseen_in_training_gets_no_probability():
    texts, labels = ["a b", "a b", "c d", "c d"], np.array([0, 0, 2, 2])
    found = Baseline(texts, labels, texts, labels, 3).probabilities(["a b"])
    assert found.shape == (1, 3)
    assert found[0, 1] == 0


@pytest.mark.parametrize(
    ("text", "expected"), [("这个手机很好", True), ("a fine phone", False), ("iPhone 很好用", True)]
)
def test_text_without_spaces_is_cut_into_characters(text: str, expected: bool):
    assert _without_spaces([text]) == expected
