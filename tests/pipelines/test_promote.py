"""The promoting pipeline: what is kept compiled, and what a run of it moves."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import local
from tiny import MODEL, Bench, fresh_mlflow

from potstill.pipelines import promote
from potstill.pipelines.package import compile_pipeline
from potstill.pipelines.pods import load_cluster
from potstill.promotion import history


def test_the_kept_package_is_what_the_pipeline_compiles_to(tmp_path: Path):
    compile_pipeline(promote.build(load_cluster()), tmp_path / "fresh.yaml", promote.HEADING)
    assert (tmp_path / "fresh.yaml").read_bytes() == promote.PACKAGE.read_bytes(), "run make compile"


def test_it_needs_no_torch_has_described_fields_and_is_never_cached():
    spec: dict[str, Any] = next(yaml.safe_load_all(promote.PACKAGE.read_text()))
    images = {executor["container"]["image"] for executor in spec["deploymentSpec"]["executors"].values()}
    assert all("core" in image for image in images)
    fields = spec["root"]["inputDefinitions"]["parameters"]
    assert {name: field["parameterType"] for name, field in fields.items()} == {"model": "STRING", "reason": "STRING"}
    assert all(field["description"] for field in fields.values())
    (task,) = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"].values()
    assert not task["cachingOptions"].get("enableCache")


def test_a_run_moves_what_was_approved_and_fails_where_the_approval_must_not_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    uri = fresh_mlflow(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    bench = Bench(tmp_path, uri)
    bench.bare(3)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "runs"), enable_caching=False)
    monkeypatch.setenv("POTSTILL_RUN_ID", "first")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bench.tag(1, approved="Maria")
        promote.build()(model=MODEL, reason="ticket 7")
        (move,) = history(MODEL)
        assert (move.to, move.who, move.kind) == ("1", "approved in MLflow by Maria", "approval")
        assert move.why.startswith("ticket 7 (moved by ")
        bench.alias("approved", 3)
        monkeypatch.setenv("POTSTILL_RUN_ID", "second")
        with pytest.raises(RuntimeError, match="FAILURE"):
            promote.build()(model=MODEL)
    assert bench.aliases() == {"champion": "1", "approved": "3"}
    experiment = bench.client.get_experiment_by_name(promote.NAME)
    runs = bench.client.search_runs([experiment.experiment_id], "tags.`potstill.step` = 'pipeline'")
    assert {run.info.run_name: run.info.status for run in runs} == {"first": "FINISHED", "second": "FAILED"}
    verdicts = {run.info.run_name: run.data.tags["verdict"] for run in runs}
    assert verdicts["first"] == "reviews: champion is now version 1 (was none), approved in MLflow by Maria"
