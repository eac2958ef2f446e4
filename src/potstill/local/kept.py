"""A run's artifacts in a store: each whole before anything names it, and brought back when they are asked for."""

import json
from pathlib import Path

from potstill.errors import UserError
from potstill.store import Shelf, file_digest, writing

# Written last: which files a folder holds, with their checksums.
WHOLE = "_whole.json"


def keep(path: Path, shelf: Shelf) -> None:
    """Put a file, or a folder's files and then the list of them, under the path's own name; what is there stays.

    Raises:
        UserError: the store refuses.
    """
    if path.is_file():
        shelf.replace(path.name, path)
        return
    own, names = shelf.inside(path.name), sorted(found for found in path.rglob("*") if found.is_file())
    files = {name.relative_to(path).as_posix(): file_digest(name) for name in names}
    for name, digest in files.items():
        if own.digest(name) != digest:
            own.replace(name, path / name)
    own.write(WHOLE, json.dumps(files, indent=1).encode())


def restore(path: Path, shelf: Shelf) -> bool:
    """Bring back what was kept under the path's own name; whether it was there, whole.

    Raises:
        UserError: the store refuses, or a file isn't what was put there.
    """
    own = shelf.inside(path.name)
    try:
        files: dict[str, str] = json.loads(own.read(WHOLE))
    except (FileNotFoundError, NotADirectoryError):
        files = {}
    try:
        if not files:
            shelf.fetch(path.name, path)
            return True
        with writing(path) as draft:
            for name, digest in files.items():
                own.fetch(name, draft / name)
                if file_digest(draft / name) != digest:
                    raise UserError(f"{own}/{name}: its content isn't what was kept there")
    except (FileNotFoundError, IsADirectoryError):
        return False
    return True
