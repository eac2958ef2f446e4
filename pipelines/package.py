"""Pipelines as KFP packages: YAML files that a cluster can run."""

import tempfile
from pathlib import Path

from kfp import compiler
from kfp.dsl.base_component import BaseComponent

from potstill.pipelines.distill import build
from potstill.recipe import Recipe
from potstill.store import write_text


def compile_package(recipe: Recipe, target: Path) -> None:
    """Write a recipe's package, whole or not at all. Equal recipes give equal bytes."""
    compile_pipeline(build(recipe), target, f"The pipeline of the recipe {recipe.name}, as potstill compile writes it")


def compile_pipeline(pipeline: BaseComponent, target: Path, heading: str) -> None:
    """Write a pipeline's package, whole or not at all, under a heading."""
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        draft = Path(scratch) / "package.yaml"
        compiler.Compiler().compile(pipeline, str(draft))
        lines = draft.read_text(encoding="utf-8").splitlines(keepends=True)
    # kfp's own heading prints JSON defaults in an order that changes from one process to the next.
    body = "".join(line for line in lines if not line.startswith("#"))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, f"# {heading}. Not for editing.\n{body}")
