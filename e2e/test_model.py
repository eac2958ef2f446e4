"""A model's life: killed on the way, registered, made champion, served, followed by another, and brought back.

Each check goes on where the one before it ended.
"""

import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from mlflow import MlflowClient

from conftest import Shop
from engine import docker, server
from machine import free_port, until
from object_store import BUCKET
from potstill.images import read_lock

MODEL = "end-to-end"
SIGNALS, CHECKPOINTS = "potstill/signals/", "potstill/checkpoints/"
PATIENCE_S = 120
TEXTS = ["great camera, I love it", "it broke after two days and support never answered"]


def killed_when(shop: Shop, happened: Callable[[str], bool]) -> str:
    """Run, and kill the container of the step that is at work once something happened; what was said."""
    said, log = "", shop.root / "killed.txt"
    with log.open("w") as file:
        running = subprocess.Popen(
            shop.command(*shop.run_words()),
            env=os.environ | shop.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=shop.root,
        )
    try:
        while running.poll() is None and not happened(said := log.read_text()):
            time.sleep(0.1)
        assert running.poll() is None, said
        (step,) = shop.containers()
        told = json.loads(docker(shop.address, "inspect", step))[0]
        docker(shop.address, "kill", step)
        assert running.wait(PATIENCE_S) == 1
    finally:
        running.terminate()
        running.wait(PATIENCE_S)
    assert_confined(told)
    return log.read_text()


def assert_confined(container: dict) -> None:
    host = container["HostConfig"]
    assert container["Config"]["User"] == "10001:10001"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["Privileged"]
    assert "no-new-privileges" in host["SecurityOpt"]


def parts(shop: Shop) -> dict[str, str]:
    """When each part of the teacher's table was written."""
    pages = shop.store.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=SIGNALS)
    found = [entry for page in pages for entry in page.get("Contents", [])]
    return {entry["Key"]: str(entry["LastModified"]) for entry in found if entry["Key"].endswith(".parquet")}


@pytest.fixture(scope="module")
def client(shop: Shop) -> Iterator[MlflowClient]:
    with pytest.MonkeyPatch.context() as environment:
        for name, value in shop.environment.items():
            environment.setenv(name, value)
        yield MlflowClient()


def test_a_run_killed_while_teaching_fails(shop: Shop):
    said = killed_when(shop, lambda _: any(key.endswith("whole.json") for key in shop.store.keys(CHECKPOINTS)))
    assert "killed" in said
    assert not shop.containers()


def test_it_goes_on_from_its_checkpoint_and_is_killed_while_extracting(shop: Shop):
    said = killed_when(shop, lambda _: len(parts(shop)) > 2)
    assert re.search(r"teach +going on after epoch 1", said)
    assert "epoch 1/2" not in said
    assert "teach     done" in said


def test_it_goes_on_from_the_parts_that_are_there_and_registers_a_model(shop: Shop, client: MlflowClient):
    before = parts(shop)
    said = shop.run()
    assert re.search(r"teach +unchanged, reused", said)
    after = parts(shop)
    assert len(after) > len(before)
    assert {part: after[part] for part in before} == before
    assert f"accepted: {MODEL} version 1, champion" in said, said
    assert str(client.get_model_version_by_alias(MODEL, "champion").version) == "1"


def test_what_the_run_left_is_in_the_store_and_in_the_registry(shop: Shop, client: MlflowClient):
    run = (shop.root / "latest").resolve().name
    left = shop.store.keys(f"potstill/runs/{run}/")
    for name in ("report.html", "summary.json", "run.log", "_whole.json", "compress/edge/_whole.json"):
        assert f"potstill/runs/{run}/{name}" in left
    assert not shop.store.keys(CHECKPOINTS)
    experiment = client.get_experiment_by_name(MODEL)
    found = client.search_runs([experiment.experiment_id], f"tags.`kfp.run_id` = '{run}'")
    steps = {found.data.tags["potstill.step"] for found in found}
    assert {"pipeline", "ingest", "extract", "distill", "evaluate", "register"} <= steps
    assert shop.store.keys("mlflow/")


@pytest.fixture(scope="module")
def served(shop: Shop) -> Iterator[str]:
    """The champion, answered for by its container, which knows MLflow alone."""
    port = free_port()
    arguments = [MODEL, "--host=127.0.0.1", f"--port={port}", "--workers=1", "--poll-s=0.5"]
    image = read_lock(shop.lock)["serve"]
    with server(
        shop.address, image, ["potstill", "serve", *arguments], port, shop.registry.environment, "--entrypoint="
    ) as number:
        ready = f"http://127.0.0.1:{port}/v2/health/ready"
        until("the service is ready", lambda: is_there(ready), PATIENCE_S)
        yield f"http://127.0.0.1:{port}"
        told = docker(shop.address, "logs", number)
        assert "Traceback" not in told


def is_there(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def asked(url: str, body: dict | None = None) -> dict:
    request = urllib.request.Request(
        url, None if body is None else json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def answers(url: str) -> list[dict]:
    """What the service says about `TEXTS`."""
    return asked(f"{url}/predict", {"rows": TEXTS})["answers"]


def predicted(shop: Shop, model: str) -> list[dict]:
    """What `potstill predict` says about them."""
    done = shop.potstill("predict", model, stdin="\n".join(TEXTS))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_same(served: list[dict], told: list[dict]) -> None:
    for one, other in zip(served, told, strict=True):
        assert one["label"] == other["label"]
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


def version_of(url: str) -> str:
    return asked(f"{url}/v2/models/{MODEL}")["versions"][0]


def test_its_container_serves_the_champion_with_the_answers_that_predict_gives(shop: Shop, served: str):
    assert version_of(served) == "1"
    told = answers(served)
    assert [answer["label"] for answer in told] == ["positive", "negative"]
    assert_same(told, predicted(shop, f"{MODEL}/1"))


def test_it_answers_as_kserve_asks(served: str):
    tensor = {"name": "text", "shape": [len(TEXTS)], "datatype": "BYTES", "data": TEXTS}
    told = asked(f"{served}/v2/models/{MODEL}/infer", {"inputs": [tensor], "outputs": [{"name": "label"}]})
    assert (told["model_name"], told["model_version"]) == (MODEL, "1")
    assert told["outputs"] == [{"name": "label", "shape": [2], "datatype": "BYTES", "data": ["positive", "negative"]}]


def test_another_student_of_the_same_teacher_is_registered_and_promoted(shop: Shop, client: MlflowClient, served: str):
    said = shop.run("--set", "distill.temperature=3", "--set", "register.promote=never")
    for step in ("teach", "extract"):
        assert re.search(rf"{step} +unchanged, reused", said)
    assert f"accepted: {MODEL} version 2" in said, said
    assert version_of(served) == "1"
    done = shop.potstill("promote", MODEL, "2", "--force", "--reason", "the check wants it")
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(client.get_model_version_by_alias(MODEL, "champion").version) == "2"
    until("the service answers by version 2", lambda: version_of(served) == "2", PATIENCE_S)
    first, second = predicted(shop, f"{MODEL}/1"), predicted(shop, f"{MODEL}/2")
    assert first[0]["probabilities"] != pytest.approx(second[0]["probabilities"], abs=1e-3)
    assert_same(answers(served), second)


def test_rolled_back_the_first_serves_again(shop: Shop, served: str):
    done = shop.potstill("rollback", MODEL, "--reason", "the check wants it back")
    assert done.returncode == 0, done.stdout + done.stderr
    until("the service answers by version 1", lambda: version_of(served) == "1", PATIENCE_S)
    assert_same(answers(served), predicted(shop, f"{MODEL}/1"))
    moves = shop.potstill("history", MODEL).stdout
    assert moves.count("the check wants it") == 2
    assert shop.registry.user in moves


def test_no_secret_is_told(shop: Shop):
    secrets = (shop.store.secret, shop.registry.password)
    for path in shop.root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [secret for secret in secrets if secret.encode() in content], path
