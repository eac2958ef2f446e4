"""Choose as a pipeline component."""

from typing import NamedTuple

from kfp import dsl

from potstill.components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def choose(
    dataset: dsl.Input[dsl.Dataset],
    dataset_digest: str,
    signals: dsl.Input[dsl.Artifact],
    signals_digest: str,
    students: dsl.Input[list[dsl.Model]],
    edges: dsl.Input[list[dsl.Model]],
    edge_digests: list[str],
    foreseen: dsl.Input[dsl.Artifact],
    forms: list[dict],
    retention: float,
    latency_p95_ms: float,
    size_mb: float,
    settings: dict,
    recipe_name: str,
    code_version: str,
    student: dsl.Output[dsl.Model],
    edge: dsl.Output[dsl.Model],
) -> NamedTuple("Choice", [("form", dict), ("student_digest", str), ("edge_digest", str), ("plan_digest", str)]):  # type: ignore[valid-type]
    """Take, of students that were taught side by side, the cheapest that keeps the budget.

    Args:
        dataset: What ingest wrote.
        dataset_digest: Its digest.
        signals: What extract wrote.
        signals_digest: Its digest.
        students: What distill wrote of each form.
        edges: What compress wrote of each form.
        edge_digests: Digests of their models.
        foreseen: What foresee wrote.
        forms: What it returned, so that a cache sees a change of it.
        retention: Macro-F1 of the edge model over the teacher's, at least.
        latency_p95_ms: 95th percentile at batch 1 on one thread, at most.
        size_mb: Model file and tokenizer, at most.
        settings: How many rows are timed, from the recipe's evaluate section.
        recipe_name: Name of the recipe.
        code_version: Version and digest of the code.
        student: The chosen student.
        edge: Its folders float and small, what each step of compression cost, and what else was tried.

    Returns:
        The form that was chosen; digests of the student, of its edge model, and of this with all that was tried.
    """
    from collections import namedtuple
    from pathlib import Path

    from potstill import recipe, sections, store, tracking
    from potstill.plan.forecast import plain
    from potstill.steps.choose import Contender
    from potstill.steps.choose import choose as run

    digests = {"dataset_digest": dataset_digest, "signals_digest": signals_digest}
    with tracking.step("choose", recipe_name, {"code_version": code_version, **digests}) as log:
        limits = {"retention": retention, "latency_p95_ms": latency_p95_ms, "size_mb": size_mb}
        log.params(limits)
        # Which student belongs to which edge model is told by their form's name, not by their order.
        packed = {artifact.metadata["variant"]: artifact for artifact in edges}
        taught = {artifact.metadata["variant"]: artifact for artifact in students}
        contenders = {name: Contender(Path(taught[name].path), Path(found.path)) for name, found in packed.items()}
        chosen = run(
            Path(dataset.path),
            Path(signals.path),
            contenders,
            Path(foreseen.path),
            sections.checked(recipe.Budget, "budget", limits),
            sections.checked(recipe.Evaluate, "evaluate", settings),
            Contender(Path(student.path), Path(edge.path)),
        )
        log.metrics({"retention": chosen.tried.retention, "latency_p95_ms": chosen.tried.p95_ms})
        student_digest = store.folder_digest(Path(student.path))
        edge_digest = store.folder_digest(Path(edge.path) / "small")
        log.tags({"form": chosen.name, "student_digest": student_digest, "edge_digest": edge_digest})
        student.metadata.update(digest=student_digest, mlflow_run_id=log.run_id)
        plan_digest = store.folder_digest(Path(edge.path))
        edge.metadata.update(digest=plan_digest, mlflow_run_id=log.run_id)
    choice = namedtuple("choice", ["form", "student_digest", "edge_digest", "plan_digest"])
    return choice(plain(chosen.form), student_digest, edge_digest, plan_digest)
