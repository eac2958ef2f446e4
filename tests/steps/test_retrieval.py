"""Answer retrieval through the same steps: a bi-encoder that finds each question's answer in a catalogue."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoConfig, AutoModel

from potstill.data.dataset import read_rows, read_schema
from potstill.drift.profile import read_profile
from potstill.edge import PROFILE, EdgeModel
from potstill.errors import UserError
from potstill.evaluate.report import write_report
from potstill.learn.signals import read_manifest, read_signals
from potstill.outcomes import probabilities_of
from potstill.recipe import Data, Distill, Split, Student, Task
from potstill.steps.distill import distill
from tests.conftest import THINGS
from tests.steps.conftest import Line, run_line
from tests.steps.test_kinds import evaluated, summary_in


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Line:
    """A help desk whose questions and answers share their thing and their number; every answer has two questions."""
    rows = [
        {"question": f"{start} the {thing} n{i}", "answer": f"a {thing} n{i} was {word}", "item": f"{thing}{i}"}
        for i in range(40)
        for thing, word in zip(THINGS, ("great", "poor", "solid", "awful"), strict=True)
        for start in ("is", "was very")
    ]
    root = tmp_path_factory.mktemp("desk")
    pq.write_table(pa.Table.from_pylist(rows), root / "rows.parquet")
    data = Data(source=str(root / "rows.parquet"), text=["question"], split=Split(by="item", test=0.25))
    task = Task(kind="retrieval", label="answer", tau=0.1)
    knobs = {"learning_rate": 5e-3, "batch_size": 32, "epochs": 15, "patience": 15}
    return run_line(
        root, encoder, data, {"answer": task}, teacher=knobs, distill=knobs | {"temperature": 1.0, "align": 1.0}
    )


@pytest.fixture(scope="module")
def evaluation(desk: Line) -> Path:
    return evaluated(desk, desk.root / "evaluation")


def test_signals_are_the_vectors_of_each_question_and_its_answer(desk: Line):
    schema = read_schema(desk.dataset)
    rows = read_rows(desk.dataset, "test", schema)
    vectors = read_signals(desk.signals, rows.row)
    assert read_manifest(desk.signals).width == vectors.shape[1] == 2 * 16
    for half in np.split(vectors, 2, axis=1):
        assert np.linalg.norm(half, axis=1) == pytest.approx(1, abs=1e-3)


def test_the_student_finds_answers_that_no_training_row_has_as_the_teacher_does(evaluation: Path):
    found = summary_in(evaluation)
    models = found["models"]
    candidates = found["rows"]["test"] / 2
    assert found["trivial"]["recall_at_1"] == 0
    assert found["trivial"]["mrr"] == pytest.approx(2 / (candidates + 1))
    assert models["edge"]["mrr"] > 0.8
    assert models["edge"]["recall_at_5"] >= models["edge"]["recall_at_1"] > 0.5
    assert models["edge"]["agreement"] > 0.6


def test_the_edge_model_ships_all_answers_with_their_vectors(desk: Line):
    schema = read_schema(desk.dataset)
    answers = {answer for split in schema.rows for answer in read_rows(desk.dataset, split, schema).catalogue}
    folder = desk.edge / "small"
    assert json.loads((folder / "catalogue.json").read_text()) == sorted(answers)
    model = EdgeModel(folder)
    shipped = np.fromfile(folder / "catalogue.f16", dtype="<f2").reshape(len(answers), 16)
    assert shipped == pytest.approx(model.logits(sorted(answers)), abs=1e-3)
    (found,) = model.answer(["is the lamp n7"])
    assert found["answer"] == next(iter(found["answers"]))
    assert len(found["answers"]) == 5
    assert found["confidence"] == max(found["answers"].values())
    assert "lamp" in found["answer"]


def test_float_and_torch_choose_alike_over_the_test_rows_answers(desk: Line):
    schema = read_schema(desk.dataset)
    rows = read_rows(desk.dataset, "test", schema)
    model = EdgeModel(desk.edge / "float")
    pairs = np.concatenate([model.logits(rows.text), model.logits(rows.answer or [])], axis=1)
    expected = probabilities_of(schema.outcome, pairs, rows.value)
    model.learn_catalogue(rows.catalogue)
    assert model.probabilities(rows.text) == pytest.approx(expected, abs=1e-5)


def test_the_report_tells_what_was_searched(evaluation: Path, tmp_path: Path):
    summary = summary_in(evaluation) | {"version": None, "alias": None, "dry_run": None}
    write_report(tmp_path / "report.html", summary, json.loads((evaluation / "figures.json").read_text()))
    page = (tmp_path / "report.html").read_text()
    assert "recall@1" in page
    assert "among those of all test rows" in page
    predicted = pq.read_table(evaluation / "predictions.parquet")
    right = np.mean([a == b for a, b in zip(*(predicted[n].to_pylist() for n in ("label", "edge")), strict=True)])
    assert right == pytest.approx(summary["models"]["edge"]["recall_at_1"], abs=0.02)


def test_vectors_of_another_width_can_not_be_aligned_and_that_is_said(desk: Line, encoder: Path, tmp_path: Path):
    config = AutoConfig.from_pretrained(encoder)
    config.hidden_size, config.intermediate_size = 8, 16
    AutoModel.from_config(config, add_pooling_layer=False).save_pretrained(tmp_path / "other")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(encoder / name, tmp_path / "other")
    knobs = Distill(align=1.0, epochs=1)
    form = Student(encoder=str(tmp_path / "other"))
    with pytest.raises(UserError, match=r"distill\.align: the student's vectors are 8 wide, the teacher's 16"):
        distill(desk.dataset, desk.teacher, desk.signals, form, knobs, tmp_path / "student")


def test_the_profile_tells_how_sure_answers_are_and_where_the_vectors_lie_but_no_answer(desk: Line):
    profile = read_profile(desk.edge / "small")
    assert profile is not None
    assert {name for name in profile.columns if name.startswith("answer: ")} == {
        "answer: confidence",
        "answer: distance",
    }
    assert profile.scale.centre.shape == (16,)
    assert profile.quality is None
    assert "kettle" not in (desk.edge / "small" / PROFILE).read_text()
