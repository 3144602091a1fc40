"""Every reason that a finding can have: the one place they are declared.

CLI help, docs, alerts, runbooks and tests are generated from this table or checked against it.
"""

from __future__ import annotations

import msgspec

from probe.facts.findings import Action, Severity
from probe.facts.gates import AT_ONCE, Gate, Hold


class Reason(msgspec.Struct, frozen=True):
    """One reason: what it says, how bad it is, which gates it fails after which hold, what to do."""

    name: str
    says: str
    severity: Severity
    action: Action
    fails: tuple[tuple[Gate, Hold], ...] = ()

    def hold(self, gate: Gate) -> Hold | None:
        """How long it must hold before it fails this gate, or None where it never does."""
        return dict(self.fails).get(gate)


def _ready(hold: Hold = AT_ONCE) -> tuple[Gate, Hold]:
    return (Gate.READY, hold)


def _live(seconds: float) -> tuple[Gate, Hold]:
    return (Gate.LIVE, Hold(seconds=seconds))


_STARTUP = (Gate.STARTUP, AT_ONCE)
_THREE_LOOKS = Hold(looks=3)
_INFO, _WARNING, _CRITICAL = Severity.INFO, Severity.WARNING, Severity.CRITICAL

_ALL = (
    Reason(
        "Initializing",
        "No complete observation yet in this epoch.",
        _INFO,
        Action.WAIT,
        (_ready(), _STARTUP),
    ),
    Reason(
        "TritonStarting",
        "The process is there, its ports are not yet open, or its first models are still loading.",
        _INFO,
        Action.WAIT,
        (_ready(), _STARTUP),
    ),
    Reason(
        "TritonDown",
        "Triton was up in this epoch, and now its process is gone.",
        _CRITICAL,
        Action.RESTART_CONTAINER,
        (_ready(), _live(60)),
    ),
    Reason(
        "TritonHung",
        "The process is alive, and its gRPC and HTTP liveness both time out.",
        _CRITICAL,
        Action.RESTART_CONTAINER,
        (_ready(_THREE_LOOKS), (Gate.LIVE, Hold(seconds=30, looks=3))),
    ),
    Reason(
        "ControlPlaneBlocked",
        "gRPC control calls time out while HTTP liveness answers.",
        _WARNING,
        Action.WAIT,
    ),
    Reason(
        "ProtocolRestricted",
        "Triton demands a header for the calls that the probe needs.",
        _CRITICAL,
        Action.CHECK_CONFIG,
        (_ready(),),
    ),
    Reason(
        "TlsMismatch",
        "One side speaks TLS and the other does not, or a certificate is refused.",
        _CRITICAL,
        Action.CHECK_CONFIG,
        (_ready(),),
    ),
    Reason(
        "ModelLoading",
        "A model has no ready version yet and is loading.",
        _INFO,
        Action.WAIT,
        (_STARTUP, _ready()),
    ),
    Reason(
        "ModelLoadFailed",
        "Triton gave up loading the model; its own text is in the evidence, classified.",
        _CRITICAL,
        Action.CHECK_CONFIG,
        (_ready(),),
    ),
    Reason(
        "ModelMissing",
        "The model is required by configuration and unknown to Triton.",
        _CRITICAL,
        Action.CHECK_CONFIG,
        (_ready(),),
    ),
    Reason(
        "ModelNotReady",
        "Triton itself says that the model is not ready, for another cause than loading.",
        _CRITICAL,
        Action.RELOAD_MODEL,
        (_ready(),),
    ),
    Reason(
        "ModelStuckLoading",
        "The model has been loading for longer than models.stuck_after.",
        _WARNING,
        Action.RESTART_CONTAINER,
    ),
    Reason(
        "ModelStuckUnloading",
        "The model has been unloading for longer than models.stuck_after.",
        _WARNING,
        Action.RESTART_CONTAINER,
    ),
    Reason(
        "EnsembleStepUnready",
        "A step of a ready ensemble is not ready or has a dead instance.",
        _CRITICAL,
        Action.RELOAD_MODEL,
        (_ready(),),
    ),
    Reason(
        "StubDead",
        "An instance's stub process exited while its model stayed loaded.",
        _CRITICAL,
        Action.RELOAD_MODEL,
        (_ready(), _live(60)),
    ),
    Reason(
        "StubFrozen",
        "A stub process is stopped, frozen with its cgroup, or in uninterruptible sleep.",
        _CRITICAL,
        Action.RESTART_CONTAINER,
        (_ready(Hold(seconds=5)), _live(60)),
    ),
    Reason(
        "WorkerDead",
        "A process under a stub died (a vLLM engine core or worker).",
        _CRITICAL,
        Action.RELOAD_MODEL,
        (_ready(), _live(60)),
    ),
    Reason(
        "InstancesMissing",
        "Fewer live stubs than the model's instances call for, and no exit was witnessed.",
        _CRITICAL,
        Action.RELOAD_MODEL,
        (_ready(Hold(seconds=5)),),
    ),
    Reason(
        "StubOrphaned",
        "A stub without a live tritonserver above it, or a worker without its stub, holds memory.",
        _WARNING,
        Action.RESTART_CONTAINER,
    ),
    Reason(
        "ModelStalled",
        "Requests are waiting or a canary is out, and nothing completes.",
        _CRITICAL,
        Action.RESTART_CONTAINER,
        (_ready(Hold(seconds=30)), _live(120)),
    ),
    Reason(
        "ModelFailing",
        "In the last window every request to the model failed.",
        _CRITICAL,
        Action.RELOAD_MODEL,
        (_ready(Hold(seconds=30)), _live(120)),
    ),
    Reason(
        "CanaryFailed",
        "The model's canary inference errs, times out, or gives the wrong answer.",
        _CRITICAL,
        Action.RELOAD_MODEL,
        (_ready(Hold(looks=2)),),
    ),
    Reason(
        "InferenceSlow",
        "Compute time per inference is far above this model's own baseline.",
        _WARNING,
        Action.NONE,
    ),
    Reason(
        "CpuFallback",
        "The model is meant for a GPU and was loaded on the CPU.",
        _CRITICAL,
        Action.CHECK_CONFIG,
        (_ready(),),
    ),
    Reason(
        "GpuNotUsed",
        "The model is declared on a GPU, was exercised, and is provably absent from it.",
        _CRITICAL,
        Action.CHECK_CONFIG,
        (_ready(_THREE_LOOKS),),
    ),
    Reason(
        "WrongGpu",
        "The model runs on a GPU other than the one that policy names.",
        _CRITICAL,
        Action.CHECK_CONFIG,
        (_ready(_THREE_LOOKS),),
    ),
    Reason(
        "PlacementSkewed",
        "The model is declared over several GPUs and found on fewer.",
        _WARNING,
        Action.CHECK_CONFIG,
    ),
    Reason(
        "PlacementImplicit",
        "The model has no explicit instance_group: the next start may place it elsewhere.",
        _WARNING,
        Action.CHECK_CONFIG,
    ),
    Reason(
        "PlacementUnknown",
        "Where the model runs can not be told; the message says why.",
        _INFO,
        Action.NONE,
    ),
    Reason(
        "PolicyInvalid",
        "A triton_probe parameter in the model's config.pbtxt can not be obeyed.",
        _WARNING,
        Action.CHECK_CONFIG,
    ),
    Reason(
        "GpuLost",
        "NVML says that the GPU fell off the bus.",
        _CRITICAL,
        Action.CHECK_NODE,
        (_ready(),),
    ),
    Reason(
        "GpuResetRequired",
        "NVML, or the GPU's recovery action, asks for a reset.",
        _CRITICAL,
        Action.CHECK_NODE,
        (_ready(),),
    ),
    Reason(
        "GpuXid",
        "The driver reported an Xid; the application class is a warning and fails no gate.",
        _CRITICAL,
        Action.CHECK_NODE,
        (_ready(),),
    ),
    Reason(
        "GpuEcc",
        "Uncorrected memory errors, or a row remapping that failed.",
        _WARNING,
        Action.CHECK_NODE,
    ),
    Reason(
        "GpuThrottled",
        "The GPU slows down for heat or for its power brake.",
        _WARNING,
        Action.CHECK_NODE,
    ),
    Reason(
        "GpuMemoryPressure",
        "Memory in use on the GPU is above gpu.memory_pressure.",
        _WARNING,
        Action.CHECK_CONFIG,
    ),
    Reason(
        "NvmlUnavailable",
        "NVML has no library, no driver, or no permission here.",
        _WARNING,
        Action.CHECK_CONFIG,
    ),
    Reason(
        "NvmlHung",
        "An NVML call has been outstanding for too long.",
        _WARNING,
        Action.CHECK_NODE,
    ),
    Reason(
        "NvmlAccessLost",
        "NVML answers 999 after it had worked: the container lost its devices.",
        _WARNING,
        Action.RESCHEDULE_POD,
    ),
    Reason(
        "NvmlVersionMismatch",
        "NVML answers 18: the driver was upgraded under the running container.",
        _WARNING,
        Action.RESCHEDULE_POD,
    ),
    Reason(
        "BestEffortPod",
        "Triton runs with `resources: {}`: the first to be killed under memory pressure.",
        _WARNING,
        Action.CHECK_CONFIG,
    ),
    Reason(
        "MemoryUnlimited",
        "Triton's container has no memory limit.",
        _WARNING,
        Action.CHECK_CONFIG,
    ),
    Reason(
        "CpuUnlimited",
        "Triton's container has no CPU limit.",
        _INFO,
        Action.NONE,
    ),
    Reason(
        "MemoryPressure",
        "Triton's container is near its own memory limit.",
        _WARNING,
        Action.CHECK_CONFIG,
    ),
    Reason(
        "CpuThrottled",
        "Triton's container is throttled by its own CPU limit.",
        _WARNING,
        Action.CHECK_CONFIG,
    ),
    Reason(
        "PidsPressure",
        "Triton's container is near its own limit of processes and threads.",
        _WARNING,
        Action.CHECK_CONFIG,
    ),
    Reason(
        "OomKilled",
        "The kernel killed a process of Triton's container for want of memory.",
        _CRITICAL,
        Action.CHECK_CONFIG,
    ),
    Reason(
        "ShmPressure",
        "/dev/shm is nearly full.",
        _WARNING,
        Action.CHECK_CONFIG,
    ),
    Reason(
        "ShmTooSmall",
        "/dev/shm is smaller than its stubs can need.",
        _WARNING,
        Action.CHECK_CONFIG,
    ),
    Reason(
        "ShmLeaked",
        "/dev/shm holds regions that no live process owns.",
        _WARNING,
        Action.NONE,
    ),
    Reason(
        "ObservationStale",
        "A source has not delivered for three intervals.",
        _WARNING,
        Action.NONE,
    ),
    Reason(
        "ProcessesNotShared",
        "The probe can not see Triton's processes.",
        _WARNING,
        Action.CHECK_CONFIG,
    ),
    Reason(
        "ProcessAccessDenied",
        "The probe sees Triton's processes and may not read them.",
        _WARNING,
        Action.CHECK_CONFIG,
    ),
    Reason(
        "RestartBudgetSpent",
        "/livez failed restarts.max times within restarts.window and now answers 200.",
        _CRITICAL,
        Action.NONE,
        (_ready(),),
    ),
)

CATALOGUE: dict[str, Reason] = {each.name: each for each in _ALL}
"""Every reason by its name, in the order of the contract."""
