"""The whole pipeline on a tiny shop: kfp's own local runner, real steps, real MLflow."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from potstill.learn.model import load_encoder, load_model
from tests.pipelines.conftest import STEPS, Shop, ran

TRAINING = ("teach", "control", "distill")


@pytest.fixture(scope="module")
def first(shop: Shop) -> dict[str, Any]:
    return shop.run()


def test_first_run_registers_a_champion(first: dict[str, Any]):
    assert first["verdict"]["accepted"]
    assert (first["version"], first["alias"]) == ("1", "champion")
    assert set(first["steps"]) == STEPS
    assert ran(first) == STEPS


def test_summary_holds_every_figure_of_every_model(first: dict[str, Any]):
    assert set(first["models"]) == {"baseline", "control", "teacher", "student", "edge"}
    for figures in first["models"].values():
        assert 0 <= figures["accuracy_low"] <= figures["accuracy"] <= figures["accuracy_high"] <= 1
        assert 0 <= figures["macro_f1_low"] <= figures["macro_f1"] <= figures["macro_f1_high"] <= 1
        assert 0 < figures["latency_p50_ms"] <= figures["latency_p95_ms"]
        assert figures["size_bytes"] > 0
    assert first["models"]["teacher"]["retention"] == first["models"]["teacher"]["agreement"] == 1
    assert first["models"]["teacher"]["accuracy"] > 0.9
    assert first["models"]["edge"]["accuracy"] > 0.9
    assert sum(first["rows"].values()) == 240


def test_terminal_shows_progress_the_table_the_verdict_and_what_to_type_next(first: dict[str, Any]):
    out = first["stdout"]
    for words in (
        "epoch 1/6",
        "240 rows",
        "edge model",
        "✓ retention",
        "tiny version 1, champion",
        "potstill predict tiny",
    ):
        assert words in out, words


def test_report_stands_alone(shop: Shop, first: dict[str, Any]):
    page = (shop.root / "latest" / "report.html").read_text()
    assert page.count("<svg") == 5
    assert "Accepted: version 1 of tiny, champion" in page
    assert 'src="http' not in page
    assert "<link" not in page


def artifacts_of(shop: Shop, step: str) -> dict[str, Any]:
    """What the step told kfp of its artifacts, each read as the cluster's launcher reads it."""
    told = (shop.root / "latest" / step / "executor_output.json").read_text()
    found = json_format.Parse(told, pipeline_spec_pb2.ExecutorOutput()).artifacts
    return {name: json_format.MessageToDict(entry.artifacts[0].metadata) for name, entry in found.items()}


def test_the_pipelines_page_gets_figures_a_matrix_and_a_curve(shop: Shop, first: dict[str, Any]):
    found, edge = artifacts_of(shop, "evaluate"), first["models"]["edge"]
    assert found["metrics"] == {
        "verdict": "accepted",
        **{f"{model}_macro_f1": figures["macro_f1"] for model, figures in first["models"].items()},
        **{name: edge[name] for name in ("retention", "agreement", "latency_p95_ms")},
        "size_mb": edge["size_bytes"] / 1e6,
    }
    drawn, matrix = found["classification"], first["confusion"]["sentiment"]
    assert drawn["task"] == "sentiment"
    assert [spec["displayName"] for spec in drawn["confusionMatrix"]["annotationSpecs"]] == matrix["names"]
    assert [line["row"] for line in drawn["confusionMatrix"]["rows"]] == matrix["counts"]
    points = [(p["falsePositiveRate"], p["recall"], p["confidenceThreshold"]) for p in drawn["confidenceMetrics"]]
    assert points == list(zip(*first["roc"]["sentiment"].values(), strict=True))
    assert len(drawn["confidenceMetrics"]) > 2


def test_the_pipelines_page_gets_an_overview(shop: Shop, first: dict[str, Any]):
    page = (shop.root / "latest" / "register" / "overview").read_text()
    assert "**Accepted: version 1 of tiny, champion**" in page
    assert "| edge model |" in page


def test_mlflow_has_one_parent_and_a_nested_run_a_step(shop: Shop, first: dict[str, Any]):
    client = shop.client()
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    parent = next(run for run in parents if run.data.tags["kfp.run_id"].startswith("tiny-"))
    nested = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert parent.info.status == "FINISHED"
    assert (parent.data.tags["verdict"], parent.data.tags["state"]) == ("accepted", "SUCCEEDED")
    assert parent.data.tags["dataset_digest"] == first["dataset_digest"]
    assert parent.data.metrics["edge_macro_f1"] == first["models"]["edge"]["macro_f1"]
    assert {run.data.tags["potstill.step"] for run in nested} >= STEPS
    assert {run.info.status for run in nested} == {"FINISHED"}
    teach = next(run for run in nested if run.data.tags["potstill.step"] == "teach")
    assert teach.data.params["epochs"] == "6"
    epochs = client.get_metric_history(teach.info.run_id, "validation_macro_f1")
    assert len(epochs) >= len(first["curves"]["teacher"])


def test_one_walks_from_a_version_back_to_its_data(shop: Shop, first: dict[str, Any]):
    client = shop.client()
    version = client.get_model_version_by_alias("tiny", "champion")
    assert version.tags["dataset_digest"] == first["dataset_digest"]
    run = client.get_run(version.tags["parent_run"])
    ingest = client.search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}' and tags.`potstill.step` = 'ingest'"
    )
    assert ingest[0].data.params["source"].endswith("reviews.parquet")


def test_an_unchanged_rerun_trains_nothing_and_registers_nothing_new(shop: Shop, first: dict[str, Any]):
    again = shop.run()
    assert ran(again) == {"doctor", "ingest", "champion", "register"}
    assert (again["version"], again["alias"]) == ("1", "champion")
    assert again["models"] == first["models"]


def test_a_changed_temperature_reruns_from_distill_on_and_nothing_before(shop: Shop, first: dict[str, Any]):
    changed = shop.run("distill.temperature=5")
    assert ran(changed) == {"doctor", "ingest", "distill", "compress", "champion", "evaluate", "register"}
    assert changed["version"] == "2"
    assert "champion" in changed["models"]
    better = changed["verdict"]["champion"]["better"]
    assert changed["alias"] == ("champion" if better else "challenger")


def test_a_refusal_is_a_successful_run_with_a_written_reason(shop: Shop, first: dict[str, Any]):
    refused = shop.run("budget.size_mb=0.001")
    assert not refused["verdict"]["accepted"]
    assert refused["version"] is None
    assert refused["verdict"]["reasons"][0].startswith("size: weighs")
    assert "refused" in refused["stdout"]
    assert not set(TRAINING) & ran(refused)


@pytest.mark.parametrize(
    ("seed", "step", "section"), [(11, "teach", "teacher"), (12, "distill", "distill"), (13, "control", "distill")]
)
def test_a_killed_training_goes_on_where_it_was(shop: Shop, first: dict[str, Any], seed: int, step: str, section: str):
    # Long enough to be caught in the act; other seeds, so that nothing is cached.
    longer = yaml.safe_load(shop.recipe.read_text())[section] | {"epochs": 12, "patience": 12, "seed": seed}
    setting = f"{section}={json.dumps(longer)}"
    shop.stopped_at(f"{step} +epoch 4/", "--set", setting)
    said = shop.stopped_at(f"{step} +going on", "--set", setting)
    assert "going on after epoch 3, which an earlier run reached" in said


def test_an_adapted_encoder_is_where_teacher_and_control_start(shop: Shop, first: dict[str, Any]):
    still = [
        "adapt={epochs: 1, batch_size: 16, learning_rate: 1e-2}",
        "teacher.learning_rate=1e-12",
        "distill.learning_rate=1e-12",
        "distill.weight_decay=0",
        "distill.epochs=1",
    ]
    adapted = shop.run(*still, "budget.size_mb=0.001")
    assert set(adapted["steps"]) == STEPS | {"adapt"}
    assert {"adapt", *TRAINING} <= ran(adapted)
    run = (shop.root / "latest").resolve()
    encoder = load_encoder(str(run / "adapt" / "adapted"))[0].state_dict()
    for made, layer in (("teach/teacher", 3), ("control/student", 1)):
        own = load_model(run / made)[0].encoder.state_dict()[f"encoder.layer.{layer}.output.dense.weight"]
        torch.testing.assert_close(own, encoder["encoder.layer.3.output.dense.weight"], atol=1e-6, rtol=0)
    again = shop.run(*still, "budget.size_mb=0.002")
    assert not {"adapt", *TRAINING} & ran(again)


def test_a_cascade_is_distilled_calibrated_judged_and_served_as_one_version(shop: Shop, first: dict[str, Any]):
    cascade = "cascade={first: {static: {width: 8}}, learning_rate: 0.1, most_lost: 0.05}"
    summary = shop.run(cascade, "register.model=two")
    assert ran(summary) >= {"distill-first", "compress", "evaluate", "register"}
    assert summary["steps"]["distill"]["cached"]
    assert (summary["verdict"]["accepted"], summary["version"]) == (True, "1")
    again = shop.run(cascade, "register.model=two")
    assert ran(again) <= {"doctor", "ingest", "champion", "register", "close"}
    assert again["steps"]["distill-first"]["cached"]
    tags = shop.client().get_model_version("two", "1").tags
    assert tags["first_digest"] == summary["first_digest"] != summary["student_digest"]
    both, sizes = summary["cascade"], [found["size_bytes"] for found in summary["cascade"]["models"].values()]
    assert 0 <= both["escalated"] < 1
    assert both["models"]["cascade"]["figure"] == pytest.approx(summary["models"]["edge"]["macro_f1"])
    assert sizes[2] == sizes[0] + sizes[1] == summary["models"]["edge"]["size_bytes"]
    assert "Cascade" in (shop.root / "latest" / "report.html").read_text()
    done = shop.potstill("predict", "two", stdin="the lamp is very good\n")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] == "positive"


def test_predict_models_promote_and_rollback(shop: Shop, first: dict[str, Any]):
    stdin = 'the lamp n1 n2 is very broken\n{"text": "the chair n3 n1 is very lovely", "id": 7}\n'
    answers = [json.loads(line) for line in shop.potstill("predict", "tiny/1", stdin=stdin).stdout.splitlines()]
    assert [answer["label"] for answer in answers] == ["negative", "positive"]
    assert answers[1]["id"] == 7
    assert sum(answers[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert "champion" in shop.potstill("models", "tiny").stdout


def test_a_dry_run_registers_nothing_and_says_so_in_capitals(shop: Shop, first: dict[str, Any]):
    dry = shop.run("register.dry_run=true", "register.model=dry")
    words = "DRY RUN, NOTHING IS REGISTERED OR MOVED: THIS MODEL WOULD HAVE BECOME CHAMPION OF dry"
    assert (dry["dry_run"], dry["version"], dry["alias"]) == (words, None, None)
    assert words in dry["stdout"]
    assert words in (shop.root / "latest" / "report.html").read_text()
    assert "dry" not in [entry.name for entry in shop.client().search_registered_models()]


def test_under_manual_promotion_a_version_waits_for_an_approval_in_mlflow(shop: Shop, first: dict[str, Any]):
    waiting = shop.run("register.promote=manual", "register.model=slow")
    assert (waiting["version"], waiting["alias"]) == ("1", "challenger")
    assert "slow version 1, challenger; it waits for a person's approval in MLflow" in waiting["stdout"]
    shop.client().set_registered_model_alias("slow", "approved", "1")
    done = shop.potstill("promote", "slow", "--approved")
    assert done.stdout == "slow: champion is now version 1 (was none), approved in MLflow\n", done.stderr
    run = shop.client().get_model_version("slow", "1").tags["kfp.run_id"]
    assert shop.potstill("history", "slow").stdout.splitlines()[-1].endswith(run)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.source=/no/such/file.parquet", "/no/such/file.parquet"),
        ("teacher.encoder=/no/such/folder", "teacher.encoder: /no/such/folder: no such folder"),
        ("data.text=txt", "txt"),
        ("distill.alpha=2", "--set distill.alpha"),
        ("student.layers=9", "student.layers: 9: the encoder has 4 layers"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(shop: Shop, first: dict[str, Any], override: str, message: str):
    done = shop.potstill("run", str(shop.recipe), "--set", override)
    assert done.returncode == 2, done.stdout + done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("potstill: ")
    assert message in line
    assert "Traceback" not in done.stdout + done.stderr


def test_a_step_that_fails_tells_why_and_closes_the_tracking_run_as_failed(
    shop: Shop, first: dict[str, Any], tmp_path: Path
):
    lonely = tmp_path / "lonely.csv"
    lonely.write_text(
        "text,sentiment,product\n" + "".join(f"good n{i},positive,p{i}\n" for i in range(20)) + "bad,negative,p1\n"
    )
    done = shop.potstill("run", str(shop.recipe), "--set", f"data.source={lonely}")
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("potstill: ingest: ")
    assert "negative" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    client = shop.client()
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id], "tags.`potstill.step` = 'pipeline'", max_results=1)
    assert runs[0].info.status == "FAILED"
    assert runs[0].data.tags["verdict"] == "none"


def test_an_output_folder_that_can_not_be_written_is_refused(shop: Shop, tmp_path: Path):
    (tmp_path / "file").write_text("")
    blocked = Shop(shop.recipe, tmp_path / "file" / "root")
    done = blocked.potstill("run", str(shop.recipe))
    assert done.returncode == 2
    assert "can't write there" in done.stderr
