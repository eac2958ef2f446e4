"""Render: an overlay as the objects that a cluster would get, with images from the lock."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from potstill.errors import UserError

Manifest = dict[str, Any]
# In manifests/ an image is named by its key in the lock: potstill/serve is images.lock.yaml's `serve`.
PLACEHOLDER = "potstill/"


def render(folder: Path) -> list[Manifest]:
    """What kustomize, which comes with kubectl, makes of a folder.

    Raises:
        UserError: there is no kubectl, or kustomize refuses the folder.
    """
    # The pinned one of this environment first: other versions may render otherwise.
    kubectl = shutil.which("kubectl", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if kubectl is None:
        raise UserError("kubectl is not installed: it brings kustomize (https://kubernetes.io/docs/tasks/tools/)")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise UserError(f"{folder}: {done.stderr.strip()}")
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def secrets(folder: Path) -> dict[str, set[str]]:
    """The Secrets that a person makes, by the examples in a folder: names and their keys."""
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copy(folder / "kustomization.yaml", scratch)
        for example in folder.glob("*.env.example"):
            shutil.copy(example, Path(scratch) / example.stem)
        return {made["metadata"]["name"]: set(made.get("data", {})) for made in render(Path(scratch))}


def with_images(part: Any, lock: dict[str, str]) -> Any:
    """A copy in which each placeholder is the lock's image.

    Raises:
        UserError: the lock has no such image.
    """
    if isinstance(part, list):
        return [with_images(item, lock) for item in part]
    if not isinstance(part, dict):
        return part
    copy = {key: with_images(value, lock) for key, value in part.items()}
    image = copy.get("image")
    if isinstance(image, str) and image.startswith(PLACEHOLDER):
        name = image.removeprefix(PLACEHOLDER)
        if name not in lock:
            raise UserError(f"{image}: the lock names no {name}; it has {', '.join(sorted(lock))}")
        copy["image"] = lock[name]
    return copy
