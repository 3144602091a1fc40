"""A program that runs in a pod, addressed by its own pid rather than that of what entered the pod for it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time

from probe.facts.processes import ProcessState
from probe.sandbox.errors import SandboxError
from probe.sandbox.processes import PodProcess, child_of, read_process

_SECONDS_TO_ENTER = 60.0
_SECONDS_TO_STOP = 10.0


class Program:
    """A started program; ``process`` is the ``Popen`` to read its output from.

    In a pod with namespaces ``process`` is ``nsenter``, which waits for the program and ends as it ended;
    ``pid`` and signals are the program's own.
    """

    def __init__(self, process: subprocess.Popen[bytes], *, enters: bool, pid: int | None = None) -> None:
        """``pid`` is the program's own where the caller knows it, and it is not ``process`` itself."""
        self.process = process
        self._enters = enters
        self._outer: int | None = _entered(process) if enters else pid or process.pid
        self._handle: int | None = None
        if self._outer is not None:
            with contextlib.suppress(ProcessLookupError):
                self._handle = os.pidfd_open(self._outer)

    @property
    def pid(self) -> int:
        """The program's pid as seen from here; 0 where it ended before it could be seen."""
        return self._outer or 0

    def look(self) -> PodProcess | None:
        """Return what ``/proc`` shows of it, or None where it is gone."""
        return read_process(self.pid) if self.pid else None

    def poll(self) -> int | None:
        """Its exit code (negative for a signal), or None while it runs."""
        return self.process.poll()

    def wait(self, seconds: float) -> int:
        """Its exit code, as soon as it ended; raises ``subprocess.TimeoutExpired``."""
        return self.process.wait(seconds)

    def send_signal(self, number: int) -> None:
        """Signal the program itself; nothing happens where it is gone."""
        if self._handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)
        if number == signal.SIGSTOP and self._enters:
            self._wait_stopped()
        if number == signal.SIGCONT and self._enters and self.process.poll() is None:
            self.process.send_signal(number)  # nsenter stops itself when what it waits for is stopped

    def _wait_stopped(self) -> None:
        # What nsenter waits for is stopped first and nsenter afterwards, by itself: a SIGCONT that came in
        # between would wake the one, and leave the other asleep for ever.
        deadline = time.monotonic() + _SECONDS_TO_STOP
        while time.monotonic() < deadline and (seen := read_process(self.process.pid)) is not None:
            if seen.state in (ProcessState.STOPPED, ProcessState.ZOMBIE):
                return
            time.sleep(0.002)

    def stop(self, seconds: float = 10.0) -> int:
        """SIGTERM, then SIGKILL when it is still there after ``seconds``; its exit code."""
        self.send_signal(signal.SIGCONT)
        self.send_signal(signal.SIGTERM)
        try:
            return self.wait(seconds)
        except subprocess.TimeoutExpired:
            self.send_signal(signal.SIGKILL)
        try:
            return self.wait(_SECONDS_TO_ENTER)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def close(self) -> None:
        """Give back what is held here: its pipes, and its handle.  The program is not touched."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _entered(nsenter: subprocess.Popen[bytes]) -> int | None:
    """Wait for the program that nsenter starts, and return its pid once it is no longer nsenter itself.

    None where it ended first.  Raises :class:`SandboxError` where there is none in time: 0 in the place of a
    pid would mean this very process to much of the kernel.
    """
    deadline = time.monotonic() + _SECONDS_TO_ENTER
    while nsenter.poll() is None:
        child = child_of(nsenter.pid)
        seen = read_process(child) if child else None
        if seen is not None and seen.name != "nsenter":
            return seen.pid
        if time.monotonic() > deadline:
            nsenter.kill()
            nsenter.wait()
            raise SandboxError(f"no program entered the pod in {_SECONDS_TO_ENTER:g} s")
        time.sleep(0.002)
    return None
