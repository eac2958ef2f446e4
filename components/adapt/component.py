"""Adapt as a pipeline component."""

from kfp import dsl

from potstill.components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def adapt(
    dataset: dsl.Input[dsl.Dataset],
    dataset_digest: str,
    encoder: str,
    teacher: dict,
    settings: dict,
    store: str,
    recipe_name: str,
    code_version: str,
    adapted: dsl.Output[dsl.Model],
) -> str:
    """Get the public encoder used to the shop's own texts, without any label.

    Args:
        dataset: What ingest wrote.
        dataset_digest: Its digest.
        encoder: A hub name, a folder, or package:NAME/path.
        teacher: Longest text and vocabulary, from the recipe's teacher section.
        settings: The recipe's adapt section.
        store: Folder that outlives runs; there a training that was killed is gone on with. Empty begins anew.
        recipe_name: Name of the recipe.
        code_version: Version and digest of the code.
        adapted: A Hugging Face folder.

    Returns:
        Digest of the adapted encoder.
    """
    from pathlib import Path

    from potstill import recipe, sections, tracking
    from potstill.shelves import shelf
    from potstill.steps.adapt import adapt as run
    from potstill.store import folder_digest

    with tracking.step("adapt", recipe_name, {"code_version": code_version, "dataset_digest": dataset_digest}) as log:
        section = sections.checked(recipe.Adapt, "adapt", settings)
        start = sections.checked(recipe.Teacher, "teacher", {**teacher, "encoder": encoder})
        log.params({"encoder": encoder} | section.model_dump(mode="json"))
        kept = shelf(store, "checkpoints")
        log.metrics(run(Path(dataset.path), start, section, Path(adapted.path), log.epoch, kept))
        digest = folder_digest(Path(adapted.path))
        log.tags({"adapted_digest": digest})
        adapted.metadata.update(digest=digest, mlflow_run_id=log.run_id)
    return digest
