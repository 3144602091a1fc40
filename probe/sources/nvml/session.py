"""One look at all GPUs from inside the helper, as plain objects shaped like ``probe.facts.nvml``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from probe.sources.nvml.events import Events
from probe.sources.nvml.gpu import GpuMemory, describe, identify
from probe.sources.nvml.questions import NO_PERMISSION, Questions, code_of

_NO_GPUS_IS_FINE = 1  # a flag of nvmlInitWithFlags
_GENERAL = {1, NO_PERMISSION, 9, 18, 999}
"""Codes that, when not one GPU can be opened, speak of NVML's access and not of GPUs."""

_RENEW_SECONDS = 60.0
"""How often NVML is begun anew while a GPU fails, or once one came that was not there to register for its Xids:
after a reset the old session's view stays broken, and a new session at each look would attach to the failing
GPU each time."""


class Session:
    """NVML from an initialisation to a shutdown, begun anew when it broke.

    ``on_xid`` is called from a thread of the session's own, for each Xid at once, also while a look hangs.
    After each look comes :meth:`settle`.
    """

    def __init__(self, on_xid: Callable[[dict[str, Any]], None]) -> None:
        self._nvml: Any = None
        self._on_xid = on_xid
        self._begun: float | None = None
        self._broken = self._worn = False
        self._events: Events | None = None
        self._memories: dict[int, GpuMemory] = {}

    def look(self) -> dict[str, Any]:
        """Tell the driver and every GPU, or the ``code`` and ``detail`` of NVML's refusal.  Never raises."""
        try:
            events = self._begin()
            driver_version = self._driver_version()
            gpus = self._gpus(events.struck())
            whole = [each for each in gpus if "mig" not in each]
            # A GPU that fails is told as such; whether the others' Xids come is the question.
            sound = [each["uuid"] for each in whole if each["error"] is None]
            if len(sound) < len(whole) or events.missed(sound):
                self._worn = self._begun is not None and time.monotonic() - self._begun > _RENEW_SECONDS
            return {"driver_version": driver_version, "gpus": gpus, "xids_told": events.tells_of(sound)}
        except Exception as error:  # noqa: BLE001 - the binding raises more than NVMLError
            self._broken = True
            return {"code": code_of(error), "detail": f"{error}" or type(error).__name__}

    def settle(self) -> bool:
        """End the session if it broke, or if by another one more might be had of a GPU.

        Apart from the look, because the events' thread must leave first, which takes as long as one wait.
        False where it does not leave although the session broke: then the end of this process is the only
        way on.  Where only a GPU fails, the old session stays: the others still answer by it, and this
        process, held by the driver, might never quite end.
        """
        if self._begun is None or not (self._broken or self._worn):
            return True
        if self._events is not None and not self._events.leave():
            self._begun, self._worn = time.monotonic(), False
            return not self._broken
        self._begun = self._events = None
        Questions(self._nvml).ask("nvmlShutdown")
        if self._worn:
            with contextlib.suppress(Exception):  # the next look will tell
                self._begin()  # now: what the driver reports between two sessions is lost
        return True

    def _begin(self) -> Events:
        if self._nvml is None:
            import pynvml  # noqa: PLC0415 - where it is missing, that is an answer

            self._nvml = pynvml
        if self._begun is None or self._events is None:
            self._nvml.nvmlInitWithFlags(_NO_GPUS_IS_FINE)
            self._begun = time.monotonic()
            self._broken = self._worn = False
            self._events = Events(self._nvml, self._on_xid)
            for memory in self._memories.values():
                memory.begin()
        return self._events

    def _driver_version(self) -> str | None:
        asked = Questions(self._nvml)
        version: str | None = asked.ask("nvmlSystemGetDriverVersion")
        if asked.failure is not None:
            raise asked.failure
        return version

    def _gpus(self, struck: set[str]) -> list[dict[str, Any]]:
        """Goes by index, never by UUID: that search fails when any other GPU has fallen off the bus."""
        count = self._nvml.nvmlDeviceGetCount()
        gpus: list[dict[str, Any]] = []
        refusals: list[Exception] = []
        for index in range(count):
            memory = self._memories.get(index) or GpuMemory(index)
            asked = Questions(self._nvml, absent=memory.absent)
            handle = asked.ask("nvmlDeviceGetHandleByIndex", index)
            if handle is not None:
                memory.told(identify(handle, asked))
                if memory.named:
                    self._memories[index] = memory
                if memory.identity["uuid"] in struck:
                    memory.renew()
                gpus += describe(handle, asked, memory)
            elif asked.code != NO_PERMISSION or memory.named:  # else it was given to someone else
                gpus.append({**memory.identity, "error": asked.word or "NOT_SUPPORTED"})
            if handle is None and asked.failure is not None and asked.code in _GENERAL:
                refusals.append(asked.failure)
        if refusals and len(refusals) == count:
            raise refusals[0]
        return _once(gpus)


def _once(gpus: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the GPUs that were only remembered at one index and answered at another."""
    answered = {each["uuid"] for each in gpus if "processes" in each}
    return [each for each in gpus if "processes" in each or each["uuid"] not in answered]
