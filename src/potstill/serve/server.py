"""Server: the processes that answer, and the one that keeps them at the version that the registry names."""

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from potstill import registry
from potstill.edge import CARD
from potstill.errors import UserError
from potstill.serve.app import make_app
from potstill.serve.limits import Limits
from potstill.serve.release import Release, Served, announce
from potstill.store import writing

BACKLOG = 2048
# Connections a process, beyond which it answers 503 at once.
CONNECTIONS = 1000
# A load balancer that reuses connections should be the one that ends them.
KEEP_ALIVE_S = 75


@dataclass(frozen=True)
class Address:
    """Where to listen, and with how many processes."""

    host: str
    port: int
    workers: int


class Follower:
    """Keeps a folder's announcement at what a reference means in the registry.

    Args:
        reference: NAME, NAME@ALIAS or NAME/VERSION, or a folder with an edge model.
        state: the service's own folder.
    """

    def __init__(self, reference: str, state: Path) -> None:
        self._reference, self._state = reference, state
        self._trouble = ""
        self._current: Release
        # The one before keeps its files, for a process that is slow.
        self._kept: deque[str] = deque(maxlen=2)

    def begin(self) -> Release:
        """Announce the first version.

        Raises:
            UserError: there is none, or its files are no edge model.
        """
        if is_folder(self._reference):
            self._take(_unregistered(Path(self._reference).absolute()))
        else:
            self._take(self._fetched(*registry.named(self._reference)))
        return self._current

    def follow(self, every_s: float, done: threading.Event) -> None:
        """Look into the registry again and again; whatever goes wrong there, what serves goes on."""
        while not done.wait(every_s):
            try:
                self._look()
                self._trouble = ""
            except Exception as error:  # noqa: BLE001 - a service must outlive its registry
                self._worry(str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")

    def _look(self) -> None:
        # Again, lest somebody tidies temporary folders up and a process that starts finds nothing.
        announce(self._state, self._current)
        # Neither a folder nor a numbered version moves.
        if "/" in self._reference or is_folder(self._reference):
            return
        name, version = registry.named(self._reference)
        if version != self._current.version:
            self._take(self._fetched(name, version))
            _say(f"{name} version {version} takes over")

    def _fetched(self, name: str, version: str) -> Release:
        folder = self._state / version
        if not folder.is_dir():
            with writing(folder) as draft:
                registry.download_edge(name, version, draft)
        return Release(name, version, str(registry.edge_in(folder)))

    def _take(self, release: Release) -> None:
        """Announce a version once it has answered here."""
        try:
            Served.open(release)
        except Exception as error:
            raise UserError(f"{release.name} version {release.version} can't be served: {error}") from error
        announce(self._state, release)
        self._current = release
        self._kept.append(release.version)
        for folder in self._state.iterdir():
            if folder.name.isdecimal() and folder.name not in self._kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _worry(self, trouble: str) -> None:
        """Say what is wrong, once."""
        if trouble != self._trouble:
            _say(f"still serving version {self._current.version}: {trouble}")
        self._trouble = trouble


def is_folder(reference: str) -> bool:
    """Whether a reference is a folder's path and no model's name."""
    return reference.startswith(("/", ".")) or (Path(reference) / CARD).is_file()


def _unregistered(folder: Path) -> Release:
    """A folder as a release, named by the recipe that made it."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        return Release(card.get("recipe", folder.name), "0", str(folder))
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{folder}: no edge model there: {error}") from error


def serve(reference: str, address: Address, limits: Limits, every_s: float) -> None:
    """Serve a model until a signal ends it; requests that have begun are answered first.

    Args:
        reference: NAME (its champion), NAME@ALIAS, NAME/VERSION or a folder with an edge model.
        address: where.
        limits: what a request may cost.
        every_s: seconds between two looks into the registry.

    Raises:
        UserError: no such model, or the address is taken.
    """
    # Before uvicorn listens to signals: what was fetched must not stay behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="potstill-serve-") as scratch:
        state, figures = Path(scratch), Path(scratch) / "metrics"
        follower = Follower(reference, state)
        release = follower.begin()
        figures.mkdir()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(figures)
        config = uvicorn.Config(
            partial(make_app, state, limits, os.getpid()),
            factory=True,
            workers=address.workers,
            http="httptools",
            loop="uvloop",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=round(limits.time_s) + 1,
        )
        done = threading.Event()
        with _listening(address) as listener:
            _say(f"{release.name} version {release.version} on {_url(listener)} ({_processes(address.workers)})")
            threading.Thread(target=follower.follow, args=(every_s, done), daemon=True).start()
            supervisor = Multiprocess(config, [listener])
            try:
                supervisor.run()
            finally:
                done.set()
            if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
                raise UserError(f"{release.name}: a process could not start; its reason stands above")


def _listening(address: Address) -> socket.socket:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        family, *_, where = found[0]
        return socket.create_server(where[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise UserError(f"can't listen on {address.host}, port {address.port}: {why}") from error


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
