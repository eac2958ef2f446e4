"""Students of every form, from the teacher to the int8 file."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import (
    AutoModel,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    MobileBertConfig,
    MobileBertModel,
)

from potstill.compress.narrow import narrow
from potstill.data.dataset import read_rows, read_schema
from potstill.edge import EdgeModel
from potstill.errors import UserError
from potstill.learn.model import encode, load_encoder, load_model, predict_logits
from potstill.learn.pruned import prunable
from potstill.recipe import Compress, Distill, Student
from potstill.steps.compress import compress
from potstill.steps.control import control
from potstill.steps.distill import distill
from potstill.steps.made import Origin
from tests.steps.conftest import QUICK, Line

SMALL = {"vocab_size": 60, "max_position_embeddings": 64, "initializer_range": 0.2}
BERT_SIZED = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
OTHERS = {
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(vocab_size=60, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=64)
    ),
    "mobilebert": lambda: MobileBertModel(
        MobileBertConfig(
            **SMALL | BERT_SIZED,
            embedding_size=8,
            intra_bottleneck_size=8,
            num_feedforward_networks=1,
        ),
        add_pooling_layer=False,
    ),
    "electra": lambda: ElectraModel(ElectraConfig(**SMALL | BERT_SIZED, embedding_size=8)),
}


@pytest.fixture
def other(request: pytest.FixtureRequest, encoder: Path, tmp_path: Path) -> Path:
    """An encoder of another architecture with small random weights, as a Hugging Face folder."""
    torch.manual_seed(1)
    OTHERS[request.param]().save_pretrained(tmp_path / "other")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(encoder / name, tmp_path / "other")
    return tmp_path / "other"


def distilled(line: Line, form: Student, folder: Path, **knobs: object) -> Path:
    settings = Distill.model_validate(QUICK | {"epochs": 8, "patience": 8} | knobs)
    distill(line.dataset, line.teacher, line.signals, form, settings, folder / "student")
    return folder / "student"


def accuracy(line: Line, student: Path, folder: Path) -> tuple[float, float]:
    """Of the student in PyTorch and of its int8 file, on the test rows."""
    schema = read_schema(line.dataset)
    rows = read_rows(line.dataset, "test", schema)
    model, tokenizer = load_model(student)
    logits = predict_logits(model, encode(tokenizer, rows, model.head), tokenizer.pad_token_id).numpy()
    origin = Origin("tiny", schema.digest, "t", "s")
    compress(line.dataset, student, Compress(), origin, folder / "edge")
    small = EdgeModel(folder / "edge" / "small").probabilities(rows.records("text"))
    return float((logits.argmax(1) == rows.value).mean()), float((small.argmax(1) == rows.value).mean())


@pytest.mark.parametrize("other", OTHERS, indirect=True)
def test_students_of_other_architectures_learn_and_become_int8(line: Line, other: Path, tmp_path: Path):
    student = distilled(line, Student(encoder=str(other)), tmp_path, learning_rate=5e-3)
    assert type(load_model(student)[0].encoder) is type(OTHERS[_kind(other)]())
    exact, small = accuracy(line, student, tmp_path)
    assert exact > 0.85
    assert small > 0.8


@pytest.mark.parametrize("other", OTHERS, indirect=True)
def test_students_of_other_architectures_learn_in_bfloat16_too(line: Line, other: Path, tmp_path: Path):
    student = distilled(line, Student(encoder=str(other)), tmp_path, epochs=1, precision="bfloat16")
    weights = load_model(student)[0].state_dict()
    assert all(weight.dtype == torch.float32 for weight in weights.values() if weight.is_floating_point())


def _kind(other: Path) -> str:
    return AutoModel.from_pretrained(other).config.model_type


def test_plain_transformers_loads_a_student_of_another_architecture(line: Line, encoder: Path, tmp_path: Path):
    student = distilled(line, Student(encoder=str(encoder)), tmp_path, epochs=1)
    assert AutoModel.from_pretrained(student).config.num_hidden_layers == 4
    assert len(AutoTokenizer.from_pretrained(student)) == len(AutoTokenizer.from_pretrained(encoder))


@pytest.mark.parametrize(("hidden", "learning_rate"), [(0, 0.1), (12, 0.03)])
def test_a_static_student_learns_and_becomes_int8(line: Line, tmp_path: Path, hidden: int, learning_rate: float):
    # Nothing but vectors that learn: they bear a rate of their own.
    form = Student.model_validate({"static": {"width": 8, "hidden": hidden}})
    student = distilled(line, form, tmp_path, learning_rate=learning_rate)
    model, _ = load_model(student)
    assert model.encoder.vectors.weight.shape[1] == 8
    assert model.on_top["classifier"].in_features == (hidden or 8)
    exact, small = accuracy(line, student, tmp_path)
    assert exact > 0.9
    assert small > 0.9


def test_a_static_student_takes_the_mean_though_its_teacher_looks_at_the_first_token(line: Line, tmp_path: Path):
    shutil.copytree(line.teacher, tmp_path / "teacher")
    head = json.loads((line.teacher / "head.json").read_text())
    (tmp_path / "teacher" / "head.json").write_text(json.dumps(head | {"pooling": "cls"}))
    form, learning = (
        Student.model_validate({"static": {"width": 8}}),
        Distill.model_validate(QUICK | {"learning_rate": 0.1}),
    )
    distill(line.dataset, tmp_path / "teacher", line.signals, form, learning, tmp_path / "student")
    control(line.dataset, line.settings.model_copy(update={"pooling": "cls"}), form, learning, tmp_path / "control")
    assert [load_model(tmp_path / name)[0].head.pooling for name in ("student", "control")] == ["mean", "mean"]
    assert accuracy(line, tmp_path / "student", tmp_path)[0] > 0.9


def test_a_static_student_starts_with_the_teachers_view_of_each_piece(line: Line, tmp_path: Path):
    still = {"epochs": 1, "learning_rate": 1e-12, "weight_decay": 0}
    vectors = load_model(distilled(line, Student.model_validate({"static": {"width": 8}}), tmp_path, **still))[0]
    teacher, tokenizer = load_model(line.teacher)
    words = ["great", "lovely", "solid", "poor", "broken", "awful"]
    with torch.no_grad():
        found = vectors.encoder.vectors.weight[tokenizer.convert_tokens_to_ids(words)]
        batch = tokenizer(words, return_tensors="pt")
        batch.pop("token_type_ids", None)
        its = teacher.pooling(teacher.encoder(**batch).last_hidden_state, batch["attention_mask"])
    # What the teacher finds alike among the words, the vectors do.
    upper = np.triu_indices(6, 1)
    alike = [torch.nn.functional.cosine_similarity(v[:, None], v[None], dim=2).numpy()[upper] for v in (found, its)]
    assert np.corrcoef(alike[0], alike[1])[0, 1] > 0.8
    assert (vectors.encoder.vectors.weight[tokenizer.all_special_ids].abs() < 1e-9).all()


def test_a_narrower_student_learns_and_becomes_int8(line: Line, tmp_path: Path):
    form = Student.model_validate({"layers": 2, "narrow": {"width": 8, "heads": 2}})
    student = distilled(line, form, tmp_path)
    config = load_model(student)[0].encoder.config
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (8, 2, 16)
    exact, small = accuracy(line, student, tmp_path)
    assert exact > 0.9
    assert small > 0.85


def test_of_another_encoder_some_layers_can_be_kept(line: Line, encoder: Path, tmp_path: Path):
    still = {"epochs": 1, "learning_rate": 1e-12, "weight_decay": 0}
    form = Student.model_validate({"encoder": str(encoder), "keep": [1, 3]})
    student = load_model(distilled(line, form, tmp_path, **still))[0].encoder
    public = load_encoder(str(encoder))[0]
    assert len(student.encoder.layer) == 2
    for kept, number in zip(student.encoder.layer, [1, 3], strict=True):
        mine, its = (layer.attention.self.query.weight for layer in (kept, public.encoder.layer[number]))
        torch.testing.assert_close(mine, its)


def test_layers_are_chosen_by_a_try(line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first = distilled(line, Student(layers=2, keep="auto"), tmp_path / "first", epochs=1)
    assert "of 3 choices of layers" in capsys.readouterr().out
    assert load_model(first)[0].encoder.config.num_hidden_layers == 2


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"static": {"width": 99}}, "student.static.width: 99: the teacher's vectors have 16 directions"),
        (
            {"layers": 2, "narrow": {"width": 32, "heads": 2}},
            "student.narrow: 32 wide with 2 heads: the encoder has 16",
        ),
        ({"layers": 2, "narrow": {"width": 16, "heads": 1}}, "16 dimensions a head: the encoder's have 8"),
        ({"encoder": "/no/such/folder"}, "student.encoder: /no/such/folder: no such folder"),
    ],
)
def test_a_form_that_the_teacher_can_not_give_is_refused(line: Line, tmp_path: Path, form: dict, message: str):
    with pytest.raises(UserError, match=message):
        distilled(line, Student.model_validate(form), tmp_path)
    assert not (tmp_path / "student").exists()


@pytest.mark.parametrize(
    "form", [{"static": {"width": 8}}, {"layers": 2, "narrow": {"width": 8, "heads": 2}}, {"layers": 2, "keep": "auto"}]
)
def test_the_control_has_the_students_form(line: Line, tmp_path: Path, form: dict):
    knobs = Distill.model_validate(QUICK | {"epochs": 1})
    control(line.dataset, line.settings, Student.model_validate(form), knobs, tmp_path / "control")
    student = load_model(distilled(line, Student.model_validate(form), tmp_path, epochs=1))[0]
    found = load_model(tmp_path / "control")[0]
    shapes = [{name: weight.shape for name, weight in model.state_dict().items()} for model in (found, student)]
    assert shapes[0] == shapes[1]


def test_terms_of_layers_reach_a_narrower_student(line: Line, tmp_path: Path):
    form = Student.model_validate({"layers": 2, "narrow": {"width": 8, "heads": 2}})
    student = distilled(line, form, tmp_path, terms={"kl": 1, "hidden": 1, "relation": 0.5, "attention": 0.5})
    assert accuracy(line, student, tmp_path)[0] > 0.9
    # What they went through is left behind.
    assert not any("projections" in name for name in load_model(student)[0].state_dict())


@pytest.mark.parametrize(
    "knobs", [{"standardise": True}, {"terms": {"kl": 1, "dist_between": 1}}, {"terms": {"decoupled_others": 1}}]
)
def test_terms_that_tell_nothing_of_two_classes_are_refused(line: Line, tmp_path: Path, knobs: dict):
    with pytest.raises(UserError, match="tells nothing of two outcomes; leave it out"):
        distilled(line, Student(layers=2), tmp_path, **knobs)


@pytest.mark.parametrize("other", ["electra"], indirect=True)
def test_a_projection_of_embeddings_is_not_lost_in_silence(other: Path):
    made, tokenizer = load_encoder(str(other))
    with pytest.raises(UserError, match="8 wide is what the embeddings are: their projection would be lost"):
        narrow(made, tokenizer, ["a great kettle"], 2, 8, 2)
    smaller = narrow(made, tokenizer, ["a great kettle"], 2, 12, 2)
    assert (smaller.config.hidden_size, smaller.config.embedding_size) == (12, 8)


PRUNED = {"layers": 2, "prune": {"heads": 0.5, "feed_forward": 0.5, "epochs": 4, "learning_rate": 1e-2}}


def test_a_pruned_student_learns_once_more_and_becomes_a_smaller_file(line: Line, tmp_path: Path):
    student = distilled(line, Student.model_validate(PRUNED), tmp_path)
    layers = prunable(load_model(student)[0].encoder)
    assert sum(layer.heads for layer in layers) == 2
    assert sum(layer.units for layer in layers) <= 32 + 8
    exact, small = accuracy(line, student, tmp_path)
    assert exact > 0.9
    assert small > 0.85
    files = [folder / "float" / "model.onnx" for folder in (tmp_path / "edge", line.edge)]
    weights = [sum(np.prod(part.dims) for part in onnx.load(file).graph.initializer) for file in files]
    assert weights[0] < 0.8 * weights[1]


def test_pruning_begins_where_distillation_ended(line: Line, tmp_path: Path):
    history = json.loads((distilled(line, Student.model_validate(PRUNED), tmp_path) / "history.json").read_text())
    whole = json.loads((distilled(line, Student(layers=2), tmp_path) / "history.json").read_text())
    assert history[: len(whole)] == whole
    assert [epoch["epoch"] for epoch in history] == list(range(1, len(whole) + 5))


def test_a_control_is_pruned_like_the_student(line: Line, tmp_path: Path):
    control(line.dataset, line.settings, Student.model_validate(PRUNED), Distill.model_validate(QUICK), tmp_path / "c")
    assert sum(layer.heads for layer in prunable(load_model(tmp_path / "c")[0].encoder)) == 2


@pytest.mark.parametrize("other", ["distilbert"], indirect=True)
def test_an_encoder_that_cannot_be_pruned_is_refused_before_it_learns(line: Line, other: Path, tmp_path: Path):
    form = Student.model_validate({"encoder": str(other), "prune": PRUNED["prune"]})
    told: list[object] = []
    with pytest.raises(UserError, match=r"student\.prune: can't prune a DistilBertModel"):
        distill(line.dataset, line.teacher, line.signals, form, Distill(), tmp_path / "student", told.append)
    assert told == []


def test_a_pruned_student_can_be_a_students_encoder(line: Line, tmp_path: Path):
    pruned = distilled(line, Student.model_validate(PRUNED), tmp_path / "first")
    again = distilled(line, Student(encoder=str(pruned)), tmp_path / "second", epochs=1)
    assert sum(layer.heads for layer in prunable(load_model(again)[0].encoder)) == 2
