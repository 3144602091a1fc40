"""The engine: looks on schedule and at once when the kernel tells of an exit, and publishes what it believes.

Everything here runs in one event loop; readings are folded in between awaits, so nothing is locked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from probe.checks.observation import Observation, Staleness
from probe.engine import canaries
from probe.engine.agenda import agenda
from probe.engine.board import Board
from probe.engine.eyes import ExitEye, Eyes
from probe.engine.healer import Healer
from probe.engine.publishing import Publisher
from probe.engine.tracking import Track
from probe.facts.canaries import CanaryOrder, CanaryOutcome, CanaryResult
from probe.facts.instants import Instant
from probe.facts.models import ModelState, ModelVersion
from probe.facts.nvml import NvmlState
from probe.facts.processes import Exit
from probe.facts.status import Snapshot
from probe.facts.triton import CallFailure, Failure, Inquiry, TritonReading
from probe.kits.clocks import now
from probe.kits.errands import Errand, OutstandingError
from probe.kits.tasks import Bell
from probe.ledgers.book import Book, age
from probe.ledgers.evidence import listed_pids
from probe.ledgers.kills import suspicious
from probe.settings import Settings

SCAN_INTERVAL = 2.0
"""Seconds between scans of ``/proc`` at most: nothing tells an unprivileged process of a new stub."""
BRISK = 1.0
"""Seconds between polls while Triton is not up: a refused connection costs nobody anything."""
BRISK_FOR = 30.0
"""Seconds for which a model that loads is polled at that pace; one that takes longer is not watched for it."""
TURN = 5.0
"""Seconds between turns of the loop at most; its age is what ``/healthz`` answers by.  Each turn of an idle
process costs half a millisecond of cold caches, so it is far below the age that counts as stalled, and no more."""
FINEST = 0.001
"""Seconds that the loop waits for a hold at least: clocks round, and a turn just too early must not spin."""
UNRUNG = 3600.0
"""Seconds that the task of canaries waits for a poll to tell it of one; any long time will do."""
CLOSE_DEADLINE = 1.0
"""Seconds for the sources to let go."""
VIOLENT_PATIENCE = 0.03
"""Seconds that Triton has to say that a stub killed by a signal was being unloaded."""
STALE_INTERVALS = 3
SCAN_DEADLINE = 2.0
"""Seconds for a scan or a look at cgroups; a file of a process stuck in the kernel may never answer."""

SOURCES = ("triton", "nvml", "processes", "container")


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
        self._eyes = eyes
        self._clock = clock
        self._on_snapshot = on_snapshot
        started = clock()
        self._tracks = {name: Track(started) for name in SOURCES}
        self._book = Book()
        self._publisher = Publisher(settings, version, started)
        self._stirred = Bell()
        self._wake = {name: Bell() for name in SOURCES}
        self._canary_due = Bell()
        self._healer = Healer(
            settings,
            eyes.triton,
            self._publisher,
            observe=self._observation,
            judge=self._judge,
            look=self._look_again,
        )
        self._scanner = Errand("scan-processes")
        self._reader = Errand("read-container")
        # Of each, one at a time: who waits for a look that is under way may find that it needs none any more.
        self._scanning, self._reading, self._asking = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()
        self._exits: ExitEye | None = None
        self._explaining: set[asyncio.Task[None]] = set()
        self._changed: frozenset[str] = frozenset()
        first = self._publisher.snapshot(self._observation(), self._tracks)
        self.board = Board(first, stalled_after=max(10.0, STALE_INTERVALS * settings.interval))

    @property
    def book(self) -> Book:
        """Everything known now."""
        return self._book

    def tasks(self) -> Iterator[tuple[str, Callable[[], Coroutine[Any, Any, None]]]]:
        """Every endless task by its name, for the composition root to start."""
        yield "turn", self._turn
        yield "watch-triton", self._watch_triton
        yield "watch-processes", self._watch_processes
        yield "watch-nvml", self._watch_nvml
        yield "watch-container", self._watch_container
        yield "send-canaries", self._send_canaries
        if self._settings.heal.reload_model:
            yield "heal", self._healer.run

    async def look_once(self) -> Snapshot:
        """Look with every eye once, processes first, and judge; for commands that need no daemon."""
        await self._look_at_processes()
        await asyncio.gather(self._look_at_triton(), self._look_at_nvml(), self._look_at_container())
        # NVML's pids are looked up by a scan, and stubs found their models with the configurations.
        await self._look_at_processes()
        await self._look_at_nvml()
        return self._judge()

    async def close(self) -> None:
        """Let go of every source; waits for none that hangs."""
        for task in self._explaining:
            task.cancel()
        if self._exits is not None:
            self._exits.close()
        self._scanner.close()
        self._reader.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_DEADLINE):
                await asyncio.gather(
                    self._eyes.nvml.close(), self._eyes.triton.close(), return_exceptions=True
                )

    async def _turn(self) -> None:
        while True:
            began = self._clock().mono
            left = self._publisher.due(self._clock())
            routine = self.board.latest.taken.mono + self._settings.interval - began
            waiting = min(TURN, routine) if left is None else min(TURN, routine, left)
            stirred = await self._stirred.wait(max(FINEST, waiting))
            moment = self._clock().mono
            due = left is not None and moment - began >= left
            overdue = moment - began >= routine
            if stirred or due or overdue:
                self._judge()
            # Last, so that a judgement that always fails shows as a loop that no longer turns.
            self.board.beat(moment)

    def _judge(self) -> Snapshot:
        snapshot = self._publisher.snapshot(self._observation(), self._tracks)
        self.board.publish(snapshot)
        self._on_snapshot(snapshot)
        self._healer.news.ring()
        return snapshot

    def _look_again(self) -> None:
        self._wake["processes"].ring()
        self._wake["triton"].ring()
        self._stirred.ring()

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
            for name, track in self._tracks.items()
            if track.stale_seconds(moment) > limit
        )
        return Observation(moment, self._settings, self._book, stale)

    async def _watch_triton(self) -> None:
        while True:
            await self._look_at_triton()
            server = self._book.server
            settled = server.up and server.gone is None and server.reachable and not self._expecting()
            pace = self._settings.interval if settled else min(BRISK, self._settings.interval)
            await self._wake["triton"].wait(pace)

    def _expecting(self) -> bool:
        # A model that has just begun to load is looked at briskly: an exit means little until it is ready.
        moment = self._clock()
        return any(
            each.state in (ModelState.LOADING, ModelState.UNKNOWN)
            and (age(moment, each.since) or 0.0) < BRISK_FOR
            for each in self._book.models.records.values()
        )

    async def _look_at_triton(self) -> None:
        began = self._clock()
        reading = await self._eyes.triton.poll()
        ok, delivered, error = _grade(reading)
        self._track("triton", began, ok=ok, delivered=delivered, error=error)
        before = self._book
        self._book = before.with_poll(reading)
        suspects = self._publisher.suspects | self._changed | self._book.workers.doubtful
        self._changed = frozenset()
        inquiry = agenda(self._book, self._settings, suspects, self._clock())
        if reading.live and inquiry:
            if _news(before, self._book):
                self._stirred.ring()
            before = self._book
            answers = await self._eyes.triton.inquire(inquiry, budget=self._settings.interval)
            self._book = self._book.with_answers(answers)
        if _news(before, self._book):
            self._stirred.ring()
        if self._next_canary() is not None:
            self._canary_due.ring()

    def _next_canary(self) -> CanaryOrder | None:
        return canaries.due(self._book, self._settings, self._clock())

    async def _send_canaries(self) -> None:
        # One at a time in the whole daemon; polls go on meanwhile, and say when the next is due.
        while True:
            order = self._next_canary()
            if order is None:
                await self._canary_due.wait(UNRUNG)
                continue
            await self._send_canary(order)
            await asyncio.sleep(canaries.PAUSE)

    async def _send_canary(self, order: CanaryOrder) -> None:
        before = self._book.canaries.of(order.key)
        self._book = self._book.sending(order)
        result: CanaryResult | None = None
        try:
            result = await self._eyes.triton.canary(order)
        finally:
            mute = result is not None and result.outcome is CanaryOutcome.TIMEOUT and self._book.server.misses
            if result is None or mute:
                # The server itself is gone or silent, which has reasons of its own.
                self._book = self._book.without_canary(order.key, self._clock())
            else:
                self._book = self._book.with_canary(result)
        passed = result is not None and result.outcome is CanaryOutcome.PASSED
        if not passed or (before is not None and before.last.outcome is not CanaryOutcome.PASSED):
            self._stirred.ring()

    async def _watch_processes(self) -> None:
        while True:
            await self._look_at_processes()
            await self._wake["processes"].wait(min(SCAN_INTERVAL, self._settings.interval))

    async def _look_at_processes(self) -> None:
        async with self._scanning:
            await self._scan()

    async def _scan_after(self, moment: Instant) -> None:
        async with self._scanning:
            scanned = self._book.stubs.scanned
            if scanned is None or scanned.mono < moment.mono:
                await self._scan()

    async def _scan(self) -> None:
        began = self._clock()
        # Of the last good look: while NVML fails, its pids must stay known for the next good one.
        good = self._book.evidence.good
        asked = listed_pids(good) if good is not None else frozenset()
        kept = tuple(self._book.families.members)
        try:
            reading = await self._scanner.run(lambda: self._eyes.processes.scan(asked, kept), SCAN_DEADLINE)
        except OSError as error:  # an OutstandingError too: nothing was learned
            self._track("processes", began, ok=False, delivered=False, error=str(error))
            return
        before = self._book
        self._book = before.with_processes(reading)
        self._track("processes", began, ok=True, delivered=True, error=None)
        self._watch_exits()
        self._notice_changes(before)

    def _notice_changes(self, before: Book) -> None:
        after = self._book
        if after.server.process != before.server.process or after.server.gone != before.server.gone:
            self._wake["triton"].ring()
            self._wake["container"].ring()
            self._stirred.ring()
        changed = before.stubs.live.keys() ^ after.stubs.live.keys()
        if changed:
            named = {**before.stubs.live, **after.stubs.live}
            models = (named[process].model for process in changed)
            # A stub that came or went may be a reload, whose configuration no counter announces.
            self._changed |= frozenset(model.name for model in models if model is not None)
            self._wake["triton"].ring()
        frozen = {key for key, each in after.stubs.live.items() if each.stopped_since is not None}
        thawed = {key for key, each in before.stubs.live.items() if each.stopped_since is not None}
        mourned = before.workers.dead != after.workers.dead
        left = {each.process.id for each in before.orphans.lasting} ^ {
            each.process.id for each in after.orphans.lasting
        }
        if changed or frozen != thawed or mourned or left or not before.server.seen:
            self._stirred.ring()

    def _watch_exits(self) -> None:
        if self._exits is None:
            self._exits = self._eyes.exits(self._on_exit)
        server = self._book.server
        ours = (server.process,) if server.process is not None and server.gone is None else ()
        self._exits.watch((*ours, *self._book.stubs.live, *self._book.families.members))

    def _on_exit(self, event: Exit) -> None:
        before = self._book
        self._book = before.with_exit(event)
        if self._book.server.gone != before.server.gone:
            self._stirred.ring()
            self._wake["triton"].ring()
            return
        model = self._book.workers.model_of(event.id)
        work = self._explain(event) if model is None else self._explain_worker(event, model)
        task = asyncio.get_running_loop().create_task(work, name=f"explain-{event.id.pid}")
        self._explaining.add(task)
        task.add_done_callback(self._explaining.discard)

    async def _explain(self, event: Exit) -> None:
        # Was it a death, or is Triton unloading the model?  Its statistics know only loaded versions.
        death = next((each for each in self._book.stubs.dead if each.id == event.id), None)
        if death is None or death.model is None:
            return
        violent = event.violent
        # Beyond its time Triton's word comes with the next poll.
        patience = VIOLENT_PATIENCE if violent else self._settings.triton.timeout
        answer, _ = await asyncio.gather(
            self._still_ready(death.model.name, patience), self._count_kills(event)
        )
        if isinstance(answer, tuple):
            observed, versions = answer
            if death.model not in versions:
                self._book = self._book.with_models(self._book.models.without(death.model, observed))
            elif violent:
                if not self._ready(death.model):
                    # It became ready after the last poll, of which its death must first be told.
                    await self._look_at_triton()
                self._book = self._book.believing(event.id)
            else:
                # It may be the old stub of a reload, during which Triton never says "not ready": the scan and
                # the poll that are rung for below tell whether a new one has taken its place.  Or its group
                # was made smaller in place, which the configuration tells.
                await self._ask_configuration(death.model)
        elif violent and not _going(answer):
            self._book = self._book.believing(event.id)
        self._stirred.ring()
        self._wake["processes"].ring()
        self._wake["triton"].ring()

    async def _still_ready(
        self, name: str, patience: float
    ) -> tuple[Instant, tuple[ModelVersion, ...]] | CallFailure | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                return await self._eyes.triton.still_ready(name)
        return None

    async def _explain_worker(self, event: Exit, model: ModelVersion) -> None:
        # Was it a death, or does its model end it while it is unloaded or reloaded?  A scan tells whether its
        # stub lives and serves, and Triton whether it still has the model.
        await asyncio.gather(
            self._scan_after(event.observed), self._ask_for_worker(event, model), self._count_kills(event)
        )
        if self._book.workers.model_of(event.id) is not None and not self._ready(model):
            await self._look_at_triton()
        self._stirred.ring()
        self._wake["triton"].ring()

    async def _ask_for_worker(self, event: Exit, model: ModelVersion) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.triton.timeout), self._asking:
                # Of many workers that end together, one asks for all.
                if self._book.workers.unexplained(event.id):
                    answer = await self._eyes.triton.still_ready(model.name)
                    if isinstance(answer, tuple):
                        observed, versions = answer
                        self._book = self._book.with_word(model.name, versions, observed)
                if self._book.workers.configuration_wanted(event.id, self._book.models):
                    await self._ask_configuration(model)

    async def _ask_configuration(self, model: ModelVersion) -> None:
        inquiry = Inquiry(configs=(model,))
        answers = await self._eyes.triton.inquire(inquiry, budget=self._settings.triton.timeout)
        self._book = self._book.with_answers(answers)

    async def _count_kills(self, event: Exit) -> None:
        # Whether the kernel killed it for want of memory shows in the container's count, at this moment.
        server = self._book.server
        if not suspicious(event) or server.process is None or server.gone is not None:
            return
        pid = server.process.pid
        # A reader that is busy, or broken, brings no sample; the regular look says so.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(VIOLENT_PATIENCE), self._reading:
                if not self._book.kills.told_since(event.observed):
                    reading = await self._reader.run(lambda: self._eyes.container.look(pid), VIOLENT_PATIENCE)
                    self._book = self._book.with_container(reading)

    def _ready(self, model: ModelVersion) -> bool:
        record = self._book.models.records.get(model)
        return record is not None and record.ready

    async def _watch_nvml(self) -> None:
        while True:
            await self._look_at_nvml()
            await self._wake["nvml"].wait(self._settings.interval)

    async def _look_at_nvml(self) -> None:
        began = self._clock()
        reading = await self._eyes.nvml.look()
        before = self._book.evidence
        self._book = self._book.with_nvml(reading, STALE_INTERVALS * self._settings.interval)
        ok = reading.state is NvmlState.OK
        # Every answer is definite, a hang too: it has a reason of its own.
        self._track(
            "nvml", began, ok=ok, delivered=True, error=None if ok else reading.detail or reading.state.value
        )
        after = self._book.evidence
        if before.evidence.mode is not after.evidence.mode or before.looks <= 1:
            self._wake["processes"].ring()
        if before.last is None or before.last.state is not reading.state or before.last.gpus != reading.gpus:
            self._stirred.ring()

    async def _watch_container(self) -> None:
        while True:
            await self._look_at_container()
            await self._wake["container"].wait(self._settings.interval)

    async def _look_at_container(self) -> None:
        began = self._clock()
        server = self._book.server
        pid = server.process.pid if server.process is not None and server.gone is None else None
        try:
            async with self._reading:
                reading = await self._reader.run(lambda: self._eyes.container.look(pid), SCAN_DEADLINE)
        except OutstandingError as error:
            self._track("container", began, ok=False, delivered=False, error=str(error))
            return
        self._book = self._book.with_container(reading)
        self._track("container", began, ok=True, delivered=True, error=None)

    def _track(self, name: str, began: Instant, *, ok: bool, delivered: bool, error: str | None) -> None:
        moment = self._clock()
        self._tracks[name] = self._tracks[name].looked(
            moment, moment.mono - began.mono, ok=ok, delivered=delivered, error=error
        )
        self._healer.news.ring()


def _news(before: Book, after: Book) -> bool:
    # What a poll or an inquiry changes that somebody may be waiting for.  Counters and the times of looks
    # alone are judged with the next turn that is due anyway.
    return _told(before) != _told(after)


def _told(book: Book) -> tuple[object, ...]:
    server, models = book.server, book.models
    states = {
        key: (each.state, each.reason, each.told_ready, each.exercised_since, each.config)
        for key, each in models.records.items()
    }
    said = (
        server.epoch,
        server.up,
        server.misses,
        server.reachable,
        server.ready,
        server.version,
        server.http_refusals > 1,
    )
    failed = tuple((each.call, each.failure) for each in server.last.failures) if server.last else ()
    return (
        said,
        failed,
        states,
        models.asked is None,
        models.index_at is None,
        book.stubs.dead,
        book.workers.dead,
    )


def _grade(reading: TritonReading) -> tuple[bool, bool, str | None]:
    # Did the poll bring what it is for; was its answer at least definite; and what went wrong first?
    failed = reading.failures[0] if reading.failures else None
    error = f"{failed.call}: {failed.detail or failed.failure.value}" if failed is not None else None
    if reading.live is not None:
        ok = reading.statistics is not None
        return ok, ok, error
    live, http = reading.failed("live"), reading.failed("http_live")
    vague = live is not None and live.failure in (Failure.TIMEOUT, Failure.ERROR, Failure.GARBAGE)
    both = live is not None and http is not None and live.failure is http.failure is Failure.TIMEOUT
    return False, both or not vague, error


def _going(answer: object) -> bool:
    # Triton itself is going down with its stubs: its own exit says what is to be said.
    return isinstance(answer, CallFailure) and answer.failure in (Failure.REFUSED, Failure.EXITING)
