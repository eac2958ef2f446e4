"""The command: its table, its files, and exit codes that a CronJob can act on; and the report's page."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from tiny import fresh_mlflow, write_edge

from potstill import registry
from potstill.cli import main
from potstill.drift.check import check
from potstill.drift.compare import Finding
from potstill.drift.profile import learn, write_profile
from potstill.drift.report import advice, bars, render, rose
from potstill.store import folder_digest


def write_reviews(path: Path, seed: int, good: float, rows: int = 400) -> Path:
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(["good", "bad"], 5, p=[good, 1 - good])) for _ in range(rows)]
    pq.write_table(pa.table({"review": texts}), path)
    return path


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`reviews` has a profile, `older` has none; beside them rows."""
    folder = tmp_path_factory.mktemp("shelf")
    edge = write_edge(folder / "edge")
    for name, good in (("trained", 0.5), ("reference", 0.5), ("same", 0.5), ("worse", 0.1)):
        write_reviews(folder / f"{name}.parquet", len(name), good)
    trained, rows = (pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("trained", "reference"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri := fresh_mlflow(folder))
        # A client without an address may know another test's.
        experiment = MlflowClient(uri).create_experiment("reviews", artifact_location=(folder / "artifacts").as_uri())
        for model in ("older", "reviews"):
            if model == "reviews":
                write_profile(edge, learn(edge, trained, rows))
            registry.register_edge(
                model,
                edge,
                run_id=MlflowClient(uri).create_run(experiment).info.run_id,
                tags={"edge_digest": folder_digest(edge)},
                alias="champion",
                judged_against="none",
                why="first",
            )
    return folder


def drift(shelf: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["drift", *arguments, "--root", str(shelf)])


@pytest.fixture(autouse=True)
def by_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow is where the root says. What the command sets there goes with the test."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")


def test_rows_that_drifted_end_with_three_and_leave_what_was_asked_for(shelf: Path, tmp_path: Path):
    report, told = tmp_path / "drift.html", tmp_path / "drift.json"
    window = str(shelf / "worse.parquet")
    done = drift(shelf, "reviews", "--window", window, "--report", str(report), "--json", str(told))
    assert done.exit_code == 3, done.output
    assert re.search(r"answer: label +\d\.\d{3} +< 0\.001 +negative: \d+\.\d% → 9\d\.\d%", done.output)
    assert re.search("^drift: .*answer: label", done.output, re.MULTILINE)
    found = json.loads(told.read_text())
    assert (found["drift"], found["model"], found["rows"]) == (True, "reviews", 400)
    assert "What to do" in report.read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"drift.html", "drift.json"}


def test_rows_that_have_not_end_with_none(shelf: Path):
    done = drift(shelf, "reviews@champion", "--window", str(shelf / "same.parquet"))
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "no drift: 400 rows are like the training data")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["older", "--window", "same.parquet"], "older: this version was registered without a profile"),
        (["reviews", "--window", "none.parquet"], "none.parquet: no such file, folder or match"),
        (["review", "--window", "same.parquet"], "no such registered model; did you mean reviews"),
        (["reviews", "--window", "same.parquet", "--psi", "0.05"], "psi"),
        (["reviews", "--window", "same.parquet", "--json", "none/drift.json"], "can't write there: No such file"),
    ],
)
def test_what_can_not_be_told_ends_with_two_and_a_line(
    shelf: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(shelf)
    done = drift(shelf, *arguments)
    assert done.exit_code == 2, done.output
    assert words in done.output.splitlines()[-1].replace("PSI", "psi")


def test_an_older_version_is_compared_with_a_reference(shelf: Path):
    given = ["--reference", str(shelf / "*e.parquet")]
    assert drift(shelf, "older", "--window", str(shelf / "worse.parquet"), *given).exit_code == 3


def test_the_page_asks_for_nothing_from_outside_and_escapes_names(shelf: Path):
    result = check("<b>reviews</b>", shelf / "edge", str(shelf / "worse.parquet"), None, 0.2)
    page = render(result)
    assert "<b>reviews</b>" not in page
    assert "&lt;b&gt;reviews" in page
    assert not re.search(r"(src|href)=|https?://|@import|url\(", page)
    assert page.count('<div class="bar now"') == sum(len(bars(finding)) for finding in result.findings)
    assert len(advice(result)) == len({name.split(":")[0] for name in result.drifted})


def finding(test: str, reference: list[float], window: list[float]) -> Finding:
    names = tuple(f"bin {i}" for i in range(len(reference)))
    return Finding("x", 0.3, test, 1.0, 0.001, 0.01, True, names, tuple(reference), tuple(window))


def test_bars_show_the_names_that_differ_most_and_numbers_in_their_order():
    many = finding("chi_square", [0.05] * 20, [0.0] + [0.05] * 18 + [0.1])
    assert [name for name, *_ in bars(many)[:2]] == ["bin 0", "bin 19"]
    assert len(bars(many)) == 14
    numbers = finding("ks", [0.0, 0.2, 0.8, 0.0], [0.0, 0.9, 0.0, 0.1])
    assert [name for name, *_ in bars(numbers)] == ["bin 1", "bin 2", "bin 3"]
    assert rose(numbers) == "bin 1: 20.0% → 90.0%"
