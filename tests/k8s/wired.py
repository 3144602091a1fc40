"""What a pod looks like once it has these components: told from ``probe.facts.wiring`` alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import msgspec

from probe.facts import wiring
from probe.facts.wiring import ProbeTiming

GATES = {
    "startup": ("startupProbe", wiring.STARTUP),
    "gate-readiness": ("readinessProbe", wiring.READINESS),
    "gate-liveness": ("livenessProbe", wiring.LIVENESS),
}
"""Component, probe of Triton's container, figures."""
NVML = ("nvml/env", "nvml/runtime-class", "nvml/nri", "nvml/volume-mount", "nvml/dra")
_UTILITY = {"name": "NVIDIA_DRIVER_CAPABILITIES", "value": "utility"}
_ALL_GPUS = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}


def builtins(thing: object) -> Any:  # noqa: ANN401 - any JSON
    """A record as YAML has it."""
    return msgspec.json.decode(msgspec.json.encode(thing))


def probe(timing: ProbeTiming) -> dict[str, Any]:
    """The kubelet's probe with these figures."""
    made = {
        "httpGet": {"path": timing.path, "port": wiring.PORT},
        "periodSeconds": timing.period_seconds,
        "timeoutSeconds": timing.timeout_seconds,
        "failureThreshold": timing.failure_threshold,
        "terminationGracePeriodSeconds": timing.grace_seconds,
    }
    return {name: value for name, value in made.items() if value is not None}


def sidecar() -> dict[str, Any]:
    """The sidecar's container."""
    return {
        "name": wiring.CONTAINER,
        "image": wiring.IMAGE,
        "args": list(wiring.ARGUMENTS),
        "ports": [{"name": wiring.PORT_NAME, "containerPort": wiring.PORT}],
        "livenessProbe": probe(wiring.OWN_LIVENESS),
        "resources": builtins(wiring.RESOURCES),
        "securityContext": builtins(wiring.SECURITY),
    }


def template(before: dict[str, Any], components: Sequence[str]) -> dict[str, Any]:
    """A pod template after these components, the native sidecar last.  ``before`` stays as it is."""
    after = copy.deepcopy(before)
    pod = after["spec"]
    triton, probe_container = pod["containers"][0], sidecar()
    if "observe" in components:
        pod["shareProcessNamespace"] = True
        pod["containers"].insert(1, probe_container)
    for component in components:
        if component in GATES:
            field, timing = GATES[component]
            triton[field] = probe(timing)
    if "guaranteed" in components:
        probe_container["resources"] = builtins(wiring.GUARANTEED)
    if "shm" in components:
        mounts = [each for each in triton.get("volumeMounts", []) if each["mountPath"] != wiring.SHM_PATH]
        triton["volumeMounts"] = [*mounts, {"name": wiring.SHM_VOLUME, "mountPath": wiring.SHM_PATH}]
        size = {"medium": "Memory", "sizeLimit": wiring.SHM_SIZE}
        pod.setdefault("volumes", []).append({"name": wiring.SHM_VOLUME, "emptyDir": size})
    _nvml(after, triton, probe_container, components)
    if "native-sidecar" in components:
        pod["containers"].remove(probe_container)
        pod.setdefault("initContainers", []).insert(0, {**probe_container, "restartPolicy": "Always"})
    return after


def _nvml(
    after: dict[str, Any], triton: dict[str, Any], probe: dict[str, Any], components: Sequence[str]
) -> None:
    pod = after["spec"]
    if "nvml/env" in components or "nvml/runtime-class" in components:
        probe["env"] = [_ALL_GPUS, _UTILITY]
    if "nvml/runtime-class" in components:
        pod["runtimeClassName"] = "nvidia"
    if "nvml/nri" in components:
        key = f"nvidia.cdi.k8s.io/container.{wiring.CONTAINER}"
        after["metadata"].setdefault("annotations", {})[key] = "management.nvidia.com/gpu=all"
    if "nvml/volume-mount" in components:
        mount = {"name": "triton-probe-gpus", "mountPath": "/var/run/nvidia-container-devices/all"}
        probe.update(env=[_UTILITY], volumeMounts=[mount])
        volume = {"name": "triton-probe-gpus", "hostPath": {"path": "/dev/null"}}
        pod.setdefault("volumes", []).append(volume)
    if "nvml/dra" in components:
        pod["resourceClaims"] = [{"name": "gpus", "resourceClaimTemplateName": "triton-gpus"}]
        for container in (triton, probe):
            container.setdefault("resources", {})["claims"] = [{"name": "gpus"}]
        for amounts in ("requests", "limits"):
            triton["resources"].get(amounts, {}).pop("nvidia.com/gpu", None)


def unordered(template: dict[str, Any]) -> dict[str, Any]:
    """The same with volumes, mounts and variables by name: their order means nothing here."""
    sorted_ = copy.deepcopy(template)
    pod = sorted_["spec"]
    for holder, key in (
        (pod, "volumes"),
        *((each, "volumeMounts") for each in pod["containers"]),
        *((each, "env") for each in pod["containers"]),
        *((each, "env") for each in pod.get("initContainers", [])),
    ):
        if key in holder:
            holder[key] = sorted(holder[key], key=lambda each: str(each.get("mountPath", each["name"])))
    return sorted_
