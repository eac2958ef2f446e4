"""The same steps carry every kind of task: a click rate within groups, and demand with a time split."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from potstill.data.dataset import read_rows, read_schema
from potstill.edge import EdgeModel
from potstill.evaluate.candidates import Inputs
from potstill.evaluate.report import write_report
from potstill.recipe import Budget, Data, Evaluate, Features, Split, Task
from potstill.steps.evaluate import evaluate
from tests.conftest import BAD, GOOD, THINGS
from tests.steps.conftest import Line, run_line


def evaluated(line: Line, folder: Path) -> Path:
    inputs = Inputs(line.dataset, line.signals, line.teacher, line.control, line.student, line.edge, None)
    settings = Evaluate(resamples=100, latency_rows=10)
    digests = {f"{name}_digest": name for name in ("dataset", "teacher", "signals", "control", "student", "edge")}
    evaluate(inputs, Budget(), settings, {"recipe": "tiny", "model": "tiny", **digests}, "none", folder)
    return folder


def summary_in(folder: Path) -> dict:
    found: dict = json.loads((folder / "summary.json").read_text())
    return found


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Line:
    random = np.random.default_rng(0)
    rows = [
        {
            "test": f"t{test}",
            "text": f"the {random.choice(THINGS)} n{test % 40} is {word}",
            "shown": shown,
            "rate": rate,
        }
        for test in range(80)
        for word, rate, shown in (
            (random.choice(GOOD), 0.20, int(random.integers(200, 900))),
            (random.choice(BAD), 0.02, int(random.integers(200, 900))),
            ("very", 0.08, int(random.integers(200, 900))),
        )
    ]
    table = [row | {"clicks": int(random.binomial(row["shown"], row["rate"]))} for row in rows]
    root = tmp_path_factory.mktemp("clicks")
    pq.write_table(pa.Table.from_pylist(table), root / "rows.parquet")
    data = Data(source=str(root / "rows.parquet"), group="test", never=["clicks", "shown", "rate"])
    task = Task(kind="rate", label="clicks", of="shown", bid=0.05, decides="pair_order")
    # The words are few, so what differs is learnt from whole tests at a time.
    knobs = {"teacher": {"listwise": 0.5}, "distill": {"listwise": 0.5, "margin": 0.1, "temperature": 1.0}}
    return run_line(root, encoder, data, {"task": task}, **knobs)


@pytest.fixture(scope="module")
def clicks_evaluation(clicks: Line, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluated(clicks, tmp_path_factory.mktemp("evaluation") / "evaluation")


def test_a_rate_is_learnt_from_counts_within_tests(clicks: Line):
    schema = read_schema(clicks.dataset)
    rows = read_rows(clicks.dataset, "test", schema)
    assert rows.weight is not None
    assert rows.weight.min() >= 200
    assert 0.05 < schema.outcome.prior < 0.15
    edge = EdgeModel(clicks.edge / "float")
    good, bad = (answer["rate"] for answer in edge.answer(["the kettle n3 is great", "the kettle n3 is poor"]))
    assert good == pytest.approx(0.20, abs=0.06)
    assert bad == pytest.approx(0.02, abs=0.03)
    assert edge.answer(["the kettle n3 is great"])[0]["value"] == pytest.approx(good - 0.05)


def test_no_test_is_torn_between_splits(clicks: Line):
    schema = read_schema(clicks.dataset)
    splits = [set(read_rows(clicks.dataset, split, schema).group or []) for split in ("train", "validation", "test")]
    assert all(splits)
    assert not splits[0] & splits[1] | splits[0] & splits[2] | splits[1] & splits[2]


@pytest.mark.parametrize("kind", ["clicks", "demand"])
def test_the_report_of_every_kind_tells_its_metrics(kind: str, tmp_path: Path, request: pytest.FixtureRequest):
    folder = request.getfixturevalue(f"{kind}_evaluation")
    found, drawn = summary_in(folder), json.loads((folder / "figures.json").read_text())
    write_report(tmp_path / "report.html", found | {"version": "1", "alias": "champion", "dry_run": None}, drawn)
    page = (tmp_path / "report.html").read_text()
    assert all(meaning["title"] in page for meaning in found["metrics"].values())
    assert ("equal forecasts count half" in page) == (kind == "clicks")
    assert ("mean reorder point" in page) == (kind == "demand")


def test_variants_are_put_in_order(clicks_evaluation: Path):
    found = summary_in(clicks_evaluation)
    assert next(iter(found["metrics"])) == "pair_order"
    assert found["models"]["student"]["pair_order"] > 0.9
    assert found["trivial"]["pair_order"] == 0.5
    assert found["models"]["student"]["calibration"] == pytest.approx(1, abs=0.3)
    assert found["models"]["student"]["value_at_bid"] > found["trivial"]["value_at_bid"]
    assert found["confusion"] == {}
    assert list(found["roc"]) == ["task"]
    table = pq.read_table(clicks_evaluation / "predictions.parquet")
    assert {"group", "weight", "edge"} <= set(table.column_names)


@pytest.fixture(scope="module")
def demand(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Line:
    random = np.random.default_rng(1)
    usual = dict(zip(THINGS, (0.3, 2.0, 8.0, 25.0), strict=True))
    rows = [
        {
            "text": f"the {thing}",
            "week": f"2026-{1 + week // 4:02d}-{1 + 7 * (week % 4):02d}",
            "lag": int(random.poisson(rate)),
            "before": int(random.poisson(rate)),
            "units": int(random.poisson(rate)),
            "shop": f"s{shop}",
        }
        for week in range(24)
        for thing, rate in usual.items()
        for shop in range(5)
    ]
    root = tmp_path_factory.mktemp("demand")
    pq.write_table(pa.Table.from_pylist(rows), root / "rows.parquet")
    data = Data(
        source=str(root / "rows.parquet"),
        features=Features(numeric=["lag", "before"], categorical=["shop"], dates=["week"]),
        split=Split(time="week", test=0.25, validation=0.125),
    )
    task = Task(
        kind="value",
        label="units",
        scale="count",
        bins=32,
        service_level=0.9,
        reference=["lag", "before"],
        season="lag",
    )
    return run_line(root, encoder, data, {"task": task}, distill={"temperature": 1.0})


@pytest.fixture(scope="module")
def demand_evaluation(demand: Line, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluated(demand, tmp_path_factory.mktemp("evaluation") / "evaluation")


def test_demand_is_divided_by_time(demand: Line):
    weeks = [
        {row["week"] for row in read_rows(demand.dataset, split, read_schema(demand.dataset)).features}
        for split in ("train", "validation", "test")
    ]
    assert max(weeks[0]) < min(weeks[1])
    assert max(weeks[1]) < min(weeks[2])
    assert [len(found) for found in weeks] == [15, 3, 6]


def test_the_stock_lasts_as_often_as_asked_and_the_plain_forecast_is_beaten(demand: Line, demand_evaluation: Path):
    found = summary_in(demand_evaluation)
    assert next(iter(found["metrics"])) == "wape"
    student = found["models"]["student"]
    assert student["wape"] < found["trivial"]["wape"]
    assert student["mase"] == pytest.approx(student["mae"] / found["trivial"]["mae"] * found["trivial"]["mase"])
    train = read_rows(demand.dataset, "train", read_schema(demand.dataset))
    naive = np.mean([abs(value - row["lag"]) for value, row in zip(train.value, train.features, strict=True)])
    assert student["mase_seasonal"] == pytest.approx(student["mae"] / naive)
    # The mean of two weeks is nearer than one of them.
    assert found["plain"]["seasonal naive"]["pinball"] > found["trivial"]["pinball"] > student["pinball"]
    assert 0.8 < student["service"] <= 1
    answer = EdgeModel(demand.edge / "small").answer(
        [{"text": "the radio", "lag": 24, "before": 26, "shop": "s1", "week": "2026-06-20"}]
    )
    assert answer[0]["reorder_point"] > answer[0]["median"] > 10
    assert answer[0]["reorder_point"] == int(answer[0]["reorder_point"])


def test_a_teacher_that_gains_nothing_is_refused_in_words_and_in_json_that_all_can_read(tmp_path: Path, encoder: Path):
    random = np.random.default_rng(2)
    units = random.poisson(9, size=200)
    # The plain forecast knows the answer, so there is nothing to gain.
    columns = {"text": [f"the {random.choice(THINGS)}" for _ in units], "units": units, "lag": units}
    pq.write_table(pa.table(columns | {"row": range(200)}), tmp_path / "rows.parquet")
    data = Data(source=str(tmp_path / "rows.parquet"), features=Features(numeric=["lag"], categorical=["row"]))
    task = Task(kind="value", label="units", scale="count", bins=16, reference=["lag"])
    quick = {"epochs": 1, "learning_rate": 1e-4}
    line = run_line(tmp_path / "line", encoder, data, {"task": task}, teacher=quick, distill=quick)

    found = json.loads(
        (evaluated(line, tmp_path / "evaluation") / "summary.json").read_text(), parse_constant=pytest.fail
    )

    assert found["models"]["edge"]["gain_kept"] is None
    assert "mase" not in found["metrics"]
    assert "retention: the teacher gains nothing over the plain forecast" in found["verdict"]["reasons"]
    drawn = json.loads((tmp_path / "evaluation" / "figures.json").read_text())
    write_report(tmp_path / "report.html", found | {"version": None, "alias": None, "dry_run": None}, drawn)
    assert "nan" not in (tmp_path / "report.html").read_text().split("<svg")[0].lower()
