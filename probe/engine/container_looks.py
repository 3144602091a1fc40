"""The looks at Triton's container: on schedule, at an exit, and when the kernel tells that something changed."""

from __future__ import annotations

import asyncio
import contextlib

from probe.engine.desk import Desk
from probe.engine.eyes import ContainerEventEye, ShmEye
from probe.facts.container import ContainerReading, OomCounts, ShmLevel
from probe.facts.instants import Instant
from probe.kits.errands import Errand, OutstandingError
from probe.ledgers.shm import SURE_AFTER

SCAN_DEADLINE = 2.0
"""Seconds for a scan or a look at cgroups; a file of a process stuck in the kernel may never answer."""
BORN_AFTER = 0.1
"""Seconds after its region within which Triton has started a stub: one that takes too much memory at once may be
dead before the next scan that is due."""


class ContainerLooks:
    """Looks at Triton's container, listens to the kernel, and folds what they bring into the book."""

    def __init__(self, desk: Desk) -> None:
        """Look with the desk's eyes."""
        self._desk = desk
        self._reader = Errand("read-container")
        # One at a time: who waits for a look that is under way may find that it needs none any more.
        self._reading = asyncio.Lock()
        self._events: ContainerEventEye | None = None
        self._counted_at = ""
        self._shm: ShmEye | None = None
        self._birth: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Let go of what the kernel tells and of the thread; does not wait."""
        if self._events is not None:
            self._events.close()
        if self._shm is not None:
            self._shm.close()
        if self._birth is not None:
            self._birth.cancel()
        self._reader.close()

    async def watch(self) -> None:
        """Look at the container for ever."""
        while True:
            await self.look()
            await self._desk.wake["container"].wait(self._desk.settings.interval)

    async def look(self) -> None:
        """Look at the container once."""
        began = self._desk.clock()
        server = self._desk.book.server
        pid = server.process.pid if server.process is not None and server.gone is None else None
        suspects = self._desk.book.shm.suspects
        try:
            async with self._reading:
                reading = await self._reader.run(
                    lambda: self._desk.eyes.container.look(pid, suspects), SCAN_DEADLINE
                )
        except OutstandingError as error:
            self._desk.track("container", began, ok=False, delivered=False, error=str(error))
            return
        before = self._desk.book
        self._desk.book = before.with_container(reading)
        self._desk.track("container", began, ok=True, delivered=True, error=None)
        self._follow(reading)
        known, killed = before.container, self._desk.book.kills.rises != before.kills.rises
        if known is None or _limits(known) != _limits(reading) or killed:
            self._desk.stirred.ring()

    async def make_sure(self) -> None:
        """Look at the container until it is told whether regions are orphans; for a caller that looks once."""
        if self._desk.book.shm.unsure:
            await self.look()
        if self._desk.book.shm.unsure:
            await asyncio.sleep(SURE_AFTER)
            await self.look()

    async def count_kills(self, moment: Instant, patience: float) -> None:
        """Read the container unless it was read since; one that is busy, or broken, brings no sample."""
        server = self._desk.book.server
        if server.process is None or server.gone is not None:
            return
        pid = server.process.pid
        with contextlib.suppress(Exception):
            async with asyncio.timeout(patience), self._reading:
                if not self._desk.book.kills.told_since(moment):
                    reading = await self._reader.run(lambda: self._desk.eyes.container.look(pid), patience)
                    self._desk.book = self._desk.book.with_container(reading)

    def watch_events(self) -> None:
        """Be told of what the kernel has to tell of the container of the Triton that is there now."""
        if self._events is None:
            self._events = self._desk.eyes.events(self._on_oom, self._on_limits)
        # That of a server that is gone is watched until the next: its stubs may outlive it.
        self._events.watch(self._desk.book.server.process)
        if self._shm is None and self._desk.eyes.shm is not None:
            self._shm = self._desk.eyes.shm(self._on_shm)
        if self._shm is not None:
            server = self._desk.book.server
            self._shm.watch(server.process if server.gone is None else None)

    def _on_oom(self, counts: OomCounts) -> None:
        self._counted_at = counts.path
        self._desk.book = self._desk.book.with_oom(counts)
        self._desk.stirred.ring()
        self._desk.wake["container"].ring()

    def _on_limits(self) -> None:
        self._desk.wake["container"].ring()

    def tell_kills(self) -> None:
        """Note the container's counts of OOM kills at this moment, where they are held open."""
        counts = self._events.counts() if self._events is not None else None
        if counts is None:
            return
        before = self._desk.book.kills.rises
        self._desk.book = self._desk.book.with_oom(counts)
        if self._desk.book.kills.rises != before:
            self._desk.stirred.ring()

    def _follow(self, reading: ContainerReading) -> None:
        # Triton was moved to another cgroup: counts of the one that it left are no measure for this one.
        found = reading.memory.oom_kills_path
        if self._events is not None and found and self._counted_at not in ("", found):
            self._counted_at = ""
            self._events.watch(None)  # and anew with the next scan

    def _on_shm(self, level: ShmLevel) -> None:
        before = self._desk.book.shm.level
        self._desk.book = self._desk.book.with_shm(level)
        if (before is not None and before.nearly_full) != level.nearly_full:
            self._desk.stirred.ring()
            # With what it is full.
            self._desk.wake["container"].ring()
        if level.region_came and self._birth is None:
            self._birth = asyncio.get_running_loop().call_later(BORN_AFTER, self._look_for_stub)

    def _look_for_stub(self) -> None:
        self._birth = None
        self._desk.wake["processes"].ring()


def _limits(reading: ContainerReading) -> tuple[object, ...]:
    return reading.memory.limit, reading.cpu.limit, reading.pids.limit
