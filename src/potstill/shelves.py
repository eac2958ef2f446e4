"""Where shelves are: a location becomes one, and a folder may stand for one."""

import hashlib
import json
from pathlib import Path

from potstill.bucket import Bucket, is_remote
from potstill.errors import UserError
from potstill.store import Folder, Shelf, write_text

# In a folder that stands for a shelf.
POINTER = "elsewhere.json"


def shelf_at(location: str) -> Shelf:
    """The shelf at a path or at s3://bucket/folder."""
    return Bucket(location) if is_remote(location) else Folder(Path(location))


def shelf(store: str, name: str) -> Shelf | None:
    """A shelf in the store that outlives runs; none, where there is no store."""
    return shelf_at(store).inside(name) if store else None


def point_to(target: Shelf, told_by: str, folder: Path) -> None:
    """Let a folder stand for a shelf, whose file `told_by` tells whether it is still the same."""
    place = str(target.path.absolute()) if isinstance(target, Folder) else str(target)
    told = {"folder": place, "told_by": told_by, "sha256": hashlib.sha256(target.read(told_by)).hexdigest()}
    write_text(folder / POINTER, json.dumps(told, indent=1))


def shelf_behind(folder: Path) -> Shelf:
    """The shelf that a folder stands for; itself, if it stands for none.

    Raises:
        UserError: that one isn't there, or not the same any more.
    """
    if not (folder / POINTER).is_file():
        return Folder(folder)
    told = json.loads((folder / POINTER).read_text(encoding="utf-8"))
    target = shelf_at(told["folder"])
    try:
        found = hashlib.sha256(target.read(told["told_by"])).hexdigest()
    except FileNotFoundError as error:
        raise UserError(f"{target}: it is gone, but {folder} stands for it; run the step that made it again") from error
    if found != told["sha256"]:
        raise UserError(f"{target}: it has changed since {folder} came to stand for it; run again")
    return target
