"""The probe wired into a Triton's pod as ``k8s/`` renders it: the first step alone, or with gates."""

from __future__ import annotations

import enum
import functools
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from probe.facts import wiring
from testbed.kubelet.specs import ContainerSpec, PodSpec
from testbed.manifests.kustomize import all_kustomizes
from testbed.manifests.overlays import Overlays, workload

TRITON = "triton"
"""The name of Triton's container."""
TRITON_PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
"""Where Triton listens by default, by protocol."""


class Gate(enum.Enum):
    """A gate of the pod that asks the probe, by its component."""

    READINESS = "gate-readiness"
    LIVENESS = "gate-liveness"
    STARTUP = "startup"


_FIELDS = {
    Gate.READINESS: "readiness_probe",
    Gate.LIVENESS: "liveness_probe",
    Gate.STARTUP: "startup_probe",
}
_BEFORE: dict[str, Any] = {
    "containers": [
        {
            "name": TRITON,
            "image": "tritonserver:24.10-py3",
            "ports": [{"name": name, "containerPort": port} for name, port in TRITON_PORTS.items()],
            "resources": {"requests": {"cpu": "1", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
            "securityContext": {
                "runAsUser": wiring.USER,
                "runAsGroup": wiring.USER,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        }
    ]
}


@functools.cache
def wired(*gates: Gate, native: bool = False) -> PodSpec:
    """The pod with these gates, rendered; ``native`` has the probe among the init containers.

    Skips the running test where there is no kustomize.
    """
    components = ["observe", "shm", *(each.value for each in gates)]
    if native:
        components.append("native-sidecar")
    with tempfile.TemporaryDirectory() as folder:
        overlays = Overlays(Path(folder) / "k8s")
        return PodSpec.read(all_kustomizes()[0].text(overlays.add("pod", [workload(_BEFORE)], components)))


def changed(pod: PodSpec, container: str, **fields: Any) -> PodSpec:  # noqa: ANN401  (whatever the record has)
    """The pod with other fields in one container, as an overlay would set them."""

    def patched(containers: Iterable[ContainerSpec]) -> tuple[ContainerSpec, ...]:
        return tuple(
            msgspec.structs.replace(each, **fields) if each.name == container else each for each in containers
        )

    return msgspec.structs.replace(
        pod, containers=patched(pod.containers), init_containers=patched(pod.init_containers)
    )


def timed(pod: PodSpec, container: str, gate: Gate, **fields: int | None) -> PodSpec:
    """The pod with another timing of one probe, by the names of :class:`testbed.kubelet.specs.ProbeSpec`."""
    name = _FIELDS[gate]
    probe = getattr(pod.container(container), name)
    return changed(pod, container, **{name: msgspec.structs.replace(probe, **fields)})


def brisk(pod: PodSpec) -> PodSpec:
    """The pod with every probe once a second, and short graces; thresholds of Triton's gates stay as they are.

    The sidecar has 8 s to come up, for a machine that runs other tests beside.
    """
    for each in pod.lasting():
        for gate, field in _FIELDS.items():
            if getattr(each, field) is not None:
                pod = timed(pod, each.name, gate, period_seconds=1, timeout_seconds=1)
    pod = timed(pod, wiring.CONTAINER, Gate.LIVENESS, failure_threshold=8, termination_grace_period_seconds=2)
    return msgspec.structs.replace(pod, termination_grace_period_seconds=10)
