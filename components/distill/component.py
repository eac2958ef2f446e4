"""Distill as a pipeline component."""

from kfp import dsl

from potstill.components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def distill(
    dataset: dsl.Input[dsl.Dataset],
    dataset_digest: str,
    teacher: dsl.Input[dsl.Model],
    teacher_digest: str,
    signals: dsl.Input[dsl.Artifact],
    signals_digest: str,
    layers: int,
    temperature: float,
    alpha: float,
    epochs: int,
    learning_rate: float,
    form: dict,
    settings: dict,
    store: str,
    recipe_name: str,
    code_version: str,
    student: dsl.Output[dsl.Model],
    variant: str = "",
) -> str:
    """Train the student on the teacher's logits.

    Args:
        dataset: What ingest wrote.
        dataset_digest: Its digest.
        teacher: What teach wrote; the student is cut from it.
        teacher_digest: Its digest.
        signals: What extract wrote.
        signals_digest: Its digest.
        layers: How many of the teacher's layers the student keeps, unless the form says so itself.
        temperature: Softens both distributions.
        alpha: Weight of the teacher's view against the labels'.
        epochs: Passes over the training rows, at most.
        learning_rate: Peak of the schedule.
        form: The other settings of the recipe's student section.
        settings: The other settings of the recipe's distill section.
        store: Folder that outlives runs; there a training that was killed is gone on with. Empty begins anew.
        recipe_name: Name of the recipe.
        code_version: Version and digest of the code.
        student: A Hugging Face folder and its head.
        variant: Which of several students it is, for the log and MLflow; empty where there is one.

    Returns:
        Digest of the student.
    """
    from pathlib import Path

    from potstill import recipe, sections, tracking
    from potstill.shelves import shelf
    from potstill.steps.distill import distill as run
    from potstill.store import folder_digest

    knobs = {"temperature": temperature, "alpha": alpha, "epochs": epochs, "learning_rate": learning_rate}
    digests = {"dataset_digest": dataset_digest, "teacher_digest": teacher_digest, "signals_digest": signals_digest}
    with tracking.step(
        tracking.name_of("distill", variant), recipe_name, {"code_version": code_version, **digests}
    ) as log:
        shape = sections.checked(recipe.Student, "student", {"layers": layers, **form})
        section = sections.checked(recipe.Distill, "distill", {**settings, **knobs})
        log.params(shape.model_dump(mode="json") | section.model_dump(mode="json"))
        folders = Path(dataset.path), Path(teacher.path), Path(signals.path)
        kept = shelf(store, "checkpoints")
        log.metrics(run(*folders, shape, section, Path(student.path), log.epoch, kept))
        digest = folder_digest(Path(student.path))
        log.tags({"student_digest": digest})
        student.metadata.update(digest=digest, variant=variant, mlflow_run_id=log.run_id)
    return digest
