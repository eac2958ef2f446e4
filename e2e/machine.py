"""What the checks need of a Debian machine: packages, ports, and processes that end with them."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# By a program of each: what is there is not installed.
PACKAGES = {
    "/usr/sbin/dockerd": "docker.io",
    "/usr/sbin/debootstrap": "debootstrap",
    "/usr/bin/ceph-mon": "ceph-mon",
    "/usr/bin/ceph-mgr": "ceph-mgr",
    "/usr/bin/ceph-osd": "ceph-osd",
    "/usr/bin/radosgw": "radosgw",
    "/usr/bin/ceph": "ceph-common",
    "/usr/lib/postgresql/*/bin/initdb": "postgresql",
}
# Asked before a package starts a service of its own; 101 is no (Debian's policy manual for invoke-rc.d).
POLICY, FORBID = Path("/usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n"
STOPS_WITHIN_S = 30


def install() -> None:
    """Install the Debian packages that are missing, and start nothing of theirs."""
    missing = [package for program, package in PACKAGES.items() if not any(Path("/").glob(program[1:]))]
    if not missing:
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with _no_services():
        for words in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
            subprocess.run(["apt-get", "--quiet", *words], check=True, env=environment)


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """While the block runs, no package starts a service; who has said so already has it said."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text(FORBID)
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


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
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOPS_WITHIN_S)
        # Whatever it has started itself.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
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
