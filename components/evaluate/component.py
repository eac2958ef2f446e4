"""Evaluate as a pipeline component."""

from kfp import dsl

from potstill.components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def evaluate(
    dataset: dsl.Input[dsl.Dataset],
    dataset_digest: str,
    teacher: dsl.Input[dsl.Model],
    teacher_digest: str,
    signals: dsl.Input[dsl.Artifact],
    signals_digest: str,
    control: dsl.Input[dsl.Model],
    control_digest: str,
    student: dsl.Input[dsl.Model],
    student_digest: str,
    edge: dsl.Input[dsl.Model],
    edge_digest: str,
    model: str,
    champion: str,
    recipe_name: str,
    retention: float,
    latency_p95_ms: float,
    size_mb: float,
    budget: dict,
    settings: dict,
    code_version: str,
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    classification: dsl.Output[dsl.ClassificationMetrics],
    plan_digest: str = "",
) -> str:
    """Measure every model on the test rows and judge the edge model by the contract.

    Args:
        dataset: What ingest wrote.
        dataset_digest: Its digest.
        teacher: What teach wrote.
        teacher_digest: Its digest.
        signals: What extract wrote.
        signals_digest: Its digest.
        control: The student that had no teacher.
        control_digest: Its digest.
        student: What distill wrote.
        student_digest: Its digest.
        edge: What compress wrote.
        edge_digest: Digest of the int8 model.
        model: Name in the registry.
        champion: Version to beat on the same rows, or none.
        recipe_name: Name of the recipe.
        retention: Macro-F1 of the edge model over the teacher's, at least.
        latency_p95_ms: 95th percentile at batch 1 on one thread, at most.
        size_mb: Model file and tokenizer, at most.
        budget: The other settings of the recipe's budget section.
        settings: The recipe's evaluate section.
        code_version: Version and digest of the code.
        evaluation: Summary, verdict, predictions and figures.
        metrics: Each model's deciding figure, what the edge model keeps and costs, and the verdict.
        classification: The edge model's confusion matrix (of more than 100 classes the most mistaken ones) and ROC
            curve, of the recipe's first task that has any: a rate has a curve alone, a value and a retrieval neither.
        plan_digest: Digest of what a plan tried, which the report tells of; empty where there is none.

    Returns:
        Digest of the evaluation.
    """
    import json
    import tempfile
    from pathlib import Path

    from potstill import recipe, registry, sections, store, tracking
    from potstill.evaluate import page
    from potstill.evaluate.candidates import Inputs
    from potstill.steps.evaluate import evaluate as run

    limits = {"retention": retention, "latency_p95_ms": latency_p95_ms, "size_mb": size_mb}
    digests = {
        "dataset_digest": dataset_digest,
        "teacher_digest": teacher_digest,
        "signals_digest": signals_digest,
        "control_digest": control_digest,
        "student_digest": student_digest,
        "edge_digest": edge_digest,
    }
    with (
        tracking.step("evaluate", recipe_name, {"code_version": code_version, **digests}) as log,
        tempfile.TemporaryDirectory() as scratch,
    ):
        rules = sections.checked(recipe.Budget, "budget", {**budget, **limits})
        section = sections.checked(recipe.Evaluate, "evaluate", settings)
        rival = None if champion == "none" else registry.download_edge(model, champion, Path(scratch))
        paths = {"dataset": dataset, "signals": signals, "teacher": teacher, "control": control, "student": student}
        folders = {name: Path(artifact.path) for name, artifact in {**paths, "edge": edge}.items()}
        log.params({"champion": champion} | rules.model_dump() | section.model_dump())
        names = {"recipe": recipe_name, "model": model, **digests}
        found = run(Inputs(**folders, champion=rival), rules, section, names, champion, Path(evaluation.path))
        log.metrics(found)
        summary = json.loads((Path(evaluation.path) / "summary.json").read_text(encoding="utf-8"))
        metrics.metadata.update(page.figures(summary))
        if drawn := page.drawn(summary):
            classification.metadata["task"] = drawn.task
            if drawn.matrix:
                classification.log_confusion_matrix(*drawn.matrix)
            if drawn.curve:
                classification.log_roc_curve(*drawn.curve)
        # A local cache takes an artifact without a file for one that was lost.
        for artifact in (metrics, classification):
            Path(artifact.path).write_text(json.dumps(artifact.metadata), encoding="utf-8")
        log.artifact(Path(evaluation.path) / "verdict.json")
        digest = store.folder_digest(Path(evaluation.path))
        evaluation.metadata.update(digest=digest, mlflow_run_id=log.run_id)
    return digest
