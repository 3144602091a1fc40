"""The probe wired into a Triton's pod, as a manifest: the first step alone, or with gates."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

import msgspec

from probe.facts import wiring
from probe.facts.wiring import ProbeTiming
from testbed.kubelet.specs import ContainerSpec, PodSpec

TRITON = "triton"
"""The name of Triton's container."""
TRITON_PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
"""Where Triton listens by default, by protocol."""


class Gate(enum.Enum):
    """A gate of the pod that asks the probe."""

    READINESS = "readinessProbe"
    LIVENESS = "livenessProbe"
    STARTUP = "startupProbe"


_TIMINGS = {Gate.READINESS: wiring.READINESS, Gate.LIVENESS: wiring.LIVENESS, Gate.STARTUP: wiring.STARTUP}
_FIELDS = {
    Gate.READINESS: "readiness_probe",
    Gate.LIVENESS: "liveness_probe",
    Gate.STARTUP: "startup_probe",
}
_SECURITY: dict[str, Any] = {
    "runAsUser": wiring.USER,
    "runAsGroup": wiring.USER,
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}
_SHM = "triton-probe-shm"


def wired(*gates: Gate, native: bool = False) -> PodSpec:
    """The pod with these gates; ``native`` has the probe among the init containers."""
    triton: dict[str, Any] = {
        "name": TRITON,
        "image": "triton",
        "ports": [{"name": name, "containerPort": port} for name, port in TRITON_PORTS.items()],
        "securityContext": _SECURITY,
        "resources": {"requests": {"cpu": "1", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
        "volumeMounts": [{"name": _SHM, "mountPath": "/dev/shm"}],
        **{each.value: _probe(_TIMINGS[each]) for each in gates},
    }
    sidecar: dict[str, Any] = {
        "name": wiring.CONTAINER,
        "image": "triton-probe",
        "args": ["serve"],
        "ports": [{"name": wiring.PORT_NAME, "containerPort": wiring.PORT}],
        "securityContext": {**_SECURITY, "readOnlyRootFilesystem": True},
        "resources": {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "192Mi"}},
        "livenessProbe": _probe(wiring.OWN_LIVENESS),
    }
    if native:
        sidecar["restartPolicy"] = "Always"
    spec = {
        "shareProcessNamespace": True,
        "containers": [triton] if native else [triton, sidecar],
        "initContainers": [sidecar] if native else [],
        "volumes": [{"name": _SHM, "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}],
    }
    return msgspec.convert(spec, PodSpec)


def changed(pod: PodSpec, container: str, **fields: Any) -> PodSpec:  # noqa: ANN401  (whatever the record has)
    """The pod with other fields in one container, as an overlay would set them."""

    def patched(containers: Iterable[ContainerSpec]) -> tuple[ContainerSpec, ...]:
        return tuple(
            msgspec.structs.replace(each, **fields) if each.name == container else each for each in containers
        )

    return msgspec.structs.replace(
        pod, containers=patched(pod.containers), init_containers=patched(pod.init_containers)
    )


def timed(pod: PodSpec, container: str, gate: Gate, **fields: int) -> PodSpec:
    """The pod with another timing of one probe, by the names of :class:`testbed.kubelet.specs.ProbeSpec`."""
    name = {
        Gate.READINESS: "readiness_probe",
        Gate.LIVENESS: "liveness_probe",
        Gate.STARTUP: "startup_probe",
    }[gate]
    probe = getattr(pod.container(container), name)
    return changed(pod, container, **{name: msgspec.structs.replace(probe, **fields)})


def brisk(pod: PodSpec) -> PodSpec:
    """The pod with every probe once a second, and a short grace; thresholds of Triton's gates stay as they are."""
    for each in pod.lasting():
        for gate, field in _FIELDS.items():
            if getattr(each, field) is not None:
                pod = timed(pod, each.name, gate, period_seconds=1, timeout_seconds=1)
    pod = timed(pod, wiring.CONTAINER, Gate.LIVENESS, failure_threshold=3)
    return msgspec.structs.replace(pod, termination_grace_period_seconds=3)


def _probe(timing: ProbeTiming) -> dict[str, Any]:
    return {
        "httpGet": {"path": timing.path, "port": wiring.PORT},
        "periodSeconds": timing.period_seconds,
        "timeoutSeconds": timing.timeout_seconds,
        "failureThreshold": timing.failure_threshold,
    }
