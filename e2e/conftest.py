"""A shop's whole world on one machine, as root: engine, images, object store, registry. It goes when checks end."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from engine import HERE, build, docker, engine
from machine import install
from object_store import BUCKET, ObjectStore, object_store
from potstill.images import read_lock
from registry import Registry, registry

RECIPE = Path(__file__).with_name("recipe.yaml")
PRODUCTS = 150
STORE = f"s3://{BUCKET}/potstill"


@dataclass(frozen=True)
class Shop:
    """Who types commands, and what they find."""

    address: str
    lock: Path
    store: ObjectStore
    registry: Registry
    root: Path

    @property
    def environment(self) -> dict[str, str]:
        return self.store.environment | self.registry.environment | {"DOCKER_HOST": self.address}

    def command(self, *words: str) -> list[str]:
        return [str(Path(sys.executable).with_name("potstill")), *words, "--root", str(self.root)]

    def potstill(self, *words: str, stdin: str = "", **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            input=stdin,
            env=os.environ | self.environment | changed,
            capture_output=True,
            text=True,
            check=False,
            # The recipe's relative places are none of a user's own.
            cwd=self.root,
        )

    def run_words(self, *flags: str) -> list[str]:
        return ["run", str(RECIPE), "--images", str(self.lock), "--store", STORE, *flags]

    def run(self, *flags: str, **changed: str) -> str:
        done = self.potstill(*self.run_words(*flags), **changed)
        assert done.returncode == 0, done.stdout + done.stderr + self.log()
        return done.stdout

    def containers(self) -> list[str]:
        """Of steps that run now."""
        return docker(self.address, "ps", "--quiet", "--filter", "label=potstill.run").split()

    def log(self) -> str:
        logs = sorted(self.root.glob("*/run.log"), key=lambda path: path.stat().st_mtime)
        return logs[-1].read_text()[-3000:] if logs else ""


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    # What ends this process ends with all that it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Gigabytes: /tmp may be memory.
    with tempfile.TemporaryDirectory(prefix="potstill-e2e-", dir="/var/tmp") as made:
        # Not all that runs here runs as root.
        Path(made).chmod(0o711)
        yield Path(made)


@pytest.fixture(scope="session")
def address(folder: Path) -> Iterator[str]:
    assert os.getuid() == 0, "installing packages and starting a container engine take root"
    install()
    # An engine that runs already keeps what it has built: for who works on these checks.
    if running := os.environ.get("DOCKER_HOST"):
        yield running
        return
    (folder / "engine").mkdir()
    with engine(folder / "engine") as started:
        yield started


@pytest.fixture(scope="session")
def lock(address: str, folder: Path) -> Path:
    path = folder / "images.lock.yaml"
    build(address, path)
    return path


@pytest.fixture(scope="session")
def shop(address: str, lock: Path, folder: Path) -> Iterator[Shop]:
    for name in ("store", "registry", "runs"):
        (folder / name).mkdir(mode=0o711)
    with object_store(folder / "store") as store:
        rows = pd.read_parquet(HERE / "data" / "review-snippets.parquet")
        some = rows[(rows["product"].astype(int) <= PRODUCTS) & (rows["sentiment"] != "neutral")]
        store.client().put_object(Bucket=BUCKET, Key="rows/reviews.parquet", Body=some.to_parquet(None))
        with registry(address, read_lock(lock)["mlflow"], folder / "registry", store) as known:
            yield Shop(address, lock, store, known, folder / "runs")
