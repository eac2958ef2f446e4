"""Extract as a pipeline component."""

from kfp import dsl

from potstill.components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def extract(
    dataset: dsl.Input[dsl.Dataset],
    dataset_digest: str,
    teacher: dsl.Input[dsl.Model],
    teacher_digest: str,
    settings: dict,
    store: str,
    recipe_name: str,
    code_version: str,
    signals: dsl.Output[dsl.Artifact],
    variant: str = "",
) -> str:
    """Write what the teacher says of every row as a table, or a shard of it.

    Args:
        dataset: What ingest wrote.
        dataset_digest: Its digest.
        teacher: What teach wrote.
        teacher_digest: Its digest.
        settings: The settings of the recipe's signals section.
        store: Folder that outlives runs; there no row is scored twice. Empty keeps the table with the run.
        recipe_name: Name of the recipe.
        code_version: Version and digest of the code.
        signals: Logits by row digest, as Parquet, with a manifest; or where in the store they are.
        variant: Which of several shards it is, such as 1-of-4, which fill the table in the store; empty is all rows.

    Returns:
        Digest of the signals, or of the shard's.
    """
    from pathlib import Path

    from potstill import recipe, sections, tracking
    from potstill.learn.shards import Shard
    from potstill.learn.signals import table_digest
    from potstill.shelves import shelf
    from potstill.steps.extract import extract as run

    digests = {"dataset_digest": dataset_digest, "teacher_digest": teacher_digest}
    name, shard = tracking.name_of("extract", variant), Shard.named(variant)
    with tracking.step(name, recipe_name, {"code_version": code_version, **digests}) as log:
        folders = Path(dataset.path), Path(teacher.path), Path(signals.path)
        section = sections.checked(recipe.Signals, "signals", settings)
        log.params(section.model_dump(mode="json"))
        kept = shelf(store, "signals")
        log.metrics(run(*folders, section, dataset_digest, teacher_digest, kept, shard.of, shard.number))
        digest = table_digest(Path(signals.path), shard.told_by)
        log.tags({"shard_digest" if variant else "signals_digest": digest})
        signals.metadata.update(digest=digest, mlflow_run_id=log.run_id)
    return digest
