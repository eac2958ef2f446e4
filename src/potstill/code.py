"""Which code made a result: the version and a digest of the sources and of the libraries they run on."""

import hashlib
from functools import cache
from pathlib import Path

import potstill
from potstill.machine import versions


@cache
def code_version() -> str:
    """`version+digest`: changes with any edit of Potstill's sources and any change of a library's version."""
    digest = hashlib.sha256(repr(sorted(versions().items())).encode())
    root = Path(potstill.__file__).parent
    # components and pipelines may be links to folders beside src, which rglob does not enter by itself.
    for folder in (root, root / "components", root / "pipelines"):
        for path in sorted(p for p in folder.resolve().rglob("*") if p.suffix in {".py", ".html"}):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"{potstill.__version__}+{digest.hexdigest()[:12]}"
