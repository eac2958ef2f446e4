"""References: what an object names must be there, and what selects must find."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from pods import PROBES, Pod, name_of, pods, selects
from render import Manifest

# Made by others in this namespace: the pods of a run, which KFP labels.
OUTSIDE_PODS = [{"pipelines.kubeflow.org/v2_component": "true"}]
VARIABLE = re.compile(r"\$\((\w+)\)")


class Known:
    """What can be referred to.

    Args:
        manifests: the objects.
        secrets: names and keys of the Secrets that a person makes.
    """

    def __init__(self, manifests: list[Manifest], secrets: dict[str, set[str]]) -> None:
        self.names = {name_of(manifest) for manifest in manifests}
        self.pods = list(pods(manifests))
        # What an environment or a volume can be filled from.
        self.keys = {f"Secret/{name}": keys for name, keys in secrets.items()}
        for manifest in manifests:
            if manifest["kind"] in {"ConfigMap", "Secret"}:
                self.keys[name_of(manifest)] = set(manifest.get("data", {}))


def faults(manifests: list[Manifest], secrets: dict[str, set[str]]) -> Iterator[str]:
    """What refers to nothing, a line each."""
    known = Known(manifests, secrets)
    counts = Counter(map(name_of, manifests))
    yield from (f"{name}: there are {count} of them" for name, count in counts.items() if count > 1)
    for pod in known.pods:
        yield from (f"{pod}: {fault}" for fault in _in_pod(pod, known))
    for manifest in manifests:
        check = CHECKS.get(manifest["kind"])
        if check:
            yield from (f"{name_of(manifest)}: {fault}" for fault in check(manifest, known))


def _in_pod(pod: Pod, known: Known) -> Iterator[str]:
    account = pod.spec.get("serviceAccountName", "default")
    if f"ServiceAccount/{account}" not in known.names:
        yield f"no service account {account}"
    volumes = pod.spec.get("volumes", [])
    for volume in volumes:
        if "configMap" in volume:
            yield from _filled(known, f"ConfigMap/{volume['configMap']['name']}")
        if "secret" in volume:
            yield from _filled(known, f"Secret/{volume['secret']['secretName']}")
        claim = f"PersistentVolumeClaim/{volume.get('persistentVolumeClaim', {}).get('claimName')}"
        if "persistentVolumeClaim" in volume and claim not in known.names:
            yield f"no {claim}"
    there = {volume["name"] for volume in volumes} | set(pod.claims)
    for container in pod.containers:
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in there:
                yield f"{container['name']} mounts {mount['name']}, which is no volume"
        yield from (f"{container['name']}: {fault}" for fault in _in_container(container, pod, known))


def _in_container(container: dict[str, Any], pod: Pod, known: Known) -> Iterator[str]:
    variables = set()
    for reference in container.get("envFrom", []):
        for source, _ in _sources(reference):
            yield from _filled(known, source)
            variables |= known.keys.get(source, set())
    for variable in container.get("env", []):
        variables.add(variable["name"])
        for source, key in _sources(variable.get("valueFrom", {})):
            yield from _filled(known, source, key)
    for word in [*container.get("command", []), *container.get("args", [])]:
        yield from (f"$({name}) is not in its environment" for name in VARIABLE.findall(word) if name not in variables)
    for probe in PROBES:
        port = container.get(probe, {}).get("httpGet", {}).get("port")
        if port is not None and port not in pod.ports:
            yield f"{probe} asks port {port}, which no container opens"


def _sources(reference: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """The ConfigMap or Secret that part of an environment comes from, and the key."""
    for field, value in reference.items():
        kind = {"configMap": "ConfigMap", "secret": "Secret"}.get(field.removesuffix("Ref").removesuffix("Key"))
        if kind:
            yield f"{kind}/{value['name']}", value.get("key")


def _filled(known: Known, source: str, key: str | None = None) -> Iterator[str]:
    if source not in known.keys:
        yield f"no {source}"
    elif key is not None and key not in known.keys[source]:
        yield f"{source} has no key {key}"


def _workload(manifest: Manifest, known: Known) -> Iterator[str]:
    spec = manifest["spec"]
    if not selects(spec["selector"], spec["template"]["metadata"]["labels"]):
        yield "its selector does not take its own pods"
    if "serviceName" in spec and f"Service/{spec['serviceName']}" not in known.names:
        yield f"no service {spec['serviceName']}"


def _service(manifest: Manifest, known: Known) -> Iterator[str]:
    found = [pod for pod in known.pods if selects({"matchLabels": manifest["spec"]["selector"]}, pod.labels)]
    if not found:
        yield "selects no pod"
    for port in manifest["spec"]["ports"]:
        target = port.get("targetPort", port["port"])
        yield from (f"{pod} opens no port {target}" for pod in found if target not in pod.ports)


def _autoscaler(manifest: Manifest, known: Known) -> Iterator[str]:
    target = manifest["spec"]["scaleTargetRef"]
    if f"{target['kind']}/{target['name']}" not in known.names:
        yield f"no {target['kind']} {target['name']} to scale"


def _budget(manifest: Manifest, known: Known) -> Iterator[str]:
    if not any(selects(manifest["spec"]["selector"], pod.labels) for pod in known.pods):
        yield "selects no pod"


def _policy(manifest: Manifest, known: Known) -> Iterator[str]:
    spec = manifest["spec"]
    yield from _selected(spec["podSelector"], known)
    own = [pod for pod in known.pods if selects(spec["podSelector"], pod.labels)]
    for rule in spec.get("ingress", []):
        yield from _peers(rule.get("from", []), known)
        yield from _opened(rule, own)
    for rule in spec.get("egress", []):
        yield from _peers(rule.get("to", []), known)
        for peer in rule.get("to", []):
            if "podSelector" in peer and "namespaceSelector" not in peer:
                yield from _opened(rule, [pod for pod in known.pods if selects(peer["podSelector"], pod.labels)])


def _peers(peers: list[dict[str, Any]], known: Known) -> Iterator[str]:
    for peer in peers:
        if "podSelector" in peer and "namespaceSelector" not in peer:
            yield from _selected(peer["podSelector"], known)


def _selected(selector: dict[str, Any], known: Known) -> Iterator[str]:
    if not any(selects(selector, labels) for labels in [*(pod.labels for pod in known.pods), *OUTSIDE_PODS]):
        yield f"{selector['matchLabels']} is no pod's"


def _opened(rule: dict[str, Any], found: list[Pod]) -> Iterator[str]:
    for port in rule.get("ports", []):
        yield from (f"{pod} opens no port {port['port']}" for pod in found if port["port"] not in pod.ports)


def _binding(manifest: Manifest, known: Known) -> Iterator[str]:
    wanted = [manifest["roleRef"], *manifest["subjects"]]
    for reference in wanted:
        if f"{reference['kind']}/{reference['name']}" not in known.names:
            yield f"no {reference['kind']} {reference['name']}"


CHECKS = {
    "Deployment": _workload,
    "StatefulSet": _workload,
    "Service": _service,
    "HorizontalPodAutoscaler": _autoscaler,
    "PodDisruptionBudget": _budget,
    "NetworkPolicy": _policy,
    "RoleBinding": _binding,
}
