"""Control as a pipeline component."""

from kfp import dsl

from potstill.components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def control(
    dataset: dsl.Input[dsl.Dataset],
    dataset_digest: str,
    encoder: str,
    layers: int,
    epochs: int,
    learning_rate: float,
    teacher: dict,
    form: dict,
    settings: dict,
    store: str,
    recipe_name: str,
    code_version: str,
    student: dsl.Output[dsl.Model],
    adapted_digest: str = "",
    adapted: dsl.Input[dsl.Model] = None,
) -> str:
    """Train the same student from labels alone, to see what the teacher was worth.

    Args:
        dataset: What ingest wrote.
        dataset_digest: Its digest.
        encoder: The public encoder that both teacher and control start from.
        layers: How many of its layers the student keeps, unless the form says so itself.
        epochs: Passes over the training rows, at most.
        learning_rate: Peak of the schedule.
        teacher: Pooling, longest text and vocabulary, from the recipe's teacher section.
        form: The other settings of the recipe's student section.
        settings: The other settings of the recipe's distill section.
        store: Folder that outlives runs; there a training that was killed is gone on with. Empty begins anew.
        recipe_name: Name of the recipe.
        code_version: Version and digest of the code.
        student: A Hugging Face folder and its head.
        adapted_digest: Digest of the adapted encoder.
        adapted: What adapt wrote, to start from in the encoder's place.

    Returns:
        Digest of the control.
    """
    from pathlib import Path

    from potstill import recipe, sections, tracking
    from potstill.shelves import shelf
    from potstill.steps.control import control as run
    from potstill.store import folder_digest

    knobs = {"alpha": 0.0, "epochs": epochs, "learning_rate": learning_rate}
    tags = {"code_version": code_version, "dataset_digest": dataset_digest}
    tags |= {"adapted_digest": adapted_digest} if adapted else {}
    with tracking.step("control", recipe_name, tags) as log:
        shape = sections.checked(recipe.Student, "student", {"layers": layers, **form})
        section = sections.checked(recipe.Distill, "distill", {**settings, **knobs})
        start = sections.checked(
            recipe.Teacher, "teacher", {**teacher, "encoder": adapted.path if adapted else encoder}
        )
        log.params({"encoder": encoder} | shape.model_dump(mode="json") | section.model_dump(mode="json"))
        kept = shelf(store, "checkpoints")
        log.metrics(run(Path(dataset.path), start, shape, section, Path(student.path), log.epoch, kept))
        digest = folder_digest(Path(student.path))
        log.tags({"control_digest": digest})
        student.metadata.update(digest=digest, mlflow_run_id=log.run_id)
    return digest
