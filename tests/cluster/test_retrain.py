"""`potstill drift --retrain`: a drift starts one run on the backend, and nothing else does."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from asking import Backend
from click.testing import CliRunner, Result
from tiny import MODEL, Bench, fresh_mlflow, write_edge

from potstill.cli import main
from potstill.drift.profile import learn, write_profile


def write_reviews(path: Path, seed: int, good: float) -> Path:
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(["good", "bad"], 5, p=[good, 1 - good])) for _ in range(400)]
    pq.write_table(pa.table({"review": texts}), path)
    return path


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A champion with a profile; beside it rows like its own, and others."""
    folder = tmp_path_factory.mktemp("shelf")
    edge = write_edge(folder / "edge")
    trained, rows = (pq.read_table(write_reviews(folder / "rows", seed, 0.5)).to_pylist() for seed in (1, 2))
    write_profile(edge, learn(edge, trained, rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", fresh_mlflow(folder))
        Bench(folder, f"sqlite:///{folder / 'mlflow.db'}").register(edge, "champion")
    write_reviews(folder / "same.parquet", 3, 0.5)
    write_reviews(folder / "worse.parquet", 4, 0.1)
    return folder


@pytest.fixture(autouse=True)
def by_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")


def drift(shelf: Path, window: str, *more: str) -> Result:
    command = ["drift", MODEL, "--window", str(shelf / f"{window}.parquet"), "--root", str(shelf)]
    return CliRunner().invoke(main, [*command, *more])


def test_a_drift_starts_one_run_of_the_recipe_and_prints_its_link(backend: Backend, recipe: Path, shelf: Path):
    rows = "s3://shop/last-year/*.parquet"
    settings = ["--set", f"data.source={rows}", "--set", "distill.alpha=0.25"]
    done = drift(shelf, "worse", "--retrain", str(recipe), *settings, "--host", backend.host)
    assert done.exit_code == 3, done.output
    (run,) = backend.things("runs")
    given = run["runtime_config"]["parameters"]
    assert (given["data_source"], given["alpha"]) == (rows, 0.25)
    (version,) = backend.things("pipeline_versions")
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert [place["display_name"] for place in backend.things("experiments")] == ["reviews"]
    link = f"{backend.host}/#/runs/details/{run['run_id']}"
    assert done.output.endswith(f"\n{run['display_name']}: started\n  {link}\n")
    assert re.search(r"^drift: .*answer: label", done.output, re.MULTILINE)


def test_without_drift_nothing_is_asked_of_the_backend(backend: Backend, recipe: Path, shelf: Path):
    done = drift(shelf, "same", "--retrain", str(recipe), "--host", backend.host)
    assert done.exit_code == 0, done.output
    assert backend.control("log") == []


def test_a_drift_alone_starts_nothing(backend: Backend, shelf: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", backend.host)
    assert drift(shelf, "worse").exit_code == 3
    assert backend.control("log") == []


@pytest.mark.parametrize(("state", "runs"), [("RUNNING", 1), ("FAILED", 2)])
def test_runs_do_not_pile_up(backend: Backend, recipe: Path, shelf: Path, state: str, runs: int):
    # Whoever started the first: here a person, in an experiment of her own.
    assert backend("submit", str(recipe), "--experiment", "by-hand").exit_code == 0
    (first,) = backend.things("runs")
    backend.control(f"run/{first['run_id']}", state=state)
    done = drift(shelf, "worse", "--retrain", str(recipe), "--host", backend.host)
    assert done.exit_code == 3, done.output
    assert len(backend.things("runs")) == runs
    told = f"{first['display_name']}: goes on already; no other was started\n  {backend.host}/#/runs/details/"
    assert (told in done.output) == (runs == 1)


def test_another_recipes_run_is_no_reason_to_wait(backend: Backend, recipe: Path, shelf: Path):
    other = recipe.with_name("prices.yaml")
    other.write_text(recipe.read_text().replace("name: reviews", "name: prices"))
    assert backend("submit", str(other)).exit_code == 0
    assert drift(shelf, "worse", "--retrain", str(recipe), "--host", backend.host).exit_code == 3
    assert len(backend.things("runs")) == 2


def test_a_backend_that_refuses_is_told_with_a_code_of_its_own(backend: Backend, recipe: Path, shelf: Path):
    backend.fail("POST", "/runs$", status=403, body='{"message": "no such right"}')
    done = drift(shelf, "worse", "--retrain", str(recipe), "--host", backend.host)
    assert done.exit_code == 4, done.output
    last = done.output.strip().splitlines()[-1]
    assert last.startswith("potstill: drift, but no run of reviews was started: ")
    assert "not allowed (403): no such right" in last
    assert backend.things("runs") == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--retrain", "RECIPE"], "--retrain: starts a run on a backend; say on which by --host"),
        (["--retrain", "RECIPE", "--host", "https://name:word@shop.example"], "--host: write it as"),
        (["--retrain", "none.yaml", "--host", "HOST"], "none.yaml"),
        (
            ["--set", "distill.alpha=0.25", "--host", "HOST"],
            "--set: replaces settings of the recipe that --retrain names",
        ),
    ],
)
def test_a_mistake_is_told_before_any_drift(backend: Backend, recipe: Path, shelf: Path, more: list[str], words: str):
    given = [{"RECIPE": str(recipe), "HOST": backend.host}.get(word, word) for word in more]
    done = drift(shelf, "same", *given)
    assert done.exit_code == 2, done.output
    assert words in done.output
    assert backend.control("log") == []
