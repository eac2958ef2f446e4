"""The service as processes: it follows the registry without losing a request, and ends without losing one."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from tiny import fresh_mlflow, write_edge

from potstill import promotion, registry
from potstill.store import folder_digest

MODEL = "reviews"
POTSTILL = str(Path(sys.executable).with_name("potstill"))
PATIENCE_S = 120


@dataclass
class Running:
    """A service, and what it says."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(iter(self.process.stderr.readline, ""))

    def said(self, pattern: str) -> re.Match[str]:
        """Wait until a line says it."""
        found = until(lambda: re.search(pattern, "".join(self.lines)), lambda: "".join(self.lines))
        assert isinstance(found, re.Match)
        return found

    @property
    def url(self) -> str:
        return self.said(r"on (http://\S+)")[1]

    def ask(self, text: str = "good") -> dict[str, Any]:
        body = json.dumps({"rows": [text]}).encode()
        request = urllib.request.Request(f"{self.url}/predict", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            told: dict[str, Any] = json.load(response)
        return told

    def version(self) -> str:
        return str(self.ask()["version"])

    def processes(self) -> list[int]:
        """The service's processes that answer."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def until(true: Any, why: Any = lambda: "") -> Any:
    """Wait for something that is true at last."""
    end = time.monotonic() + PATIENCE_S
    while not (found := true()):
        assert time.monotonic() < end, why()
        time.sleep(0.05)
    return found


class Shop:
    """A registry with versions, the first of which is the champion, and services of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.uri = folder, fresh_mlflow(folder)
        os.environ["MLFLOW_TRACKING_URI"] = self.uri
        self.client = MlflowClient(self.uri)
        self.experiment = self.client.create_experiment("reviews", artifact_location=(folder / "artifacts").as_uri())
        self.running: list[Running] = []
        self.scratch = folder / "scratch"
        self.scratch.mkdir()

    def register(self, edge: Path, alias: str = "challenger") -> str:
        found = registry.register_edge(
            MODEL,
            edge,
            run_id=self.client.create_run(self.experiment).info.run_id,
            tags={"edge_digest": folder_digest(edge)},
            alias=alias,
            judged_against="none",
            why="test",
        )
        assert found.version is not None
        return found.version

    def serve(self, reference: str, *options: str) -> Running:
        command = [POTSTILL, "serve", reference, "--port", "0", "--workers", "2", "--poll-s", "0.2", *options]
        env = os.environ | {"TMPDIR": str(self.scratch)}
        self.running.append(Running(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)))
        return self.running[-1]

    def state(self) -> Path:
        """The folder of the service that runs."""
        return next(self.scratch.glob("potstill-serve-*"))

    def close(self) -> None:
        for running in self.running:
            running.process.terminate()
            running.process.wait(PATIENCE_S)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    shop = Shop(tmp_path)
    shop.register(write_edge(tmp_path / "edge-1", good=2.0), "champion")
    yield shop
    shop.close()


def test_a_moved_alias_takes_over_and_rolls_back_without_a_lost_request(shop: Shop):
    shop.register(write_edge(shop.folder / "edge-2", good=1.0))
    service = shop.serve(MODEL)
    assert service.version() == "1"
    asking, answers, wrong = threading.Event(), [], []

    def hammer() -> None:
        while not asking.is_set():
            try:
                told = service.ask()
                answers.append((told["version"], round(told["answers"][0]["confidence"], 3)))
            except (urllib.error.URLError, OSError) as error:
                wrong.append(error)

    clients = [threading.Thread(target=hammer) for _ in range(4)]
    for client in clients:
        client.start()
    promotion.promote(MODEL, None, "better", force=True)
    service.said("reviews version 2 takes over")
    until(lambda: {version for version, _ in answers[-20:]} == {"2"}, lambda: answers[-20:])
    promotion.rollback(MODEL, "worse")
    service.said("reviews version 1 takes over")
    until(lambda: {version for version, _ in answers[-20:]} == {"1"}, lambda: answers[-20:])
    asking.set()
    for client in clients:
        client.join()
    assert not wrong
    # 1 / (1 + e^-2) and 1 / (1 + e^-1): each answer is of the version that it names.
    assert set(answers) == {("1", 0.881), ("2", 0.731)}


def test_a_version_that_cannot_be_opened_does_not_take_over(shop: Shop):
    broken = write_edge(shop.folder / "edge-2", good=1.0)
    service = shop.serve(MODEL)
    assert service.version() == "1"
    (broken / "model.onnx").write_bytes(b"no graph")
    shop.register(broken)
    promotion.promote(MODEL, None, "by mistake", force=True)
    service.said(r"still serving version 1: reviews version 2 can't be served")
    assert service.version() == "1"
    promotion.rollback(MODEL, "it is broken")
    time.sleep(1)
    assert "".join(service.lines).count("still serving") == 1


def test_it_outlives_its_registry(shop: Shop):
    service = shop.serve(f"{MODEL}@champion")
    assert service.version() == "1"
    (shop.folder / "mlflow.db").write_bytes(b"no database any more")
    service.said("still serving version 1")
    assert service.version() == "1"


def test_no_process_that_answers_has_torch_or_mlflow(shop: Shop):
    service = shop.serve(MODEL)
    service.ask()
    assert len(service.processes()) == 2
    for pid in service.processes():
        loaded = Path(f"/proc/{pid}/maps").read_text()
        assert "onnxruntime" in loaded
        assert not re.search(r"libtorch|sqlalchemy|site-packages/pandas", loaded)


def test_what_has_begun_is_answered_before_it_ends(shop: Shop):
    service = shop.serve(MODEL, "--batch", "8", "--wait-ms", "900")
    service.ask()
    answers: list[Any] = []
    client = threading.Thread(target=lambda: answers.append(service.ask("bad")))
    client.start()
    time.sleep(0.3)
    service.process.send_signal(signal.SIGTERM)
    client.join()
    assert answers[0]["answers"][0]["label"] == "negative"
    assert service.process.wait(PATIENCE_S) == 0


def test_a_process_that_dies_is_replaced(shop: Shop):
    service = shop.serve(MODEL)
    service.ask()
    before = set(service.processes())
    os.kill(min(before), signal.SIGKILL)
    until(lambda: len(set(service.processes()) - before) == 1 and len(service.processes()) == 2)
    assert service.version() == "1"


def test_a_folder_is_served_without_a_registry(shop: Shop):
    service = shop.serve(str(shop.folder / "edge-1"))
    told = service.ask("bad")
    assert (told["model"], told["version"], told["answers"][0]["label"]) == ("edge-1", "0", "negative")


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("review", "potstill: review: no such registered model; did you mean reviews?"),
        ("reviews@challenger", "potstill: reviews has no challenger; name a version: 1"),
        ("reviews/9", "potstill: reviews: no version 9; there is 1"),
        ("{folder}", "potstill: {folder}: no edge model there: "),
    ],
)
def test_what_is_not_there_is_told_in_one_line(shop: Shop, reference: str, why: str):
    names = {"folder": shop.folder, "name": shop.folder.name}
    service = shop.serve(reference.format(**names))
    assert service.process.wait(PATIENCE_S) == 2
    until(lambda: service.lines)
    assert len(service.lines) == 1
    assert service.lines[0].startswith(why.format(**names))


def test_a_port_that_is_taken_is_told_in_one_line(shop: Shop):
    port = shop.serve(MODEL).url.rpartition(":")[2]
    command = [POTSTILL, "serve", MODEL, "--port", port]
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert second.returncode == 2
    assert second.stderr == f"potstill: can't listen on 127.0.0.1, port {port}: Address already in use\n"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--host", "nowhere.invalid"), "potstill: can't listen on nowhere.invalid"),
        (("--timeout-s", "nan"), "potstill: --wait-ms, --timeout-s and --poll-s must be finite"),
        (("--wait-ms", "5"), "potstill: --wait-ms: a row that goes alone waits for no other; give --batch too"),
    ],
)
def test_options_that_cannot_be_are_told_in_one_line(shop: Shop, options: tuple[str, ...], why: str):
    service = shop.serve(str(shop.folder / "edge-1"), *options)
    assert service.process.wait(PATIENCE_S) == 2
    until(lambda: service.lines)
    assert len(service.lines) == 1
    assert service.lines[0].startswith(why)


def test_a_download_that_failed_is_tried_again(shop: Shop):
    service = shop.serve(MODEL)
    assert service.version() == "1"
    shop.register(write_edge(shop.folder / "edge-2", good=1.0))
    (shop.folder / "artifacts").rename(shop.folder / "away")
    promotion.promote(MODEL, None, "while its files are away", force=True)
    service.said("still serving version 1")
    (shop.folder / "away").rename(shop.folder / "artifacts")
    service.said("reviews version 2 takes over")
    until(lambda: service.version() == "2")


def test_only_the_last_two_versions_are_kept_and_nothing_stays_behind(shop: Shop):
    for number in (2, 3):
        shop.register(write_edge(shop.folder / f"edge-{number}", good=number + 0.5))
    service = shop.serve(MODEL)
    service.ask()
    for version in ("2", "3"):
        promotion.promote(MODEL, version, "newer", force=True)
        service.said(f"reviews version {version} takes over")
    assert sorted(path.name for path in shop.state().iterdir() if path.name.isdecimal()) == ["2", "3"]
    service.process.terminate()
    service.process.wait(PATIENCE_S)
    assert not list(shop.scratch.glob("potstill-*"))


def test_what_announces_is_made_anew_where_it_was_tidied_up(shop: Shop):
    service = shop.serve(MODEL)
    service.ask()
    (shop.state() / "current.json").unlink()
    until(lambda: (shop.state() / "current.json").is_file())
    assert service.version() == "1"


@pytest.mark.parametrize("begun", [True, False])
def test_no_process_outlives_the_one_that_looks_after_it(shop: Shop, begun: bool):
    service = shop.serve(MODEL)
    if begun:
        service.ask()
    until(lambda: len(service.processes()) == 2)
    workers = service.processes()
    service.process.kill()
    assert until(lambda: not any(lives(pid) for pid in workers))


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about has no command any more."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        return False
