"""`potstill submit`: what is uploaded, what is run, and what is told of it."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from asking import Backend, write_recipe
from rich.console import Console

from potstill.cluster import runs
from potstill.images import NAMES


def task(name: str, state: str, start: str = "10:00:00", end: str = "10:00:00", **more: Any) -> dict[str, Any]:
    day = "2026-05-01T"
    return {
        **{"task_id": f"id-{name}", "display_name": name, "state": state},
        **{"create_time": f"{day}09:59:00Z", "start_time": f"{day}{start}Z", "end_time": f"{day}{end}Z"},
        **more,
    }


def station(state: str, *tasks: dict[str, Any]) -> dict[str, Any]:
    return {"state": state, "run_details": {"task_details": list(tasks)}}


def test_the_same_package_is_uploaded_once(backend: Backend, recipe: Path):
    assert backend("submit", str(recipe)).exit_code == 0
    assert backend("submit", str(recipe)).exit_code == 0
    (pipeline,) = backend.things("pipelines")
    (version,) = backend.things("pipeline_versions")
    assert pipeline["name"] == "reviews"
    assert re.fullmatch(r"reviews-[0-9a-f]{12}", version["name"])
    assert len(backend.things("runs")) == 2
    assert len(backend.things("experiments")) == 1


def test_a_changed_recipe_makes_a_new_version_of_the_same_pipeline(backend: Backend, recipe: Path):
    backend("submit", str(recipe))
    backend("submit", str(write_recipe(recipe, epochs=5)))
    assert len(backend.things("pipelines")) == 1
    old, new = backend.things("pipeline_versions")
    assert old["name"] != new["name"]
    run = backend.things("runs")[1]
    assert run["pipeline_version_reference"]["pipeline_version_id"] == new["pipeline_version_id"]
    assert run["runtime_config"]["parameters"]["teacher_epochs"] == 5


def test_an_override_is_a_parameter_of_the_run_and_no_new_version(backend: Backend, recipe: Path):
    backend("submit", str(recipe))
    result = backend("submit", str(recipe), "--set", "distill.temperature=3.5", "--set", "data.text=title")
    assert result.exit_code == 0
    assert len(backend.things("pipeline_versions")) == 1
    plain, changed = (run["runtime_config"]["parameters"] for run in backend.things("runs"))
    assert (plain["temperature"], changed["temperature"]) == (2.0, 3.5)
    assert changed["data_settings"]["text"] == ["title"]
    assert plain["data_source"] == changed["data_source"] == "s3://shop/reviews.parquet"


def test_an_override_that_no_field_can_take_makes_a_version_of_its_own(backend: Backend, recipe: Path):
    backend("submit", str(recipe))
    backend("submit", str(recipe), "--set", "plan.candidates=3")
    plain, planned = backend.things("pipeline_versions")
    assert "comp-choose" not in plain["pipeline_spec"]["components"]
    assert "comp-choose" in planned["pipeline_spec"]["components"]


def test_the_link_leads_to_the_run(backend: Backend, recipe: Path, monkeypatch: pytest.MonkeyPatch):
    result = backend("submit", str(recipe))
    (run,) = backend.things("runs")
    assert f"{backend.host}/#/runs/details/{run['run_id']}" in result.output
    assert run["display_name"] in result.output
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://shop.example/_/pipeline")
    assert "https://shop.example/_/pipeline/#/runs/details/" in backend("submit", str(recipe)).output


def test_experiment_and_namespace_are_the_ones_named(backend: Backend, recipe: Path):
    for _ in range(2):
        result = backend("submit", str(recipe), "--experiment", "trials", "--namespace", "shop")
        assert result.exit_code == 0
    (experiment,) = backend.things("experiments")
    (pipeline,) = backend.things("pipelines")
    assert (experiment["display_name"], experiment["namespace"], pipeline["namespace"]) == ("trials", "shop", "shop")
    assert {run["experiment_id"] for run in backend.things("runs")} == {experiment["experiment_id"]}
    assert len(backend("runs", "--namespace", "shop").output.splitlines()) == 3
    assert backend("runs").output == "no runs yet\n"


def test_an_experiment_of_another_spelling_is_another_one(backend: Backend, recipe: Path):
    backend.control("add/experiments", display_name="Reviews")
    assert backend("submit", str(recipe)).exit_code == 0
    assert [one["display_name"] for one in backend.things("experiments")] == ["Reviews", "reviews"]


@pytest.mark.parametrize("path", ["/pipelines$", "upload_version", "/experiments$", "/runs$"])
@pytest.mark.parametrize("how", [{"status": 503}, {"drop": True}], ids=["503", "dropped"])
def test_what_was_made_though_the_answer_was_lost_is_not_made_again(
    backend: Backend, recipe: Path, path: str, how: dict[str, Any]
):
    backend.fail("POST", path, after=True, **how)
    result = backend("submit", str(recipe))
    assert result.exit_code == 0, result.output
    for kind in ("pipelines", "pipeline_versions", "experiments", "runs"):
        assert len(backend.things(kind)) == 1


@pytest.mark.parametrize("path", ["/pipelines$", "/versions$", "/experiments$"])
def test_of_two_that_make_the_same_one_finds_the_others(backend: Backend, recipe: Path, path: str):
    backend("submit", str(recipe))
    # Looked for too early, and made too late.
    backend.fail("GET", path, status=200)
    result = backend("submit", str(recipe))
    assert result.exit_code == 0, result.output
    assert [len(backend.things(kind)) for kind in ("pipelines", "pipeline_versions", "experiments")] == [1, 1, 1]


def test_what_was_not_made_is_made_at_the_next_try(backend: Backend, recipe: Path):
    backend.fail("POST", "/runs$", status=503)
    assert backend("submit", str(recipe)).exit_code == 0
    assert len(backend.things("runs")) == 1
    assert backend.control("log").count("POST /apis/v2beta1/runs") == 2


def test_a_start_that_stays_unsure_is_told_in_a_line(backend: Backend, recipe: Path):
    backend.fail("POST", "/runs$", status=503, times=9)
    result = backend("submit", str(recipe))
    assert result.exit_code == 2
    assert result.output == f"potstill: {backend.host}: failed (503); it is not there after 2 tries\n"


def follow(backend: Backend, recipe: Path, monkeypatch: pytest.MonkeyPatch, *course: dict[str, Any]) -> Any:
    """Submit with --wait a run that is at each of these stations in turn."""
    started = runs.start

    def start(*arguments: Any) -> Any:
        run = started(*arguments)
        backend.control(f"run/{run.run_id}", course=list(course))
        return run

    monkeypatch.setattr(runs, "start", start)
    return backend("submit", str(recipe), "--wait")


def test_waiting_tells_each_step_by_its_name_for_people(
    backend: Backend, recipe: Path, monkeypatch: pytest.MonkeyPatch
):
    ingest = task("ingest", "SUCCEEDED", end="10:00:42")
    driver, dag = task("teach-driver", "RUNNING"), task("exit-handler-1", "RUNNING")
    teach = [task("teach", state, start="10:01:00", end="10:04:05") for state in ("RUNNING", "SUCCEEDED")]
    result = follow(
        backend,
        recipe,
        monkeypatch,
        station("PENDING"),
        station("RUNNING", task("ingest", "RUNNING"), dag),
        station("RUNNING", ingest, driver, teach[0], dag),
        station("SUCCEEDED", ingest, driver, teach[1], dag),
    )
    assert result.exit_code == 0
    assert result.output.splitlines()[2:] == [
        "Read and check the rows started",
        "Read and check the rows done in 42 s",
        "Fine-tune the teacher started",
        "Fine-tune the teacher done in 3 min 05 s",
        "run succeeded",
    ]


def test_a_terminal_shows_what_runs_in_a_line_that_goes(
    backend: Backend, recipe: Path, monkeypatch: pytest.MonkeyPatch
):
    screen = io.StringIO()
    monkeypatch.setattr("potstill.cli.cluster.console_here", lambda: Console(file=screen, force_terminal=True))
    teach = [task("teach", state, end="10:03:05") for state in ("RUNNING", "SUCCEEDED")]
    assert (
        follow(backend, recipe, monkeypatch, station("RUNNING", teach[0]), station("SUCCEEDED", teach[1])).exit_code
        == 0
    )
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in re.split(r"[\r\n]+", screen.getvalue())]
    assert any(line.endswith(" Fine-tune the teacher …") for line in lines)
    assert "Fine-tune the teacher done in 3 min 05 s" in lines
    assert not any("started" in line for line in lines)


def test_a_failed_run_names_the_task_and_its_error(backend: Backend, recipe: Path, monkeypatch: pytest.MonkeyPatch):
    teach = task("teach", "FAILED", error={"code": 13, "message": "out of memory\nat step 7"})
    dag = task("exit-handler-1", "FAILED", error={"code": 13, "message": "a child failed"})
    closed = task("close", "SUCCEEDED", end="10:00:01")
    result = follow(backend, recipe, monkeypatch, station("FAILED", dag, teach, closed))
    assert result.exit_code == 1
    assert "Fine-tune the teacher failed" in result.output
    assert "Close the run done in 1 s" in result.output
    assert "Error: run failed at Fine-tune the teacher: out of memory at step 7" in result.output


def test_a_container_that_never_came_up_is_told_by_its_driver(
    backend: Backend, recipe: Path, monkeypatch: pytest.MonkeyPatch
):
    result = follow(backend, recipe, monkeypatch, station("FAILED", task("extract-driver", "FAILED")))
    assert result.exit_code == 1
    assert "run failed at Extract what the teacher says: the backend tells no reason" in result.output


def test_a_cancelled_run_exits_with_one(backend: Backend, recipe: Path, monkeypatch: pytest.MonkeyPatch):
    result = follow(backend, recipe, monkeypatch, station("CANCELING"), station("CANCELED"))
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == "Error: run cancelled"


def test_an_outage_does_not_end_the_waiting(backend: Backend, recipe: Path, monkeypatch: pytest.MonkeyPatch):
    backend.fail("GET", "/runs/", status=503, times=6)
    result = follow(backend, recipe, monkeypatch, station("SUCCEEDED"))
    assert result.exit_code == 0
    assert "failed (503); the run goes on, asking again" in result.output


def test_a_backend_that_stays_away_ends_the_waiting(backend: Backend, recipe: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runs, "PATIENCE_S", 0.0)
    backend.fail("GET", "/runs/", status=503, times=100)
    assert follow(backend, recipe, monkeypatch).exit_code == 2


def test_every_parameter_of_a_shipped_recipe_is_taken(backend: Backend):
    result = backend("submit", "recipes/finance-opinion-zh.yaml")
    assert result.exit_code == 0, result.output
    kept = yaml.safe_load(Path("pipelines/compiled/finance-opinion-zh.yaml").read_text().partition("\n---\n")[0])
    fields = kept["root"]["inputDefinitions"]["parameters"]
    assert backend.things("runs")[0]["runtime_config"]["parameters"] == {
        name: field["defaultValue"] for name, field in fields.items()
    }


def write_images(path: Path) -> Path:
    """A lock file in which every image has a digest of its own."""
    lines = (f"{name}: registry.shop.example/{name}@sha256:{number:064x}\n" for number, name in enumerate(NAMES, 1))
    path.write_text("".join(lines))
    return path


def image_names(version: dict[str, Any]) -> set[str]:
    return {one["container"]["image"] for one in version["pipeline_spec"]["deploymentSpec"]["executors"].values()}


def test_images_are_the_lock_files_where_the_installation_has_none(
    backend: Backend, recipe: Path, schedules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # As in the images, which carry no lock file.
    monkeypatch.setattr("potstill.pipelines.package.LOCK", tmp_path / "gone.yaml")
    lock = str(write_images(tmp_path / "lock.yaml"))
    refused = backend("submit", str(recipe))
    assert refused.exit_code == 2
    assert "gone.yaml: can't read which images to use" in refused.output
    assert backend("submit", str(recipe), "--images", lock).exit_code == 0
    assert backend("schedule", "apply", str(schedules), "--images", lock).exit_code == 0
    # Both are the same package, so one version does for both.
    (version,) = backend.things("pipeline_versions")
    assert image_names(version) == {
        f"registry.shop.example/{name}@sha256:{NAMES.index(name) + 1:064x}" for name in ("core", "train")
    }


def write_cluster(path: Path, account: str = "potstill-pipeline") -> Path:
    path.write_text(f"pipeline_root: s3://potstill/shop/runs\nservice_account: {account}\n")
    return path


def test_root_and_service_account_are_the_clusters(backend: Backend, recipe: Path, schedules: Path, tmp_path: Path):
    settings = write_cluster(tmp_path / "cluster.yaml")
    assert backend("submit", str(recipe), "--cluster", str(settings)).exit_code == 0
    schedules.write_text(f"cluster: cluster.yaml\n{schedules.read_text()}")
    assert backend("schedule", "apply", str(schedules)).exit_code == 0
    (run,), (recurring,) = backend.things("runs"), backend.things("recurring_runs")
    for one in (run, recurring):
        assert one["runtime_config"]["pipeline_root"] == "s3://potstill/shop/runs"
        assert one["service_account"] == "potstill-pipeline"
    (version,) = backend.things("pipeline_versions")
    assert version["pipeline_spec"]["defaultPipelineRoot"] == "s3://potstill/shop/runs"
    # Another account is another schedule, though the package is the same.
    write_cluster(settings, "default-editor")
    assert backend("schedule", "apply", str(schedules)).exit_code == 0
    assert [one["service_account"] for one in backend.things("recurring_runs")] == ["default-editor"]
    assert len(backend.things("pipeline_versions")) == 1


def test_what_the_cluster_does_not_say_is_the_backends(backend: Backend, recipe: Path):
    assert backend("submit", str(recipe)).exit_code == 0
    (run,) = backend.things("runs")
    assert "service_account" not in run
    assert "pipeline_root" not in run["runtime_config"]


def test_without_the_cache_every_step_works_anew(backend: Backend, recipe: Path):
    for options in ((), ("--no-cache",), ("--no-cache", "--set", "distill.alpha=0.25")):
        assert backend("submit", str(recipe), *options).exit_code == 0
    plain, anew = backend.things("pipeline_versions")
    assert [run["pipeline_version_reference"]["pipeline_version_id"] for run in backend.things("runs")] == [
        one["pipeline_version_id"] for one in (plain, anew, anew)
    ]
    assert any(cached(plain["pipeline_spec"]))
    assert not any(cached(anew["pipeline_spec"]))


def cached(spec: dict[str, Any]) -> list[bool]:
    graphs = [part["dag"]["tasks"] for part in (spec["root"], *spec["components"].values()) if "dag" in part]
    return [task.get("cachingOptions", {}).get("enableCache", False) for tasks in graphs for task in tasks.values()]
