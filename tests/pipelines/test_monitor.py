"""The watching pipeline: what is kept compiled, and what a run of it leaves where rows have drifted."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from kfp import local
from mlflow import MlflowClient
from tiny import fresh_mlflow, write_edge

from potstill import registry
from potstill.drift.profile import learn, write_profile
from potstill.images import read_lock
from potstill.pipelines import monitor
from potstill.pipelines.package import compile_pipeline
from potstill.pipelines.pods import load_cluster
from potstill.store import folder_digest

KEPT = Path("pipelines/compiled/monitor.yaml")


def test_the_kept_package_is_what_the_pipeline_compiles_to(tmp_path: Path):
    heading = "The pipeline that watches for drift, as make compile writes it"
    compile_pipeline(monitor.build(load_cluster()), tmp_path / "fresh.yaml", heading)
    assert (tmp_path / "fresh.yaml").read_bytes() == KEPT.read_bytes(), "run make compile"


def test_it_needs_no_torch_installs_nothing_and_is_never_cached():
    spec: dict[str, Any] = next(yaml.safe_load_all(KEPT.read_text()))
    for executor in spec["deploymentSpec"]["executors"].values():
        assert executor["container"]["image"] == read_lock()["core"]
        assert "pip install" not in " ".join(executor["container"]["command"])
    tasks = {
        n: task for part in spec["components"].values() for n, task in part.get("dag", {}).get("tasks", {}).items()
    }
    assert [tasks[name]["cachingOptions"] for name in ("drift", "alarm")] == [{}, {}]
    assert all(parameter["description"] for parameter in spec["root"]["inputDefinitions"]["parameters"].values())


def reviews(seed: int, good: float) -> list[dict[str, str]]:
    random = np.random.default_rng(seed)
    return [{"review": " ".join(random.choice(["good", "bad"], 5, p=[good, 1 - good]))} for _ in range(400)]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registered model, and two windows: one like its training data, one not."""
    uri = fresh_mlflow(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    edge = write_edge(tmp_path / "edge")
    write_profile(edge, learn(edge, reviews(1, 0.5), reviews(2, 0.5)))
    experiment = MlflowClient(uri).create_experiment("reviews", artifact_location=(tmp_path / "artifacts").as_uri())
    registry.register_edge(
        "reviews",
        edge,
        run_id=MlflowClient(uri).create_run(experiment).info.run_id,
        tags={"edge_digest": folder_digest(edge)},
        alias="champion",
        judged_against="none",
        why="first",
    )
    # MLflow's runs of the pipeline keep their files here too.
    MlflowClient(uri).create_experiment(monitor.NAME, artifact_location=(tmp_path / "artifacts").as_uri())
    for name, good in (("same", 0.5), ("worse", 0.1)):
        pq.write_table(pa.Table.from_pylist(reviews(3, good)), tmp_path / f"{name}.parquet")
    return tmp_path


def test_a_run_fails_where_rows_have_drifted_and_keeps_its_report(root: Path, monkeypatch: pytest.MonkeyPatch):
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root / "runs"), enable_caching=False)
    client = MlflowClient()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monkeypatch.setenv("POTSTILL_RUN_ID", "quiet")
        monitor.build()(model="reviews", window=str(root / "same.parquet"))
        monkeypatch.setenv("POTSTILL_RUN_ID", "loud")
        with pytest.raises(RuntimeError, match="FAILURE"):
            monitor.build()(model="reviews", window=str(root / "worse.parquet"))
    experiment = client.get_experiment_by_name(monitor.NAME)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`potstill.step` = 'pipeline'")
    told = {run.info.run_name: run for run in runs}
    assert [told[name].info.status for name in ("quiet", "loud")] == ["FINISHED", "FAILED"]
    assert [told[name].data.tags["verdict"] for name in ("quiet", "loud")] == ["no drift", "drift"]
    assert {file.path for file in client.list_artifacts(told["loud"].info.run_id)} == {"drift.html"}
    results = [json.loads(path.read_text()) for path in (root / "runs").rglob("result")]
    assert sorted(result["drift"] for result in results) == [False, True]
