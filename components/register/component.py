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
    settings: dict,
    recipe_name: str,
    code_version: str,
    summary: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    overview: dsl.Output[dsl.Markdown],
) -> str:
    """Register the edge model if the verdict allows, or record the refusal and its reasons.

    Args:
        edge: What compress wrote.
        edge_digest: Digest of the int8 model.
        evaluation: What evaluate wrote.
        evaluation_digest: Its digest.
        model: Name in the registry.
        promote: Who makes an accepted version the champion: if-better, manual or never.
        champion: The version that it was judged against, or none.
        settings: The other settings of the recipe's register section.
        recipe_name: Name of the recipe.
        code_version: Version and digest of the code.
        summary: Everything measured, the verdict, the version and its alias, as JSON.
        report: The report, as one HTML file.
        overview: The verdict, the models and the worst classes, as Markdown.

    Returns:
        The registered version's number, or none.
    """
    from pathlib import Path

    from potstill import recipe, registry, sections, tracking
    from potstill.evaluate.overview import write_overview
    from potstill.steps.register import decide, read_evaluation, rehearsed, told, write_outcome

    values = {**settings, "model": model, "promote": promote}
    tags = {"code_version": code_version, "edge_digest": edge_digest, "evaluation_digest": evaluation_digest}
    with tracking.step("register", recipe_name, tags) as log:
        section = sections.checked(recipe.Register, "register", values)
        found = read_evaluation(Path(evaluation.path))
        alias, dry_run = decide(found.verdict, section.promote), None
        log.params({**values, "champion": champion})
        log.tags(found.lineage)
        if section.dry_run:
            known, registered = registry.registered(model, edge_digest), registry.Registered(None, None)
            dry_run = rehearsed(model, alias, known.version if known else None)
        else:
            lineage = {**found.lineage, **tags, **log.lineage, "recipe": recipe_name, "promote": promote}
            registered = registry.register_edge(
                model,
                Path(edge.path) / "small",
                run_id=log.run_id,
                tags={**lineage, **found.quality},
                alias=alias,
                judged_against=champion,
                why=f"promote: {promote}, by the pipeline run {log.lineage['kfp.run_id']}",
            )
        version, given = registered.version, registered.alias
        print(dry_run or told(found.verdict, model, version, given, section.promote))
        complete = write_outcome(found, version, given, dry_run, Path(summary.path), Path(report.path))
        write_overview(Path(overview.path), complete)
        log.conclude(complete["verdict"], found.metrics)
        log.report(Path(report.path), "report.html")
    return registered.version or "none"
