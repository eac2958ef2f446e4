"""Register as a pipeline component."""

from kfp import dsl

from potstill.components.images import CORE


@dsl.component(base_image=CORE, install_kfp_package=False)
def register(
    edge: dsl.Input[dsl.Model],
    edge_digest: str,
    evaluation: dsl.Input[dsl.Artifact],
    evaluation_digest: str,
    model: str,
    promote: str,
    champion: str,
    recipe_name: str,
    code_version: str,
    summary: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Register the int8 student if the verdict allows, or record the refusal and its reasons.

    Args:
        edge: What compress wrote.
        edge_digest: Digest of the int8 model.
        evaluation: What evaluate wrote.
        evaluation_digest: Its digest.
        model: Name in the registry.
        promote: Whether a better version becomes champion: if-better or never.
        champion: The version that it was judged against, or none.
        recipe_name: Name of the recipe.
        code_version: Version and digest of the code.
        summary: Everything measured, the verdict, the version and its alias, as JSON.
        report: The report, as one HTML file.

    Returns:
        The registered version's number, or none.
    """
    from pathlib import Path

    from potstill.steps.register import decide, read_evaluation, write_outcome

    from potstill import recipe, registry, tracking

    settings = {"model": model, "promote": promote}
    tags = {"code_version": code_version, "edge_digest": edge_digest, "evaluation_digest": evaluation_digest}
    with tracking.step("register", {**settings, "champion": champion}, tags) as log:
        section = recipe.section(recipe.Register, "register", settings)
        found = read_evaluation(Path(evaluation.path))
        decision = decide(found.verdict, section.promote)
        lineage = {**found.lineage, **tags, "recipe": recipe_name, "judged_against": champion}
        registered = registry.register_edge(
            model, Path(edge.path) / "int8", run_id=log.run_id, tags=lineage, alias=decision.alias
        )
        write_outcome(found, registered.version, registered.alias, Path(summary.path), Path(report.path))
        log.conclude(found.verdict, found.metrics, registered.version, registered.alias, Path(report.path))
        summary.metadata["mlflow_run_id"] = log.run_id
    return registered.version or "none"
