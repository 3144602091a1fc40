"""The task of the canaries: one at a time in the whole daemon, whenever a poll shows that one is due."""

from __future__ import annotations

import asyncio

from probe.engine import canaries
from probe.engine.desk import Desk
from probe.facts.canaries import CanaryOrder, CanaryOutcome, CanaryResult
from probe.kits.tasks import Bell

UNRUNG = 3600.0
"""Seconds that the task waits for a poll to tell it of a canary; any long time will do."""


class Canaries:
    """Sends what :mod:`probe.engine.canaries` finds due."""

    def __init__(self, desk: Desk) -> None:
        """Nothing is sent before :meth:`run`."""
        self._desk = desk
        self._due = Bell()

    def polled(self) -> None:
        """After a poll, which tells who is idle."""
        if self._next() is not None:
            self._due.ring()

    def _next(self) -> CanaryOrder | None:
        return canaries.due(self._desk.book, self._desk.settings, self._desk.clock())

    async def run(self) -> None:
        """Send canaries for ever."""
        # One at a time in the whole daemon; polls go on meanwhile, and say when the next is due.
        while True:
            order = self._next()
            if order is None:
                await self._due.wait(UNRUNG)
                continue
            await self._send(order)
            await asyncio.sleep(canaries.PAUSE)

    async def _send(self, order: CanaryOrder) -> None:
        before = self._desk.book.canaries.of(order.key)
        self._desk.book = self._desk.book.sending(order)
        result: CanaryResult | None = None
        try:
            result = await self._desk.eyes.triton.canary(order)
        finally:
            mute = (
                result is not None
                and result.outcome is CanaryOutcome.TIMEOUT
                and self._desk.book.server.misses
            )
            if result is None or mute:
                # The server itself is gone or silent, which has reasons of its own.
                self._desk.book = self._desk.book.without_canary(order.key, self._desk.clock())
            else:
                self._desk.book = self._desk.book.with_canary(result)
        passed = result is not None and result.outcome is CanaryOutcome.PASSED
        if not passed or (before is not None and before.last.outcome is not CanaryOutcome.PASSED):
            self._desk.stirred.ring()
