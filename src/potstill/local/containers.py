"""Steps of a run on this machine in containers: the images of a cluster, as confined as there."""

import codecs
import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container
from kfp import local
from kfp.local import docker_task_handler

from potstill.errors import UserError
from potstill.pipelines.pods import USER

# What a step may know of the environment: where things are recorded, kept and found, and with which credentials.
HANDED_ON = ("MLFLOW_", "AWS_", "HF_", "OMP_", "GOMP_", "TOKENIZERS_", "POTSTILL_RUN_ID")
LABEL = "potstill.run"
# What a container that ran but gave no exit code is taken for.
FAILED = 1
# 128 and the number of SIGKILL.
KILLED = 137


@dataclass
class Containers:
    """Runs steps in containers, in place of kfp's own way, which can take a failed container for a good one.

    kfp 2.17 lets the engine remove a container as soon as it ends. If that comes before kfp asks how it ended, kfp
    takes it for a success. Here a container is removed only after its exit code is known.

    Attributes:
        folder: which steps may read; places in a recipe are relative to it.
    """

    folder: Path
    _running: set[Container] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def carry_out(
        self, client: docker.DockerClient, image: str, command: list[str], volumes: dict[str, Any], **options: Any
    ) -> int:
        """Create, start, follow, wait, remove; returns the exit code. kfp gives the arguments."""
        readable = {str(self.folder): {"bind": str(self.folder), "mode": "ro"}}
        container = client.containers.create(
            image, command, volumes=readable | volumes, working_dir=str(self.folder), **options
        )
        with self._lock:
            self._running.add(container)
        try:
            container.start()
            _follow(container)
            code = int(container.wait()["StatusCode"])
            if code == KILLED:
                print(f"container │ {container.short_id} was killed: by hand, or as it took more memory than there is")
            return code
        except NotFound:
            return FAILED
        finally:
            with self._lock:
                self._running.discard(container)
            _remove(container)

    def end(self) -> None:
        """End what still runs: other turns of a loop, when one failed or a person stopped the run."""
        with self._lock:
            running = list(self._running)
        for container in running:
            _remove(container)


def _follow(container: Container) -> None:
    """Print what a container says, until it ends."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for part in container.logs(stream=True, follow=True):
        print(decoder.decode(part), end="")
    print(decoder.decode(b"", final=True), end="")


def _remove(container: Container) -> None:
    # Two may want to remove the same one.
    with contextlib.suppress(NotFound, APIError):
        container.remove(force=True, v=True)


@contextlib.contextmanager
def containers(folder: Path) -> Iterator[Containers]:
    """While the block runs, kfp's `DockerRunner` runs containers by `Containers`."""
    ours, kfps = Containers(folder), docker_task_handler.run_docker_container
    docker_task_handler.run_docker_container = ours.carry_out
    try:
        yield ours
    finally:
        docker_task_handler.run_docker_container = kfps
        ours.end()


def confined(run_name: str, environment: Mapping[str, str]) -> local.DockerRunner:
    """A runner whose containers may do nothing special: their root is read-only, their user isn't root.

    The network is the machine's own, where stores and MLflow may listen on loopback.

    Args:
        run_name: is in each container's label `potstill.run`.
        environment: of which steps see what is in `HANDED_ON`.
    """
    uid, gid = user()
    return local.DockerRunner(
        user=f"{uid}:{gid}",
        read_only=True,
        tmpfs={"/tmp": "mode=1777"},  # noqa: S108
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        network_mode="host",
        labels={LABEL: run_name},
        environment={name: value for name, value in environment.items() if name.startswith(HANDED_ON)}
        # The folder that steps read must not stand in for a library.
        | {"PYTHONSAFEPATH": "1"},
    )


def user() -> tuple[int, int]:
    """Whose containers are: the caller's or, where that is root, the images' own."""
    return (os.getuid(), os.getgid()) if os.getuid() else (USER, USER)


def hand_over(root: Path) -> None:
    """Let steps write into the folders below the root, where the caller is root and they are not."""
    uid, gid = user()
    if uid == os.getuid():
        return
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())):
        os.chown(folder, uid, gid)


def fetch(images: Iterable[str]) -> None:
    """See that an engine answers and has the images; those that a registry has are pulled.

    Raises:
        UserError: no engine answers, or an image is neither here nor there.
    """
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        raise UserError(
            f"no container engine answers at {os.environ.get('DOCKER_HOST', 'its usual socket')}: start Docker, "
            "or name its address in DOCKER_HOST"
        ) from error
    with contextlib.closing(client):
        for image in sorted(set(images)):
            _fetch(client, image)


def _fetch(client: docker.DockerClient, image: str) -> None:
    try:
        client.images.get(image)
    except ImageNotFound as absent:
        if image.startswith("sha256:"):
            raise UserError(f"{image}: this machine's engine has no such image; make images builds it") from absent
        try:
            client.images.pull(image)
        except DockerException as error:
            raise UserError(f"{image}: can't be pulled: {getattr(error, 'explanation', None) or error}") from error
