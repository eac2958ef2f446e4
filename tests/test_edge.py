"""The edge model answers as worked out by hand, and needs nothing but ONNX Runtime and tokenizers."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import write_cascade, write_edge

from potstill.edge import EdgeModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_edge(tmp_path_factory.mktemp("edge") / "small")


@pytest.fixture(scope="module")
def edge(folder: Path) -> EdgeModel:
    return EdgeModel(folder)


def test_logits_are_those_worked_out_by_hand(edge: EdgeModel):
    assert edge.logits(["good kettle", "bad bad good"]).tolist() == [[0, 2], [4, 2]]


def test_probabilities_are_the_softmax_of_the_logits(edge: EdgeModel):
    positive = 1 / (1 + math.exp(-2))
    assert edge.probabilities(["good"])[0] == pytest.approx([1 - positive, positive])


def test_very_large_logits_do_not_overflow(tmp_path: Path):
    edge = EdgeModel(write_edge(tmp_path / "edge", good=1e4))
    assert edge.probabilities(["good"]).tolist() == [[0, 1]]


def test_an_answer_names_the_likeliest_outcome_its_confidence_and_every_probability(edge: EdgeModel):
    negative = 1 / (1 + math.exp(-2))
    (answer,) = edge.answer(["bad kettle"])
    assert answer["label"] == "negative"
    assert answer["confidence"] == pytest.approx(negative)
    assert answer["probabilities"] == pytest.approx({"negative": negative, "positive": 1 - negative})


def test_answers_come_in_the_order_of_the_texts_though_batches_are_sorted_by_length(edge: EdgeModel):
    texts = ["good " * n for n in (3, 1, 5, 0, 2, 4)]
    assert edge.logits(texts, batch_size=2)[:, 1].tolist() == [6, 2, 10, 0, 4, 8]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_neighbours_in_a_batch_do_not_change_an_answer(edge: EdgeModel, batch_size: int):
    texts = ["bad", "good good good good", "kettle", "good bad"]
    alone = np.concatenate([edge.logits([text]) for text in texts])
    assert np.array_equal(edge.logits(texts, batch_size), alone)


def test_a_long_text_is_cut_to_the_cards_tokens_special_ones_included(edge: EdgeModel):
    assert edge.card["max_tokens"] == 8
    assert edge.logits(["good " * 100]).tolist() == [[0, 2 * (8 - 2)]]


@pytest.mark.parametrize("text", ["", "   ", "\n", "电热水壶", "unheard-of words"])
def test_blank_and_unknown_texts_get_an_answer_too(edge: EdgeModel, text: str):
    assert edge.answer([text])[0]["confidence"] == pytest.approx(0.5)


def test_no_texts_give_no_answers(edge: EdgeModel):
    assert edge.logits([]).shape == (0, 2)
    assert edge.answer([]) == []


def test_it_knows_its_outcomes_and_text_column(edge: EdgeModel):
    assert edge.outcome.names == ("negative", "positive")
    assert edge.text_columns == ("review",)


def test_predicting_loads_no_torch_pandas_or_mlflow(folder: Path):
    code = (
        "import sys; from potstill.edge import EdgeModel; EdgeModel(sys.argv[1]).answer(['good'])\n"
        "print([name for name in ('torch', 'transformers', 'pandas', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_answer_brings_its_reply(tmp_path: Path):
    folder = write_edge(tmp_path / "edge")
    card = json.loads((folder / "card.json").read_text())
    card["outcome"]["replies"] = {"negative": "We are sorry, $customer."}
    (folder / "card.json").write_text(json.dumps(card))
    sad, glad = EdgeModel(folder).answer([{"review": "bad kettle", "customer": "Ada"}, "good kettle"])
    assert (sad["reply"], glad["reply"]) == ("We are sorry, Ada.", None)


def test_what_is_no_text_is_refused_and_what_is_missing_is_not(edge: EdgeModel):
    with pytest.raises(ValueError, match="review: 3 is not text"):
        edge.answer([{"review": 3}])
    with pytest.raises(ValueError, match="no text in 'review'"):
        edge.answer([{"review": math.nan}])


def test_of_a_cascade_the_first_answers_what_it_is_sure_of_and_the_larger_one_the_rest(tmp_path: Path):
    edge = EdgeModel(write_cascade(tmp_path / "edge"))
    # The first says 0.88 of the first row and 0.5 of the others.
    found = edge.probabilities(["good", "good bad", "kettle"])
    assert found[:, 1] == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-8)), 0.5])
    assert [answer["label"] for answer in edge.answer(["good bad", "bad"])] == ["positive", "negative"]


def test_the_larger_model_of_a_cascade_can_be_asked_alone(tmp_path: Path):
    folder = write_cascade(tmp_path / "edge")
    assert EdgeModel(folder).larger.probabilities(["good"])[0, 1] == pytest.approx(1 / (1 + math.exp(-10)))


def test_the_model_that_answers_a_row_is_known(tmp_path: Path):
    edge = EdgeModel(write_cascade(tmp_path / "edge"))
    words = "good", "good bad"
    assert edge.answering("good") is edge.first
    assert [edge.answering(text).probabilities(words)[1, 1] for text in words] == pytest.approx(
        [0.5, 1 / (1 + math.exp(-8))]
    )
    alone = EdgeModel(write_edge(tmp_path / "alone"))
    assert alone.answering("good") is alone


def test_what_the_first_would_refuse_goes_on(tmp_path: Path):
    folder = write_cascade(tmp_path / "edge")
    card = json.loads((folder / "card.json").read_text())
    card["outcome"] |= {"refuse": 0.1, "threshold": 0.9}
    (folder / "card.json").write_text(json.dumps(card))
    # The first is sure enough with 0.88, but it would be refused; the larger one says 0.99995.
    (answer,) = EdgeModel(folder).answer(["good"])
    assert (answer["in_scope"], answer["confidence"] > 0.999) == (True, True)


def test_a_row_that_a_cascade_can_not_read_is_told_like_any(tmp_path: Path):
    with pytest.raises(ValueError, match="no text in 'review'"):
        EdgeModel(write_cascade(tmp_path / "edge")).answer([{"title": "good"}])
