"""Close as a pipeline component: the exit handler."""

from kfp import dsl

from potstill.components.images import CORE


@dsl.component(base_image=CORE, install_kfp_package=False)
def close(recipe_name: str, status: dsl.PipelineTaskFinalStatus) -> None:
    """Close the tracking run with the final status and the verdict, whatever happened.

    Args:
        recipe_name: Name of the recipe.
        status: How the pipeline ended.
    """
    from potstill import tracking

    tracking.close(recipe_name, status.state)
