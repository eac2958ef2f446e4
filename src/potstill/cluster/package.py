"""A recipe's package on its way to a backend: what is uploaded, and what a run of it is given."""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp_server_api
import yaml

from potstill.cluster.client import Backend, made_once, named
from potstill.pipelines.package import compile_package
from potstill.pipelines.pods import Cluster
from potstill.recipe import Recipe, load_recipe

DIGEST_DIGITS = 12


@dataclass(frozen=True)
class Package:
    """A compiled recipe.

    Attributes:
        recipe: its name, which is the pipeline's.
        text: the YAML that is uploaded.
        documents: the same, read: the pipeline's spec, and what is for Kubernetes alone.
    """

    recipe: str
    text: str
    documents: list[dict[str, Any]]

    @property
    def version(self) -> str:
        """Name of the pipeline's version: the recipe and the package's digest."""
        return f"{self.recipe}-{hashlib.sha256(self.text.encode()).hexdigest()[:DIGEST_DIGITS]}"

    @property
    def parameters(self) -> dict[str, Any]:
        """What the fields of the pipeline's form hold."""
        fields = self.documents[0]["root"]["inputDefinitions"]["parameters"]
        return {name: field["defaultValue"] for name, field in fields.items()}

    @property
    def root(self) -> str | None:
        """Place of a run's artifacts. The backend heeds a request's alone; its form may offer the package's."""
        return self.documents[0].get("defaultPipelineRoot")

    @property
    def steps(self) -> dict[str, str]:
        """The name for people of each task that runs a container, by the name that the backend knows it by."""
        components = self.documents[0]["components"]
        graphs = [part["dag"]["tasks"] for part in (self.documents[0]["root"], *components.values()) if "dag" in part]
        return {
            task: told["taskInfo"]["name"]
            for tasks in graphs
            for task, told in tasks.items()
            if "executorLabel" in components[told["componentRef"]["name"]]
        }

    def same_steps(self, other: "Package") -> bool:
        """Whether the two differ in what their forms hold and in nothing else."""
        return self._without_values() == other._without_values()

    def _without_values(self) -> list[dict[str, Any]]:
        spec, *rest = self.documents
        fields = spec["root"]["inputDefinitions"]["parameters"]
        bare = {name: {**field, "defaultValue": None} for name, field in fields.items()}
        return [{**spec, "root": {**spec["root"], "inputDefinitions": {"parameters": bare}}}, *rest]


@dataclass(frozen=True)
class Order:
    """What to run: a package, a value for each of its fields, and whose rights its pods have."""

    package: Package
    parameters: dict[str, Any]
    service_account: str | None = None

    @property
    def config(self) -> Any:
        """The same, as a run's request tells it."""
        return kfp_server_api.V2beta1RuntimeConfig(parameters=self.parameters, pipeline_root=self.package.root)


def order(
    path: Path,
    overrides: tuple[str, ...],
    cluster: Cluster,
    images: Path | None = None,
    *,
    cached: bool = True,
) -> Order:
    """The recipe's file as it stands, and the overrides as the run's parameters, so that a trial makes no new version.

    Overrides that change the steps themselves, which no field of the form can, make a package of their own.

    Args:
        path: the recipe's file.
        overrides: settings replaced, each as section.key=value.
        cluster: how its steps run.
        images: lock file that says which image is which; none: the installation's.
        cached: whether steps may take an earlier run's results; if not, the package is one of its own.

    Raises:
        UserError: see `load_recipe` and `read_lock`; the file alone must be a whole recipe.
    """
    plain = _packed(load_recipe(path), cluster, images, cached)
    changed = _packed(load_recipe(path, overrides), cluster, images, cached) if overrides else plain
    return Order(plain if plain.same_steps(changed) else changed, changed.parameters, cluster.service_account)


def _packed(recipe: Recipe, cluster: Cluster, images: Path | None, cached: bool) -> Package:
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        file = Path(scratch, "package.yaml")
        compile_package(recipe, file, cluster, images, cached=cached)
        text = file.read_text(encoding="utf-8")
    return Package(recipe.name, text, list(yaml.safe_load_all(text)))


def uploaded(backend: Backend, package: Package) -> Any:
    """The pipeline's version that is this package, uploaded if the backend has it not.

    Raises:
        BackendError: the backend refuses it.
    """
    pipeline = made_once(lambda: pipeline_named(backend, package.recipe), lambda: _new_pipeline(backend, package))
    ask, by = backend.pipelines.pipeline_service_list_pipeline_versions, {"pipeline_id": pipeline.pipeline_id}
    return made_once(
        lambda: named(ask, "pipeline_versions", "name", package.version, **by),
        lambda: _new_version(backend, package, pipeline.pipeline_id),
    )


def pipeline_named(backend: Backend, name: str) -> Any | None:
    """The pipeline of that name; none if there is none."""
    ask, by = backend.pipelines.pipeline_service_list_pipelines, {"namespace": backend.namespace}
    return named(ask, "pipelines", "name", name, **by)


def _new_pipeline(backend: Backend, package: Package) -> Any:
    # Made empty: an upload would name its first version after the pipeline, not after what is in it.
    about = package.documents[0]["pipelineInfo"]["description"]
    wanted = kfp_server_api.V2beta1Pipeline(
        name=package.recipe, display_name=package.recipe, description=about, namespace=backend.namespace
    )
    return backend.pipelines.pipeline_service_create_pipeline(pipeline=wanted)


def _new_version(backend: Backend, package: Package, pipeline_id: str) -> Any:
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        file = Path(scratch, f"{package.version}.yaml")
        file.write_text(package.text, encoding="utf-8")
        return backend.uploads.upload_pipeline_version(str(file), name=package.version, pipelineid=pipeline_id)
