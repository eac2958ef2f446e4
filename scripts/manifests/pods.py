"""Pods: what any kind of workload makes pods of."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from render import Manifest

# Fields of a predictor that are KServe's own; all others are a pod's. From kserve/kserve,
# pkg/apis/serving/v1beta1/component.go, ComponentExtensionSpec (as of 017d86a).
EXTENSION = {
    "minReplicas": {"type": "integer", "minimum": 0},
    "maxReplicas": {"type": "integer", "minimum": 0},
    "scaleTarget": {"type": "integer", "minimum": 1},
    "scaleMetric": {"enum": ["cpu", "memory", "concurrency", "rps"]},
    "containerConcurrency": {"type": "integer", "minimum": 0},
    "timeout": {"type": "integer", "minimum": 1},
    "canaryTrafficPercent": {"type": "integer", "minimum": 0, "maximum": 100},
    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    "deploymentStrategy": {"type": "object"},
}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
LONG_RUNNING = {"Deployment", "StatefulSet", "InferenceService"}


@dataclass(frozen=True)
class Pod:
    """A template of pods: whose it is, the pods' labels and specification, and claims that each pod gets of its own."""

    kind: str
    name: str
    labels: dict[str, str]
    spec: dict[str, Any]
    claims: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def containers(self) -> list[dict[str, Any]]:
        """All of them, those that run first included."""
        return [*self.spec.get("initContainers", []), *self.spec.get("containers", [])]

    @property
    def ports(self) -> set[int | str]:
        """Names and numbers of the ports that its containers open."""
        opened = [port for container in self.containers for port in container.get("ports", [])]
        return {port["containerPort"] for port in opened} | {port["name"] for port in opened if "name" in port}


def name_of(manifest: Manifest) -> str:
    """Kind and name, as in Deployment/potstill-mlflow."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def pods(manifests: list[Manifest]) -> Iterator[Pod]:
    """A template for each workload."""
    for manifest in manifests:
        kind, name, spec = manifest["kind"], manifest["metadata"]["name"], manifest.get("spec", {})
        if kind == "InferenceService":
            predictor = spec["predictor"]
            own = {key: value for key, value in predictor.items() if key not in EXTENSION}
            yield Pod(kind, name, predictor.get("labels", {}), own)
            continue
        if kind == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if kind in {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"}:
            template = spec["template"]
            claims = tuple(claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", []))
            yield Pod(kind, name, template["metadata"].get("labels", {}), template["spec"], claims)


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a selector by labels takes a pod; matchExpressions are not used here."""
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
