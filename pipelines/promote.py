"""The promoting pipeline: the version that a person approved in MLflow becomes the champion."""

from pathlib import Path

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from potstill.components.close.component import close
from potstill.components.promote.component import promote
from potstill.pipelines.package import compile_pipeline
from potstill.pipelines.pods import Cluster, config, fit, load_cluster

NAME = "promote"
PACKAGE = Path("pipelines", "compiled", f"{NAME}.yaml")
HEADING = "The pipeline that promotes what was approved, as make compile writes it"


def build(cluster: Cluster | None = None) -> BaseComponent:
    """The DAG: one step, which fails where an approval must not be followed."""

    @dsl.pipeline(
        name=NAME,
        description="Potstill: what a person approved in MLflow becomes the champion",
        pipeline_config=config(cluster) if cluster else None,
        pipeline_root=cluster.pipeline_root or None if cluster else None,
    )
    def pipeline(model: str, reason: str = "approved") -> None:
        """Make the version the champion that a person approved in MLflow, by the alias or the tag `approved`.

        Args:
            model: Name in the registry.
            reason: Why; kept in the history.
        """
        closed = close(recipe_name=NAME).set_caching_options(False).set_display_name("Close the run")
        with dsl.ExitHandler(closed):
            moved = promote(model=model, reason=reason, recipe_name=NAME)
            # An approval changes no argument.
            moved.set_caching_options(False).set_display_name("Promote what was approved")
        if cluster:
            fit(closed, cluster, retried=False)
            fit(moved, cluster)

    return pipeline


if __name__ == "__main__":
    compile_pipeline(build(load_cluster()), PACKAGE, HEADING)
