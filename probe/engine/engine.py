"""The engine: looks on schedule and at once when the kernel tells of an exit, and publishes what it believes.

Everything here runs in one event loop; readings are folded in between awaits, so nothing is locked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from probe.checks.observation import Observation, Staleness
from probe.engine.board import Board
from probe.engine.desk import Desk
from probe.engine.explaining import Explainer
from probe.engine.eyes import Eyes
from probe.engine.healer import Healer
from probe.engine.looks import STALE_INTERVALS, Looks
from probe.engine.publishing import Publisher
from probe.engine.sending import Canaries
from probe.facts.instants import Instant
from probe.facts.processes import Exit
from probe.facts.status import Snapshot
from probe.kits.clocks import now
from probe.ledgers.book import Book
from probe.settings import Settings

TURN = 5.0
"""Seconds between turns of the loop at most; its age is what ``/healthz`` answers by.  Each turn of an idle
process costs half a millisecond of cold caches, so it is far below the age that counts as stalled, and no more."""
FINEST = 0.001
"""Seconds that the loop waits for a hold at least: clocks round, and a turn just too early must not spin."""
CLOSE_DEADLINE = 1.0
"""Seconds for the sources to let go."""


class Engine:
    """Owns the book, the schedule, and the board."""

    def __init__(
        self,
        settings: Settings,
        eyes: Eyes,
        version: str,
        *,
        clock: Callable[[], Instant] = now,
        on_snapshot: Callable[[Snapshot], None] = lambda _: None,
    ) -> None:
        """``on_snapshot`` is told of every snapshot after the board has it; it must not block."""
        self._settings = settings
        self._clock = clock
        self._on_snapshot = on_snapshot
        self._desk = Desk(settings, eyes, clock)
        self._publisher = Publisher(settings, version, clock())
        self._canaries = Canaries(self._desk)
        self._looks = Looks(
            self._desk,
            suspects=lambda: self._publisher.suspects,
            on_exit=self._on_exit,
            on_poll=self._canaries.polled,
        )
        self._explainer = Explainer(self._desk, self._looks)
        self._healer = Healer(
            settings,
            eyes.triton,
            self._publisher,
            observe=self._observation,
            judge=self._judge,
            look=self._desk.look_again,
            loaded=self._loaded,
            news=self._desk.news,
        )
        first = self._publisher.snapshot(self._observation(), self._desk.tracks)
        self.board = Board(first, stalled_after=max(10.0, STALE_INTERVALS * settings.interval))

    @property
    def book(self) -> Book:
        """Everything known now."""
        return self._desk.book

    def tasks(self) -> Iterator[tuple[str, Callable[[], Coroutine[Any, Any, None]]]]:
        """Every endless task by its name, for the composition root to start."""
        yield "turn", self._turn
        yield "watch-triton", self._looks.watch_triton
        yield "watch-processes", self._looks.watch_processes
        yield "watch-nvml", self._looks.watch_nvml
        yield "watch-container", self._looks.container.watch
        yield "send-canaries", self._canaries.run
        if self._settings.heal.reload_model:
            yield "heal", self._healer.run

    async def look_once(self) -> Snapshot:
        """Look with every eye once, processes first, and judge; for commands that need no daemon."""
        await self._looks.look_at_processes()
        await asyncio.gather(
            self._looks.look_at_triton(), self._looks.look_at_nvml(), self._looks.container.look()
        )
        # NVML's pids are looked up by a scan, and stubs found their models with the configurations.
        await self._looks.look_at_processes()
        await self._looks.look_at_nvml()
        await self._looks.container.make_sure()
        return self._judge()

    async def close(self) -> None:
        """Let go of every source; waits for none that hangs."""
        self._explainer.close()
        self._looks.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_DEADLINE):
                await asyncio.gather(
                    self._desk.eyes.nvml.close(), self._desk.eyes.triton.close(), return_exceptions=True
                )

    async def _turn(self) -> None:
        while True:
            began = self._clock().mono
            left = self._publisher.due(self._clock())
            routine = self.board.latest.taken.mono + self._settings.interval - began
            waiting = min(TURN, routine) if left is None else min(TURN, routine, left)
            stirred = await self._desk.stirred.wait(max(FINEST, waiting))
            moment = self._clock().mono
            due = left is not None and moment - began >= left
            overdue = moment - began >= routine
            if stirred or due or overdue:
                self._judge()
            # Last, so that a judgement that always fails shows as a loop that no longer turns.
            self.board.beat(moment)

    def _judge(self) -> Snapshot:
        snapshot = self._publisher.snapshot(self._observation(), self._desk.tracks)
        self.board.publish(snapshot)
        self._on_snapshot(snapshot)
        self._desk.news.ring()
        return snapshot

    def _on_exit(self, event: Exit) -> None:
        self._explainer.told(event)

    def _loaded(self, name: str, began: Instant) -> None:
        self._desk.book = self._desk.book.taken_over(name, began)
        self._judge()

    def _observation(self) -> Observation:
        moment = self._clock()
        # A look may take its whole deadline before it says anything.
        limit = STALE_INTERVALS * max(self._settings.interval, self._settings.triton.timeout + 1.0)
        stale = tuple(
            Staleness(
                name,
                track.stale_seconds(moment) if track.delivered is not None else None,
                track.error or "",
                moment,
            )
            for name, track in self._desk.tracks.items()
            if track.stale_seconds(moment) > limit
        )
        return Observation(moment, self._settings, self._desk.book, stale)
