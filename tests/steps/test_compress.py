import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.torch import load_file, save_file
from sklearn.metrics import f1_score
from tokenizers import Tokenizer

from potstill.compress.card import read_card
from potstill.compress.export import ParityError
from potstill.data.dataset import read_rows, read_schema
from potstill.drift.profile import learn_from_dataset, read_profile, write_profile
from potstill.edge import PROFILE, EdgeModel
from potstill.errors import UserError
from potstill.learn.model import encode_texts, load_model, predict_logits
from potstill.recipe import Cascade, Compress, Distill, Static, Student
from potstill.steps.compress import compress
from potstill.steps.distill import distill
from potstill.steps.made import First, Origin
from potstill.store import folder_bytes
from tests.steps.conftest import QUICK, Line


def test_float_edge_model_answers_like_the_student_from_text_on(line: Line):
    rows = read_rows(line.dataset, "test", read_schema(line.dataset))
    model, tokenizer = load_model(line.student)
    expected = predict_logits(model, encode_texts(tokenizer, rows.text, 16), 0).numpy()
    assert np.abs(EdgeModel(line.edge / "float").logits(rows.text) - expected).max() < 1e-4


def test_int8_edge_model_keeps_the_answers(line: Line):
    texts = read_rows(line.dataset, "test", read_schema(line.dataset)).text
    plain, small = (EdgeModel(line.edge / name).logits(texts).argmax(1) for name in ("float", "small"))
    assert (plain == small).mean() >= 0.95


def test_what_an_int8_model_says_of_a_row_does_not_depend_on_its_neighbours(line: Line):
    texts = read_rows(line.dataset, "test", read_schema(line.dataset)).text
    small = EdgeModel(line.edge / "small")
    alone = np.concatenate([small.logits([text]) for text in texts])
    assert np.array_equal(small.logits(texts), alone)
    assert [row["probabilities"] for row in small.answer(texts)] == [
        small.answer([t])[0]["probabilities"] for t in texts
    ]


def test_card_says_what_a_service_needs_and_where_the_model_comes_from(line: Line):
    card = json.loads((line.edge / "small" / "card.json").read_text())
    assert card["outcome"]["names"] == ["negative", "positive"]
    assert (card["max_tokens"], card["text"], card["precision"], card["pad_token_id"]) == (16, ["text"], "int8", 0)
    assert card["dataset_digest"] == read_schema(line.dataset).digest
    assert card["instruction_set"]


def test_a_profile_of_rows_that_it_has_not_learnt_from_lies_beside_the_smaller_file_alone(line: Line, tmp_path: Path):
    schema, small = read_schema(line.dataset), line.edge / "small"
    train, rows = (read_rows(line.dataset, split, schema) for split in ("train", "validation"))
    profile = read_profile(small)
    assert profile is not None
    assert not (line.edge / "float" / PROFILE).exists()
    assert (profile.rows, profile.labels) == (len(rows), ("sentiment",))
    said = [answer["label"] for answer in EdgeModel(small).answer(rows.text)]
    label = profile.columns["answer: label"]
    assert label.counts == (said.count("negative"), said.count("positive"), 0, 0)
    assert profile.quality is not None
    true = [schema.outcome.names[int(value)] for value in rows.value]
    assert profile.quality.value == pytest.approx(f1_score(true, said, average="macro"))
    words = [word for text in train.text for word in text.split()]
    # The tiny tokenizer has a piece for each word.
    assert profile.frequencies.total == len(words)
    place = Tokenizer.from_file(str(small / "tokenizer.json")).token_to_id("very")
    assert profile.frequencies.counts[place] == words.count("very")
    write_profile(tmp_path, learn_from_dataset(small, line.dataset))
    assert (tmp_path / PROFILE).read_bytes() == (small / PROFILE).read_bytes()
    assert "very" not in (small / PROFILE).read_text()


def test_tokenizer_file_gives_the_same_tokens_as_training_used(line: Line):
    _, tokenizer = load_model(line.student)
    text = "The lamp n3 was very broken"
    assert (
        Tokenizer.from_file(str(line.edge / "small" / "tokenizer.json")).encode(text).ids
        == tokenizer(text)["input_ids"]
    )


def test_a_graph_outside_parity_stops_the_run_and_writes_nothing(line: Line, tmp_path: Path):
    with pytest.raises(ParityError):
        compress(line.dataset, line.student, Compress(parity_atol=1e-30), Origin("t", "d", "t", "s"), tmp_path / "edge")
    assert list(tmp_path.iterdir()) == []


def pressed(line: Line, folder: Path, **settings: object) -> tuple[dict[str, float], dict[str, dict]]:
    """What compress returns, and what it says of each step."""
    knobs = Compress.model_validate(settings)
    found = compress(line.dataset, line.student, knobs, Origin("t", "d", "t", "s"), folder / "edge")
    return found, {step["name"]: step for step in json.loads((folder / "edge" / "steps.json").read_text())}


def graph(folder: Path) -> onnx.GraphProto:
    return onnx.load(folder / "model.onnx").graph


def test_trimming_leaves_pieces_out_and_answers_stay(line: Line, tmp_path: Path):
    found, steps = pressed(line, tmp_path, vocabulary="trim")
    rows = read_rows(line.dataset, "test", read_schema(line.dataset))
    _, tokenizer = load_model(line.student)
    small = Tokenizer.from_file(str(tmp_path / "edge" / "float" / "tokenizer.json"))
    assert small.get_vocab_size() == steps["trim"]["more"]["pieces"] < len(tokenizer)
    lost = [set(tokenizer.tokenize(text)) - set(small.get_vocab()) for text in rows.text]
    counts = [
        sum(token in gone for token in tokenizer(text).tokens()) for text, gone in zip(rows.text, lost, strict=True)
    ]
    total = sum(len(tokenizer(text)["input_ids"]) for text in rows.text)
    assert found["trim_changed_tokens"] == pytest.approx(sum(counts) / total)
    plain, trimmed = (EdgeModel(folder / "float").logits(rows.text) for folder in (line.edge, tmp_path / "edge"))
    same = [i for i, gone in enumerate(lost) if not gone]
    assert len(same) > len(rows) / 2
    assert np.abs(plain[same] - trimmed[same]).max() < 1e-4


def test_a_sparse_student_has_the_asked_share_of_zeros_packs_smaller_and_tells_what_it_cost(line: Line, tmp_path: Path):
    _, steps = pressed(line, tmp_path, sparsity=0.9, most_lost=1, quantize=[])
    assert steps["sparse"]["more"]["zeros"] == pytest.approx(0.9, abs=0.001)
    assert steps["sparse"]["more"]["packed_share"] < 1
    assert steps["sparse"]["size_bytes"] == pytest.approx(steps["export"]["size_bytes"], rel=0.01)
    parts = graph(tmp_path / "edge" / "float").initializer
    weights = [onnx.numpy_helper.to_array(part) for part in parts if "embeddings" not in part.name]
    layers = [weight for weight in weights if weight.shape in {(16, 16), (16, 32), (32, 16)}]
    assert sum((weight == 0).sum() for weight in layers) / sum(weight.size for weight in layers) > 0.89
    was, now = steps["export"]["figure"], steps["sparse"]["figure"]
    assert steps["sparse"]["lost"] == pytest.approx((was - now) / was)
    texts = read_rows(line.dataset, "validation", read_schema(line.dataset)).text
    before, after = (EdgeModel(folder / "float").logits(texts).argmax(1) for folder in (line.edge, tmp_path / "edge"))
    assert steps["sparse"]["flips"] == pytest.approx((before != after).mean())
    assert steps["sparse"]["flips"] > 0
    assert all(step["p50_ms"] > 0 for step in steps.values())


def test_of_the_ways_tried_the_first_that_loses_little_enough_is_kept(line: Line, tmp_path: Path):
    ways = ["static", "static_per_tensor", "embeddings", "dynamic_per_tensor", "dynamic"]
    _, steps = pressed(line, tmp_path, quantize=ways, most_lost=0.1)
    assert list(steps) == ["export", *ways]
    first = next(way for way in ways if steps[way]["lost"] <= 0.1)
    assert json.loads((tmp_path / "edge" / "small" / "card.json").read_text())["quantization"] == first


def test_where_every_step_costs_too_much_the_float_file_stays(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def spoil(way: str, source: Path, target: Path, calibration: object) -> None:
        broken = onnx.load(source)
        weight = next(part for part in broken.graph.initializer if list(part.dims) == [2])
        weight.CopyFrom(onnx.numpy_helper.from_array(np.array([1e3, -1e3], np.float32), weight.name))
        onnx.save(broken, target)

    monkeypatch.setattr("potstill.steps.press.quantize", spoil)
    _, steps = pressed(line, tmp_path, quantize=["dynamic", "static"], sparsity=0.99)
    assert [name for name, step in steps.items() if step["kept"]] == ["export"]
    assert re.search(r"loses \d+\.\d%: left out", capsys.readouterr().out)
    card = json.loads((tmp_path / "edge" / "small" / "card.json").read_text())
    assert card["precision"] == "float32"
    files = [(tmp_path / "edge" / name / "model.onnx").read_bytes() for name in ("float", "small")]
    assert files[0] == files[1]
    assert EdgeModel(tmp_path / "edge" / "small").answer(["the lamp n1 n2 is very awful"])[0]["label"] == "negative"


def behind(line: Line, folder: Path, smaller: Path, most_lost: float) -> tuple[dict[str, dict], dict]:
    """What compress says of each step where a smaller student is asked first, and the last card."""
    first = First(smaller, "f", Cascade(first=Student(layers=1), most_lost=most_lost))
    compress(line.dataset, line.student, Compress(), Origin("t", "d", "t", "s"), folder / "edge", first)
    steps = json.loads((folder / "edge" / "steps.json").read_text())
    return {step["name"]: step for step in steps}, read_card(folder / "edge" / "small")


def test_behind_a_smaller_student_it_is_asked_for_the_rest_and_loses_no_more_than_allowed(line: Line, tmp_path: Path):
    steps, card = behind(line, tmp_path, smaller_of(line, tmp_path), 0.02)
    assert steps["cascade"]["kept"]
    assert steps["cascade"]["lost"] <= 0.02
    folder = tmp_path / "edge" / "small"
    rows = read_rows(line.dataset, "validation", read_schema(line.dataset))
    both, first, second = EdgeModel(folder), EdgeModel(folder / "first"), EdgeModel(folder).larger
    sure = first.probabilities(rows.text).max(axis=1) >= card["sure_from"]
    assert 0 < sure.mean() == pytest.approx(1 - steps["cascade"]["more"]["escalated"])
    expected = np.where(sure[:, None], first.probabilities(rows.text), second.probabilities(rows.text))
    assert np.array_equal(both.probabilities(rows.text), expected)
    assert (first.card["student_digest"], second.card["student_digest"]) == ("f", "s")
    assert steps["cascade"]["size_bytes"] == folder_bytes(folder, but=PROFILE) > steps["dynamic"]["size_bytes"]
    # The float file is no cascade: what integers change is told against it.
    assert not (tmp_path / "edge" / "float" / "first").exists()


def smaller_of(line: Line, folder: Path) -> Path:
    """A static student that has learnt."""
    settings = Distill.model_validate({**QUICK, "learning_rate": 0.1})
    distill(
        line.dataset,
        line.teacher,
        line.signals,
        Student(static=Static(width=8, hidden=0)),
        settings,
        folder / "smaller",
    )
    return folder / "smaller"


def test_a_smaller_student_that_is_never_sure_enough_is_left_out(line: Line, tmp_path: Path):
    smaller = smaller_of(line, tmp_path)
    weights = load_file(smaller / "head.safetensors")
    # The other way round: it is surest where it is wrong.
    save_file({name: -weight for name, weight in weights.items()}, smaller / "head.safetensors")
    steps, card = behind(line, tmp_path, smaller, 0.0)
    assert steps["cascade"]["left_out"] == "is never sure"
    assert "sure_from" not in card
    assert not (tmp_path / "edge" / "small" / "first").exists()


def test_a_first_that_is_no_smaller_is_refused(line: Line, tmp_path: Path):
    with pytest.raises(UserError, match=r"cascade.first: its file has .* there is nothing to gain"):
        behind(line, tmp_path, line.student, 0.02)
    assert not (tmp_path / "edge").exists()
