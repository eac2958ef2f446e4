"""A container engine, the images built on it, and servers in containers that end with the checks."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from machine import listens, started, until
from potstill.images import LOCK, read_lock

HERE = Path(__file__).resolve().parents[1]
IMAGES = HERE / "scripts" / "images.py"
DEBIAN_BASE = "potstill-base:bookworm"
# Debian's own, which builds with BuildKit; a client elsewhere on the path may not.
DOCKER = "/usr/bin/docker"
# Debian's package ca-certificates keeps them here.
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
PATIENCE_S = 90
PULL_S = 120
CONFINED = ("--read-only", "--tmpfs=/tmp:mode=1777", "--user=10001:10001", "--cap-drop=ALL", "--network=host")


@contextlib.contextmanager
def engine(folder: Path) -> Iterator[str]:
    """The address of an engine without a bridge, whose containers use the machine's network."""
    socket, log = folder / "docker.sock", folder / "dockerd.log"
    command = [
        "/usr/sbin/dockerd",
        "--data-root",
        folder / "data",
        "--exec-root",
        folder / "exec",
        "-p",
        folder / "pid",
    ]
    network = ["--iptables=false", "--bridge=none", "--default-ulimit", "nofile=20000:20000"]
    # Where the machine has an engine of its own, the two share nothing.
    apart = ["--containerd-namespace=potstill-e2e", "--containerd-plugins-namespace=potstill-e2e-plugins"]
    try:
        with started([*command, *network, *apart, "-H", f"unix://{socket}"], log):
            until("dockerd answers", lambda: _succeeds(f"unix://{socket}", "version"), PATIENCE_S, log)
            yield f"unix://{socket}"
    finally:
        # It leaves the network namespace of its containers mounted.
        for line in Path("/proc/self/mounts").read_text().splitlines():
            if (place := line.split()[1]).startswith(str(folder)):
                subprocess.run(["umount", "--lazy", place], check=False)


def build(address: str, lock: Path) -> None:
    """Build the images and write the lock file that names them."""
    options = ["--base", _base(address), "--lock", str(lock)]
    # A network with a mirror or certificates of its own says so as pip reads it, or to the whole machine.
    wheels = os.environ.get("PIP_FIND_LINKS", "")
    options += [f"--wheels={wheels}"] if Path(wheels).is_dir() else []
    authorities = os.environ.get("PIP_CERT", CERTIFICATES)
    options += [f"--ca={authorities}"] if Path(authorities).is_file() else []
    images(address, "build", *options)


def _base(address: str) -> str:
    """What images are built on: the locked base or, where its registry isn't reached, one from Debian's archive."""
    locked = read_lock(LOCK)["base"]
    if _succeeds(address, "image", "inspect", DEBIAN_BASE):
        return DEBIAN_BASE
    with contextlib.suppress(subprocess.TimeoutExpired):
        if _succeeds(address, "pull", "--quiet", locked, patience_s=PULL_S):
            return locked
    images(address, "base")
    return DEBIAN_BASE


def images(address: str, *command: str) -> None:
    """Run scripts/images.py on an engine."""
    subprocess.run([sys.executable, IMAGES, *command], check=True, env=_environment(address))


def docker(address: str, *command: str) -> str:
    """What the engine's client prints."""
    done = subprocess.run([DOCKER, *command], env=_environment(address), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {command[0]}: {done.stderr}"
    return done.stdout.strip()


def _succeeds(address: str, *command: str, patience_s: float | None = None) -> bool:
    done = subprocess.run(
        [DOCKER, *command], env=_environment(address), capture_output=True, check=False, timeout=patience_s
    )
    return done.returncode == 0


def _environment(address: str) -> dict[str, str]:
    return os.environ | {"DOCKER_HOST": address, "DOCKER": DOCKER}


@contextlib.contextmanager
def server(
    address: str, image: str, arguments: list[str], port: int, environment: Mapping[str, str], *options: str
) -> Iterator[str]:
    """A confined container that listens on a port of loopback while the block runs; its identity."""
    variables = [f"--env={name}={value}" for name, value in environment.items()]
    number = docker(address, "run", "--detach", *CONFINED, *variables, *options, image, *arguments)
    try:
        until(f"{arguments} listens", lambda: _up(address, number, port), PATIENCE_S)
        yield number
    finally:
        docker(address, "rm", "--force", "--volumes", number)


def _up(address: str, number: str, port: int) -> bool:
    running = docker(address, "inspect", "--format", "{{.State.Running}}", number)
    assert running == "true", docker(address, "logs", number)
    return listens(port)
