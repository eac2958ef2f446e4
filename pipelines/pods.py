"""How steps run on a cluster: resources, time, retries, credentials, and whose user they are."""

from pathlib import Path
from typing import Annotated, Any

from kfp import dsl, kubernetes
from kfp.dsl import PipelineTask
from pydantic import Field, model_validator

from potstill.sections import Section, load

DEFAULT = Path(__file__).with_name("cluster.yaml")
COMPONENTS = Path(__file__).parents[1] / "components"
# The images' own user.
USER = 10001
HOUR_S = 3600
Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti|k|M|G|T)?$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]


class Retry(Section):
    """How often and when a failed step is tried again."""

    times: int = Field(2, ge=0, le=10, description="Tries more, after the first.")
    wait_s: int = Field(60, ge=1, description="Pause before the first of them.")
    factor: float = Field(2.0, ge=1, description="By how much each pause is longer than the one before.")
    wait_at_most_s: int = Field(600, ge=1, description="The longest pause.")


class Pod(Section):
    """What one step asks for."""

    cpu: Quantity = Field("1", description="Cores, requested and allowed.")
    memory: Quantity = Field("4Gi", description="Requested and allowed.")
    shared_memory: Quantity | None = Field(None, description="Of /dev/shm, where torch's workers meet; part of memory.")
    timeout_h: float = Field(2.0, gt=0, le=24 * 14, description="After so long the step is ended.")
    gpus: int = Field(0, ge=0, le=16, description="Accelerators.")
    gpu: str = Field("nvidia.com/gpu", description="The resource that an accelerator is.")
    nodes: dict[str, str] = Field({}, description="Labels that the node must have.")
    tolerations: list[dict[str, str]] = Field([], description="Taints that the step bears, as Kubernetes writes them.")


class Cluster(Section):
    """How a pipeline's steps run on a cluster."""

    store: str = Field(
        "", pattern=r"^(s3://.+|/.*|)$", description="Place that outlives runs: s3://…, or a shared path."
    )
    pipeline_root: str = Field(
        "", pattern=r"^([a-z0-9]+://.+|)$", description="Place of a run's artifacts; empty: the backend's own."
    )
    service_account: Name | None = Field(
        None, description="Whose rights a run's pods have; none: the backend's choice."
    )
    settings: dict[Name, list[str]] = Field(
        {}, description="ConfigMaps, and which keys of theirs are set as variables."
    )
    secrets: dict[Name, list[str]] = Field({}, description="Secrets, and which keys of theirs are set as variables.")
    deadline_h: float = Field(48, gt=0, description="A run is ended after so long.")
    keep_h: float = Field(72, gt=0, description="How long a run's pods are kept after its end.")
    retry: Retry = Field(Retry(), description="How often and when a failed step is tried again.")
    each: Pod = Field(Pod(), description="What a step asks for, unless it is named in steps.")
    steps: dict[str, Pod] = Field({}, description="What the steps named here ask for.")
    shared_volume: Name | None = Field(None, description="Claim that is mounted at the store, where that is a path.")

    @model_validator(mode="after")
    def _can_be_meant(self) -> "Cluster":
        known = sorted(file.parent.name for file in COMPONENTS.glob("*/component.py"))
        if unknown := sorted(self.steps.keys() - set(known)):
            raise ValueError(f"steps: no step is called {', '.join(unknown)}; there are {', '.join(known)}")
        if self.shared_volume and not self.store.startswith("/"):
            raise ValueError("shared_volume: is mounted at the store, which must be an absolute path")
        return self


def load_cluster(path: Path | None = None) -> Cluster:
    """Read a cluster's settings; none: the ones that come with Potstill.

    Raises:
        UserError: what is wrong with them, and where.
    """
    return load(Cluster, path or DEFAULT)


def config(cluster: Cluster) -> dsl.PipelineConfig:
    """Of a whole run: its deadline, and how long it is kept."""
    return dsl.PipelineConfig(
        active_deadline_seconds=round(cluster.deadline_h * HOUR_S),
        ttl_seconds_after_finished=round(cluster.keep_h * HOUR_S),
    )


def fit(task: PipelineTask, cluster: Cluster, *, retried: bool = True) -> None:
    """Give a task its pod's resources, limits, credentials and identity."""
    pod = cluster.steps.get(task.component_spec.name, cluster.each)
    task.set_cpu_request(pod.cpu).set_cpu_limit(pod.cpu).set_memory_request(pod.memory).set_memory_limit(pod.memory)
    if pod.gpus:
        task.set_accelerator_type(pod.gpu).set_accelerator_limit(pod.gpus)
    for label, value in pod.nodes.items():
        kubernetes.add_node_selector(task, label, value)
    for toleration in pod.tolerations:
        kubernetes.add_toleration_json(task, dict[str, Any](toleration))
    if pod.shared_memory:
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=pod.shared_memory)  # noqa: S108
    if cluster.shared_volume:
        kubernetes.mount_pvc(task, cluster.shared_volume, cluster.store)
    if retried and cluster.retry.times:
        retry = cluster.retry
        task.set_retry(retry.times, f"{retry.wait_s}s", retry.factor, f"{retry.wait_at_most_s}s")
    kubernetes.set_timeout(task, round(pod.timeout_h * HOUR_S))
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    for name, keys in cluster.settings.items():
        kubernetes.use_config_map_as_env(task, name, {key: key for key in keys}, optional=True)
    for name, keys in cluster.secrets.items():
        kubernetes.use_secret_as_env(task, name, {key: key for key in keys}, optional=True)
    # Which run this is: by environment, for as an argument it would end every cache hit.
    kubernetes.use_field_path_as_env(task, "POTSTILL_RUN_ID", "metadata.labels['pipeline/runid']")
