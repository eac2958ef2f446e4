"""Which code made a result: the version and a digest of the sources and of the libraries they run on."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import potstill
from potstill.machine import versions

# Beside src in the repository, and linked from the package: rglob does not enter links by itself.
LINKED = ("components", "pipelines")


def code_version() -> str:
    """`version+digest`: changes with any edit of Potstill's sources and any change of a library's version."""
    return f"{potstill.__version__}+{source_digest(Path(potstill.__file__).parent, versions())[:12]}"


def source_digest(package: Path, libraries: Mapping[str, str]) -> str:
    """SHA-256 over the names and contents of a package's sources, and over its libraries' versions."""
    digest = hashlib.sha256(repr(sorted(libraries.items())).encode())
    for folder in (package, *(package / name for name in LINKED)):
        for path in sorted(p for p in folder.resolve().rglob("*") if p.suffix in {".py", ".html"}):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
