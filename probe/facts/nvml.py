"""One look at the GPUs through NVML."""

from __future__ import annotations

import enum

import msgspec

from probe.facts.instants import Instant


class NvmlState(enum.StrEnum):
    """What NVML itself is able to do here."""

    OK = "ok"
    NO_LIBRARY = "no_library"
    """``libnvidia-ml.so.1`` can not be opened: the runtime injected none (code 12)."""
    NO_DRIVER = "no_driver"
    """The library is there, the driver or its device nodes are not (code 9)."""
    NO_PERMISSION = "no_permission"
    UNKNOWN_ERROR = "unknown_error"
    """Code 999: usually the device cgroup lost access."""
    VERSION_MISMATCH = "version_mismatch"
    """Code 18: the driver was upgraded under a running container."""
    HUNG = "hung"
    """A call is outstanding longer than its deadline."""
    ERROR = "error"


class GpuProcess(msgspec.Struct, frozen=True):
    """One process on one GPU.  ``used_bytes`` is None where the driver does not say.

    NVML lists pids of the caller's pid namespace from driver 535.113 on, host pids before.
    """

    pid: int
    used_bytes: int | None


class Gpu(msgspec.Struct, frozen=True):
    """One GPU (or MIG device).  ``processes`` is None where the list could not be had.

    ``minor`` is the N of ``/dev/nvidia<N>``; ``recovery_action`` is NVML's field 230 in words, None
    where the driver is older than 565.  ``error`` is the code that a call on this GPU failed with.
    """

    uuid: str
    name: str = ""
    minor: int | None = None
    mig: bool = False
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    recovery_action: str | None = None
    processes: tuple[GpuProcess, ...] | None = None
    error: str | None = None


class NvmlReading(msgspec.Struct, frozen=True):
    """What NVML said in one look; ``gpus`` is empty unless ``state`` is OK."""

    observed: Instant
    state: NvmlState
    detail: str = ""
    code: int | None = None
    """NVML's own error code, where there was one."""
    outstanding_seconds: float = 0.0
    """How long the current call has not come back, for HUNG."""
    driver_version: str | None = None
    gpus: tuple[Gpu, ...] = ()
