"""Xids as the driver reports them, waited for on a thread of their own."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

from probe.sources.nvml.lists import instance_of
from probe.sources.nvml.questions import FUNCTION_NOT_FOUND, GRAVE, NO_PERMISSION, TIMEOUT, Questions, code_of

_XID = 8  # the bit of this type of event

WAIT_SECONDS = 2.0
"""How long one wait lasts: the end of a session takes no longer, and an idle thread wakes no oftener."""
_EARLY_SECONDS = 0.2
_SPACING_SECONDS = 0.5
"""Signals make the driver's wait time out early; one that always does must not spin."""
_PAUSE_SECONDS = 5.0
"""Between waits that err.  Events queue up meanwhile."""
_OVERDUE_SECONDS = 30.0
"""After which a call that should have come back in two seconds hangs.  Registering may attach to each GPU."""


class Events:
    """The Xids of one session, handed to ``tell`` in the thread that waits for them.

    The thread takes its own handles and registers by itself: the driver may hold it in any of these calls,
    and no look must wait for that.  What a GPU reported before it was registered is lost.  Before the session
    ends the thread must have left (:meth:`leave`), because the driver's library frees what a wait still reads.
    """

    def __init__(self, nvml: Any, tell: Callable[[dict[str, Any]], None]) -> None:  # noqa: ANN401 - untyped
        self._nvml = nvml
        self._tell = tell
        self._uuids: dict[int | None, str] = {}
        self._refused: set[str] = set()
        self._registered = self._refused_whole = False
        self._failing_since: float | None = None
        self._turned = time.monotonic()
        self._struck: set[str] = set()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="xids", daemon=True)
        self._thread.start()

    def tells_of(self, uuids: Collection[str]) -> bool | None:
        """Whether Xids of all these GPUs are told as they happen; None while that is not known yet."""
        if not uuids:
            return None
        hangs = time.monotonic() - self._turned > _OVERDUE_SECONDS
        failing = self._failing_since is not None
        if hangs or failing or self._leaving.is_set() or not self._thread.is_alive():
            return False
        return set(self._uuids.values()).issuperset(uuids) if self._registered else None

    def missed(self, uuids: Collection[str]) -> bool:
        """Whether a new session may tell more Xids of these GPUs.

        One was not there, or lost, when the others were registered; or nobody waits any more, because the thread
        was asked to leave and did so late; or the driver broke what is waited with, as far as one can see.
        """
        since = self._failing_since
        broken = since is not None and time.monotonic() - since > _OVERDUE_SECONDS
        if broken or self._refused_whole or self._leaving.is_set():
            return True
        return self._registered and not {*self._uuids.values(), *self._refused}.issuperset(uuids)

    def struck(self) -> set[str]:
        """The uuids that an Xid came from since this was asked last."""
        struck = self._struck.copy()
        self._struck -= struck
        return struck

    def leave(self) -> bool:
        """Ask the thread to leave; whether it did, in the time that its wait may take."""
        self._leaving.set()
        self._thread.join(WAIT_SECONDS + _SPACING_SECONDS)
        return not self._thread.is_alive()

    def _run(self) -> None:
        asked = Questions(self._nvml)
        events = asked.ask("nvmlEventSetCreate")
        if events is None:
            # Not where the driver has no events, or none for us.
            self._refused_whole = asked.code not in (None, NO_PERMISSION)
            return
        try:
            for index in range(asked.ask("nvmlDeviceGetCount") or 0):
                self._register(index, events)
            self._registered = True
            if self._uuids:
                self._wait(events)
        finally:
            asked.ask("nvmlEventSetFree", events)

    def _register(self, index: int, events: Any) -> None:  # noqa: ANN401 - likewise
        if self._leaving.is_set():
            return
        asked = Questions(self._nvml)
        handle = asked.ask("nvmlDeviceGetHandleByIndex", index)
        uuid = asked.ask("nvmlDeviceGetUUID", handle) if handle is not None else None
        if uuid is None:
            return  # lost, or someone else's
        try:
            if self._nvml.nvmlDeviceGetSupportedEventTypes(handle) & _XID:
                self._nvml.nvmlDeviceRegisterEvents(handle, _XID, events)
                self._uuids[_address(handle)] = uuid
                return
        except Exception as error:  # noqa: BLE001 - the binding raises more than NVMLError
            if code_of(error) in GRAVE:
                return
        self._refused.add(uuid)

    def _wait(self, events: Any) -> None:  # noqa: ANN401 - likewise
        while not self._leaving.is_set():
            began = self._turned = time.monotonic()
            try:
                event = self._nvml.nvmlEventSetWait_v2(events, int(WAIT_SECONDS * 1000))
            except Exception as error:  # noqa: BLE001 - likewise
                code = code_of(error)
                if code == FUNCTION_NOT_FOUND:
                    return
                self._turned = time.monotonic()
                self._failing_since = None if code == TIMEOUT else self._failing_since or began
                if self._failing_since is not None:
                    self._leaving.wait(_PAUSE_SECONDS)
                elif self._turned - began < _EARLY_SECONDS:
                    self._leaving.wait(_SPACING_SECONDS)
            else:
                self._failing_since = None
                self._told(event)

    def _told(self, event: Any) -> None:  # noqa: ANN401 - likewise
        # By the handle's address: asking a GPU that has just reported an Xid for its uuid may take minutes.
        uuid = self._uuids.get(_address(event.device))
        uuid = uuid or Questions(self._nvml).ask("nvmlDeviceGetUUID", event.device)
        if uuid is None or not event.eventType & _XID:
            return
        self._struck.add(uuid)
        self._tell(
            {
                "uuid": uuid,
                "code": event.eventData,
                "gpu_instance": instance_of(event.gpuInstanceId),
                "compute_instance": instance_of(event.computeInstanceId),
            }
        )


def _address(handle: Any) -> int | None:  # noqa: ANN401 - likewise
    return ctypes.cast(handle, ctypes.c_void_p).value
