"""What the checks need of a Debian machine: packages, ports, and processes that end with them."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# By a program of each: what is there is not installed.
PACKAGES = {
    "dockerd": "docker.io",
    "debootstrap": "debootstrap",
    "ceph-mon": "ceph-mon",
    "ceph-mgr": "ceph-mgr",
    "ceph-osd": "ceph-osd",
    "radosgw": "radosgw",
    "ceph": "ceph-common",
    "psql": "postgresql",
}
STOPS_WITHIN_S = 30


def install() -> None:
    """Install the Debian packages that are missing."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if missing:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
            subprocess.run(["apt-get", "--quiet", *words], check=True, env=environment)


def free_port() -> int:
    """A port of loopback on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def started(
    command: list[str | Path], log: Path, environment: Mapping[str, str] | None = None, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs while the block does, and writes to a log."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=os.environ | (environment or {}), start_new_session=True, **options
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(what: str, happens: Callable[[], bool], patience_s: float, log: Path | None = None) -> None:
    """Wait until something is so; a check that fails says what never was, with the end of a log."""
    deadline = time.monotonic() + patience_s
    while not happens():
        if time.monotonic() > deadline:
            told = log.read_text(errors="replace")[-3000:] if log else ""
            raise AssertionError(f"after {patience_s:.0f} s still not: {what}\n{told}")
        time.sleep(0.5)


def listens(port: int) -> bool:
    """Whether something answers on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
