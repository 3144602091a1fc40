"""One GPU and its MIG devices, asked everything, as plain objects shaped like ``probe.facts.nvml.Gpu``."""

from __future__ import annotations

import time
from typing import Any

from probe.sources.nvml import health, lists
from probe.sources.nvml.questions import NOT_FOUND, Questions

SLOW_SECONDS = 12.0
"""How old the counts of memory errors may be: at the default interval every third look asks for them.  They
move seldom, and with an Xid, which has them asked at once.  Asking at each look cost a quarter of its CPU (8
GPUs of the test bench, 0.64 ms instead of 0.47), and newer GPUs answer by a message to a processor of theirs."""

_NO_SUCH_MIG = frozenset({2, NOT_FOUND})


class GpuMemory:
    """What is kept of the GPU at one index from look to look."""

    def __init__(self, index: int) -> None:
        self.identity: dict[str, Any] = {"uuid": f"index:{index}"}
        """Its uuid, name and minor as they were last told, so that a GPU that is lost keeps its name."""
        self.sampled: int | None = None
        """Up to when it was told who was busy, as the driver stamps its samples."""
        self.absent: dict[str, float] = {}
        """The questions that it does not know, and until when they rest."""
        self._errors: dict[str, Any] = {}
        self._errors_until = 0.0

    @property
    def named(self) -> bool:
        """Whether its uuid was ever told."""
        return not self.identity["uuid"].startswith("index:")

    def told(self, identity: dict[str, Any]) -> None:
        """Take what it says of itself now; another GPU than before is asked everything."""
        if self.named and identity.get("uuid") not in {None, self.identity["uuid"]}:
            self.identity = {}
            self.begin()
        self.identity = {**self.identity, **identity}

    def begin(self) -> None:
        """Ask everything again: another driver may answer."""
        self.absent.clear()
        self.renew()

    def renew(self) -> None:
        """Ask for memory errors again with the next look."""
        self._errors_until = 0.0

    def memory_errors(self, handle: Any, asked: Questions) -> dict[str, Any]:  # noqa: ANN401 - untyped
        """Tell what :func:`health.memory_errors` says, at most :data:`SLOW_SECONDS` old."""
        if time.monotonic() >= self._errors_until:
            self._errors = health.memory_errors(handle, asked)
            # A GPU that fails is asked anew with the next look: these are the answers that it failed to give.
            self._errors_until = time.monotonic() + SLOW_SECONDS if asked.failure is None else 0.0
        return self._errors


def identify(handle: Any, asked: Questions) -> dict[str, Any]:  # noqa: ANN401 - likewise
    """Its uuid, name and minor, as far as they are told."""
    identity = {
        "uuid": asked.ask("nvmlDeviceGetUUID", handle),
        "name": asked.ask("nvmlDeviceGetName", handle),
        "minor": asked.ask("nvmlDeviceGetMinorNumber", handle),
    }
    return {name: value for name, value in identity.items() if value is not None}


def describe(handle: Any, asked: Questions, memory: GpuMemory) -> list[dict[str, Any]]:  # noqa: ANN401
    """The GPU, then the MIG devices on it that were given to this container."""
    identity = memory.identity
    migs = _migs(handle, identity, asked)
    gpu = {
        **identity,
        **_memory(handle, asked),
        "recovery_action": health.recovery_action(handle, asked),
        # A parent's own list needs a privilege and repeats its MIG devices' processes.
        "processes": lists.processes(handle, asked) if migs is None else None,
        "clock_reasons": health.clock_reasons(handle, asked),
        **memory.memory_errors(handle, asked),
    }
    if migs is None:
        gpu["busy"], memory.sampled = lists.busy(handle, asked, memory.sampled)
    return [{**gpu, "error": asked.word}, *(migs or ())]


def _migs(parent: Any, identity: dict[str, Any], asked: Questions) -> list[dict[str, Any]] | None:  # noqa: ANN401
    """List the MIG devices; None where the GPU is not partitioned."""
    mode = asked.ask("nvmlDeviceGetMigMode", parent)
    if not mode or not mode[0]:
        return None
    migs = []
    for index in range(asked.ask("nvmlDeviceGetMaxMigDeviceCount", parent) or 0):
        asked_mig = Questions(asked.nvml, normal=_NO_SUCH_MIG)
        handle = asked_mig.ask("nvmlDeviceGetMigDeviceHandleByIndex", parent, index)
        uuid = asked_mig.ask("nvmlDeviceGetUUID", handle) if handle is not None else None
        if uuid is None:
            asked.note(asked_mig.failure)
            continue
        own = (
            lists.instance_of(asked_mig.ask("nvmlDeviceGetGpuInstanceId", handle)),
            lists.instance_of(asked_mig.ask("nvmlDeviceGetComputeInstanceId", handle)),
        )
        mig = {
            "uuid": uuid,
            "name": asked_mig.ask("nvmlDeviceGetName", handle) or "",
            "minor": identity.get("minor"),
            "mig": True,
            "parent": identity["uuid"],
            "gpu_instance": own[0],
            "compute_instance": own[1],
            **_memory(handle, asked_mig),
            "processes": lists.processes(handle, asked_mig, own),
        }
        migs.append({**mig, "error": asked_mig.word})
    return migs


def _memory(handle: Any, asked: Questions) -> dict[str, int]:  # noqa: ANN401 - likewise
    memory = asked.ask("nvmlDeviceGetMemoryInfo", handle)
    if memory is None:
        return {}
    return {"memory_total_bytes": memory.total, "memory_used_bytes": memory.used}
