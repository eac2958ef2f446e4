"""The watching pipeline: production rows in; a report out, and a failed run where they have drifted."""

from pathlib import Path

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from potstill.components.alarm.component import alarm
from potstill.components.close.component import close
from potstill.components.drift.component import drift
from potstill.pipelines.package import compile_pipeline
from potstill.pipelines.pods import Cluster, config, fit, load_cluster

NAME = "monitor"
PACKAGE = Path("pipelines", "compiled", f"{NAME}.yaml")


def build(cluster: Cluster | None = None) -> BaseComponent:
    """The DAG: it fails after its report is kept, so that whatever watches runs is told."""

    @dsl.pipeline(
        name=NAME,
        description="Potstill: production rows against what a model was trained on",
        pipeline_config=config(cluster) if cluster else None,
        pipeline_root=cluster.pipeline_root or None if cluster else None,
    )
    def pipeline(model: str, window: str, reference: str = "", psi: float = 0.1) -> None:
        """Compare production rows with what a registered model was trained on.

        Args:
            model: A registered name, which means its champion, or NAME@ALIAS, or NAME/VERSION.
            window: Rows as the model gets them: a file, a folder or a glob.
            reference: Training data to compare with, instead of the version's profile. Empty is the profile.
            psi: Stability index from which on a difference that is beyond chance counts as drift.
        """
        closed = close(recipe_name=NAME).set_caching_options(False).set_display_name("Close the run")
        with dsl.ExitHandler(closed):
            found = drift(model=model, window=window, reference=reference, psi=psi, recipe_name=NAME)
            # The rows may have changed, and the champion moved, without a change of any argument.
            found.set_caching_options(False).set_display_name("Compare with the training data")
            with dsl.If(found.outputs["Output"] != "", name="drifted"):
                told = alarm(model=model, drifted=found.outputs["Output"])
                told.set_caching_options(False).set_display_name("Fail, for the rows have drifted")
        if cluster:
            fit(closed, cluster, retried=False)
            fit(found, cluster)
            fit(told, cluster, retried=False)

    return pipeline


if __name__ == "__main__":
    compile_pipeline(build(load_cluster()), PACKAGE, "The pipeline that watches for drift, as make compile writes it")
