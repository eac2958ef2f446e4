"""Teach as a pipeline component."""

from kfp import dsl

from potstill.components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def teach(
    dataset: dsl.Input[dsl.Dataset],
    dataset_digest: str,
    encoder: str,
    epochs: int,
    learning_rate: float,
    settings: dict,
    cross_fit: int,
    store: str,
    recipe_name: str,
    code_version: str,
    teacher: dsl.Output[dsl.Model],
    adapted_digest: str = "",
    adapted: dsl.Input[dsl.Model] = None,
) -> str:
    """Fine-tune the teacher.

    Args:
        dataset: What ingest wrote.
        dataset_digest: Its digest.
        encoder: A hub name, a folder, or package:NAME/path.
        epochs: Passes over the training rows, at most.
        learning_rate: Peak of the schedule.
        settings: The other settings of the recipe's teacher section.
        cross_fit: How many teachers more, each of which never sees its own fold of the training rows.
        store: Folder that outlives runs; there a training that was killed is gone on with. Empty begins anew.
        recipe_name: Name of the recipe.
        code_version: Version and digest of the code.
        teacher: A Hugging Face folder and its head.
        adapted_digest: Digest of the adapted encoder.
        adapted: What adapt wrote, to be taught in the encoder's place.

    Returns:
        Digest of the teacher.
    """
    from pathlib import Path

    from potstill import recipe, sections, tracking
    from potstill.shelves import shelf
    from potstill.steps.teach import teach as run
    from potstill.store import folder_digest

    values = {
        **settings,
        "encoder": adapted.path if adapted else encoder,
        "epochs": epochs,
        "learning_rate": learning_rate,
    }
    tags = {"code_version": code_version, "dataset_digest": dataset_digest}
    tags |= {"adapted_digest": adapted_digest} if adapted else {}
    with tracking.step("teach", recipe_name, tags) as log:
        section = sections.checked(recipe.Teacher, "teacher", values)
        sections.checked(recipe.Signals, "signals", {"cross_fit": cross_fit})
        log.params(section.model_dump(mode="json") | {"encoder": encoder, "cross_fit": cross_fit})
        kept = shelf(store, "checkpoints")
        log.metrics(run(Path(dataset.path), section, Path(teacher.path), log.epoch, cross_fit, kept))
        digest = folder_digest(Path(teacher.path))
        log.tags({"teacher_digest": digest})
        teacher.metadata.update(digest=digest, mlflow_run_id=log.run_id)
    return digest
