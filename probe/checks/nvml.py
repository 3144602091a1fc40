"""Does NVML answer, and if not, what is unknown because of it?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.observation import Observation
from probe.facts.findings import Claim, Subject, SubjectKind
from probe.facts.nvml import NvmlReading, NvmlState

_SUBJECT = Subject(SubjectKind.PROBE, source="nvml")

_REASONS = {
    NvmlState.HUNG: "NvmlHung",
    NvmlState.VERSION_MISMATCH: "NvmlVersionMismatch",
}

_UNKNOWN = (
    "Whether models use their GPU is unknown until NVML answers; nothing is concluded from its silence."
)


def judge(seen: Observation) -> Iterator[Claim]:
    """At most one claim: the state of NVML is one."""
    reading = seen.book.evidence.last
    if reading is None or reading.state is NvmlState.OK:
        return
    lost = reading.state is NvmlState.UNKNOWN_ERROR and seen.book.evidence.worked
    reason = "NvmlAccessLost" if lost else _REASONS.get(reading.state, "NvmlUnavailable")
    yield Claim(
        reason,
        _SUBJECT,
        f"{_what(reading, lost=lost)} {_UNKNOWN}",
        _remedy(reading.state, lost=lost),
        reading.observed,
        {
            "state": reading.state.value,
            "code": reading.code,
            "detail": reading.detail,
            "outstanding_seconds": reading.outstanding_seconds or None,
        },
    )


def _what(reading: NvmlReading, *, lost: bool) -> str:
    said = f" ({reading.detail})" if reading.detail else ""
    match reading.state:
        case NvmlState.HUNG:
            return f"An NVML call has not come back for {reading.outstanding_seconds:.0f} s."
        case NvmlState.NO_LIBRARY:
            return f"libnvidia-ml.so.1 is not in this container{said}."
        case NvmlState.NO_DRIVER:
            return f"NVML finds no NVIDIA driver, or none of its device nodes, in this container{said}."
        case NvmlState.NO_PERMISSION:
            return f"NVML may not open the GPU's device nodes here{said}."
        case NvmlState.VERSION_MISMATCH:
            return f"The driver was upgraded, and this container still has the old library{said}."
        case NvmlState.UNKNOWN_ERROR if lost:
            return f"NVML worked in this container and now answers 999{said}."
        case _:
            return f"NVML does not answer{said}."


def _remedy(state: NvmlState, *, lost: bool) -> str:
    match state:
        case NvmlState.HUNG:
            return (
                "Look at the node's kernel log for Xid and GSP timeouts. The call is held in a process of its own "
                "and is not repeated; nothing else of the probe waits for it."
            )
        case NvmlState.NO_LIBRARY | NvmlState.NO_DRIVER:
            return (
                "Give the probe's container NVML without reserving a GPU: NVIDIA_VISIBLE_DEVICES=all and "
                "NVIDIA_DRIVER_CAPABILITIES=utility, with runtimeClassName: nvidia where the cluster has it. On a "
                "machine without GPUs nothing is to be done."
            )
        case NvmlState.NO_PERMISSION:
            return (
                "Run the probe with access to /dev/nvidiactl and /dev/nvidia<N> (the uid and gid of Triton)."
            )
        case NvmlState.VERSION_MISMATCH:
            return "Recreate the pod: a restarted container gets the library of the new driver."
        case NvmlState.UNKNOWN_ERROR if lost:
            return (
                "Recreate the pod: the container's device cgroup lost the GPU (typically after systemctl "
                "daemon-reload on the node). CDI injection is not affected."
            )
        case _:
            return "Read the detail and the node's kernel log."
