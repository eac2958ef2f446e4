"""Foresee as a pipeline component."""

from kfp import dsl

from potstill.components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def foresee(
    dataset: dsl.Input[dsl.Dataset],
    dataset_digest: str,
    teacher: dsl.Input[dsl.Model],
    teacher_digest: str,
    signals_digest: str,
    latency_p95_ms: float,
    size_mb: float,
    form: dict,
    distill: dict,
    compress: dict,
    settings: dict,
    recipe_name: str,
    code_version: str,
    foreseen: dsl.Output[dsl.Artifact],
) -> list[dict]:
    """Tell what each form of student would cost on this machine, and which are worth teaching.

    Args:
        dataset: What ingest wrote.
        dataset_digest: Its digest.
        teacher: What teach wrote; forms are cut from it.
        teacher_digest: Its digest.
        signals_digest: Digest of what extract wrote.
        latency_p95_ms: 95th percentile at batch 1 on one thread, at most.
        size_mb: Model file and tokenizer, at most.
        form: The recipe's student section; how it prunes stays, and nothing else.
        distill: The recipe's distill section.
        compress: The recipe's compress section.
        settings: The recipe's plan section.
        recipe_name: Name of the recipe.
        code_version: Version and digest of the code.
        foreseen: The cost of every form.

    Returns:
        Of each that is worth teaching, cheapest first: variant, form, time foreseen, digests of what it is taught from.
    """
    from pathlib import Path

    from potstill import recipe, sections, store, tracking
    from potstill.plan.forecast import plain
    from potstill.plan.forms import name_of_form
    from potstill.steps.foresee import foresee_forms

    digests = {"dataset_digest": dataset_digest, "teacher_digest": teacher_digest}
    with tracking.step("foresee", recipe_name, {"code_version": code_version, **digests}) as log:
        limits = {"latency_p95_ms": latency_p95_ms, "size_mb": size_mb}
        budget = sections.checked(recipe.Budget, "budget", limits)
        knobs = sections.checked(recipe.Plan, "plan", settings)
        log.params(limits | knobs.model_dump(mode="json"))
        found = foresee_forms(
            Path(dataset.path),
            Path(teacher.path),
            sections.checked(recipe.Student, "student", form),
            sections.checked(recipe.Distill, "distill", distill),
            sections.checked(recipe.Compress, "compress", compress),
            budget,
            knobs,
            Path(foreseen.path),
        )
        # kfp's local runner gives a loop no outputs of tasks before it but through the items.
        forms = [
            {"variant": name_of_form(one.form), "form": plain(one.form), "foreseen_ms": one.p50_ms}
            | {**digests, "signals_digest": signals_digest}
            for one in found
        ]
        print(f"to be taught: {', '.join(name_of_form(one.form) for one in found)}")
        log.metrics({"forms": len(forms)})
        foreseen.metadata.update(digest=store.folder_digest(Path(foreseen.path)), mlflow_run_id=log.run_id)
    return forms
