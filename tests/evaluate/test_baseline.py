from typing import Any

import numpy as np
import pytest

from potstill.data.dataset import Rows, Schema
from potstill.evaluate.baseline import Baseline
from potstill.inputs import Category, Features, join_texts
from potstill.outcomes import Classification, Outcome, Rate, Value

TWO = Classification(("a", "b"))


def rows(texts: list[str], values: np.ndarray, features: list[dict[str, Any]] | None = None) -> Rows:
    return Rows([str(i) for i in range(len(texts))], texts, values.astype(float), features or [{}] * len(texts))


def fit(
    texts: list[str], values: np.ndarray, others: list[str], other_values: np.ndarray, outcome: Outcome
) -> Baseline:
    schema = Schema("task", outcome, ("text",), ("label",), Features(), (), None, None, {}, {}, "0")
    return Baseline(rows(texts, values), rows(others, other_values), schema)


GOOD, BAD = ["great", "lovely", "solid"], ["poor", "broken", "awful"]


def shop(rows: int, seed: int) -> tuple[list[str], np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(2, size=rows)
    texts = [f"the kettle {i} is {random.choice(GOOD if label else BAD)}" for i, label in enumerate(labels)]
    return texts, labels


def test_it_learns_words_and_gives_a_distribution():
    baseline = fit(*shop(120, 0), *shop(40, 1), TWO)
    texts, labels = shop(50, 2)
    found = baseline.probabilities(texts)
    assert found.shape == (50, 2)
    assert found.sum(axis=1) == pytest.approx(1)
    assert (found.argmax(axis=1) == labels).all()


def test_an_outcome_without_a_training_row_keeps_its_column():
    texts, labels = shop(60, 0)
    found = fit(texts, labels * 2, texts, labels * 2, Classification(("a", "b", "c"))).probabilities(texts)
    assert found.shape == (60, 3)
    assert (found[:, 1] == 0).all()


def test_pairs_of_words_count():
    texts = [f"item {i} {'not good' if i % 2 else 'good'} {'' if i % 2 else 'not'}" for i in range(80)]
    labels = np.arange(80) % 2
    assert (fit(texts, labels, texts, labels, TWO).probabilities(texts).argmax(axis=1) == labels).all()


def test_text_without_spaces_is_read_by_characters():
    train = ["这个水壶很好用", "质量太差了", "非常好用推荐", "用了两天就坏质量差"] * 10
    labels = np.array([1, 0, 1, 0] * 10)
    found = fit(train, labels, train, labels, TWO).probabilities(["这把椅子很好用", "灯的质量很差"])
    assert found.argmax(axis=1).tolist() == [1, 0]


def test_four_rows_in_which_no_word_comes_twice_are_enough():
    texts, labels = ["great kettle", "poor lamp", "solid chair", "broken radio"], np.array([1, 0, 1, 0])
    assert fit(texts, labels, texts, labels, TWO).probabilities(texts).shape == (4, 2)


def test_texts_without_a_word_are_no_accident():
    texts, labels = ["🙂", "🙁", "🙂🙂", "🙁🙁"] * 5, np.array([1, 0, 1, 0] * 5)
    assert fit(texts, labels, texts, labels, TWO).probabilities(texts).shape == (20, 2)


def test_equal_rows_give_equal_answers():
    first, second = (fit(*shop(80, 0), *shop(30, 1), TWO).probabilities(["lovely lamp"]) for _ in range(2))
    assert (first == second).all()


def test_the_size_counts_vocabulary_and_weights_as_stored():
    texts, labels = ["aa", "bb", "aa", "bb"], np.array([0, 1, 0, 1])
    size = fit(texts, labels, texts, labels, TWO).size_bytes()
    # Two terms: '{"aa": 0, "bb": 1}' is 18 bytes; two weights of IDF, two coefficients and an intercept are 5 × 4.
    assert size == 18 + 20


def test_values_come_with_a_spread_as_wide_as_the_errors_on_other_rows():
    random = np.random.default_rng(0)

    def priced(rows: int) -> tuple[list[str], np.ndarray]:
        gold = random.integers(2, size=rows)
        texts = [f"ring of {'gold' if g else 'tin'}" for g in gold]
        return texts, np.exp(np.where(gold, 6.0, 3.0) + random.normal(0, 0.4, size=rows))

    outcome = Value(0.0, 9.0, 180, "log", 0.75)
    baseline = fit(*priced(600), *priced(300), outcome)
    found = baseline.probabilities(["ring of gold", "ring of tin"])
    assert np.log(outcome.quantile(found, 0.5)) == pytest.approx([6.0, 3.0], abs=0.3)
    # One standard deviation to either side holds 68 %.
    width = np.log(outcome.quantile(found, 0.841)) - np.log(outcome.quantile(found, 0.159))
    assert width / 2 == pytest.approx([0.4, 0.4], abs=0.08)


def test_boosted_trees_win_where_numbers_tell_and_words_do_not():
    random = np.random.default_rng(0)
    features = [{"lag": float(x), "shop": random.choice(["a", "b"])} for x in random.uniform(0, 10, size=400)]
    labels = np.array([3 < row["lag"] < 7 for row in features])
    texts = [f"lamp {i % 7}" for i in range(400)]
    known = Features(("lag",), (), (Category("shop", ("a", "b")),))
    schema = Schema("task", TWO, ("text",), ("label",), known, (), None, None, {}, {}, "0")
    halves = [rows(texts[h], labels[h], features[h]) for h in (slice(0, 300), slice(300, 400))]
    found = Baseline(*halves, schema).probabilities([{"text": "lamp", "lag": lag} for lag in (1.0, 5.0, 9.0)])
    assert found.argmax(axis=1).tolist() == [0, 1, 0]


def test_a_rate_is_learnt_from_counts():
    random = np.random.default_rng(0)
    texts, labels = shop(300, 4)
    tries = random.integers(50, 500, size=300).astype(float)
    clicks = random.binomial(tries.astype(int), np.where(labels, 0.3, 0.05))
    made = Rows([str(i) for i in range(300)], texts, clicks / tries, [{}] * 300, weight=tries)
    schema = Schema("click", Rate(), ("text",), "clicks", Features(), (), None, "shown", {}, {}, "0")
    rates = Baseline(made, made, schema).probabilities(["the kettle 7 is great", "the kettle 7 is poor"])[:, 1]
    assert rates == pytest.approx([0.3, 0.05], abs=0.04)


def test_of_a_pair_what_is_alike_tells_what_no_word_does():
    random = np.random.default_rng(0)
    pairs = [random.choice(50, size=2) for _ in range(600)]
    pairs = [(a, a if i % 2 else b) for i, (a, b) in enumerate(pairs)]
    texts = [join_texts([f"thing{a} for you", f"once thing{b}"], pair=True) for a, b in pairs]
    labels = np.array([a == b for a, b in pairs])
    schema = Schema("same", TWO, ("item", "history"), ("label",), Features(), (), None, None, {}, {}, "0", pair=True)
    baseline = Baseline(rows(texts[:400], labels[:400]), rows(texts[400:], labels[400:]), schema)
    each = baseline.each([{"item": text} for text in texts[400:]])
    right = {name: np.mean(found.argmax(axis=1) == labels[400:]) for name, found in each.items()}
    assert right["TF-IDF likeness"] == 1
    assert right["TF-IDF, linear"] < right["TF-IDF likeness"]
    assert (baseline.probabilities([{"item": text} for text in texts[400:]]) == each["TF-IDF likeness"]).all()


def test_popularity_wins_where_articles_differ_and_words_do_not():
    random = np.random.default_rng(0)
    # Three hundred articles, in no order of their names, so that no split of a tree holds the good ones.
    liked = random.random(300) < 0.5
    articles = random.integers(300, size=6000)
    features = [{"article": f"a{i}"} for i in articles]
    labels = random.random(6000) < np.where(liked[articles], 0.9, 0.1)
    known = Features((), (), (Category("article", tuple(f"a{i}" for i in range(300))),))
    schema = Schema("task", Rate(), ("text",), ("label",), known, (), None, None, {}, {}, "0")
    halves = [rows(["film"] * 3000, labels[h], features[h]) for h in (slice(0, 3000), slice(3000, 6000))]
    baseline = Baseline(*halves, schema)
    asked = [{"text": "film", "article": f"a{i}"} for i in range(300)]
    rates = baseline.probabilities(asked)[:, 1]
    assert (rates == baseline.each(asked)["categories, linear"][:, 1]).all()
    assert ((rates > 0.5) == liked).mean() > 0.95
    # One that training hasn't seen is liked as often as not.
    assert baseline.probabilities([{"text": "film", "article": "new"}])[0, 1] == pytest.approx(0.5, abs=0.1)
