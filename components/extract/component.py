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
) -> str:
    """Write what the teacher says of every row as a table.

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

    Returns:
        Digest of the signals.
    """
    from pathlib import Path

    from potstill import recipe, sections, tracking
    from potstill.learn.signals import table_digest
    from potstill.shelves import shelf
    from potstill.steps.extract import extract as run

    digests = {"dataset_digest": dataset_digest, "teacher_digest": teacher_digest}
    with tracking.step("extract", recipe_name, {"code_version": code_version, **digests}) as log:
        folders = Path(dataset.path), Path(teacher.path), Path(signals.path)
        section = sections.checked(recipe.Signals, "signals", settings)
        log.params(section.model_dump(mode="json"))
        kept = shelf(store, "signals")
        log.metrics(run(*folders, section, dataset_digest, teacher_digest, kept))
        digest = table_digest(Path(signals.path))
        log.tags({"signals_digest": digest})
        signals.metadata.update(digest=digest, mlflow_run_id=log.run_id)
    return digest
