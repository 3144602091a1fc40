"""The looks: with each eye, when it is due or rung for, and what each one stirs up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from probe.engine.agenda import agenda
from probe.engine.container_looks import SCAN_DEADLINE, ContainerLooks
from probe.engine.desk import Desk
from probe.engine.eyes import ExitEye
from probe.facts.instants import Instant
from probe.facts.models import ModelState
from probe.facts.nvml import Gpu, NvmlState, Xid
from probe.facts.processes import Exit
from probe.facts.triton import Failure, TritonReading
from probe.kits.errands import Errand
from probe.ledgers.book import Book, age

SCAN_INTERVAL = 2.0
"""Seconds between scans of ``/proc`` at most: nothing tells an unprivileged process of a new stub."""
BRISK = 1.0
"""Seconds between polls while Triton is not up: a refused connection costs nobody anything."""
BRISK_FOR = 30.0
"""Seconds for which a model that loads is polled at that pace; one that takes longer is not watched for it."""
STALE_INTERVALS = 3
FLOOD = 1.0
"""Seconds for which one more Xid of a code that this GPU has just reported stirs nobody: it is counted, and told
with the next turn.  A process that faults over and over brings hundreds in a second."""


class Looks:
    """Looks with every eye but the canaries', and folds what they bring into the book."""

    def __init__(
        self,
        desk: Desk,
        *,
        suspects: Callable[[], frozenset[str]],
        on_exit: Callable[[Exit], None],
        on_poll: Callable[[], None],
    ) -> None:
        """``suspects``: models of which everything is asked again; ``on_poll`` is called after each poll."""
        self._desk = desk
        self._suspects = suspects
        self._on_exit = on_exit
        self._on_poll = on_poll
        self._scanner = Errand("scan-processes")
        # One at a time: who waits for a scan that is under way may find that it needs none any more.
        self._scanning = asyncio.Lock()
        self._exits: ExitEye | None = None
        self.container = ContainerLooks(desk)
        self._changed: frozenset[str] = frozenset()
        desk.eyes.nvml.listen(self._on_xid)

    def close(self) -> None:
        """Let go of what the kernel tells and of the threads; does not wait."""
        if self._exits is not None:
            self._exits.close()
        self._scanner.close()
        self.container.close()

    async def watch_triton(self) -> None:
        """Poll for ever: briskly while Triton is not up, or a model has just begun to load."""
        while True:
            await self.look_at_triton()
            server = self._desk.book.server
            settled = server.up and server.gone is None and server.reachable and not self._expecting()
            pace = self._desk.settings.interval if settled else min(BRISK, self._desk.settings.interval)
            await self._desk.wake["triton"].wait(pace)

    def _expecting(self) -> bool:
        # A model that has just begun to load is looked at briskly: an exit means little until it is ready.  So
        # is one that is loaded anew after a death, lest the moment be missed when its counters begin anew.
        moment = self._desk.clock()
        succession = age(moment, self._desk.book.stubs.succession)
        if succession is not None and succession < BRISK_FOR:
            return True
        return any(
            each.state in (ModelState.LOADING, ModelState.UNKNOWN)
            and (age(moment, each.since) or 0.0) < BRISK_FOR
            for each in self._desk.book.models.records.values()
        )

    async def look_at_triton(self) -> None:
        """Poll once, and ask what the poll makes worth asking."""
        began = self._desk.clock()
        reading = await self._desk.eyes.triton.poll()
        ok, delivered, error = _grade(reading)
        self._desk.track("triton", began, ok=ok, delivered=delivered, error=error)
        before = self._desk.book
        self._desk.book = before.with_poll(reading)
        suspects = self._suspects() | self._changed | self._desk.book.workers.doubtful
        self._changed = frozenset()
        inquiry = agenda(self._desk.book, self._desk.settings, suspects, self._desk.clock())
        if reading.live and inquiry:
            if _news(before, self._desk.book):
                self._desk.stirred.ring()
            before = self._desk.book
            answers = await self._desk.eyes.triton.inquire(inquiry, budget=self._desk.settings.interval)
            self._desk.book = self._desk.book.with_answers(answers)
        if _news(before, self._desk.book):
            self._desk.stirred.ring()
        self._on_poll()

    async def watch_processes(self) -> None:
        """Scan for ever."""
        while True:
            await self.look_at_processes()
            await self._desk.wake["processes"].wait(min(SCAN_INTERVAL, self._desk.settings.interval))

    async def look_at_processes(self) -> None:
        """Scan once."""
        async with self._scanning:
            await self._scan()

    async def scan_after(self, moment: Instant) -> None:
        """Scan unless that was done since."""
        async with self._scanning:
            scanned = self._desk.book.stubs.scanned
            if scanned is None or scanned.mono < moment.mono:
                await self._scan()

    async def _scan(self) -> None:
        began = self._desk.clock()
        # Of the last good look: while NVML fails, its pids must stay known for the next good one.
        good = self._desk.book.evidence.good
        asked = good.pids if good is not None else frozenset()
        kept = tuple(self._desk.book.families.members)
        try:
            reading = await self._scanner.run(
                lambda: self._desk.eyes.processes.scan(asked, kept), SCAN_DEADLINE
            )
        except OSError as error:  # an OutstandingError too: nothing was learned
            self._desk.track("processes", began, ok=False, delivered=False, error=str(error))
            return
        before = self._desk.book
        self._desk.book = before.with_processes(reading)
        self._desk.track("processes", began, ok=True, delivered=True, error=None)
        self._watch_exits()
        self.container.watch_events()
        self._notice_changes(before)

    def _notice_changes(self, before: Book) -> None:
        after = self._desk.book
        if after.server.process != before.server.process or after.server.gone != before.server.gone:
            self._desk.wake["triton"].ring()
            self._desk.wake["container"].ring()
            self._desk.stirred.ring()
        changed = before.stubs.live.keys() ^ after.stubs.live.keys()
        if changed:
            named = {**before.stubs.live, **after.stubs.live}
            models = (named[process].model for process in changed)
            # A stub that came or went may be a reload, whose configuration no counter announces.
            self._changed |= frozenset(model.name for model in models if model is not None)
            self._desk.wake["triton"].ring()
        frozen = {key for key, each in after.stubs.live.items() if each.stopped_since is not None}
        thawed = {key for key, each in before.stubs.live.items() if each.stopped_since is not None}
        mourned = before.workers.dead != after.workers.dead
        left = {each.process.id for each in before.orphans.lasting} ^ {
            each.process.id for each in after.orphans.lasting
        }
        # A dead stub that was reaped may be all that a death rested on.
        buried = before.stubs.dead != after.stubs.dead
        if changed or frozen != thawed or mourned or buried or left or not before.server.seen:
            self._desk.stirred.ring()

    def _watch_exits(self) -> None:
        if self._exits is None:
            self._exits = self._desk.eyes.exits(self._on_exit)
        server = self._desk.book.server
        ours = (server.process,) if server.process is not None and server.gone is None else ()
        self._exits.watch((*ours, *self._desk.book.stubs.live, *self._desk.book.families.members))

    async def watch_nvml(self) -> None:
        """Look at the GPUs for ever."""
        while True:
            await self.look_at_nvml()
            await self._desk.wake["nvml"].wait(self._desk.settings.interval)

    async def look_at_nvml(self) -> None:
        """Look at the GPUs once."""
        began = self._desk.clock()
        reading = await self._desk.eyes.nvml.look()
        before = self._desk.book.evidence
        self._desk.book = self._desk.book.with_nvml(reading, STALE_INTERVALS * self._desk.settings.interval)
        ok = reading.state is NvmlState.OK
        # Every answer is definite, a hang too: it has a reason of its own.
        self._desk.track(
            "nvml", began, ok=ok, delivered=True, error=None if ok else reading.detail or reading.state.value
        )
        after = self._desk.book.evidence
        if before.evidence.mode is not after.evidence.mode or before.looks <= 1:
            self._desk.wake["processes"].ring()
        if (
            before.last is None
            or before.last.state is not reading.state
            or _lasting(before.last.gpus) != _lasting(reading.gpus)
        ):
            self._desk.stirred.ring()

    def _on_xid(self, event: Xid) -> None:
        known = self._desk.book.gpus.before(event)
        self._desk.book = self._desk.book.with_xid(event)
        if known is None or event.observed.mono - known.last.mono > FLOOD:
            self._desk.stirred.ring()
            # What the driver wants done about the GPU now.
            self._desk.wake["nvml"].ring()


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


def _lasting(gpus: tuple[Gpu, ...]) -> list[Gpu]:
    # How busy a GPU was is another figure at each look; nobody waits for it between turns.
    return [msgspec.structs.replace(each, busy=None) for each in gpus]


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
