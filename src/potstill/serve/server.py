"""Server: the processes that answer, and the one that keeps them at the version that the registry names."""

import json
import os
import socket
import sys
import tempfile
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn
from uvicorn.supervisors import Multiprocess

from potstill import registry
from potstill.edge import CARD
from potstill.errors import UserError
from potstill.serve.app import make_app
from potstill.serve.limits import Limits
from potstill.serve.release import Release, Served, announce

BACKLOG = 2048
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
        self._releases: list[Release] = []
        self._trouble = ""

    def begin(self) -> Release:
        """Announce the first version.

        Raises:
            UserError: there is none, or its files are no edge model.
        """
        if Path(self._reference).is_dir():
            return self._take(_unregistered(Path(self._reference).absolute()))
        return self._take(self._fetched(*registry.named(self._reference)))

    def follow(self, every_s: float, done: threading.Event) -> None:
        """Look into the registry again and again; whatever goes wrong there, what serves goes on."""
        while not done.wait(every_s):
            try:
                name, version = registry.named(self._reference)
                if version != self._releases[-1].version:
                    _say(f"{name} version {self._take(self._fetched(name, version)).version} takes over")
                self._trouble = ""
            except Exception as error:  # noqa: BLE001 - a service must outlive its registry
                self._worry(f"{type(error).__name__}: {error}" if not isinstance(error, UserError) else str(error))

    @property
    def follows(self) -> bool:
        """Whether there is anything to follow: neither a folder nor a numbered version moves."""
        return "/" not in self._reference and not Path(self._reference).is_dir()

    def _fetched(self, name: str, version: str) -> Release:
        folder = self._state / version
        if not folder.is_dir():
            registry.download_edge(name, version, folder)
        return Release(name, version, str(next(folder.rglob(CARD)).parent))

    def _take(self, release: Release) -> Release:
        """Announce a version once it has answered here."""
        try:
            Served.open(release)
        except Exception as error:
            raise UserError(f"{release.name} version {release.version} can't be served: {error}") from error
        announce(self._state, release)
        self._releases.append(release)
        return release

    def _worry(self, trouble: str) -> None:
        """Say what is wrong, once."""
        if trouble != self._trouble:
            _say(f"still serving version {self._releases[-1].version}: {trouble}")
        self._trouble = trouble


def _unregistered(folder: Path) -> Release:
    """A folder as a release, named by the recipe that made it."""
    card = folder / CARD
    recipe = json.loads(card.read_text(encoding="utf-8")).get("recipe") if card.is_file() else None
    return Release(recipe or folder.name, "0", str(folder))


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
    with tempfile.TemporaryDirectory(prefix="potstill-serve-") as scratch:
        state, figures = Path(scratch), Path(scratch) / "metrics"
        follower = Follower(reference, state)
        release = follower.begin()
        figures.mkdir()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(figures)
        config = uvicorn.Config(
            partial(make_app, state, limits),
            factory=True,
            workers=address.workers,
            http="httptools",
            loop="uvloop",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=round(limits.time_s) + 1,
        )
        done = threading.Event()
        with _listening(address) as listener:
            host, port = listener.getsockname()[:2]
            _say(f"{release.name} version {release.version} on http://{host}:{port} ({_processes(address.workers)})")
            if follower.follows:
                threading.Thread(target=follower.follow, args=(every_s, done), daemon=True).start()
            try:
                Multiprocess(config, [listener]).run()
            finally:
                done.set()


def _listening(address: Address) -> socket.socket:
    try:
        return socket.create_server((address.host, address.port), backlog=BACKLOG)
    except OSError as error:
        raise UserError(
            f"--port {address.port}: can't listen on {address.host}: {os.strerror(error.errno or 0)}"
        ) from error


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
