"""Teach, extract, distill and control on the tiny shop."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from potstill.data.dataset import read_rows, read_schema
from potstill.errors import UserError
from potstill.learn.model import encode_texts, load_encoder, load_model, predict_logits
from potstill.learn.signals import MANIFEST, read_manifest, read_signals
from potstill.recipe import Distill, FineTune, Student
from potstill.steps.control import control
from potstill.steps.distill import distill
from potstill.steps.teach import teach
from potstill.store import folder_digest
from tests.steps.conftest import QUICK, Line


def accuracy(folder: Path, line: Line) -> float:
    schema = read_schema(line.dataset)
    rows = read_rows(line.dataset, "test", schema)
    model, tokenizer = load_model(folder)
    logits = predict_logits(model, encode_texts(tokenizer, rows.text, 16), 0)
    return float((logits.numpy().argmax(1) == rows.value).mean())


def test_teacher_student_and_control_learn_the_words(line: Line):
    assert accuracy(line.teacher, line) > 0.9
    assert accuracy(line.student, line) > 0.9
    assert accuracy(line.control, line) > 0.8


def test_the_same_recipe_gives_the_same_teacher_and_student(line: Line, tmp_path: Path):
    teach(line.dataset, line.settings, tmp_path / "teacher")
    assert folder_digest(tmp_path / "teacher") == folder_digest(line.teacher)
    knobs = Distill.model_validate(QUICK)
    distill(line.dataset, tmp_path / "teacher", line.signals, Student(layers=2), knobs, tmp_path / "student")
    assert folder_digest(tmp_path / "student") == folder_digest(line.student)


def test_signals_hold_the_teachers_logits_of_every_row_of_every_split(line: Line):
    schema, manifest = read_schema(line.dataset), read_manifest(line.signals)
    assert manifest.rows == sum(schema.rows.values())
    assert manifest.content.tasks == (("task", schema.outcome.names),)
    assert (manifest.content.dataset_digest, manifest.content.teacher_digest) == (schema.digest, "t")
    model, tokenizer = load_model(line.teacher)
    for split in ("train", "validation", "test"):
        rows = read_rows(line.dataset, split, schema)
        expected = predict_logits(model, encode_texts(tokenizer, rows.text, 16), 0).numpy()
        assert np.abs(read_signals(line.signals, rows.row) - expected).max() < 0.01


def test_a_student_without_epochs_to_change_much_starts_as_the_teacher_cut(line: Line, tmp_path: Path):
    still = Distill.model_validate({"epochs": 1, "learning_rate": 1e-12, "weight_decay": 0})
    distill(line.dataset, line.teacher, line.signals, Student(keep=[0, 3]), still, tmp_path / "student")
    student, teacher = load_model(tmp_path / "student")[0], load_model(line.teacher)[0]
    assert torch.allclose(student.on_top["classifier"].weight, teacher.on_top["classifier"].weight, atol=1e-6)
    for kept, source in enumerate((0, 3)):
        kept_weight = student.encoder.encoder.layer[kept].intermediate.dense.weight
        assert torch.allclose(kept_weight, teacher.encoder.encoder.layer[source].intermediate.dense.weight, atol=1e-6)


def test_the_control_starts_from_the_public_encoder_and_not_from_the_teacher(line: Line, tmp_path: Path):
    still = Distill.model_validate({"epochs": 1, "learning_rate": 1e-12, "weight_decay": 0})
    control(line.dataset, line.settings, Student(keep=[0, 3]), still, tmp_path / "control")
    found = load_model(tmp_path / "control")[0].encoder.encoder.layer[1].intermediate.dense.weight
    public = load_encoder(line.settings.encoder)[0].encoder.layer[3].intermediate.dense.weight
    assert torch.allclose(found, public, atol=1e-6)


def test_alpha_one_learns_the_teachers_view_even_when_labels_say_otherwise(line: Line, tmp_path: Path):
    soft = Distill.model_validate({**QUICK, "alpha": 1.0})
    distill(line.dataset, line.teacher, line.signals, Student(layers=2), soft, tmp_path / "student")
    schema = read_schema(line.dataset)
    rows = read_rows(line.dataset, "test", schema)
    model, tokenizer = load_model(tmp_path / "student")
    found = predict_logits(model, encode_texts(tokenizer, rows.text, 16), 0).numpy().argmax(1)
    assert (found == read_signals(line.signals, rows.row).argmax(1)).mean() > 0.9


def test_training_leaves_its_curve_beside_the_model(line: Line):
    epochs = json.loads((line.student / "history.json").read_text())
    assert [epoch["epoch"] for epoch in epochs] == list(range(1, len(epochs) + 1))
    assert {"loss", "validation_loss", "validation_accuracy", "validation_macro_f1"} <= set(epochs[0])


def test_layers_that_the_teacher_lacks_are_refused_and_nothing_is_written(line: Line, tmp_path: Path):
    with pytest.raises(UserError, match=r"student\.layers: 9: the encoder has 4 layers"):
        distill(line.dataset, line.teacher, line.signals, Student(layers=9), Distill(), tmp_path / "student")
    assert list(tmp_path.iterdir()) == []


def test_signals_of_other_rows_are_refused(line: Line, tmp_path: Path):
    manifest = json.loads((line.signals / MANIFEST).read_text())
    (tmp_path / "signals").mkdir()
    (tmp_path / "signals" / MANIFEST).write_text(json.dumps(manifest | {"parts": []}))
    with pytest.raises(UserError, match="no teacher's view of"):
        distill(line.dataset, line.teacher, tmp_path / "signals", Student(layers=2), Distill(), tmp_path / "student")


def tuned(line: Line, folder: Path, rate: float) -> tuple[list[dict], list[dict]]:
    """History of a student with and without a short training on labels; distillation has left all to do."""
    brief = Distill.model_validate(QUICK | {"epochs": 1, "learning_rate": 1e-9})
    form = Student(encoder=line.settings.encoder)
    after = brief.model_copy(update={"fine_tune": FineTune(epochs=4, learning_rate=rate)})
    for name, knobs in (("plain", brief), ("tuned", after)):
        distill(line.dataset, line.teacher, line.signals, form, knobs, folder / name)
    plain, longer = (json.loads((folder / name / "history.json").read_text()) for name in ("plain", "tuned"))
    return plain, longer


def test_a_fine_tuning_that_improves_validation_is_kept(line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plain, longer = tuned(line, tmp_path, rate=1e-2)
    assert longer[: len(plain)] == plain
    assert [epoch["epoch"] for epoch in longer] == list(range(1, len(longer) + 1))
    scores = [epoch["validation_macro_f1"] for epoch in longer]
    assert max(scores[1:]) > scores[0]
    assert "after; kept" in capsys.readouterr().out
    assert accuracy(tmp_path / "tuned", line) > accuracy(tmp_path / "plain", line)


def test_a_fine_tuning_that_does_not_improve_is_dropped(line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plain, longer = tuned(line, tmp_path, rate=1e-12)
    assert longer == plain
    assert "after; not kept" in capsys.readouterr().out
    assert folder_digest(tmp_path / "tuned") == folder_digest(tmp_path / "plain")
