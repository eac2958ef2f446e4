"""Which image is which: a lock file names each by its digest, never by a tag, and no other place names one."""

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from potstill.errors import UserError
from potstill.store import write_text

# Built here, from Dockerfiles/.
OWN = ("core", "train", "serve", "mlflow")
# The base is what those are built on; manifests/ name the rest.
NAMES = (*OWN, "base", "postgres", "object-store")
# Images that are built by hand carry none: they would name themselves.
LOCK = Path(__file__).with_name("images.lock.yaml")
# A repository with the digest of its manifest, or an image that one engine has and no registry.
REFERENCE = re.compile(r"([a-z0-9.-]+(:\d+)?/)?[a-z0-9._/-]+@sha256:[0-9a-f]{64}|sha256:[0-9a-f]{64}")
HEADING = """\
# Each image by its digest: no other place names one, and a tag is refused. `make push REGISTRY=…` writes those that are
# built here (registry.example.com stands for yours). The others are, as Docker Hub had them in September 2026:
# python:3.11.16-slim-bookworm, postgres:17.11-bookworm and chrislusf/seaweedfs:4.47.
"""


def read_lock(path: Path = LOCK) -> dict[str, str]:
    """What a lock file calls each image of `NAMES`.

    Raises:
        UserError: no such file, an image that nobody uses or that is missing, or one that is not named by its digest.
    """
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: can't read which images to use: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(read, dict):
        raise UserError(f"{path}: expected an image a line, as core: NAME@sha256:…")
    for name in read:
        if name not in NAMES:
            raise UserError(f"{path}: {name}: no such image; there are {', '.join(NAMES)}")
    for name in NAMES:
        _check(path, name, read.get(name))
    return {name: read[name] for name in NAMES}


def _check(path: Path, name: str, reference: object) -> None:
    if reference is None:
        raise UserError(f"{path}: {name} is missing; expected {name}: NAME@sha256:…")
    if not isinstance(reference, str) or not REFERENCE.fullmatch(reference):
        raise UserError(
            f"{path}: {name}: {reference}: an image is named by its digest alone, as NAME@sha256:…, for a tag can move"
        )


def write_lock(path: Path, images: Mapping[str, str]) -> None:
    """Write a lock file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, HEADING + "".join(f"{name}: {images[name]}\n" for name in NAMES))
