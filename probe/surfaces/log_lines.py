"""A log whose reader is stuck must not stall the engine: lines queue here and one thread writes them.

A container runtime that stops reading fills the pipe (64 KiB), and the next write would hang whoever
logs.  Only this thread hangs; beyond the queue, lines are dropped and counted.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import threading

_MOST_LINES = 1000
"""More than one storm (every model of a large server failing at once) and less than 1 MiB."""


class LineWriter:
    """Writes lines to a descriptor from a thread of its own."""

    def __init__(self, descriptor: int, most: int = _MOST_LINES) -> None:
        """Write to ``descriptor``; the thread starts with the first line."""
        self.dropped = 0
        self._descriptor = descriptor
        self._queue: queue.Queue[bytes | None] = queue.Queue(most)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._told = 0

    def write(self, line: str) -> None:
        """Queue a line (without its newline); drops and counts it where the queue is full."""
        if self._thread is None:
            self._start()
        try:
            self._queue.put_nowait(line.encode("utf-8", "backslashreplace") + b"\n")
        except queue.Full:
            self.dropped += 1

    def close(self, timeout: float = 0.5) -> None:
        """Write what is queued, waiting at most ``timeout`` seconds for a reader."""
        if self._thread is None:
            return
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=timeout)
            self._thread.join(timeout)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                # A daemon thread: the interpreter's exit must not wait for a stuck reader either.
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while (line := self._queue.get()) is not None:
            if not self._put(line):
                self.dropped += 1
            if self._queue.empty():
                self._tell_loss()
        self._tell_loss()

    def _tell_loss(self) -> None:
        missing = self.dropped - self._told
        if missing and self._put(b'{"level":"warning","event":"log_lines_dropped","count":%d}\n' % missing):
            self._told += missing

    def _put(self, data: bytes) -> bool:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                # Whoever started us made the descriptor non-blocking, as some runtimes do.
                select.select([], [self._descriptor], [], 1.0)
            except OSError:
                # Nobody will ever read it: the probe goes on without a log.
                return False
        return True
