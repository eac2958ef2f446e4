import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from potstill.compress.export import ParityError
from potstill.data.dataset import read_rows, read_schema
from potstill.edge import EdgeModel
from potstill.learn.model import encode_texts, load_model, predict_logits
from potstill.recipe import Compress
from potstill.steps.compress import Origin, compress
from tests.steps.conftest import Line


def test_float_edge_model_answers_like_the_student_from_text_on(line: Line):
    rows = read_rows(line.dataset, "test", read_schema(line.dataset))
    model, tokenizer = load_model(line.student)
    expected = predict_logits(model, encode_texts(tokenizer, rows.text, 16), 0).numpy()
    assert np.abs(EdgeModel(line.edge / "float").logits(rows.text) - expected).max() < 1e-4


def test_int8_edge_model_keeps_the_answers(line: Line):
    texts = read_rows(line.dataset, "test", read_schema(line.dataset)).text
    plain, small = (EdgeModel(line.edge / name).logits(texts).argmax(1) for name in ("float", "int8"))
    assert (plain == small).mean() >= 0.95


def test_what_an_int8_model_says_of_a_row_does_not_depend_on_its_neighbours(line: Line):
    texts = read_rows(line.dataset, "test", read_schema(line.dataset)).text
    small = EdgeModel(line.edge / "int8")
    alone = np.concatenate([small.logits([text]) for text in texts])
    assert np.array_equal(small.logits(texts), alone)
    assert [row["probabilities"] for row in small.answer(texts)] == [
        small.answer([t])[0]["probabilities"] for t in texts
    ]


def test_card_says_what_a_service_needs_and_where_the_model_comes_from(line: Line):
    card = json.loads((line.edge / "int8" / "card.json").read_text())
    assert card["outcome"]["names"] == ["negative", "positive"]
    assert (card["max_tokens"], card["text"], card["precision"], card["pad_token_id"]) == (16, ["text"], "int8", 0)
    assert card["dataset_digest"] == read_schema(line.dataset).digest
    assert card["instruction_set"]


def test_tokenizer_file_gives_the_same_tokens_as_training_used(line: Line):
    _, tokenizer = load_model(line.student)
    text = "The lamp n3 was very broken"
    assert (
        Tokenizer.from_file(str(line.edge / "int8" / "tokenizer.json")).encode(text).ids == tokenizer(text)["input_ids"]
    )


def test_a_graph_outside_parity_stops_the_run_and_writes_nothing(line: Line, tmp_path: Path):
    with pytest.raises(ParityError):
        compress(line.dataset, line.student, Compress(parity_atol=1e-30), Origin("t", "d", "t", "s"), tmp_path / "edge")
    assert list(tmp_path.iterdir()) == []
