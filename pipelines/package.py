"""Pipelines as KFP packages: YAML files that a cluster can run."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from kfp import compiler
from kfp.dsl.base_component import BaseComponent

from potstill.images import LOCK, read_lock
from potstill.pipelines.distill import build
from potstill.pipelines.pods import Cluster
from potstill.recipe import Recipe
from potstill.store import write_text


def compile_package(
    recipe: Recipe, target: Path, cluster: Cluster, lock: Path | None = None, *, cached: bool = True
) -> None:
    """Write a recipe's package, whole or not at all. Equal recipes, clusters and images give equal bytes.

    Args:
        recipe: what the pipeline does.
        target: file to write.
        cluster: how its steps run.
        lock: which image is which; none: the installation's.
        cached: whether steps may take an earlier run's results; some never do.

    Raises:
        UserError: the lock file can't be used.
    """
    heading = f"The pipeline of the recipe {recipe.name}, as potstill compile writes it"
    pipeline = build(recipe, cluster)
    compile_pipeline(pipeline if cached else uncached(pipeline), target, heading, lock or LOCK)


def compile_pipeline(pipeline: BaseComponent, target: Path, heading: str, lock: Path = LOCK) -> None:
    """Write a pipeline's package, whole or not at all, under a heading."""
    in_images(pipeline, read_lock(lock))
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        draft = Path(scratch) / "package.yaml"
        compiler.Compiler().compile(pipeline, str(draft))
        lines = draft.read_text(encoding="utf-8").splitlines(keepends=True)
    # kfp's own heading prints JSON defaults in an order that changes from one process to the next.
    body = "".join(line for line in lines if not line.startswith("#"))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, f"# {heading}. Not for editing.\n{body}")


def uncached(pipeline: BaseComponent) -> BaseComponent:
    """Let each step of a pipeline work anew; it is changed."""
    spec = pipeline.pipeline_spec
    for part in (spec.root, *spec.components.values()):
        for task in part.dag.tasks.values():
            task.caching_options.Clear()
    return pipeline


def in_images(pipeline: BaseComponent, images: Mapping[str, str]) -> BaseComponent:
    """Let a pipeline run in these images, where its components only say which of them.

    Args:
        pipeline: as it was built; it is changed.
        images: as `potstill.images` reads them.
    """
    for executor in pipeline.pipeline_spec.deployment_spec["executors"].values():
        executor["container"]["image"] = images[executor["container"]["image"]]
    return pipeline
