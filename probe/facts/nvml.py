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


class GpuBusy(msgspec.Struct, frozen=True):
    """How busy one process kept one GPU since the look before.

    ``percent`` is the mean of the driver's samples of its multiprocessors, 0 to 100.  The driver may leave
    another namespace's pid in place here, so a pid counts only where the same GPU's process list has it too.
    """

    pid: int
    percent: float


class Gpu(msgspec.Struct, frozen=True):
    """One GPU (or MIG device).  ``processes`` is None where the list could not be had.

    ``minor`` is the N of ``/dev/nvidia<N>``; ``recovery_action`` is NVML's field 230 in words, None
    where the driver is older than 565.  ``error`` is the code that a call on this GPU failed with.
    ``parent`` is the UUID of the GPU that a MIG device is part of, ``gpu_instance`` and ``compute_instance``
    its ids there.  ``busy`` is None where the driver does not tell (MIG, WSL), empty where nobody was busy.
    Of memory errors, ``ecc_uncorrected`` counts since the driver was loaded and ``ecc_uncorrected_ever``
    since the GPU was made; ``rows_pending`` and ``rows_failed`` say that a remapping of rows (before Ampere:
    a retirement of pages) waits for a reset, or that it failed.  ``clock_reasons`` are NVML's reasons for
    slower clocks, in words.  What a GPU does not have is None.

    A GPU that failed before it ever told its UUID goes by its index instead, ``index:N``.
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
    parent: str | None = None
    gpu_instance: int | None = None
    compute_instance: int | None = None
    busy: tuple[GpuBusy, ...] | None = None
    ecc_uncorrected: int | None = None
    ecc_uncorrected_ever: int | None = None
    rows_pending: bool | None = None
    rows_failed: bool | None = None
    clock_reasons: tuple[str, ...] | None = None

    @property
    def named(self) -> bool:
        """Whether it goes by its UUID."""
        return not self.uuid.startswith("index:")


class Xid(msgspec.Struct, frozen=True):
    """The driver reported an Xid on this GPU, whoever caused it; NVML names no process.

    ``gpu_instance`` and ``compute_instance`` are told for a MIG device alone.
    """

    observed: Instant
    uuid: str
    code: int
    gpu_instance: int | None = None
    compute_instance: int | None = None


class NvmlReading(msgspec.Struct, frozen=True):
    """What NVML said in one look; ``gpus`` is empty unless ``state`` is OK.

    ``observed`` is when the answer came, and ``asked`` when the question was put, where that is known: a call
    may take seconds, and nobody can tell when in them a list was made.
    """

    observed: Instant
    state: NvmlState
    detail: str = ""
    code: int | None = None
    """NVML's own error code, where there was one."""
    outstanding_seconds: float = 0.0
    """How long the current call has not come back, for HUNG."""
    driver_version: str | None = None
    gpus: tuple[Gpu, ...] = ()
    xids_told: bool | None = None
    """Whether the driver tells us of Xids as they happen; None where that is not known yet."""
    asked: Instant | None = None

    @property
    def began(self) -> Instant:
        """What happened before this moment is surely in it."""
        return self.asked or self.observed

    @property
    def pids(self) -> frozenset[int]:
        """Every pid on any GPU."""
        return frozenset(each.pid for gpu in self.gpus for each in gpu.processes or ())
