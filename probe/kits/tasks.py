"""Background tasks that never die silently."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

RESTART_AFTER = 1.0
"""Seconds before a failed task runs again: long enough not to spin, short beside every interval."""


class Complain(Protocol):
    """Whom a failure is told."""

    def __call__(self, name: str, error: Exception) -> None:
        """A task of this name failed with this error and will run again."""
        ...


async def guarded(name: str, work: Callable[[], Awaitable[None]], complain: Complain) -> None:
    """Run endless work for ever: whatever it raises is told, and it runs again.

    Ends only by cancellation.  A defect in one task must cost a line in the log, not the daemon.
    """
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001  (told, and the task goes on)
            complain(name, error)
        else:
            complain(name, RuntimeError("the task ended, although it has no end"))
        await asyncio.sleep(RESTART_AFTER)


class Bell:
    """An event with a time-out: rung from anywhere in the loop, waited for by one task."""

    def __init__(self) -> None:
        """Silent at first."""
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake the waiter, now or at its next wait."""
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Wait for the next ring, at most so long; whether it rang."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True
