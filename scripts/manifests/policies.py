"""Policies: Kubernetes' Pod Security Standard 'restricted', and a little beyond it."""

import re
from collections.abc import Iterator
from typing import Any

from pods import LONG_RUNNING, PROBES, Pod, name_of, pods
from render import Manifest

DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
SCALE = {None: 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
SCALE |= {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
# The restricted profile's, less those that nothing here needs.
VOLUMES = {"configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected"}
SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|PRIVATE")
LEVELS = [f"pod-security.kubernetes.io/{mode}" for mode in ("enforce", "audit", "warn")]


def faults(manifests: list[Manifest]) -> Iterator[str]:
    """What breaks a policy, a line each."""
    with_rights = {
        subject["name"] for binding in manifests if binding["kind"] == "RoleBinding" for subject in binding["subjects"]
    }
    for pod in pods(manifests):
        yield from (f"{pod}: {fault}" for fault in _pod(pod, with_rights))
        for container in pod.containers:
            yield from (f"{pod}: {container['name']}: {fault}" for fault in _container(container, pod))
    for manifest in manifests:
        yield from (f"{name_of(manifest)}: {fault}" for fault in _object(manifest))
    if not any(_denies_all(manifest) for manifest in manifests):
        yield "no NetworkPolicy denies all that others don't allow"


def _pod(pod: Pod, with_rights: set[str]) -> Iterator[str]:
    spec, security = pod.spec, pod.spec.get("securityContext", {})
    if not security.get("runAsNonRoot") or not security.get("runAsUser"):
        yield "must run as a user with a number other than 0 (runAsNonRoot, runAsUser)"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "must have the seccomp profile RuntimeDefault"
    if any(spec.get(field) for field in ("hostNetwork", "hostPID", "hostIPC")):
        yield "must not share the node's network, processes or memory"
    if spec.get("automountServiceAccountToken") is not False and spec.get("serviceAccountName") not in with_rights:
        yield "needs no token of Kubernetes' API (automountServiceAccountToken: false)"
    if spec.get("enableServiceLinks") is not False:
        yield "must get its environment from what names it alone (enableServiceLinks: false)"
    for volume in spec.get("volumes", []):
        (kind,) = volume.keys() - {"name"}
        if kind not in VOLUMES:
            yield f"must not mount {kind}"
        if kind == "emptyDir" and "sizeLimit" not in volume[kind]:
            yield f"volume {volume['name']} needs a sizeLimit"


def _container(container: dict[str, Any], pod: Pod) -> Iterator[str]:
    security = container.get("securityContext", {})
    if not DIGEST.fullmatch(container["image"]):
        yield f"image {container['image']} is not named by its digest"
    if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
        yield "must not gain privileges"
    if security.get("capabilities") != {"drop": ["ALL"]}:
        yield "must drop all capabilities and add none"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "must have a read-only root file system"
    if security.get("runAsUser", 1) == 0 or security.get("runAsNonRoot", True) is False:
        yield "must not run as root"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "must not take a port of the node"
    for variable in container.get("env", []):
        if "value" in variable and SECRET_NAME.search(variable["name"]):
            yield f"{variable['name']} must come from a Secret"
    yield from _resources(container.get("resources", {}))
    if pod.kind in LONG_RUNNING and container in pod.spec["containers"]:
        yield from _lifecycle(container, pod)


def _resources(resources: dict[str, Any]) -> Iterator[str]:
    for kind in ("cpu", "memory"):
        try:
            request, limit = (amount(resources[part][kind]) for part in ("requests", "limits"))
        except (KeyError, ValueError) as error:
            yield f"must request {kind} and limit it: {error}"
            continue
        if request > limit:
            yield f"requests more {kind} than its limit"


def amount(quantity: str | float) -> float:
    """A Kubernetes quantity as a number.

    Raises:
        ValueError: it is none.
    """
    found = QUANTITY.fullmatch(str(quantity))
    if found is None:
        raise ValueError(f"{quantity} is no quantity")
    return float(found[1]) * SCALE[found[2]]


def _lifecycle(container: dict[str, Any], pod: Pod) -> Iterator[str]:
    for probe in PROBES:
        if probe not in container:
            yield f"needs a {probe}"
    pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    if pause >= pod.spec.get("terminationGracePeriodSeconds", 30):
        yield "is killed before it has stopped (terminationGracePeriodSeconds)"


def _object(manifest: Manifest) -> Iterator[str]:
    kind, metadata, spec = manifest["kind"], manifest["metadata"], manifest.get("spec", {})
    if kind == "Namespace":
        if any(metadata.get("labels", {}).get(level) != "restricted" for level in LEVELS):
            yield "must hold its pods to the profile 'restricted'"
    elif metadata.get("namespace") != "potstill":
        yield "must be in the namespace potstill"
    if kind == "Secret":
        yield "a Secret must not be in these files"
    if kind.startswith("ClusterRole"):
        yield "rights must not go beyond the namespace"
    if kind == "Role":
        yield from _rights(manifest["rules"])
    if kind == "CronJob" and spec.get("concurrencyPolicy") != "Forbid":
        yield "two must not run at a time (concurrencyPolicy: Forbid)"
    job = spec.get("jobTemplate", {}).get("spec", {}) if kind == "CronJob" else spec
    if kind in {"Job", "CronJob"} and not {"backoffLimit", "activeDeadlineSeconds"} <= job.keys():
        yield "must end some day (backoffLimit, activeDeadlineSeconds)"


def _rights(rules: list[dict[str, Any]]) -> Iterator[str]:
    for rule in rules:
        if any("*" in rule.get(part, []) for part in ("apiGroups", "resources", "verbs")):
            yield "rights must be named, not *"
        if "secrets" in rule["resources"] and not rule.get("resourceNames"):
            yield "Secrets must be named one by one (resourceNames)"


def _denies_all(manifest: Manifest) -> bool:
    everything = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    return bool(manifest["kind"] == "NetworkPolicy" and manifest["spec"] == everything)
