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
    variant: str = "",
    first_digest: str = "",
    cascade: dict = {},  # noqa: B006
    first: dsl.Input[dsl.Model] = None,
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
        variant: Which of several students it is, for the log and MLflow; empty where there is one.
        first_digest: Digest of the smaller student of a cascade.
        cascade: The recipe's cascade section.
        first: The smaller student of a cascade, which is asked before.

    Returns:
        Digest of the folder small: the model that is registered.
    """
    from pathlib import Path

    from potstill import recipe, sections, store, tracking
    from potstill.steps.compress import compress as run
    from potstill.steps.made import First, Origin

    digests = {"dataset_digest": dataset_digest, "teacher_digest": teacher_digest, "student_digest": student_digest}
    with tracking.step(
        tracking.name_of("compress", variant), recipe_name, {"code_version": code_version, **digests}
    ) as log:
        section = sections.checked(recipe.Compress, "compress", settings)
        log.params(section.model_dump(mode="json"))
        origin, smaller = Origin(recipe=recipe_name, **digests), None
        if first:
            knobs = sections.checked(recipe.Cascade, "cascade", cascade)
            log.params({f"cascade_{name}": value for name, value in knobs.model_dump(mode="json").items()})
            log.tags({"first_digest": first_digest})
            smaller = First(Path(first.path), first_digest, knobs)
        log.metrics(run(Path(dataset.path), Path(student.path), section, origin, Path(edge.path), smaller))
        digest = store.folder_digest(Path(edge.path) / "small")
        log.tags({"edge_digest": digest})
        # The report tells of the steps too, which other settings can change while the files stay.
        told = f"{digest} by {section!r} {cascade}"
        edge.metadata.update(digest=told, variant=variant, mlflow_run_id=log.run_id)
    return digest
