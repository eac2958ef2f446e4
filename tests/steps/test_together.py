"""Several tasks by one model: rows from two files, each with labels for some of the tasks only."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from potstill.data.dataset import read_rows, read_schema
from potstill.drift.profile import read_profile
from potstill.edge import EdgeModel
from potstill.evaluate.report import write_report
from potstill.learn.signals import read_signals
from potstill.learn.teachers import load_teachers
from potstill.outcomes import Together
from potstill.recipe import Data, Task
from tests.conftest import THINGS, reviews
from tests.steps.conftest import Line, run_line
from tests.steps.test_kinds import evaluated, summary_in

PRICES = dict(zip(THINGS, (10.0, 20.0, 40.0, 80.0), strict=True))
TASKS = {
    "sentiment": Task(label="sentiment"),
    "thing": Task(label="thing"),
    "price": Task(kind="value", label="price", bins=16),
}


def files(folder: Path) -> list[str]:
    """Reviews with a sentiment, and half as many offers with their thing and price."""
    folder.mkdir()
    pq.write_table(pa.table(reviews(240)), folder / "reviews.parquet")
    random = np.random.default_rng(1)
    things = [str(random.choice(THINGS)) for _ in range(120)]
    titles = [f"a {thing} n{i % 40} n{i // 40}" for i, thing in enumerate(things)]
    prices = [PRICES[thing] * float(random.uniform(0.9, 1.1)) for thing in things]
    pq.write_table(pa.table({"title": titles, "thing": things, "price": prices}), folder / "offers.parquet")
    return [str(folder / name) for name in ("reviews.parquet", "offers.parquet")]


@pytest.fixture(scope="module", params=[False, True], ids=["one teacher", "a teacher a task"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Line:
    root = tmp_path_factory.mktemp("shop")
    data = Data(source=files(root / "rows"), text=["text", "title"])  # type: ignore[arg-type]
    teacher = {"per_task": request.param, "balance": 1.0, "epochs": 10}
    return run_line(root, encoder, data, TASKS, teacher=teacher, distill={"balance": 1.0, "epochs": 10})


@pytest.fixture(scope="module")
def evaluation(shop: Line) -> Path:
    return evaluated(shop, shop.root / "evaluation")


def test_rows_keep_the_labels_that_they_have(shop: Line):
    schema = read_schema(shop.dataset)
    assert isinstance(schema.outcome, Together)
    assert schema.outcome.fields == ("price", "sentiment", "thing")
    rows = read_rows(shop.dataset, "train", schema)
    labelled = np.isfinite(rows.value)
    review = np.array([text.startswith("the ") for text in rows.text])
    assert (labelled == np.stack([~review, review, ~review], axis=1)).all()
    things = rows.of(schema.outcome.parts[2])
    assert all(
        f" {schema.outcome.tasks[2][1].names[int(i)]} " in text
        for i, text in zip(things.value, things.text, strict=True)
    )


def test_signals_hold_every_teachers_view_of_every_row(shop: Line):
    schema = read_schema(shop.dataset)
    rows = read_rows(shop.dataset, "test", schema)
    logits = read_signals(shop.signals, rows.row)
    assert logits.shape == (len(rows), 16 + 2 + 4)
    teachers = load_teachers(shop.teacher, schema.outcome)
    assert len(teachers) == (3 if shop.settings.per_task else 1)


def test_each_task_is_learnt_and_judged_by_rows_with_its_label(evaluation: Path):
    found = summary_in(evaluation)
    small = found["models"]["edge"]
    assert small["sentiment_macro_f1"] > 0.9
    assert small["thing_macro_f1"] > 0.9
    assert small["price_mae_log"] < 0.5 * found["trivial"]["price_mae_log"]
    assert next(iter(found["metrics"])) == "skill"
    mean = (small["sentiment_macro_f1"] + small["thing_macro_f1"]) / 3
    # A forecast that is half as wrong as a constant has a skill of a half.
    assert mean + 0.5 / 3 < small["skill"] < 1
    tested = {name: np.sum(matrix["counts"]) for name, matrix in found["confusion"].items()}
    assert set(tested) == {"sentiment", "thing"}
    assert sum(tested.values()) == found["rows"]["test"]


def test_the_contract_holds_each_task_to_its_limits(evaluation: Path):
    verdict = summary_in(evaluation)["verdict"]
    names = [clause["name"] for clause in verdict["clauses"]]
    each = [
        f"{task} {clause}"
        for task in sorted(TASKS)
        for clause in ("retention", "agreement", "flips", "control", "baseline")
    ]
    assert names == [*each, "latency", "size"]


def test_the_edge_model_answers_every_task_and_the_predictions_say_who_said_what(shop: Line, evaluation: Path):
    review, offer = EdgeModel(shop.edge / "small").answer(["the lamp n1 n2 is very awful", "a lamp n1 n2"])
    assert review["sentiment"]["label"] == "negative"
    assert offer["thing"]["label"] == "lamp"
    assert set(offer["price"]) == {"median", "mean", "low", "high"}
    table = pq.read_table(evaluation / "predictions.parquet")
    labels = table["thing_label"].to_pylist()
    told = [i for i, label in enumerate(labels) if label is not None]
    assert 0 < len(told) < len(labels)
    answers = table["thing_edge"].to_pylist()
    assert np.mean([labels[i] == answers[i] for i in told]) > 0.9


def test_the_report_draws_every_task(evaluation: Path, tmp_path: Path):
    summary = summary_in(evaluation) | {"version": None, "alias": None, "dry_run": None}
    figures = json.loads((evaluation / "figures.json").read_text())
    write_report(tmp_path / "report.html", summary, figures)
    page = (tmp_path / "report.html").read_text()
    for title in ("Confusion of sentiment", "Confusion of thing", "Forecasts of price", "Calibration of price"):
        assert title in page


def test_the_profile_has_each_tasks_answers_and_the_quality_of_all(shop: Line):
    profile = read_profile(shop.edge / "small")
    assert profile is not None
    answers = {name for name in profile.columns if name.startswith("answer: ")}
    assert answers == {
        *("answer: sentiment_label", "answer: sentiment_confidence", "answer: thing_label", "answer: thing_confidence"),
        *("answer: price_median", "answer: price_band", "answer: distance"),
    }
    assert profile.labels == ("price", "sentiment", "thing")
    assert profile.quality is not None
    assert profile.quality.metric == "skill"
