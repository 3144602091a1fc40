"""One look at all GPUs from inside the helper, as plain objects shaped like ``probe.facts.nvml``."""

from __future__ import annotations

import time
from typing import Any

from probe.sources.nvml.questions import NO_PERMISSION, Questions, code_of

_NO_GPUS_IS_FINE = 1  # a flag of nvmlInitWithFlags
_GENERAL = {1, NO_PERMISSION, 9, 18, 999}
"""Codes that, when not one GPU can be opened, speak of NVML's access and not of GPUs."""
_NO_SUCH_MIG = frozenset({2, 6})

_RECOVERY_ACTION = 230  # the field; drivers before 565 do not know it
_RECOVERY_WORDS = (
    "none",
    "gpu_reset",
    "node_reboot",
    "drain_p2p",
    "drain_and_reset",
    "recover_imex_domain",
    "bus_reset",
    "system_reboot",
)
_RENEW_SECONDS = 60.0
"""How often NVML is begun anew while a GPU fails: after a reset the old session's view stays broken, and a
new session at each look would attach to the failing GPU each time."""


class Session:
    """NVML from an initialisation to a shutdown, begun anew when it broke."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._begun: float | None = None
        self._known: dict[int, dict[str, Any]] = {}

    def look(self) -> dict[str, Any]:
        """Tell the driver and every GPU, or the ``code`` and ``detail`` of NVML's refusal.  Never raises."""
        try:
            self._begin()
            return {"driver_version": self._driver_version(), "gpus": self._gpus()}
        except Exception as error:  # noqa: BLE001 - the binding raises more than NVMLError
            self._end()
            return {"code": code_of(error), "detail": f"{error}" or type(error).__name__}

    def _begin(self) -> None:
        if self._nvml is None:
            import pynvml  # noqa: PLC0415 - where it is missing, that is an answer

            self._nvml = pynvml
        if self._begun is None:
            self._nvml.nvmlInitWithFlags(_NO_GPUS_IS_FINE)
            self._begun = time.monotonic()

    def _end(self) -> None:
        if self._begun is None:
            return
        self._begun = None
        Questions(self._nvml).ask("nvmlShutdown")

    def _driver_version(self) -> str | None:
        asked = Questions(self._nvml)
        version: str | None = asked.ask("nvmlSystemGetDriverVersion")
        if asked.failure is not None:
            raise asked.failure
        return version

    def _gpus(self) -> list[dict[str, Any]]:
        """Goes by index, never by UUID: that search fails when any other GPU has fallen off the bus."""
        count = self._nvml.nvmlDeviceGetCount()
        gpus: list[dict[str, Any]] = []
        refusals: list[Exception] = []
        failed = False
        for index in range(count):
            asked = Questions(self._nvml)
            handle = asked.ask("nvmlDeviceGetHandleByIndex", index)
            if handle is not None:
                gpus += self._opened(index, handle, asked)
            elif asked.code != NO_PERMISSION or index in self._known:  # else it was given to someone else
                gpus.append({**self._remembered(index), "error": asked.word or "NOT_SUPPORTED"})
            if handle is None and asked.failure is not None and asked.code in _GENERAL:
                refusals.append(asked.failure)
            failed = failed or asked.failure is not None
        if refusals and len(refusals) == count:
            raise refusals[0]
        if failed and self._begun is not None and time.monotonic() - self._begun > _RENEW_SECONDS:
            self._end()
        return _once(gpus)

    def _remembered(self, index: int) -> dict[str, Any]:
        return self._known.get(index) or {"uuid": f"index:{index}"}

    def _opened(self, index: int, handle: Any, asked: Questions) -> list[dict[str, Any]]:  # noqa: ANN401
        identity = {
            "uuid": asked.ask("nvmlDeviceGetUUID", handle),
            "name": asked.ask("nvmlDeviceGetName", handle),
            "minor": asked.ask("nvmlDeviceGetMinorNumber", handle),
        }
        identity = {name: value for name, value in identity.items() if value is not None}
        if identity.get("uuid") not in {None, self._remembered(index)["uuid"]}:
            self._known.pop(index, None)  # another GPU than before has this index
        identity = {**self._remembered(index), **identity}
        if not identity["uuid"].startswith("index:"):
            self._known[index] = identity
        migs = _migs(handle, identity.get("minor"), asked)
        gpu = {
            **identity,
            **_memory(handle, asked),
            "recovery_action": _recovery_action(handle, asked),
            # A parent's own list needs a privilege and repeats its MIG devices' processes.
            "processes": _processes(handle, asked) if migs is None else None,
        }
        return [{**gpu, "error": asked.word}, *(migs or ())]


def _once(gpus: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the GPUs that were only remembered at one index and answered at another."""
    answered = {each["uuid"] for each in gpus if "processes" in each}
    return [each for each in gpus if "processes" in each or each["uuid"] not in answered]


def _migs(parent: Any, minor: int | None, asked: Questions) -> list[dict[str, Any]] | None:  # noqa: ANN401
    """List the MIG devices that were given to this container; None where the GPU is not partitioned."""
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
        mig = {
            "uuid": uuid,
            "name": asked_mig.ask("nvmlDeviceGetName", handle) or "",
            "minor": minor,
            "mig": True,
            **_memory(handle, asked_mig),
            "processes": _processes(handle, asked_mig),
        }
        migs.append({**mig, "error": asked_mig.word})
    return migs


def _memory(handle: Any, asked: Questions) -> dict[str, int]:  # noqa: ANN401
    memory = asked.ask("nvmlDeviceGetMemoryInfo", handle)
    if memory is None:
        return {}
    return {"memory_total_bytes": memory.total, "memory_used_bytes": memory.used}


def _recovery_action(handle: Any, asked: Questions) -> str | None:  # noqa: ANN401
    fields = asked.ask("nvmlDeviceGetFieldValues", handle, [_RECOVERY_ACTION])
    if not fields or fields[0].nvmlReturn != 0:
        return None  # each field has a return code of its own
    action = fields[0].value.uiVal
    return _RECOVERY_WORDS[action] if action < len(_RECOVERY_WORDS) else f"action_{action}"


def _processes(handle: Any, asked: Questions) -> list[dict[str, Any]] | None:  # noqa: ANN401
    """List the compute and MPS clients, each pid once with the most memory that is said of it.

    Some drivers list a process once for each of its clients.  None where either list could not be had:
    half a list would prove an absence that is none.
    """
    compute = asked.ask_list("nvmlDeviceGetComputeRunningProcesses", handle, absent=None)
    mps = asked.ask_list("nvmlDeviceGetMPSComputeRunningProcesses", handle, absent=[])
    if compute is None or mps is None:
        return None
    used: dict[int, int | None] = {}
    for each in (*compute, *mps):
        said, before = each.usedGpuMemory, used.get(each.pid)
        used[each.pid] = said if before is None else before if said is None else max(before, said)
    return [{"pid": pid, "used_bytes": used_bytes} for pid, used_bytes in used.items()]
