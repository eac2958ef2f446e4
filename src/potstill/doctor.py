"""Whether everything that a run needs is there: tried, not assumed, and told by name where it isn't."""

import functools
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mlflow.exceptions import MlflowException

from potstill import tracking
from potstill.data.read import find_files
from potstill.errors import UserError
from potstill.recipe import SEVERAL, require_store
from potstill.shelves import shelf_at

EXPERIMENT, KEPT = "potstill-doctor", "tried.txt"
# Where libraries look for a bucket's credentials besides a file or a role.
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True)
class Finding:
    """What came of one check.

    Attributes:
        what: was tried.
        passed: whether it went well.
        words: what was seen or, where it went wrong, what to do.
    """

    what: str
    passed: bool
    words: str


def examine(store: str, sources: Iterable[str], shards: int = 1) -> Iterator[Finding]:
    """Try the store, the places of the rows, and MLflow.

    Args:
        store: a folder or s3:// that outlives runs; empty: there is none.
        sources: places of rows.
        shards: extractions side by side; several need a store.
    """
    if store or shards > 1:
        yield found("store", functools.partial(_try_store, store, shards))
    for source in sources:
        yield found("rows", functools.partial(_try_source, source))
    yield found("MLflow", _try_mlflow)


def found(what: str, check: Callable[[], str]) -> Finding:
    """The finding of a check that tells what it saw, or raises a UserError."""
    try:
        return Finding(what, True, check())
    except UserError as error:
        return Finding(what, False, f"{error}{_missing(str(error))}")


def _missing(told: str) -> str:
    """Which of a bucket's settings are not there, where that is what went wrong."""
    absent = [name for name in KEYS if not os.environ.get(name)]
    return f"; not set: {', '.join(absent)}" if "credentials" in told.lower() and absent else ""


def _try_store(location: str, shards: int) -> str:
    """Put, get and delete."""
    require_store(shards, location)
    # A shelf of its own, for there may be millions of names beside it.
    shelf, name = shelf_at(location).inside("doctor"), str(uuid.uuid4())
    content = name.encode()
    try:
        shelf.write(name, content)
        if shelf.read(name) != content:
            raise UserError(f"{location}: gives back something else than was put there")
        shelf.remove(name)
        if name in shelf.names():
            raise UserError(f"{location}: lists what was deleted")
    except OSError as error:
        raise UserError(f"{location}: {error.strerror or error}") from error
    return f"{location}: put, got and deleted"


def _try_source(location: str) -> str:
    files = find_files(location)
    return f"{location}: {len(files):,} {'file' if len(files) == 1 else 'files'}"


def _try_mlflow() -> str:
    """Reach it and, if it is a server, put a file where it keeps artifacts; the same place each time."""
    client = tracking.client()
    where = tracking.public(client.tracking_uri)
    if not client.tracking_uri.startswith("http"):
        return f"{where}: answers"
    try:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        number = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
        runs = client.search_runs([number], max_results=1)
        run = runs[0] if runs else client.create_run(number, run_name=EXPERIMENT)
        client.log_text(run.info.run_id, "potstill", KEPT)
        if KEPT not in {entry.path for entry in client.list_artifacts(run.info.run_id)}:
            raise UserError("MLflow keeps no artifacts: what was logged isn't listed")
    except (MlflowException, OSError) as error:
        raise UserError(f"MLflow at {where}: {tracking.reason(error, client.tracking_uri)}") from error
    return f"{where}: answers, and keeps artifacts"


def places_of(*locations: str | None) -> list[str]:
    """The places that locations name."""
    return [place for location in locations if location for place in location.split(SEVERAL)]
