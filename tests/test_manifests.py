"""What the overlays say holds together, and what would break on a cluster or weaken it is refused."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import policies
import pytest
import references
import schemas
import yaml
from pods import Pod, name_of, pods
from render import render, secrets, with_images

from potstill.cli import main
from potstill.errors import UserError
from potstill.images import NAMES

FOLDER = Path(__file__).parents[1] / "manifests"
LOCK = {name: f"registry.example/potstill/{name}@sha256:{str(digit) * 64}" for digit, name in enumerate(NAMES)}
OVERLAYS = ["local", "production", "production-kserve"]
Objects = dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def rendered() -> dict[str, list[dict[str, Any]]]:
    return {name: with_images(render(FOLDER / "overlays" / name), LOCK) for name in OVERLAYS}


@pytest.fixture(scope="session")
def given() -> dict[str, set[str]]:
    return secrets(FOLDER / "secrets")


@pytest.fixture
def objects(rendered: dict[str, list[dict[str, Any]]]) -> Objects:
    """The local overlay's objects by kind and name, to be broken."""
    return {name_of(manifest): copy.deepcopy(manifest) for manifest in rendered["local"]}


def template(objects: Objects, name: str) -> dict[str, Any]:
    return objects[name]["spec"]["template"]["spec"]


def container(objects: Objects, name: str = "Deployment/potstill-serving") -> dict[str, Any]:
    return template(objects, name)["containers"][0]


def change(place: Callable[[Objects], dict[str, Any]], **fields: Any) -> Callable[[Objects], None]:
    """A break: fields of an object are set, or with None taken away."""

    def break_it(objects: Objects) -> None:
        broken = place(objects)
        for key, value in fields.items():
            broken.pop(key, None) if value is None else broken.update({key: value})

    return break_it


def spec(name: str) -> Callable[[Objects], dict[str, Any]]:
    return lambda objects: objects[name]["spec"]


def pod(name: str = "Deployment/potstill-serving") -> Callable[[Objects], dict[str, Any]]:
    return lambda objects: template(objects, name)


def security(objects: Objects) -> dict[str, Any]:
    return container(objects)["securityContext"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_shipped_overlay_is_right(
    overlay: str, rendered: dict[str, list[dict[str, Any]]], given: dict[str, set[str]]
):
    manifests = rendered[overlay]
    assert [*schemas.faults(manifests), *references.faults(manifests, given), *policies.faults(manifests)] == []


def test_the_base_renders_without_secrets():
    assert all(manifest["kind"] != "Secret" for manifest in render(FOLDER / "base"))


def test_the_names_that_pipelines_refer_to_are_there(objects: Objects, given: dict[str, set[str]]):
    settings = {"MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "AWS_REGION", "POTSTILL_STORE"}
    assert objects["ConfigMap/potstill-settings"]["data"].keys() == settings | {"AWS_REQUEST_CHECKSUM_CALCULATION"}
    assert given["potstill-s3"] == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert given["potstill-mlflow"] == {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
    assert "ServiceAccount/potstill-pipeline" in objects


def test_an_image_that_the_lock_lacks_is_named():
    with pytest.raises(UserError, match="potstill/serve: the lock names no serve; it has core"):
        with_images(render(FOLDER / "overlays" / "local"), {"core": LOCK["core"], "mlflow": "", "postgres": ""})


def make_manifests(lock: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER.parent / "scripts" / "manifests"), str(lock), str(target)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_only_what_is_right_is_written(tmp_path: Path):
    lock, target = tmp_path / "lock.yaml", tmp_path / "made"
    lock.write_text(yaml.safe_dump(LOCK))
    assert make_manifests(lock, target).returncode == 0
    assert {file.name for file in target.iterdir()} == {f"{name}.yaml" for name in OVERLAYS}
    # An image that one engine has and no registry; PostgreSQL's is in the local overlay alone.
    own = f"sha256:{'a' * 64}"
    lock.write_text(yaml.safe_dump({**LOCK, "postgres": own}))
    done = make_manifests(lock, target)
    assert done.returncode == 1
    assert done.stderr == (f"local: StatefulSet/potstill-postgres: postgres: image {own} is not named by its digest\n")
    assert {file.name for file in target.iterdir()} == {"production.yaml", "production-kserve.yaml"}


def test_a_tag_is_refused_before_anything_is_written(tmp_path: Path):
    (tmp_path / "lock.yaml").write_text(yaml.safe_dump({**LOCK, "postgres": "docker.io/library/postgres:17"}))
    done = make_manifests(tmp_path / "lock.yaml", tmp_path / "made")
    assert done.returncode == 1
    assert "postgres: docker.io/library/postgres:17: an image is named by its digest alone" in done.stderr
    assert not (tmp_path / "made").exists()


def test_a_missing_lock_is_told_in_one_line(tmp_path: Path):
    done = make_manifests(tmp_path / "gone.yaml", tmp_path / "made")
    assert done.returncode == 1
    assert done.stderr.startswith(f"manifests: {tmp_path / 'gone.yaml'}: can't read which images to use")
    assert done.stderr.count("\n") == 1


def test_the_rules_of_the_bucket_fit_the_store(objects: Objects):
    rules = {rule["ID"]: rule for rule in json.loads((FOLDER / "bucket-lifecycle.json").read_text())["Rules"]}
    store = objects["ConfigMap/potstill-settings"]["data"]["POTSTILL_STORE"].removeprefix("s3://").partition("/")[2]
    runs, signals = rules["runs-expire"], rules["signals-live-longer"]
    assert runs["Filter"]["Prefix"] == f"{store}/runs/"
    assert signals["Filter"]["Prefix"] == f"{store}/signals/"
    window = objects[next(name for name in objects if name.startswith("ConfigMap/potstill-jobs"))]["data"]["WINDOW"]
    assert window.removeprefix("s3://potstill/").startswith(rules["windows-of-production-slide"]["Filter"]["Prefix"])
    # What a run points to must not go before the run does, nor a run before what points to it.
    assert signals["Expiration"]["Days"] > runs["Expiration"]["Days"]
    found, kept = rules["found-again-no-longer-than-runs"], rules["trainings-that-nobody-ends"]
    assert (found["Filter"]["Prefix"], kept["Filter"]["Prefix"]) == (f"{store}/cache/", f"{store}/checkpoints/")
    assert found["Expiration"]["Days"] < runs["Expiration"]["Days"]


SCHEMA_BREAKS = {
    "a field that nobody knows": (change(container, comand=["x"]), "'comand' was unexpected"),
    "one deep inside": (change(security, readonlyRootFilesystem=True), "'readonlyRootFilesystem' was unexpected"),
    "a text for a number": (change(spec("CronJob/potstill-drift"), failedJobsHistoryLimit="3"), "not of type"),
    "no selector": (change(spec("Deployment/potstill-mlflow"), selector=None), "'selector' is a required property"),
    "a kind of another version": (
        lambda objects: objects["HorizontalPodAutoscaler/potstill-serving"].update(apiVersion="autoscaling/v3"),
        "Couldn't find schema",
    ),
}


@pytest.mark.parametrize("name", SCHEMA_BREAKS)
def test_a_schema_refuses(name: str, objects: Objects):
    break_it, expected = SCHEMA_BREAKS[name]
    break_it(objects)
    (fault,) = schemas.faults(list(objects.values()))
    assert expected in fault


@pytest.mark.parametrize(
    ("place", "field", "value"),
    [("spec", "predicter", {}), ("predictor", "minReplica", 1), ("predictor", "scaleMetric", "requests")],
)
def test_kserves_schema_refuses(place: str, field: str, value: Any, rendered: dict[str, list[dict[str, Any]]]):
    (service,) = (m for m in copy.deepcopy(rendered["production-kserve"]) if m["kind"] == "InferenceService")
    assert list(schemas.faults([service])) == []
    (service["spec"] if place == "spec" else service["spec"]["predictor"])[field] = value
    (fault,) = schemas.faults([service])
    assert str(value if field == "scaleMetric" else field) in fault


REFERENCE_BREAKS = {
    "ConfigMap": (change(container, envFrom=[{"configMapRef": {"name": "gone"}}]), "no ConfigMap/gone"),
    "Secret": (change(container, envFrom=[{"secretRef": {"name": "gone"}}]), "no Secret/gone"),
    "key": (
        lambda o: container(o)["env"][0]["valueFrom"]["configMapKeyRef"].update(key="TYPO"),
        "ConfigMap/potstill-settings has no key TYPO",
    ),
    "volume's ConfigMap": (
        lambda o: template(o, "Deployment/potstill-mlflow")["volumes"][1]["configMap"].update(name="gone"),
        "no ConfigMap/gone",
    ),
    "volume": (change(container, volumeMounts=[{"name": "gone", "mountPath": "/x"}]), "mounts gone"),
    "claim": (
        change(pod(), volumes=[{"name": "scratch", "persistentVolumeClaim": {"claimName": "gone"}}]),
        "no PersistentVolumeClaim/gone",
    ),
    "service account": (change(pod(), serviceAccountName="gone"), "no service account gone"),
    "variable": (change(container, args=["$(MODLE)"]), "$(MODLE) is not in its environment"),
    "probe's port": (
        lambda o: container(o)["livenessProbe"]["httpGet"].update(port="htp"),
        "livenessProbe asks port htp, which no container opens",
    ),
    "service's pods": (change(spec("Service/potstill-serving"), selector={"app": "gone"}), "selects no pod"),
    "service's port": (
        change(spec("Service/potstill-serving"), ports=[{"port": 80, "targetPort": "web"}]),
        "Deployment/potstill-serving opens no port web",
    ),
    "governing service": (change(spec("StatefulSet/potstill-postgres"), serviceName="gone"), "no service gone"),
    "own selector": (
        change(spec("Deployment/potstill-mlflow"), selector={"matchLabels": {"app": "gone"}}),
        "its selector does not take its own pods",
    ),
    "autoscaler's target": (
        lambda o: spec("HorizontalPodAutoscaler/potstill-serving")(o)["scaleTargetRef"].update(name="gone"),
        "no Deployment gone to scale",
    ),
    "budget's pods": (
        change(spec("PodDisruptionBudget/potstill-serving"), selector={"matchLabels": {"app": "gone"}}),
        "PodDisruptionBudget/potstill-serving: selects no pod",
    ),
    "policy's pods": (
        change(spec("NetworkPolicy/serving"), podSelector={"matchLabels": {"app": "gone"}}),
        "NetworkPolicy/serving: {'app': 'gone'} is no pod's",
    ),
    "policy's peer": (
        lambda o: spec("NetworkPolicy/postgres")(o)["ingress"][0].update(
            {"from": [{"podSelector": {"matchLabels": {"app": "gone"}}}]}
        ),
        "NetworkPolicy/postgres: {'app': 'gone'} is no pod's",
    ),
    "policy's port": (
        lambda o: spec("NetworkPolicy/mlflow")(o)["ingress"][0].update(ports=[{"port": 5001}]),
        "Deployment/potstill-mlflow opens no port 5001",
    ),
    "policy's port elsewhere": (
        lambda o: spec("NetworkPolicy/allow-to-mlflow")(o)["egress"][0].update(ports=[{"port": 5001}]),
        "Deployment/potstill-mlflow opens no port 5001",
    ),
    "role": (
        lambda o: o["RoleBinding/potstill-pipeline"]["roleRef"].update(name="gone"),
        "RoleBinding/potstill-pipeline: no Role gone",
    ),
    "one name": (
        lambda o: o.update(again=copy.deepcopy(o["Service/potstill-mlflow"])),
        "Service/potstill-mlflow: there are 2 of them",
    ),
}


@pytest.mark.parametrize("name", REFERENCE_BREAKS)
def test_a_reference_must_hold(name: str, objects: Objects, given: dict[str, set[str]]):
    break_it, expected = REFERENCE_BREAKS[name]
    break_it(objects)
    assert any(expected in fault for fault in references.faults(list(objects.values()), given))


POLICY_BREAKS = {
    "a tag": (change(container, image="potstill/serve:1.2"), "potstill/serve:1.2 is not named by its digest"),
    "latest": (change(container, image="potstill/serve:latest"), "is not named by its digest"),
    "no user": (change(pod(), securityContext={"seccompProfile": {"type": "RuntimeDefault"}}), "number other than 0"),
    "user 0": (lambda o: template(o, "Job/potstill-mlflow-migrate")["securityContext"].update(runAsUser=0), "than 0"),
    "a root container": (change(security, runAsUser=0), "must not run as root"),
    "no seccomp": (
        lambda o: template(o, "StatefulSet/potstill-postgres")["securityContext"].pop("seccompProfile"),
        "seccomp profile RuntimeDefault",
    ),
    "the node's network": (change(pod(), hostNetwork=True), "must not share the node's"),
    "a token": (change(pod(), automountServiceAccountToken=None), "needs no token"),
    "service links": (change(pod(), enableServiceLinks=None), "enableServiceLinks"),
    "the node's files": (change(pod(), volumes=[{"name": "scratch", "hostPath": {"path": "/"}}]), "mount hostPath"),
    "a boundless volume": (change(pod(), volumes=[{"name": "scratch", "emptyDir": {}}]), "scratch needs a sizeLimit"),
    "privileges": (change(security, allowPrivilegeEscalation=None), "must not gain privileges"),
    "privileged": (change(security, privileged=True), "must not gain privileges"),
    "capabilities": (change(security, capabilities={"drop": ["NET_RAW"]}), "drop all capabilities"),
    "a capability more": (change(security, capabilities={"drop": ["ALL"], "add": ["SYS_TIME"]}), "and add none"),
    "a writable root": (change(security, readOnlyRootFilesystem=None), "read-only root file system"),
    "the node's port": (change(container, ports=[{"containerPort": 8080, "hostPort": 80}]), "a port of the node"),
    "a secret in sight": (change(container, env=[{"name": "PGPASSWORD", "value": "x"}]), "must come from a Secret"),
    "no limit": (lambda o: container(o)["resources"]["limits"].pop("memory"), "must request memory and limit it"),
    "no request": (lambda o: container(o)["resources"]["requests"].pop("cpu"), "must request cpu and limit it"),
    "no quantity": (lambda o: container(o)["resources"]["limits"].update(memory="1 GB"), "1 GB is no quantity"),
    "too much": (lambda o: container(o)["resources"]["requests"].update(cpu="2100m"), "more cpu than its limit"),
    "no probe": (change(container, readinessProbe=None), "needs a readinessProbe"),
    "no time to stop": (change(pod(), terminationGracePeriodSeconds=10), "is killed before it has stopped"),
    "a lax namespace": (
        lambda o: o["Namespace/potstill"]["metadata"]["labels"].update({policies.LEVELS[0]: "baseline"}),
        "profile 'restricted'",
    ),
    "elsewhere": (lambda o: o["Service/potstill-mlflow"]["metadata"].update(namespace="default"), "namespace potstill"),
    "a Secret": (lambda o: o["ConfigMap/potstill-settings"].update(kind="Secret"), "must not be in these files"),
    "a cluster's rights": (lambda o: o["Role/potstill-pipeline"].update(kind="ClusterRole"), "beyond the namespace"),
    "all verbs": (lambda o: o["Role/potstill-pipeline"]["rules"][0].update(verbs=["*"]), "rights must be named"),
    "all Secrets": (lambda o: o["Role/potstill-pipeline"]["rules"][2].pop("resourceNames"), "named one by one"),
    "two at a time": (change(spec("CronJob/potstill-promote"), concurrencyPolicy="Allow"), "two must not run"),
    "no end": (change(spec("Job/potstill-mlflow-migrate"), activeDeadlineSeconds=None), "must end some day"),
    "open doors": (lambda o: o.pop("NetworkPolicy/deny-all"), "no NetworkPolicy denies all"),
}


@pytest.mark.parametrize("name", POLICY_BREAKS)
def test_a_policy_refuses(name: str, objects: Objects):
    break_it, expected = POLICY_BREAKS[name]
    break_it(objects)
    faults = list(policies.faults(list(objects.values())))
    assert len(faults) == 1, faults
    assert expected in faults[0]


@pytest.mark.parametrize(("quantity", "number"), [("250m", 0.25), ("1", 1), (2, 2), ("1Gi", 2**30), ("1.5G", 1.5e9)])
def test_quantities_are_read_as_kubernetes_does(quantity: str | int, number: float):
    assert policies.amount(quantity) == pytest.approx(number)


def with_program(program: str, manifests: list[dict[str, Any]]) -> list[tuple[Pod, list[str]]]:
    """The command lines of the containers that start a program, without its name."""
    lines = [
        (each, [*part.get("command", [""]), *part.get("args", [])])
        for each in pods(manifests)
        for part in each.containers
    ]
    return [(each, line[1:]) for each, line in lines if line[0] == program]


def parses(command: click.Command, line: list[str]) -> None:
    """Follow a line to its command and let that read its options; nothing is run."""
    context = click.Context(command)
    while isinstance(command, click.Group):
        found = command.get_command(context, line[0])
        assert found, f"there is no command {line[0]}"
        command, line = found, line[1:]
    command.make_context(command.name, line, parent=context)


def test_mlflow_has_the_options_that_it_is_given(rendered: dict[str, list[dict[str, Any]]]):
    from mlflow.cli import cli

    lines = with_program("mlflow", rendered["local"])
    assert {str(each) for each, _ in lines} == {"Deployment/potstill-mlflow", "Job/potstill-mlflow-migrate"}
    for _, line in lines:
        parses(cli, line)


@pytest.mark.parametrize("name", ["Deployment/potstill-serving", "CronJob/potstill-promote", "CronJob/potstill-drift"])
def test_potstill_has_the_options_that_it_is_given(name: str, rendered: dict[str, list[dict[str, Any]]]):
    ((_, line),) = [(each, line) for each, line in with_program("potstill", rendered["local"]) if str(each) == name]
    parses(main, line)


def test_the_server_waits_until_the_tables_are_made(tmp_path: Path, objects: Objects):
    (waits,) = template(objects, "Deployment/potstill-mlflow")["initContainers"]
    database = f"sqlite:///{tmp_path / 'mlflow.db'}"
    code = waits["command"][2].replace("postgresql+psycopg2://", database).replace("sleep(5)", "sleep(0.2)")
    waiting = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert waiting.stdout.readline() == "waiting for potstill-mlflow-migrate\n"
        (migrate,) = (line for each, line in with_program("mlflow", list(objects.values())) if each.kind == "Job")
        migrate = [word.replace("postgresql+psycopg2://", database) for word in migrate]
        assert waiting.poll() is None
        subprocess.run([sys.executable, "-m", "mlflow", *migrate], check=True, capture_output=True)
        assert waiting.wait(timeout=60) == 0
    finally:
        waiting.kill()
