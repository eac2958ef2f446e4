"""Folders as artifacts: written whole or not at all, known by their content, found by name."""

import fcntl
import hashlib
import importlib.util
import json
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from potstill.errors import UserError

PACKAGE_SCHEME = "package:"


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


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """Yield a name beside a file that the block writes to, and that takes the file's name when it ends well."""
    draft = path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, then rename: readers see the old text or the new one."""
    with drafted(path) as draft:
        draft.write_text(text, encoding="utf-8")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content: 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


class Shelf(Protocol):
    """Where things outlive a run, by names such as `a/b.json`: a folder, or what a bucket holds under one location.

    Each thing is there whole or not at all. `read` and `fetch` raise a FileNotFoundError for what isn't there.
    """

    def inside(self, name: str) -> "Shelf":
        """The shelf below this one."""

    def read(self, name: str) -> bytes:
        """A whole file."""

    def write(self, name: str, content: bytes) -> None:
        """Put content in the place of whatever was there."""

    def add(self, name: str, file: Path) -> bool:
        """Put a copy of a file unless something is there already; whether it was. Of two that race, one is told no."""

    def replace(self, name: str, file: Path) -> None:
        """Put a copy of a file in the place of whatever was there."""

    def fetch(self, name: str, to: Path) -> None:
        """Copy a file out."""

    def digest(self, name: str) -> str | None:
        """SHA-256 of a file; none: it isn't there, or nobody knows."""

    def names(self) -> Iterator[str]:
        """Names of all files here and below, in their order, without hidden ones that are being written."""

    def remove(self, name: str) -> None:
        """Take a file away, if it is there."""


@dataclass(frozen=True)
class Folder:
    """A folder as a shelf."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def inside(self, name: str) -> "Folder":
        """The shelf below this one."""
        return Folder(self.path / name)

    def read(self, name: str) -> bytes:
        """A whole file."""
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Put content in the place of whatever was there."""
        with drafted(self._ready(name)) as draft:
            draft.write_bytes(content)

    def add(self, name: str, file: Path) -> bool:
        """Put a copy of a file unless something is there already; whether it was put."""
        path = self._ready(name)
        draft = path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}")
        try:
            shutil.copyfile(file, draft)
            # Unlike a rename, a link does not take the place of what is there.
            os.link(draft, path)
        except FileExistsError:
            return False
        finally:
            draft.unlink(missing_ok=True)
        return True

    def replace(self, name: str, file: Path) -> None:
        """Put a copy of a file in the place of whatever was there."""
        with drafted(self._ready(name)) as draft:
            shutil.copyfile(file, draft)

    def fetch(self, name: str, to: Path) -> None:
        """Copy a file out."""
        to.parent.mkdir(parents=True, exist_ok=True)
        with drafted(to) as draft:
            shutil.copyfile(self.path / name, draft)

    def digest(self, name: str) -> str | None:
        """SHA-256 of a file; none: it isn't there."""
        return file_digest(self.path / name) if (self.path / name).is_file() else None

    def names(self) -> Iterator[str]:
        """Names of all files here and below, in their order."""
        found = (path.relative_to(self.path) for path in self.path.rglob("*") if path.is_file())
        yield from sorted(name.as_posix() for name in found if not name.name.startswith("."))

    def remove(self, name: str) -> None:
        """Take a file away, if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def _ready(self, name: str) -> Path:
        path = self.path / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path.parent}: can't write there: {error.strerror}") from error
        return path


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
