"""One parent run a pipeline run, a nested run a step, and lines that the local runner can follow."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from tiny import fresh_mlflow

from potstill import tracking
from potstill.errors import UserError

RECIPE = "reviews"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    uri = fresh_mlflow(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("POTSTILL_RUN_ID", "run-1")
    tracking.open_run(RECIPE, {"name": RECIPE}, tmp_path / "artifacts")
    return MlflowClient(uri)


def runs(client: MlflowClient) -> dict[str, Run]:
    """The experiment's runs by name."""
    experiment = client.get_experiment_by_name(RECIPE)
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def artifacts(client: MlflowClient, run_id: str) -> set[str]:
    return {entry.path for entry in client.list_artifacts(run_id)}


def logged(client: MlflowClient, run_id: str, name: str, folder: Path) -> Any:
    return json.loads(Path(client.download_artifacts(run_id, name, str(folder))).read_text(encoding="utf-8"))


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("::potstill ")) for line in text.splitlines() if line.startswith("::potstill")]


def test_steps_of_one_pipeline_run_are_nested_under_one_parent(client: MlflowClient):
    for name in ("ingest", "teach"):
        with tracking.step(name, RECIPE, {}):
            pass
    found = runs(client)
    assert set(found) == {"run-1", "ingest", "teach"}
    parent = found["run-1"].info.run_id
    assert [found[name].data.tags["mlflow.parentRunId"] for name in ("ingest", "teach")] == [parent, parent]
    assert all(run.data.tags["kfp.run_id"] == "run-1" for run in found.values())


def test_another_pipeline_run_has_its_own_parent(client: MlflowClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POTSTILL_RUN_ID", "run-2")
    with tracking.step("ingest", RECIPE, {}):
        pass
    found = runs(client)
    assert found["ingest"].data.tags["mlflow.parentRunId"] == found["run-2"].info.run_id != found["run-1"].info.run_id


def test_a_run_id_in_the_environment_does_not_catch_the_step(client: MlflowClient, monkeypatch: pytest.MonkeyPatch):
    stray = client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", stray)
    with tracking.step("teach", RECIPE, {}) as log:
        log.metrics({"loss": 1.0})
    assert log.run_id != stray
    assert client.get_run(stray).data.metrics == {}


def test_a_nested_run_that_kfp_opened_for_the_step_is_adopted(client: MlflowClient, monkeypatch: pytest.MonkeyPatch):
    above = client.create_run("0").info.run_id
    opened = client.create_run("0", tags={"mlflow.parentRunId": above}).info.run_id
    monkeypatch.setenv("POTSTILL_RUN_ID", "run-3")
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    with tracking.step("teach", RECIPE, {"teacher_digest": "t"}) as log:
        log.metrics({"loss": 1.0})
    tracking.close(RECIPE, "SUCCEEDED")
    assert log.run_id == opened
    assert log.lineage == {"kfp.run_id": "run-3", "parent_run": above}
    assert client.get_run(opened).data.metrics["loss"] == 1.0
    assert client.get_run(above).data.tags["teacher_digest"] == "t"
    assert client.get_run(above).info.status == "FINISHED"
    assert "run-3" not in runs(client)


def test_the_recipe_lies_whole_with_the_parent_in_the_given_folder(client: MlflowClient, tmp_path: Path):
    parent = runs(client)["run-1"].info
    assert logged(client, parent.run_id, "recipe.json", tmp_path) == {"name": RECIPE}
    assert parent.artifact_uri.startswith((tmp_path / "artifacts").as_uri())


def test_a_step_tells_its_start_its_lines_and_its_end(client: MlflowClient, capsys: pytest.CaptureFixture[str]):
    with tracking.step("teach", RECIPE, {}) as log:
        print("epoch 1")
        print("almost", end="")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '::potstill {"event": "start", "step": "teach"}'
    assert lines[1:3] == ["teach │ epoch 1", "teach │ almost"]
    (end,) = events(lines[3])
    assert (end["event"], end["step"]) == ("end", "teach")
    run = client.get_run(log.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["wall_s"] == end["wall_s"] < 60


def test_bad_input_becomes_one_event_a_failed_run_and_exit_code_two(
    client: MlflowClient, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as stop, tracking.step("ingest", RECIPE, {}):
        raise UserError("rows.csv: no column 'text'")
    assert stop.value.code == 2
    start, error = events(capsys.readouterr().out)
    assert start["event"] == "start"
    assert error == {"event": "error", "step": "ingest", "message": "rows.csv: no column 'text'", "expected": True}
    assert runs(client)["ingest"].info.status == "FAILED"


def test_any_other_error_fails_the_run_and_is_raised(client: MlflowClient, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(ZeroDivisionError), tracking.step("teach", RECIPE, {}):
        1 / 0  # noqa: B018
    assert events(capsys.readouterr().out)[-1]["expected"] is False
    assert runs(client)["teach"].info.status == "FAILED"


def test_a_tracker_that_fails_after_the_step_does_not_hide_what_went_wrong(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
):
    def gone(*_: Any) -> None:
        raise MlflowException("the server is gone")

    monkeypatch.setattr(MlflowClient, "set_terminated", gone)
    with pytest.raises(ZeroDivisionError), tracking.step("teach", RECIPE, {}):
        1 / 0  # noqa: B018


def test_parameters_keep_their_types_as_json(client: MlflowClient):
    with tracking.step("teach", RECIPE, {}) as log:
        log.params({"encoder": "bert", "epochs": 3, "keep": [0, 5], "by": None})
    run = client.get_run(log.run_id)
    assert run.data.params == {"encoder": "bert", "epochs": "3", "keep": "[0, 5]", "by": "null"}
    assert artifacts(client, log.run_id) == set()


def test_a_long_parameter_is_cut_and_kept_whole_as_an_artifact(client: MlflowClient, tmp_path: Path):
    values = {"source": "s3://shop/" + "x" * 7000, "epochs": 3}
    with tracking.step("ingest", RECIPE, {}) as log:
        log.params(values)
    assert client.get_run(log.run_id).data.params["source"] == values["source"][:6000]
    assert logged(client, log.run_id, "params.json", tmp_path) == values


def test_an_epochs_record_becomes_metrics_at_that_epoch(client: MlflowClient):
    with tracking.step("distill", RECIPE, {}) as log:
        log.epoch({"epoch": 1, "loss": 0.75})
        log.epoch({"epoch": 2, "loss": 0.5})
    history = client.get_metric_history(log.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.75), (2, 0.5)]
    assert "epoch" not in client.get_run(log.run_id).data.metrics


def test_digests_stand_on_the_step_and_on_the_parent(client: MlflowClient):
    with tracking.step("ingest", RECIPE, {"code_version": "0.1.0+abc"}) as log:
        log.tags({"dataset_digest": "d", "note": "n" * 9000})
    for run in (runs(client)["run-1"], client.get_run(log.run_id)):
        assert run.data.tags["code_version"] == "0.1.0+abc"
        assert run.data.tags["dataset_digest"] == "d"
        assert run.data.tags["note"] == "n" * 8000


def test_a_version_can_be_traced_to_its_pipeline_run_and_parent(client: MlflowClient):
    with tracking.step("register", RECIPE, {}) as log:
        assert log.lineage == {"kfp.run_id": "run-1", "parent_run": runs(client)["run-1"].info.run_id}


def test_files_and_folders_are_kept_with_the_step(client: MlflowClient, tmp_path: Path):
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    (tmp_path / "verdict.json").write_text("{}")
    with tracking.step("evaluate", RECIPE, {}) as log:
        log.artifact(tmp_path / "verdict.json")
        log.artifact(folder)
    assert artifacts(client, log.run_id) == {"verdict.json", "a.txt"}


def test_the_outcome_stands_on_the_parents_page(client: MlflowClient, tmp_path: Path):
    (tmp_path / "artifact").write_text("<html>")
    clauses = [{"passed": True, "words": "keeps enough"}, {"passed": False, "words": "too slow"}]
    verdict = {"accepted": False, "reasons": ["too slow", "too large"], "clauses": clauses}
    with tracking.step("register", RECIPE, {}) as log:
        log.conclude(verdict, {"edge_macro_f1": 0.9})
        log.report(tmp_path / "artifact", "report.html")
    parent = runs(client)["run-1"]
    assert parent.data.tags["verdict"] == "refused"
    assert parent.data.tags["verdict.reasons"] == "too slow; too large"
    assert parent.data.tags["mlflow.note.content"] == "**refused**\n\n- ✓ keeps enough\n- ✗ too slow"
    assert parent.data.metrics["edge_macro_f1"] == 0.9
    assert artifacts(client, parent.info.run_id) == {"recipe.json", "verdict.json", "report.html"}


@pytest.mark.parametrize(
    ("state", "status"),
    [("SUCCEEDED", "FINISHED"), ("COMPLETE", "FINISHED"), ("FAILED", "FAILED"), ("CANCELLED", "FAILED")],
)
def test_closing_gives_the_parent_the_pipelines_end(client: MlflowClient, state: str, status: str):
    tracking.close(RECIPE, state)
    parent = runs(client)["run-1"]
    assert (parent.info.status, parent.data.tags["state"], parent.data.tags["verdict"]) == (status, state, "none")


def test_closing_keeps_the_verdict_of_a_run_that_was_refused(client: MlflowClient):
    with tracking.step("register", RECIPE, {}) as log:
        log.conclude({"accepted": False, "reasons": ["too slow"], "clauses": []}, {})
    tracking.close(RECIPE, "SUCCEEDED")
    parent = runs(client)["run-1"]
    assert (parent.info.status, parent.data.tags["verdict"]) == ("FINISHED", "refused")


def test_a_deleted_experiment_is_told_with_the_way_back(client: MlflowClient, capsys: pytest.CaptureFixture[str]):
    client.delete_experiment(client.get_experiment_by_name(RECIPE).experiment_id)
    with pytest.raises(SystemExit), tracking.step("ingest", RECIPE, {}):
        pass
    assert (
        "was deleted; bring it back with `mlflow experiments restore" in events(capsys.readouterr().out)[-1]["message"]
    )


def test_a_server_that_does_not_answer_is_told_without_credentials(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"MLflow at http://127\.0\.0\.1:9 does not answer: .*refused") as error:
        tracking.client()
    assert "secret" not in str(error.value)
    assert "ann" not in str(error.value)
    assert "\n" not in str(error.value)


def test_the_first_question_to_a_server_is_given_up_sooner_than_mlflow_does(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    with tracking.soon():
        assert tracking.os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "3"
        assert tracking.os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in tracking.os.environ


@pytest.mark.parametrize(
    ("uri", "words"), [("", "MLFLOW_TRACKING_URI is not set"), ("ftp://shop/x", "MLflow at ftp://shop/x does not")]
)
def test_an_address_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch, uri: str, words: str):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=words):
        tracking.client()


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://mlflow:5000", "http://mlflow:5000"),
        ("https://ann:pa/ss@word@mlflow/x", "https://mlflow/x"),
        ("postgresql://host/db?user=ann&password=secret", "postgresql://host/db"),
        ("sqlite:////srv/mlflow.db", "sqlite:////srv/mlflow.db"),
    ],
)
def test_an_address_is_shown_without_credentials(uri: str, shown: str):
    assert tracking.public(uri) == shown
