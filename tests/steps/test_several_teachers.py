"""Several teachers of one student."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from potstill.data.dataset import read_rows, read_schema
from potstill.errors import UserError
from potstill.evaluate.candidates import Inputs, open_all
from potstill.learn.model import encode, load_model, predict_logits
from potstill.learn.signals import read_signals
from potstill.learn.teachers import OTHERS, TAUGHT, Panel, member_folders, read_weights, write_taught
from potstill.outcomes import softmax
from potstill.recipe import Data, Distill, Split, Student, Task
from potstill.steps.distill import distill
from potstill.steps.teach import teach
from tests.steps.conftest import QUICK, Line, run_line
from tests.steps.test_kinds import evaluated, summary_in

OTHER = {"seed": 8, "epochs": 3, "max_tokens": 12}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, encoder: Path, reviews_file: Path) -> Line:
    """Two teachers, weighed by what they know of the validation rows."""
    data = Data(source=str(reviews_file), split=Split(by="product"))
    root = tmp_path_factory.mktemp("committee")
    return run_line(
        root, encoder, data, {"task": Task(label="sentiment")}, teacher={"others": [OTHER], "weighing": "validation"}
    )


def said(folder: Path, dataset: Path, split: str) -> np.ndarray:
    model, tokenizer = load_model(folder)
    rows = read_rows(dataset, split, read_schema(dataset))
    return predict_logits(model, encode(tokenizer, rows, model.head), tokenizer.pad_token_id).numpy()


def test_the_table_holds_the_weighed_mean_of_both(taught: Line):
    rows = read_rows(taught.dataset, "test", read_schema(taught.dataset))
    weights = read_weights(taught.teacher)[:, 0]
    assert weights.sum() == pytest.approx(1)
    each = [softmax(said(folder, taught.dataset, "test")) for folder in member_folders(taught.teacher)]
    assert len(each) == 2
    assert np.abs(each[0] - each[1]).max() > 0.01
    mean = weights[0] * each[0] + weights[1] * each[1]
    found = softmax(read_signals(taught.signals, rows.row).astype(np.float32))
    np.testing.assert_allclose(found, mean, atol=2e-3)


def test_the_other_teacher_has_its_own_settings(taught: Line):
    history = json.loads((taught.teacher / OTHERS / "1" / "history.json").read_text())
    assert len(history) == 3
    assert load_model(taught.teacher / OTHERS / "1")[0].head.max_tokens == 12
    assert load_model(taught.teacher)[0].head.max_tokens == 16


def test_all_are_judged_as_one(taught: Line, tmp_path: Path):
    found = summary_in(evaluated(taught, tmp_path / "evaluation"))
    assert found["models"]["student"]["accuracy"] > 0.9
    assert {"teacher", "teacher 2"} <= set(found["curves"])
    # What the teacher costs is what both cost.
    assert found["models"]["teacher"]["size_bytes"] > 1.8 * found["models"]["control"]["size_bytes"]


def test_what_is_timed_says_what_the_table_says(taught: Line, tmp_path: Path):
    schema = read_schema(taught.dataset)
    inputs = Inputs(taught.dataset, taught.signals, taught.teacher, taught.control, taught.student, taught.edge, None)
    splits = {split: read_rows(taught.dataset, split, schema) for split in ("train", "validation", "test")}
    teacher = open_all(inputs, schema, splits, tmp_path)["teacher"]
    records = splits["test"].records(schema.text[0])
    np.testing.assert_allclose(teacher.ask(records), teacher.probabilities, atol=5e-3)


def test_students_are_cut_from_the_first(taught: Line, tmp_path: Path):
    still = Distill.model_validate(QUICK | {"epochs": 1, "learning_rate": 1e-12, "weight_decay": 0})
    distill(taught.dataset, taught.teacher, taught.signals, Student(layers=2), still, tmp_path / "student")
    student, first, other = (
        load_model(folder)[0].state_dict()["encoder.encoder.layer.0.output.dense.weight"]
        for folder in (tmp_path / "student", *member_folders(taught.teacher))
    )
    torch.testing.assert_close(student, first, atol=1e-6, rtol=0)
    assert (student - other).abs().max() > 1e-3


def test_given_weights_are_kept(line: Line, tmp_path: Path, encoder: Path):
    settings = line.settings.model_copy(update={"epochs": 1})
    knobs = settings.model_dump() | {"others": [{"seed": 8}, {"seed": 9}], "weighing": [3, 2, 1]}
    figures = teach(line.dataset, type(settings).model_validate(knobs), tmp_path / "teacher")
    np.testing.assert_allclose(read_weights(tmp_path / "teacher")[:, 0], [1 / 2, 1 / 3, 1 / 6])
    assert figures["weight_1"] == pytest.approx(0.5)
    assert 0 <= figures["together_macro_f1"] <= 1


def test_a_teacher_of_which_another_was_taught_a_row_to_judge_is_refused(taught: Line):
    schema = read_schema(taught.dataset)
    test = read_rows(taught.dataset, "test", schema)
    place = taught.teacher / OTHERS / "1"
    before = (place / TAUGHT).read_bytes()
    write_taught(place, test.row[:1])
    try:
        with pytest.raises(UserError, match="was taught 1 of the test rows"):
            Panel.load(taught.teacher, schema.outcome).score(test, False, "test")
    finally:
        (place / TAUGHT).write_bytes(before)


def test_folds_have_all_teachers_too(line: Line, tmp_path: Path):
    knobs = line.settings.model_dump() | QUICK | {"epochs": 1, "others": [{"seed": 8}]}
    teach(line.dataset, type(line.settings).model_validate(knobs), tmp_path / "teacher", cross_fit=2)
    panel = Panel.load(tmp_path / "teacher", read_schema(line.dataset).outcome)
    assert [len(scorer.members) for scorer in (panel.whole, *panel.folds)] == [2, 2, 2]
