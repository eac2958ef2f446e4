"""Release: the version that is served, as the one process that follows the registry tells it to those that answer.

It lies in a folder that only this service uses: a folder a version, and `current.json`, which is renamed into place, so
that a reader sees the old version or the new one.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from potstill.edge import EdgeModel
from potstill.store import write_text

CURRENT = "current.json"
WARM_UP = "warm up"


@dataclass(frozen=True)
class Release:
    """A version of a model.

    Attributes:
        name: of the model.
        version: its number in the registry; `0` for a folder that no registry knows.
        folder: of its files.
    """

    name: str
    version: str
    folder: str


@dataclass(frozen=True)
class Served:
    """A release at work."""

    release: Release
    edge: EdgeModel

    @classmethod
    def open(cls, release: Release) -> "Served":
        """Load its files and let it answer once: a broken version shows here, and the first user waits no longer.

        Raises:
            Exception: whatever the files' readers raise on files that are no edge model.
        """
        edge = EdgeModel(release.folder)
        # Of a cascade the smaller model may be sure of this, so the larger one is asked by itself.
        for model in (edge, edge.larger):
            model.answer([WARM_UP])
        return cls(release, edge)


def announce(state: Path, release: Release) -> None:
    """Make this the version that is served."""
    write_text(state / CURRENT, json.dumps(asdict(release)))


def announced(state: Path) -> Release:
    """The version that is to be served."""
    return Release(**json.loads((state / CURRENT).read_text(encoding="utf-8")))
