"""Blocking work on a thread of its own: one piece at a time, and nobody waits for it beyond a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class OutstandingError(TimeoutError):
    """The work did not end within its deadline, or an earlier piece has still not ended.

    ``seconds``: for how long the piece on the thread has been running.
    """

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"{name} has not come back for {seconds:.1f} s")
        self.seconds = seconds


class Errand:
    """One daemon thread for blocking calls that may hang for ever.

    A hung call keeps its one thread and nothing else: further calls fail at once with the age of the
    hung one, no second thread is started, and the interpreter's exit does not wait (the reason why this
    is no ``ThreadPoolExecutor``, which joins its threads at exit).
    """

    def __init__(self, name: str) -> None:
        """Name the thread; it starts with the first piece of work."""
        self.name = name
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._busy_since: float | None = None

    @property
    def busy_seconds(self) -> float | None:
        """How long the piece on the thread has been running, or None when it is idle."""
        since = self._busy_since
        return None if since is None else time.monotonic() - since

    async def run(self, work: Callable[[], T], deadline: float) -> T:
        """Do this on the thread and wait at most ``deadline`` seconds for it.

        Raises OutstandingError on the deadline, or at once where an earlier piece is still running;
        else whatever the work raises.
        """
        if (busy := self.busy_seconds) is not None:
            raise OutstandingError(self.name, busy)
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self.name, daemon=True)
            self._thread.start()
        self._busy_since = time.monotonic()
        self._work.put(partial(self._do, work, done, asyncio.get_running_loop()))
        try:
            async with asyncio.timeout(deadline):
                return await done
        except TimeoutError as error:
            if done.done() and not done.cancelled():
                raise
            raise OutstandingError(self.name, deadline) from error

    def close(self) -> None:
        """Let the thread end after its current piece; does not wait."""
        self._work.put(None)

    def _do(self, work: Callable[[], T], done: asyncio.Future[T], loop: asyncio.AbstractEventLoop) -> None:
        result: T | None = None
        failed: BaseException | None = None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  (handed to the waiter, whatever it is)
            failed = error
        # A closed loop has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._settle, done, result, failed)

    def _settle(self, done: asyncio.Future[T], result: Any, failed: BaseException | None) -> None:  # noqa: ANN401
        self._busy_since = None
        if done.done():
            return
        if failed is None:
            done.set_result(result)
        else:
            done.set_exception(failed)

    def _serve(self) -> None:
        while (piece := self._work.get()) is not None:
            piece()
