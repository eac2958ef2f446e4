"""Alarm as a pipeline component."""

from kfp import dsl

from potstill.components.images import CORE


@dsl.component(base_image=CORE, install_kfp_package=False)
def alarm(model: str, drifted: str) -> None:
    """End the run as failed, after the report was kept: a step that fails itself would lose it.

    Args:
        model: Whose rows have drifted.
        drifted: Names of the columns that did.
    """
    raise SystemExit(f"{model}: drift: {drifted}")
