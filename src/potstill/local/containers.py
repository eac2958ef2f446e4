"""Steps of a run on this machine in containers: the images of a cluster, as confined as there."""

import codecs
import contextlib
import os
import signal
import socket
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
HANDED_ON = ("MLFLOW_", "AWS_", "HF_", "OMP_", "GOMP_", "TOKENIZERS_", "POTSTILL_RUN_ID", "HTTP", "NO_PROXY")
# Labels: whose step a container is, and which process of which machine looks after it.
RUN, KEEPER = "potstill.run", "potstill.keeper"
# Of a store that is a folder, what steps write to.
WRITTEN = ("checkpoints", "doctor", "signals")
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
        readable: a folder that steps may read; places in a recipe are relative to it.
        writable: folders that they may write to besides the root of runs.
    """

    readable: Path
    writable: Iterable[Path] = ()
    _running: set[Container] = field(default_factory=set)
    # An interruption may come to the thread that holds it.
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def carry_out(
        self, client: docker.DockerClient, image: str, command: list[str], volumes: dict[str, Any], **options: Any
    ) -> int:
        """Create, start, follow, wait, remove; returns the exit code. kfp gives the arguments."""
        ours = {str(self.readable): {"bind": str(self.readable), "mode": "ro"}}
        ours |= {str(folder): {"bind": str(folder), "mode": "rw"} for folder in self.writable}
        container = None
        try:
            with self._lock:
                container = client.containers.create(
                    image, command, volumes=ours | volumes, working_dir=str(self.readable), **options
                )
                self._running.add(container)
            container.start()
            _follow(container)
            code = int(container.wait()["StatusCode"])
            if code == KILLED:
                print(f"container │ {container.short_id} was killed: by hand, or as it took more memory than there is")
            return code
        except NotFound:
            return FAILED
        except DockerException as error:
            print(f"container │ {getattr(error, 'explanation', None) or error}")
            return FAILED
        finally:
            if container is not None:
                self._remove(container)

    def end(self) -> None:
        """End what runs now: a failed step or an interruption leaves nothing behind."""
        with self._lock:
            running = list(self._running)
        for container in running:
            self._remove(container)

    def _remove(self, container: Container) -> None:
        with self._lock:
            self._running.discard(container)
        # Two may want to remove the same one.
        with contextlib.suppress(NotFound, APIError):
            container.remove(force=True, v=True)


def _follow(container: Container) -> None:
    """Print what a container says, until it ends."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for part in container.logs(stream=True, follow=True):
        print(decoder.decode(part), end="")
    print(decoder.decode(b"", final=True), end="")


@contextlib.contextmanager
def containers(readable: Path, *writable: Path) -> Iterator[Containers]:
    """While the block runs, kfp's `DockerRunner` runs containers by `Containers`; an end of this process ends them."""
    ours, kfps = Containers(readable, writable), docker_task_handler.run_docker_container

    def ended(*_: Any) -> None:
        ours.end()
        raise KeyboardInterrupt

    docker_task_handler.run_docker_container = ours.carry_out
    # Who ignores one of them, as under nohup, goes on ignoring it.
    heard = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in heard:
        signal.signal(number, ended)
    try:
        yield ours
    finally:
        docker_task_handler.run_docker_container = kfps
        ours.end()
        for number in heard:
            signal.signal(number, signal.SIG_DFL)


def confined(run_name: str, environment: Mapping[str, str]) -> local.DockerRunner:
    """A runner whose containers may do nothing special: their root is read-only, their user isn't root.

    The network is the machine's own, where stores and MLflow may listen on loopback.

    Args:
        run_name: is in each container's label `potstill.run`.
        environment: of which steps see what is in `HANDED_ON`, but for files, which they would not find.
    """
    uid, gid = user()
    told = {name: value for name, value in environment.items() if name.upper().startswith(HANDED_ON)}
    return local.DockerRunner(
        user=f"{uid}:{gid}",
        read_only=True,
        tmpfs={"/tmp": "mode=1777"},  # noqa: S108
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        network_mode="host",
        labels={RUN: run_name, KEEPER: f"{socket.gethostname()}:{os.getpid()}"},
        # The folder that steps read must not stand in for a library.
        environment={name: value for name, value in told.items() if not value.startswith("/")}
        | {"PYTHONSAFEPATH": "1"},
    )


def user() -> tuple[int, int]:
    """Whose containers are: the caller's or, where that is root, the images' own."""
    return (os.getuid(), os.getgid()) if os.getuid() else (USER, USER)


def hand_over(run: Path, store: Path) -> None:
    """Let steps write into a run's folder and a store's, where the caller is root and they are not."""
    folders = [run, *(store / name for name in WRITTEN)]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    uid, gid = user()
    if uid == os.getuid():
        return
    for folder in folders:
        for path in (folder, *(below for below in folder.rglob("*") if not below.is_symlink())):
            os.chown(path, uid, gid)


def prepare(images: Iterable[str]) -> None:
    """See that an engine answers and has the images; those that a registry has are pulled.

    Containers of this machine's runs that were killed, and so could not end them, are removed.

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
        for container in client.containers.list(all=True, filters={"label": KEEPER}):
            host, _, process = container.labels[KEEPER].rpartition(":")
            if host == socket.gethostname() and not Path("/proc", process).exists():
                container.remove(force=True, v=True)
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
