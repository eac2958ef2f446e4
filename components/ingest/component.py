"""Ingest as a pipeline component."""

from kfp import dsl

from potstill.components.images import CORE


@dsl.component(base_image=CORE, install_kfp_package=False)
def ingest(
    source: str,
    train: str,
    test: str,
    settings: dict,
    tasks: dict,
    recipe_name: str,
    code_version: str,
    dataset: dsl.Output[dsl.Dataset],
) -> str:
    """Read, check and divide the rows.

    Args:
        source: All rows in one place: a file, a folder or a glob. Empty when train and test are given.
        train: Training rows. Empty when source is given.
        test: Test rows. Empty when source is given.
        settings: The other settings of the recipe's data section.
        tasks: The recipe's tasks section.
        recipe_name: Name of the recipe.
        code_version: Version and digest of the code.
        dataset: Train, validation and test rows as Parquet.

    Returns:
        Digest of the dataset.
    """
    from pathlib import Path

    from potstill import recipe, sections, tracking
    from potstill.data.dataset import read_schema
    from potstill.steps.ingest import ingest as run

    places = {key: value for key, value in (("source", source), ("train", train), ("test", test)) if value}
    with tracking.step("ingest", recipe_name, {"code_version": code_version}) as log:
        data = sections.checked(recipe.Data, "data", {**settings, **places})
        named = {name: sections.checked(recipe.Task, f"tasks.{name}", task) for name, task in tasks.items()}
        log.params(data.model_dump(mode="json") | {"tasks": tasks})
        log.metrics(run(data, named, Path(dataset.path)))
        digest = read_schema(Path(dataset.path)).digest
        log.tags({"dataset_digest": digest})
        dataset.metadata.update(digest=digest, mlflow_run_id=log.run_id)
    return digest
