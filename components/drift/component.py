"""Drift as a pipeline component."""

from kfp import dsl

from potstill.components.images import CORE


@dsl.component(base_image=CORE, install_kfp_package=False)
def drift(
    model: str,
    window: str,
    reference: str,
    psi: float,
    recipe_name: str,
    result: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Compare production rows with what a registered model was trained on.

    Args:
        model: A registered name, which means its champion, or NAME@ALIAS, or NAME/VERSION.
        window: Rows as the model gets them: a file, a folder or a glob.
        reference: Training data to compare with, instead of the version's profile. Empty is the profile.
        psi: Stability index from which on a difference that is beyond chance counts as drift.
        recipe_name: Name of the experiment in MLflow.
        result: What was found of each column, as JSON.
        report: The report, as one HTML file.

    Returns:
        Names of the columns that drifted, or nothing.
    """
    from pathlib import Path

    from potstill import registry, tracking
    from potstill.drift.check import check
    from potstill.drift.report import render, verdict
    from potstill.store import write_text

    with tracking.step("drift", recipe_name, {"model": model}) as log:
        log.params({"model": model, "window": window, "reference": reference, "psi": psi})
        with registry.fetched(model) as folder:
            found = check(model, folder, window, reference or None, psi)
        print(verdict(found))
        write_text(Path(result.path), found.to_json())
        write_text(Path(report.path), render(found))
        log.metrics({"psi_max": max(finding.psi for finding in found.findings), "drifted": len(found.drifted)})
        log.tags({"verdict": "drift" if found.drifted else "no drift", "verdict.reasons": verdict(found)})
        log.report(Path(report.path), "drift.html")
    return ", ".join(found.drifted)
