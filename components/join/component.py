"""Join as a pipeline component."""

from kfp import dsl

from potstill.components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def join(
    dataset: dsl.Input[dsl.Dataset],
    dataset_digest: str,
    teacher_digest: str,
    shard_digests: list[str],
    settings: dict,
    store: str,
    recipe_name: str,
    code_version: str,
    signals: dsl.Output[dsl.Artifact],
) -> str:
    """See that the table that shards filled is whole; nothing is copied.

    Args:
        dataset: What ingest wrote.
        dataset_digest: Its digest.
        teacher_digest: Digest of what teach wrote.
        shard_digests: Digests of what each shard wrote.
        settings: The other settings of the recipe's signals section.
        store: Folder that outlives runs; the table is there.
        recipe_name: Name of the recipe.
        code_version: Version and digest of the code.
        signals: Where in the store the table is.

    Returns:
        Digest of the signals, which doesn't depend on how many shards there were.
    """
    from pathlib import Path

    from potstill import recipe, sections, tracking
    from potstill.learn.signals import table_digest
    from potstill.shelves import shelf_at
    from potstill.steps.shards import join as run

    digests = {"dataset_digest": dataset_digest, "teacher_digest": teacher_digest}
    with tracking.step("join", recipe_name, {"code_version": code_version, **digests}) as log:
        section = sections.checked(recipe.Signals, "signals", settings)
        kept = shelf_at(store).inside("signals")
        to = Path(signals.path)
        log.metrics(run(Path(dataset.path), to, section, dataset_digest, teacher_digest, kept, len(shard_digests)))
        digest = table_digest(to)
        log.tags({"signals_digest": digest})
        signals.metadata.update(digest=digest, mlflow_run_id=log.run_id)
    return digest
