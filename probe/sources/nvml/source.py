"""Looks at the GPUs through one helper process, and never waits for it longer than the deadline."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

import probe
from probe.facts.instants import Instant
from probe.facts.nvml import Gpu, NvmlReading, NvmlState, Xid
from probe.kits.clocks import now
from probe.sources.nvml.process import ENDED, LineProcess

_STATES = {
    4: NvmlState.NO_PERMISSION,
    9: NvmlState.NO_DRIVER,
    12: NvmlState.NO_LIBRARY,
    18: NvmlState.VERSION_MISMATCH,
    999: NvmlState.UNKNOWN_ERROR,
}
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_LEAVE_SECONDS = 0.2


class _Xid(msgspec.Struct, frozen=True):
    uuid: str
    code: int
    gpu_instance: int | None = None
    compute_instance: int | None = None


class _Line(msgspec.Struct, frozen=True):
    """A line of the helper: an Xid that nobody asked for, or an answer.

    ``gpus`` of an answer is None where NVML as a whole refused.
    """

    id: int | None = None
    xid: _Xid | None = None
    driver_version: str | None = None
    gpus: tuple[Gpu, ...] | None = None
    code: int | None = None
    detail: str = ""
    xids_told: bool | None = None


class _Request:
    """The one request that may be under way; ``done`` gets the answer, or None where none will come."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.asked = now()
        self.done: asyncio.Future[_Line | None] = asyncio.get_running_loop().create_future()

    @property
    def age(self) -> float:
        return time.monotonic() - self.asked.mono


class NvmlSource:
    """Looks at the GPUs.  Whatever NVML or the helper do becomes a reading; nothing is raised.

    ``deadline`` (seconds) is how long a look waits; ``abandon_after`` how long one call may be outstanding
    until its helper is killed.  There is never a second helper while the first exists, so a helper that the
    driver holds in uninterruptible sleep stays the only one.  All calls belong to one event loop.
    """

    def __init__(
        self,
        *,
        deadline: float = 5.0,
        abandon_after: float = 60.0,
        command: Sequence[str] | None = None,
    ) -> None:
        self._deadline = deadline
        self._abandon_after = abandon_after
        self._command = command or _helper_command()
        self._process: LineProcess | None = None
        self._request: _Request | None = None
        self._number = 0
        self._hung_since: float | None = None
        self._failure = ""
        self._pause = _FIRST_PAUSE_SECONDS
        self._start_at = 0.0
        self._closed = False
        self._on_xid: Callable[[Xid], None] | None = None

    def listen(self, on_xid: Callable[[Xid], None]) -> None:
        """Have each Xid told from now on, in the loop, at once and also while a look waits or hangs.

        They come while there is a helper, so from the first look on; the driver keeps none for later.
        """
        self._on_xid = on_xid

    @property
    def pid(self) -> int | None:
        """The helper's process id, None while there is none."""
        return self._process.pid if self._process is not None else None

    async def look(self) -> NvmlReading:
        """Tell what NVML says now, within the deadline; HUNG at once while an older call is outstanding."""
        if self._request is None and not self._ask():
            return self._without_helper()
        request = self._request
        if request is None:  # it could not take the request
            return await self._ended()
        if request.age > self._abandon_after and self._process is not None:
            self._process.kill()
        if request.age < self._deadline:
            await asyncio.wait({request.done}, timeout=self._deadline - request.age)
        if not request.done.done():
            self._hung_since = request.asked.mono
            detail = f"NVML has not answered for {request.age:.1f} s; process {self.pid} waits for it"
            return _hung(request.age, detail)
        answer = request.done.result()
        return _reading(answer, request.asked) if answer is not None else await self._ended()

    async def close(self) -> None:
        """End the helper, within half a second even where NVML holds it; it is not started again."""
        self._closed = True
        process, idle = self._process, self._request is None
        if process is None:
            return
        process.close_stdin()
        if not (idle and await process.wait_gone(_LEAVE_SECONDS)):
            process.kill()
            await process.wait_gone(_LEAVE_SECONDS)
        process.end("closed")
        if process.gone():
            self._process = None

    def _ask(self) -> bool:
        """Send a request, by a new helper where none is there; False where none may be started now."""
        if self._process is not None and self._process.ended:
            if not self._process.gone():
                return False
            self._process = None
        if self._closed or (self._process is None and not self._start()):
            return False
        self._number += 1
        self._request = _Request(self._number)
        if self._process is not None:
            self._process.send(msgspec.json.encode({"id": self._number}))
        return True

    def _start(self) -> bool:
        if time.monotonic() < self._start_at:
            return False
        try:
            self._process = LineProcess(self._command, _environment(), self._take, self._give_up)
        except OSError as error:
            self._give_up(f"can not be started: {error}")
            return False
        self._hung_since = None
        return True

    def _take(self, line: bytes) -> None:
        """Pass on an Xid, or match an answer with the request; a late one only ends the waiting."""
        request = self._request
        try:
            said = _decoder.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            self._end_process(f"answered garbage: {error}")
            return
        if said.xid is not None:
            self._tell(said.xid)
            return
        if request is None or said.id != request.number:
            self._end_process("answered what was not asked")
            return
        self._request = None
        self._hung_since = None
        self._pause = _FIRST_PAUSE_SECONDS
        request.done.set_result(said)

    def _tell(self, xid: _Xid) -> None:
        if self._on_xid is not None:
            told = Xid(now(), xid.uuid, xid.code, xid.gpu_instance, xid.compute_instance)
            # In a turn of its own: what a listener raises must not cost the lines that came with this one.
            asyncio.get_running_loop().call_soon(self._on_xid, told)

    def _end_process(self, why: str) -> None:
        if self._process is not None:
            self._process.end(why)

    def _give_up(self, why: str) -> None:
        """Remember why there is no helper, let the look that waits for it go, and pause."""
        self._failure = why
        self._start_at = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        request, self._request = self._request, None
        if request is not None:
            request.done.set_result(None)

    async def _ended(self) -> NvmlReading:
        if self._process is not None:
            await self._process.wait_gone(_LEAVE_SECONDS)  # the end of its pipe comes just before its own
        return self._without_helper()

    def _without_helper(self) -> NvmlReading:
        if self._hung_since is not None:
            age = time.monotonic() - self._hung_since
            return _hung(age, f"NVML has not answered for {age:.1f} s; its helper was killed")
        words = self._process.exit_words if self._process is not None else ""
        detail = f"the NVML helper {self._failure or 'is closed'}"
        if words and self._failure == ENDED:
            detail += f" with {words}"
        return NvmlReading(observed=now(), state=NvmlState.ERROR, detail=detail)


_decoder = msgspec.json.Decoder(_Line)


def _reading(answer: _Line, asked: Instant) -> NvmlReading:
    if answer.gpus is None:
        state = _STATES.get(answer.code or 0, NvmlState.ERROR)
        return NvmlReading(observed=now(), state=state, detail=answer.detail, code=answer.code)
    return NvmlReading(
        observed=now(),
        state=NvmlState.OK,
        driver_version=answer.driver_version,
        gpus=answer.gpus,
        xids_told=answer.xids_told,
        asked=asked,
    )


def _hung(age: float, detail: str) -> NvmlReading:
    return NvmlReading(observed=now(), state=NvmlState.HUNG, detail=detail, outstanding_seconds=age)


def _helper_command() -> list[str]:
    # -P: the daemon's working directory is no place to import from.
    return [sys.executable, "-P", "-m", "probe.sources.nvml.helper", str(os.getpid())]


def _environment() -> dict[str, str]:
    """Return the daemon's own environment, with the place that this package was imported from."""
    root = str(Path(probe.__file__).resolve().parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
