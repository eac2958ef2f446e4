"""Compress as a pipeline component."""

from kfp import dsl

from potstill.components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def compress(
    dataset: dsl.Input[dsl.Dataset],
    dataset_digest: str,
    student: dsl.Input[dsl.Model],
    student_digest: str,
    teacher_digest: str,
    recipe_name: str,
    settings: dict,
    code_version: str,
    edge: dsl.Output[dsl.Model],
) -> str:
    """Export the student to ONNX, prove it equal to PyTorch, and make it smaller step by step.

    Args:
        dataset: What ingest wrote.
        dataset_digest: Its digest.
        student: What distill wrote.
        student_digest: Its digest.
        teacher_digest: Digest of its teacher, for the card.
        recipe_name: Name of the recipe.
        settings: The recipe's compress section.
        code_version: Version and digest of the code.
        edge: The folders float and small, each with model, tokenizer and card, and what each step cost.

    Returns:
        Digest of the folder small: the model that is registered.
    """
    from pathlib import Path

    from potstill import recipe, store, tracking
    from potstill.steps.compress import compress as run
    from potstill.steps.press import Origin

    digests = {"dataset_digest": dataset_digest, "teacher_digest": teacher_digest, "student_digest": student_digest}
    with tracking.step("compress", recipe_name, {"code_version": code_version, **digests}) as log:
        section = recipe.section(recipe.Compress, "compress", settings)
        log.params(section.model_dump(mode="json"))
        origin = Origin(recipe=recipe_name, **digests)
        log.metrics(run(Path(dataset.path), Path(student.path), section, origin, Path(edge.path)))
        digest = store.folder_digest(Path(edge.path) / "small")
        log.tags({"edge_digest": digest})
        # The report tells of the steps too, which other settings can change while the files stay.
        edge.metadata.update(digest=f"{digest} by {section!r}", mlflow_run_id=log.run_id)
    return digest
