"""Which forms are worth teaching, and which of those that were taught goes on."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from potstill.errors import UserError
from potstill.learn.model import load_model
from potstill.plan.forecast import Forecast, from_text, to_text
from potstill.plan.forms import name_of_form
from potstill.recipe import Budget, Compress, Data, Distill, Evaluate, Plan, Split, Student, Task
from potstill.steps.choose import PLAN, Contender, choose
from potstill.steps.compress import compress
from potstill.steps.distill import distill
from potstill.steps.foresee import FORESEEN, foresee_forms
from potstill.steps.made import Origin
from potstill.store import folder_digest
from tests.steps.conftest import QUICK, Line, run_line

ROOMY = Budget(latency_p95_ms=1000, size_mb=100)
# The first has hardly learnt; the other has.
LESSONS = {1: {"epochs": 1, "learning_rate": 1e-9, "alpha": 0.0}, 3: {"epochs": 8, "patience": 8}}


@pytest.fixture(scope="module")
def contenders(line: Line, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Contender]:
    root, found = tmp_path_factory.mktemp("contenders"), {}
    for layers, lesson in LESSONS.items():
        form, place = Student(layers=layers), root / str(layers)
        distill(
            line.dataset, line.teacher, line.signals, form, Distill.model_validate(QUICK | lesson), place / "student"
        )
        if layers == 1:
            _forget(place / "student")
        compress(line.dataset, place / "student", Compress(), Origin("tiny", "d", "t", "s"), place / "edge")
        found[name_of_form(form)] = Contender(place / "student", place / "edge")
    return found


def _forget(student: Path) -> None:
    """Let a student answer at random: it starts with what its teacher knew."""
    head = load_file(student / "head.safetensors")
    save_file({name: torch.zeros_like(weight) for name, weight in head.items()}, student / "head.safetensors")


@pytest.fixture
def foreseen(tmp_path: Path) -> Path:
    (tmp_path / "foreseen").mkdir()
    forecasts = [Forecast(Student(layers=layers), layers / 10, 0.5, 1e4, 1e6, 1000) for layers in (1, 2, 3)]
    (tmp_path / "foreseen" / FORESEEN).write_text(to_text(forecasts))
    return tmp_path / "foreseen"


@pytest.mark.parametrize("turned", [False, True])
def test_a_dearer_form_is_taken_where_the_cheaper_one_keeps_too_little(
    line: Line, contenders: dict[str, Contender], foreseen: Path, tmp_path: Path, turned: bool
):
    given = dict(reversed(contenders.items())) if turned else contenders
    to = Contender(tmp_path / "student", tmp_path / "edge")
    chosen = choose(line.dataset, line.signals, given, foreseen, ROOMY, Evaluate(latency_rows=10), to)
    assert (chosen.name, chosen.form.layers) == ("3-layers", 3)
    assert folder_digest(to.student) == folder_digest(contenders["3-layers"].student)
    assert folder_digest(to.edge, but=PLAN) == folder_digest(contenders["3-layers"].edge)
    told = json.loads((to.edge / PLAN).read_text())
    assert (told["chosen"], told["forms"], told["fitting"]) == ("student of 3 layers", 3, 3)
    kept = {one["name"]: one["keeps"] for one in told["tried"]}
    assert kept == {"linear baseline": False, "student of 1 layer": False, "student of 3 layers": True}
    times = {one["name"]: one["foreseen_ms"] for one in told["tried"]}
    assert times == {"linear baseline": None, "student of 1 layer": 0.1, "student of 3 layers": 0.3}


def test_where_none_keeps_the_budget_what_misses_it_by_least_goes_on(
    line: Line, contenders: dict[str, Contender], foreseen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    tight = Budget(latency_p95_ms=1e-6, size_mb=100)
    to = Contender(tmp_path / "student", tmp_path / "edge")
    chosen = choose(line.dataset, line.signals, contenders, foreseen, tight, Evaluate(latency_rows=10), to)
    forms = [one for one in json.loads((to.edge / PLAN).read_text())["tried"] if one["foreseen_ms"]]
    quickest = min(forms, key=lambda one: one["p95_ms"])
    assert chosen.tried.name == quickest["name"]
    told = capsys.readouterr().out
    assert f"no form keeps the budget on the validation rows; {quickest['name']} comes nearest" in told


def foresee(line: Line, to: Path, form: Student | None = None, budget: Budget = ROOMY, **plan: int) -> list[Forecast]:
    settings = form or Student(), Distill(), Compress(), budget, Plan.model_validate(plan)
    return foresee_forms(line.dataset, line.teacher, *settings, to)


def test_forms_from_the_cheapest_to_the_dearest_are_picked_and_all_are_written_down(line: Line, tmp_path: Path):
    picked = foresee(line, tmp_path / "foreseen", candidates=3)
    assert len(picked) == 3
    written = from_text((tmp_path / "foreseen" / FORESEEN).read_text())
    # One, two, three and four layers, whole and pruned.
    assert len(written) == 8
    assert [one.p50_ms for one in written] == sorted(one.p50_ms for one in written)
    assert (picked[0], picked[-1]) == (written[0], written[-1])


def test_a_form_that_is_given_is_not_silently_dropped(line: Line, tmp_path: Path):
    with pytest.raises(UserError, match=r"student\.static: a plan tries forms of the teacher's layers"):
        foresee(line, tmp_path / "foreseen", Student.model_validate({"static": {"width": 8}}))
    assert not (tmp_path / "foreseen").exists()


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("bert", {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}),
        ("distilbert", {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}),
    ],
)
def test_forms_of_shallow_and_of_other_teachers_are_foreseen(
    kind: str, sizes: dict[str, int], encoder: Path, reviews_file: Path, tmp_path: Path
):
    (tmp_path / "encoder").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(encoder / name, tmp_path / "encoder")
    config = AutoConfig.for_model(kind, vocab_size=70, max_position_embeddings=64, **sizes)
    AutoModel.from_config(config).save_pretrained(tmp_path / "encoder")
    data, short = Data(source=str(reviews_file), split=Split(by="product")), {"epochs": 1}
    line = run_line(tmp_path / "line", tmp_path / "encoder", data, {"task": Task(label="sentiment")}, teacher=short)
    layers = load_model(line.teacher)[0].encoder.config.num_hidden_layers
    assert {one.form.layers for one in foresee(line, tmp_path / "foreseen", candidates=12)} == set(range(1, layers + 1))
