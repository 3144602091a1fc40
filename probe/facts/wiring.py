"""How the probe is wired into a pod: names, ports, and the figures of every kubelet probe with what each rests on.

``k8s/`` and ``inject`` write the same wiring; this is where it is decided.  Figures of the kubelet: the longest
back-off between restarts of a container is 300 s (kubernetes, ``pkg/kubelet/kubelet.go``, ``MaxContainerBackOff``),
and a probe that gets no answer has failed.
"""

from __future__ import annotations

import msgspec

CONTAINER = "triton-probe"
"""The sidecar's name in the pod."""
PORT = 8003
"""Where it answers.  The kubelet looks for a named port in the probed container alone: Triton's probes need this."""
PORT_NAME = "probe"
"""For monitors, which find a port by name."""
USER = 1000
"""uid and gid: ``triton-server`` in Triton's own images.  The kernel asks for both before it shows a process."""

_LONGEST_BACK_OFF = 300
_WORST_START = 30
"""Seconds until it answers on a node that starves it of CPU."""


class ProbeTiming(msgspec.Struct, frozen=True):
    """A kubelet's HTTP probe of the sidecar: its path, and seconds and counts as in a manifest."""

    path: str
    period_seconds: int
    timeout_seconds: int
    failure_threshold: int

    @property
    def seconds_to_fail(self) -> int:
        """How long it must fail before the kubelet acts."""
        return self.period_seconds * self.failure_threshold


READINESS = ProbeTiming("/readyz", period_seconds=5, timeout_seconds=5, failure_threshold=1)
"""Out of service within one period: the daemon has debounced already, and answers from memory."""
LIVENESS = ProbeTiming(
    "/livez",
    period_seconds=10,
    timeout_seconds=5,
    failure_threshold=(_LONGEST_BACK_OFF + _WORST_START) // 10,
)
"""A probe that is killed over and over answers again within 330 s at worst; until then nothing restarts Triton."""
STARTUP = ProbeTiming("/startupz", period_seconds=5, timeout_seconds=5, failure_threshold=720)
"""An hour: the largest models take tens of minutes to load, and what is slow is not cured by a restart."""
OWN_LIVENESS = ProbeTiming("/healthz", period_seconds=10, timeout_seconds=5, failure_threshold=6)
"""The sidecar's own: a minute, for a restart costs what it knows, and a starved one is not cured by it."""

IMAGE = "triton-probe:0.1.0"
"""Without a registry: ``images:`` of kustomize and ``inject --image`` say where it lies."""
ARGUMENTS = ("serve",)
"""The container's ``args``; the image's entry point is the command itself."""
ANNOTATION = "triton-probe/injected"
"""On the object that ``inject`` wrote into: what it made there, so that it can be taken away again."""

SHM_PATH = "/dev/shm"
SHM_VOLUME = "triton-probe-shm"
"""The volume for Triton's ``/dev/shm``, which is 64 MiB in a pod without one.  The probe needs no mount of it."""
SHM_SIZE = "1Gi"
"""A limit and no reservation: pages count where they are touched.  Triton's manual starts its containers so."""

NVML_VARIABLES = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "utility"}
"""What gives a container the driver's library, and reserves no GPU, where NVIDIA's runtime starts it."""
RUNTIME_CLASS = "nvidia"
"""The class of that runtime where it is not the default one (GPU Operator from 25.10 on, Talos, k3s)."""

FIRST_NATIVE = (1, 29)
"""The first Kubernetes that starts an init container with ``restartPolicy: Always`` as a sidecar (KEP-753, beta)."""


class Amounts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Quantities as a manifest spells them; what is None is not written."""

    cpu: str | None = None
    memory: str | None = None


class Resources(msgspec.Struct, frozen=True):
    """A container's ``resources``."""

    requests: Amounts
    limits: Amounts


RESOURCES = Resources(Amounts(cpu="20m", memory="96Mi"), Amounts(memory="192Mi"))
"""No CPU limit: a throttled probe answers late, and its request is its share on a full node."""
GUARANTEED = Resources(Amounts(cpu="200m", memory="192Mi"), Amounts(cpu="200m", memory="192Mi"))
"""For a pod of QoS class Guaranteed, which any other sidecar makes Burstable: Triton would lose its exclusive
cores and be killed earlier for want of memory.  200m: a throttled start still takes seconds and not minutes."""


class Capabilities(msgspec.Struct, frozen=True, omit_defaults=True):
    """A container's ``capabilities``."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class SeccompProfile(msgspec.Struct, frozen=True):
    """A container's ``seccompProfile``."""

    type: str = "RuntimeDefault"


class SecurityContext(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A container's ``securityContext``; what is None is not written."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    allow_privilege_escalation: bool | None = None
    read_only_root_filesystem: bool | None = None
    capabilities: Capabilities | None = None
    seccomp_profile: SeccompProfile | None = None


SECURITY = SecurityContext(
    run_as_user=USER,
    run_as_group=USER,
    run_as_non_root=True,
    allow_privilege_escalation=False,
    read_only_root_filesystem=True,
    capabilities=Capabilities(drop=("ALL",)),
    seccomp_profile=SeccompProfile(),
)
"""``msgspec.to_builtins`` makes the manifest's own words of it.  Triton must run as this user and group too."""
