"""Schemas: each object as Kubernetes' published types have it, fields that they don't know included."""

from collections.abc import Iterator

import jsonschema
import kubernetes_validate
from pods import EXTENSION, name_of, pods
from render import Manifest

# The oldest Kubernetes that these manifests are for: from here on a preStop hook can sleep without a shell.
KUBERNETES = "1.30"
# From kserve/kserve, config/crd/full/serving.kserve.io_inferenceservices.yaml: the part that is used here.
INFERENCE_SERVICE = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "serving.kserve.io/v1beta1"},
        "kind": {"const": "InferenceService"},
        "metadata": {"type": "object"},
        "spec": {
            "type": "object",
            "required": ["predictor"],
            "additionalProperties": False,
            "properties": {"predictor": {"type": "object", "properties": EXTENSION}},
        },
    },
}


def faults(manifests: list[Manifest]) -> Iterator[str]:
    """What the schemas refuse, a line each."""
    for manifest in manifests:
        try:
            if manifest["kind"] == "InferenceService":
                jsonschema.validate(manifest, INFERENCE_SERVICE)
                kubernetes_validate.validate(_as_pod(manifest), KUBERNETES, strict=True)
            else:
                kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        except jsonschema.ValidationError as error:
            yield f"{name_of(manifest)}: {'.'.join(map(str, error.path))}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{name_of(manifest)}: {error.message}"


def _as_pod(service: Manifest) -> Manifest:
    """What of a predictor is a pod's, as a pod."""
    (pod,) = pods([service])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": service["metadata"], "spec": pod.spec}
