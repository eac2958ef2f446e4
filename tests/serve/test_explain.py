"""Which words mattered, worked out on a model whose logits are sums of its words."""

import math
from pathlib import Path

import pytest
from tiny import write_edge

from potstill.edge import EdgeModel
from potstill.outcomes import Classification, Rate, Retrieval, Together, Value
from potstill.serve.explain import MOST_WORDS, weights, without_each, words_of


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in words_of(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("great camera, poor battery!", ["great", "camera", ",", "poor", "battery", "!"]),
        ("don't 5.50", ["don", "'", "t", "5", ".", "50"]),
        ("电池很差 really", ["电", "池", "很", "差", "really"]),
        ("かわいい 좋다 café", ["か", "わ", "い", "い", "좋", "다", "café"]),
        ("  ", []),
    ],
)
def test_words_are_runs_of_letters_signs_and_single_characters_where_no_spaces_are_written(text: str, words: list[str]):
    assert cut(text) == words


def test_only_the_first_words_of_a_long_text_are_looked_at():
    assert len(words_of("word " * 500)) == MOST_WORDS


def test_each_other_text_lacks_one_word():
    assert without_each("a b, c", words_of("a b, c")) == [" b, c", "a , c", "a b c", "a b, "]


def test_a_word_weighs_what_is_lost_without_it(tmp_path: Path):
    edge = EdgeModel(write_edge(tmp_path / "edge"))
    text = "good kettle bad good"
    answer, *others = edge.answer([text, *without_each(text, words_of(text))])
    sure, even = 1 / (1 + math.exp(-2)), 0.5
    surer = 1 / (1 + math.exp(-4))
    assert weights(edge.outcome, answer, others)[""] == pytest.approx([sure - even, 0, sure - surer, sure - even])


def test_of_each_family_its_own_figure_counts():
    rate, value, found = Rate(prior=0.5), Value(0.0, 3.0, 3, "linear", 0.75), Retrieval()
    both = Together((("click", rate), ("price", value)))
    answer = {"click": {"rate": 0.5}, "price": {"mean": 3.0}}
    less = {"click": {"rate": 0.2}, "price": {"mean": 5.0}}
    assert weights(both, answer, [less]) == {"click": [pytest.approx(0.3)], "price": [-2.0]}
    chosen = {"answer": "a", "answers": {"a": 0.7, "b": 0.2}}
    assert weights(found, chosen, [{"answer": "b", "answers": {"b": 0.9}}]) == {"": [0.7]}
    label = {"label": "no", "probabilities": {"no": 0.9, "yes": 0.1}}
    other = {"label": "yes", "probabilities": {"no": 0.3, "yes": 0.7}}
    assert weights(Classification(("no", "yes")), label, [other])[""] == [pytest.approx(0.6)]
