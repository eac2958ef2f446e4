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
    recipe_name: str,
    code_version: str,
    student: dsl.Output[dsl.Model],
) -> str:
    """Train the same student from labels alone, to see what the teacher was worth.

    Args:
        dataset: What ingest wrote.
        dataset_digest: Its digest.
        encoder: The public encoder that both teacher and control start from.
        layers: How many of its layers the student keeps.
        epochs: Passes over the training rows, at most.
        learning_rate: Peak of the schedule.
        teacher: Pooling, longest text and vocabulary, from the recipe's teacher section.
        form: The other settings of the recipe's student section.
        settings: The other settings of the recipe's distill section.
        recipe_name: Name of the recipe.
        code_version: Version and digest of the code.
        student: A Hugging Face folder and its head.

    Returns:
        Digest of the control.
    """
    from pathlib import Path

    from potstill import recipe, store, tracking
    from potstill.steps.control import control as run

    knobs = {"alpha": 0.0, "epochs": epochs, "learning_rate": learning_rate}
    with tracking.step("control", recipe_name, {"code_version": code_version, "dataset_digest": dataset_digest}) as log:
        shape = recipe.section(recipe.Student, "student", {**form, "layers": layers})
        section = recipe.section(recipe.Distill, "distill", {**settings, **knobs})
        start = recipe.section(recipe.Teacher, "teacher", {**teacher, "encoder": encoder})
        log.params({"encoder": encoder} | shape.model_dump(mode="json") | section.model_dump(mode="json"))
        log.metrics(run(Path(dataset.path), start, shape, section, Path(student.path), log.epoch))
        digest = store.folder_digest(Path(student.path))
        log.tags({"control_digest": digest})
        student.metadata.update(digest=digest, mlflow_run_id=log.run_id)
    return digest
