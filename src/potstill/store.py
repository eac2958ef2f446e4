"""Folders as artifacts: written whole or not at all, known by their content, found by name."""

import fcntl
import hashlib
import importlib.util
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from potstill.errors import UserError

PACKAGE_SCHEME = "package:"
# In a folder that stands for another.
POINTER = "elsewhere.json"


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder` that takes its name when the block ends well.

    After an error nothing half-written stays. An earlier `folder` is replaced.

    Raises:
        UserError: the place can't be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise UserError(f"{folder}: can't write there: {error.strerror}") from error
    try:
        yield draft
        draft.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, then rename: readers see the old text or the new one."""
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content: 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def point_to(target: Path, told_by: str, folder: Path) -> None:
    """Let a folder stand for another one, whose file `told_by` tells whether it is still the same."""
    told = {"folder": str(target.absolute()), "told_by": told_by, "sha256": file_digest(target / told_by)}
    write_text(folder / POINTER, json.dumps(told, indent=1))


def folder_behind(folder: Path) -> Path:
    """The folder that a folder stands for; itself, if it stands for none.

    Raises:
        UserError: that one isn't there, or not the same any more.
    """
    if not (folder / POINTER).is_file():
        return folder
    told = json.loads((folder / POINTER).read_text(encoding="utf-8"))
    target = Path(told["folder"])
    if not (target / told["told_by"]).is_file():
        raise UserError(f"{target}: it is gone, but {folder} stands for it; run the step that made it again")
    if file_digest(target / told["told_by"]) != told["sha256"]:
        raise UserError(f"{target}: it has changed since {folder} came to stand for it; run again")
    return target


@contextmanager
def alone(lock: Path) -> Iterator[bool]:
    """Hold a lock file while the block runs, and tell whether it was free; it is freed when the process ends, too."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def shelf(store: str, name: str) -> Path | None:
    """A folder in the store that outlives runs; none, where there is no store."""
    return Path(store, name) if store else None


def to_json(values: Any) -> str:
    """Values as JSON, in which what is not a number is null: others than Python read no NaN."""
    return json.dumps(_without_nan(values), indent=1, ensure_ascii=False, allow_nan=False)


def _without_nan(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {name: _without_nan(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_without_nan(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def folder_digest(folder: Path, but: str = "") -> str:
    """SHA-256 over the names and contents of a folder's files but one, in order of name: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / but):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def folder_bytes(folder: Path, but: str = "") -> int:
    """The size of all files but one in a folder and below it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path != folder / but)


def resolve(location: str) -> str:
    """Turn `package:NAME/path` into the folder inside that installed Python package; leave anything else as it is.

    Raises:
        UserError: the package is not installed, or holds no such path.
    """
    if not location.startswith(PACKAGE_SCHEME):
        return location
    name, _, inner = location.removeprefix(PACKAGE_SCHEME).partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{location}: the Python package {name!r} is not installed")
    path = Path(spec.submodule_search_locations[0], inner)
    if not path.exists():
        raise UserError(f"{location}: the package {name!r} holds no {inner!r}")
    return str(path)
