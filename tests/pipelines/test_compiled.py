"""The KFP packages that are kept in the repository."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import components

from potstill.images import read_lock
from potstill.pipelines.package import compile_package
from potstill.pipelines.pods import load_cluster
from potstill.recipe import load_recipe

RECIPES = sorted(Path("recipes").glob("*.yaml"))
COMPILED = Path("pipelines/compiled")


def spec(path: Path) -> dict[str, Any]:
    return next(yaml.safe_load_all(path.read_text()))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_kept_package_is_what_the_recipe_compiles_to(recipe: Path, tmp_path: Path):
    compile_package(load_recipe(recipe), tmp_path / "fresh.yaml", load_cluster())
    kept = COMPILED / f"{recipe.stem}.yaml"
    assert kept.is_file(), f"{kept} is missing: run make compile"
    assert (tmp_path / "fresh.yaml").read_bytes() == kept.read_bytes(), f"{kept} is stale: run make compile"


def test_no_package_is_kept_without_its_recipe():
    own = {"promote", "monitor"}
    assert {path.stem for path in COMPILED.glob("*.yaml")} == {path.stem for path in RECIPES} | own


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_kfps_own_loader_reads_the_package(recipe: Path):
    loaded = components.load_component_from_file(str(COMPILED / f"{recipe.stem}.yaml"))
    assert loaded.name == recipe.stem


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_no_command_installs_anything_and_every_image_is_named(recipe: Path):
    executors, images = spec(COMPILED / f"{recipe.stem}.yaml")["deploymentSpec"]["executors"], read_lock()
    assert len(executors) == (12 if load_recipe(recipe).adapt else 11)
    for executor in executors.values():
        container = executor["container"]
        words = " ".join(container["command"] + container.get("args", []))
        assert not any(word in words for word in ("pip install", "ensurepip", "apt-get", "curl ", "uv "))
        assert container["image"] in (images["core"], images["train"])


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_parameters_are_typed_described_and_default_to_the_recipe(recipe: Path):
    settings = load_recipe(recipe)
    parameters = spec(COMPILED / f"{recipe.stem}.yaml")["root"]["inputDefinitions"]["parameters"]
    assert all(parameter["description"] for parameter in parameters.values())
    expected = {
        "encoder": ("STRING", settings.teacher.encoder),
        "temperature": ("NUMBER_DOUBLE", settings.distill.temperature),
        "alpha": ("NUMBER_DOUBLE", settings.distill.alpha),
        "epochs": ("NUMBER_INTEGER", settings.distill.epochs),
        "layers": ("NUMBER_INTEGER", settings.student.layers),
        "promote": ("STRING", settings.register_.promote),
        "model": ("STRING", settings.register_.model),
    }
    found = {name: (parameters[name]["parameterType"], parameters[name]["defaultValue"]) for name in expected}
    assert found == expected


def test_the_page_draws_figures_a_matrix_a_report_and_an_overview():
    components_ = spec(COMPILED / "review-sentiment.yaml")["components"]
    outputs = {
        name: kind["artifactType"]["schemaTitle"]
        for step in ("evaluate", "register")
        for name, kind in components_[f"comp-{step}"]["outputDefinitions"]["artifacts"].items()
    }
    assert outputs == {
        "evaluation": "system.Artifact",
        "metrics": "system.Metrics",
        "classification": "system.ClassificationMetrics",
        "summary": "system.Artifact",
        "report": "system.HTML",
        "overview": "system.Markdown",
    }


def test_only_the_steps_that_look_at_the_world_are_never_cached():
    tasks = spec(COMPILED / "review-sentiment.yaml")["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    never = {name for name, task in tasks.items() if not task["cachingOptions"].get("enableCache")}
    assert never == {"doctor", "ingest", "champion", "register"}


def test_the_exit_handler_runs_whatever_happened():
    root = spec(COMPILED / "review-sentiment.yaml")["root"]["dag"]["tasks"]
    assert root["close"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert root["close"]["dependentTasks"] == ["exit-handler-1"]
    assert "enableCache" not in root["close"]["cachingOptions"]


def test_the_control_is_trimmed_like_the_teacher():
    tasks = spec(COMPILED / "finance-opinion-zh.yaml")["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    told = tasks["control"]["inputs"]["parameters"]["teacher"]["runtimeValue"]["constant"]
    assert told == {"max_tokens": 32.0, "pooling": "mean", "vocabulary": "trim"}


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("planned") / "planned.yaml"
    compile_package(load_recipe(Path("recipes/support-intent.yaml"), ["plan.candidates=3"]), path, load_cluster())
    pipeline, platform = yaml.safe_load_all(path.read_text())
    return pipeline | platform


def test_forms_of_a_plan_fan_out_and_come_together_again(planned: dict[str, Any]):
    tasks = planned["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    (loop,) = (task for task in tasks.values() if "parameterIterator" in task)
    assert loop["dependentTasks"] == ["extract", "foresee", "ingest", "teach"]
    inside = planned["components"][loop["componentRef"]["name"]]["dag"]["tasks"]
    assert set(inside) == {"distill", "compress"}
    told = tasks["foresee"]["inputs"]["parameters"]["settings"]["runtimeValue"]["constant"]
    assert told == {"candidates": 3.0}
    of_loop = loop["componentRef"]["name"].removeprefix("comp-")
    for name in ("students", "edges"):
        assert tasks["choose"]["inputs"]["artifacts"][name]["taskOutputArtifact"]["producerTask"] == of_loop


def test_the_control_takes_the_form_that_was_chosen(planned: dict[str, Any]):
    tasks = planned["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    told = tasks["control"]["inputs"]["parameters"]["form"]["taskOutputParameter"]
    assert told == {"outputParameterKey": "form", "producerTask": "choose"}
    for name in ("student", "edge"):
        source = tasks["evaluate"]["inputs"]["artifacts"][name]["taskOutputArtifact"]
        assert source == {"outputArtifactKey": name, "producerTask": "choose"}


def test_every_pod_of_a_plan_knows_its_run(planned: dict[str, Any]):
    known = planned["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(known) == set(planned["deploymentSpec"]["executors"])
    assert all(found["fieldPathAsEnv"][0]["name"] == "POTSTILL_RUN_ID" for found in known.values())
