"""A recipe's pipeline as a KFP package: one YAML file that a cluster can run."""

import tempfile
from pathlib import Path

from kfp import compiler

from potstill.pipelines.distill import build
from potstill.pipelines.pods import Cluster
from potstill.recipe import Recipe
from potstill.store import write_text


def compile_package(recipe: Recipe, target: Path, cluster: Cluster) -> None:
    """Write the package, whole or not at all. Equal recipes and clusters give equal bytes."""
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        draft = Path(scratch) / "package.yaml"
        compiler.Compiler().compile(build(recipe, cluster), str(draft))
        lines = draft.read_text(encoding="utf-8").splitlines(keepends=True)
    # kfp's own heading prints JSON defaults in an order that changes from one process to the next.
    body = "".join(line for line in lines if not line.startswith("#"))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(
        target, f"# The pipeline of the recipe {recipe.name}, as potstill compile writes it. Not for editing.\n{body}"
    )
