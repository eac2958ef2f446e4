"""Promote as a pipeline component."""

from kfp import dsl

from potstill.components.images import CORE


@dsl.component(base_image=CORE, install_kfp_package=False)
def promote(model: str, reason: str, recipe_name: str) -> str:
    """Make the version the champion that a person approved in MLflow, if there is one.

    Args:
        model: Name in the registry.
        reason: Why; kept in the history.
        recipe_name: Name of the experiment in MLflow.

    Returns:
        What was moved, or why there was nothing to do.
    """
    from potstill import promotion, tracking

    with tracking.step("promote", recipe_name, {"model": model}) as log:
        log.params({"model": model, "reason": reason})
        words: str = promotion.promote_approved(model, reason)
        print(words)
        log.tags({"verdict": words})
    return words
