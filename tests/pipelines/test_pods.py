"""What each step asks of a cluster, as it stands in the package."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from potstill.errors import UserError
from potstill.pipelines.package import compile_package
from potstill.pipelines.pods import Cluster, load_cluster
from potstill.recipe import load_recipe
from potstill.sections import checked
from tests.pipelines import conftest

RECIPE = Path("recipes/review-sentiment.yaml")
STORED = {"store": "s3://shop/potstill", "steps": {"extract": {"cpu": "8", "gpus": 1, "shared_memory": "1Gi"}}}
STEPS = sorted({"close", *conftest.STEPS})


def package(cluster: Cluster, folder: Path, *overrides: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline, and what it says to Kubernetes."""
    compile_package(load_recipe(RECIPE, overrides), folder / "package.yaml", cluster)
    pipeline, platform = yaml.safe_load_all((folder / "package.yaml").read_text(encoding="utf-8"))
    return pipeline, platform["platforms"]["kubernetes"]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    return package(load_cluster(), tmp_path_factory.mktemp("shipped"))


def test_every_step_has_limits_a_time_and_a_user_that_is_not_root(shipped: tuple[dict[str, Any], dict[str, Any]]):
    pipeline, kubernetes = shipped
    executors = pipeline["deploymentSpec"]["executors"]
    assert sorted(executors) == [f"exec-{step}" for step in STEPS]
    for name, executor in executors.items():
        resources, pod = executor["container"]["resources"], kubernetes["deploymentSpec"]["executors"][name]
        assert resources["resourceCpuLimit"] == resources["resourceCpuRequest"], name
        assert resources["resourceMemoryLimit"] == resources["resourceMemoryRequest"], name
        assert int(pod["activeDeadlineSeconds"]) >= 3600, name
        assert pod["securityContext"] == {"runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True}, name


def test_credentials_come_from_secrets_and_never_from_parameters(shipped: tuple[dict[str, Any], dict[str, Any]]):
    pipeline, kubernetes = shipped
    for name, pod in kubernetes["deploymentSpec"]["executors"].items():
        given = {entry["envVar"] for secret in pod["secretAsEnv"] for entry in secret["keyToEnv"]}
        assert given == {
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "MLFLOW_TRACKING_USERNAME",
            "MLFLOW_TRACKING_PASSWORD",
        }, name
        assert all(secret["optional"] for secret in pod["secretAsEnv"]), name
        told = {entry["envVar"] for settings in pod["configMapAsEnv"] for entry in settings["keyToEnv"]}
        assert told == {"MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "AWS_REGION"}, name
        assert pod["fieldPathAsEnv"] == [
            {"name": "POTSTILL_RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"}
        ], name
    parameters = pipeline["root"]["inputDefinitions"]["parameters"]
    assert not [name for name in parameters if any(word in name for word in ("secret", "password", "key", "token"))]


def test_a_step_is_tried_again_but_the_exit_handler_is_not(shipped: tuple[dict[str, Any], dict[str, Any]]):
    root = shipped[0]["root"]["dag"]["tasks"]
    inner = shipped[0]["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert "retryPolicy" not in root["close"]
    for name, task in inner.items():
        assert task["retryPolicy"] == {
            "maxRetryCount": 2,
            "backoffDuration": "60s",
            "backoffFactor": 2.0,
            "backoffMaxDuration": "600s",
        }, name


def test_training_has_a_large_shared_memory(shipped: tuple[dict[str, Any], dict[str, Any]]):
    pods = shipped[1]["deploymentSpec"]["executors"]
    mounted = {name for name, pod in pods.items() if "emptyDirMounts" in pod}
    assert mounted == {f"exec-{step}" for step in ("teach", "extract", "distill", "control")}
    assert pods["exec-teach"]["emptyDirMounts"] == [
        {"volumeName": "shm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "2Gi"}
    ]


def test_a_run_has_an_end_and_is_cleared_away(shipped: tuple[dict[str, Any], dict[str, Any]]):
    seconds = {"activeDeadlineSeconds": 48 * 3600, "resourceTtlOnCompletion": 72 * 3600}
    assert shipped[1]["pipelineConfig"] == seconds


def test_accelerators_nodes_and_a_shared_volume_reach_the_steps_that_name_them(tmp_path: Path):
    cluster = checked(
        Cluster,
        "cluster",
        {
            "store": "/shared",
            "shared_volume": "potstill-store",
            "retry": {"times": 0},
            "steps": {
                "teach": {
                    "gpus": 2,
                    "nodes": {"nvidia.com/gpu.product": "NVIDIA-L4"},
                    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                }
            },
        },
    )
    pipeline, kubernetes = package(cluster, tmp_path)
    executors = pipeline["deploymentSpec"]["executors"]
    with_gpu = {name for name, entry in executors.items() if "accelerator" in entry["container"]["resources"]}
    assert with_gpu == {"exec-teach"}
    accelerator = executors["exec-teach"]["container"]["resources"]["accelerator"]
    assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("nvidia.com/gpu", "2")
    pods = kubernetes["deploymentSpec"]["executors"]
    assert pods["exec-teach"]["nodeSelector"]["labels"] == {"nvidia.com/gpu.product": "NVIDIA-L4"}
    assert pods["exec-teach"]["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    for name, pod in pods.items():
        (mount,) = pod["pvcMount"]
        assert (mount["mountPath"], mount["constant"]) == ("/shared", "potstill-store"), name
    assert pipeline["root"]["inputDefinitions"]["parameters"]["store"]["defaultValue"] == "/shared"
    assert "retryPolicy" not in pipeline["components"]["comp-exit-handler-1"]["dag"]["tasks"]["teach"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stoer: s3://shop\n", r"cluster.yaml:1: stoer: no such setting; did you mean store\?"),
        ("steps:\n  teach: {memory: lots}\n", r"cluster.yaml:2: steps.teach.memory: .*lots"),
        ("steps:\n  teach: {memroy: 1Gi}\n", r"steps.teach.memroy: no such setting; did you mean steps.teach.memory\?"),
        ("store: relative/path\n", r"cluster.yaml:1: store: "),
        ("steps:\n  teech: {gpus: 4}\n", r"no step is called teech; there are .*, teach"),
        ("store: s3://shop\nshared_volume: claim\n", r"shared_volume: is mounted at the store, which must be an abs"),
    ],
)
def test_what_is_wrong_with_a_clusters_settings_is_told(tmp_path: Path, text: str, told: str):
    (tmp_path / "cluster.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=told):
        load_cluster(tmp_path / "cluster.yaml")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    return package(checked(Cluster, "cluster", STORED), tmp_path_factory.mktemp("sharded"), "signals.shards=4")


def test_shards_of_an_extraction_fan_out_and_come_together_in_one_table(
    sharded: tuple[dict[str, Any], dict[str, Any]],
):
    components = sharded[0]["components"]
    tasks = components["comp-exit-handler-1"]["dag"]["tasks"]
    (loop,) = (task for task in tasks.values() if "parameterIterator" in task)
    assert loop["dependentTasks"] == ["divide", "ingest", "teach"]
    assert set(components[loop["componentRef"]["name"]]["dag"]["tasks"]) == {"extract"}
    assert "extract" not in tasks
    told = tasks["join"]["inputs"]["parameters"]["shard_digests"]["taskOutputParameter"]
    assert told["producerTask"] == loop["componentRef"]["name"].removeprefix("comp-")
    for step in ("distill", "evaluate"):
        inputs = tasks[step]["inputs"]
        assert inputs["artifacts"]["signals"]["taskOutputArtifact"]["producerTask"] == "join"
        assert inputs["parameters"]["signals_digest"]["taskOutputParameter"]["producerTask"] == "join"
    for step in ("divide", "doctor"):
        assert tasks[step]["inputs"]["parameters"]["shards"]["runtimeValue"]["constant"] == 4


def test_each_shard_has_the_pod_of_an_extraction_and_is_tried_again(sharded: tuple[dict[str, Any], dict[str, Any]]):
    pipeline, kubernetes = sharded
    executors, pods = pipeline["deploymentSpec"]["executors"], kubernetes["deploymentSpec"]["executors"]
    assert set(pods) == set(executors) == {f"exec-{step}" for step in (*STEPS, "divide", "join")}
    shard = executors["exec-extract"]["container"]["resources"]
    assert (shard["resourceCpuLimit"], shard["accelerator"]["resourceCount"]) == ("8", "1")
    assert pods["exec-extract"]["emptyDirMounts"][0]["mountPath"] == "/dev/shm"
    assert pods["exec-extract"]["securityContext"]["runAsUser"] == pods["exec-join"]["securityContext"]["runAsUser"]
    assert "accelerator" not in executors["exec-join"]["container"]["resources"]
    loops = [part["dag"]["tasks"] for part in pipeline["components"].values() if "dag" in part]
    (retried,) = (tasks["extract"]["retryPolicy"] for tasks in loops if "extract" in tasks)
    assert retried["maxRetryCount"] == 2


def test_shards_without_a_store_are_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(UserError, match=r"signals\.shards: 4 fill one table in a store .* there is none; name one"):
        package(load_cluster(), tmp_path, "signals.shards=4")
    assert not list(tmp_path.iterdir())
