"""Who died, how large it was, and what the container looked like: kept so that a later question can be answered; pure.

A stub that ends while its model loads belongs to no model that Triton knows, and is forgotten by every other
ledger; so is everything when Triton itself ends.  Here the last of them are kept, over epochs.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from probe.facts.instants import Instant
from probe.facts.processes import Exit, Process, ProcessId, ProcessReading, Stub, StubArguments
from probe.ledgers.scenes import Scene, ScenesLedger

KEPT = 100
"""Obituaries; a model that is loaded and dies over and over is no reason to grow."""
GROWTH_SECONDS = 30.0
"""Growth is told of the last one to two of these."""
SOON = 30.0
"""Seconds after a death in which a look still shows what was left by it."""


class Role(enum.StrEnum):
    """What it was."""

    SERVER = "tritonserver"
    STUB = "stub"
    WORKER = "worker"


class Obituary(msgspec.Struct, frozen=True):
    """One process that ended.

    ``name`` is the instance's for a stub, the worker's own title, or ``tritonserver``; ``arguments`` are those of
    its stub.  Sizes are what the last scan showed of it and of everything below it, ``grown_bytes`` how much of
    that came within the last minute.  ``began`` is when it was first seen; ``served``: its model was ready then.
    ``before`` and ``after`` are the looks at the container around its end.
    """

    exit: Exit
    role: Role
    name: str
    epoch: int
    began: Instant
    rss_bytes: int
    tree_bytes: int
    arguments: StubArguments | None = None
    served: bool = False
    grown_bytes: int | None = None
    before: Scene | None = None
    after: Scene | None = None

    @property
    def id(self) -> ProcessId:
        """Whose it is."""
        return self.exit.id


class Size(msgspec.Struct, frozen=True):
    """How large a process and all below it is, and was at two earlier marks."""

    bytes: int
    base: int
    mark: int
    marked: Instant

    def seen(self, size: int, observed: Instant) -> Size:
        """After a scan showed it with this size."""
        if observed.mono - self.marked.mono < GROWTH_SECONDS:
            return msgspec.structs.replace(self, bytes=size)
        return Size(size, self.mark, size, observed)

    @property
    def grown(self) -> int:
        """Bytes that it grew by since the earlier mark; what shrank has not grown."""
        return max(0, self.bytes - self.base)


class ObituariesLedger(msgspec.Struct, frozen=True):
    """The last deaths, earliest first, and the sizes of those who live."""

    kept: tuple[Obituary, ...] = ()
    sizes: dict[ProcessId, Size] = {}
    scanned: bool = False

    def of(self, process: ProcessId) -> Obituary | None:
        """Whose end is known."""
        return next((each for each in reversed(self.kept) if each.id == process), None)

    def with_scan(self, reading: ProcessReading) -> ObituariesLedger:
        """After a scan: how large everybody is; one that only an earlier scan missed is not dead."""
        trees = [(each.process, tree_bytes(each)) for each in reading.stubs]
        if reading.server is not None:
            trees.append((reading.server.process, reading.server.process.rss_bytes))
        sizes = {
            process.id: self._sized(process, size, reading.observed)
            for process, size in trees
            if not process.gone
        }
        kept = tuple(
            each
            for each in self.kept
            if each.id not in sizes or each.exit.observed.mono >= reading.observed.mono
        )
        return ObituariesLedger(kept, sizes, scanned=True)

    def _sized(self, process: Process, size: int, observed: Instant) -> Size:
        known = self.sizes.get(process.id)
        if known is not None:
            return known.seen(size, observed)
        # Who was not here at the scan before began since, with nothing.
        return Size(size, 0 if self.scanned else size, size, observed)

    def mourning(self, *deaths: Obituary, scenes: ScenesLedger) -> ObituariesLedger:
        """After these deaths; one that is told again is known."""
        known = {each.id for each in self.kept}
        new = [
            msgspec.structs.replace(
                each,
                grown_bytes=self.sizes[each.id].grown if each.id in self.sizes else None,
                before=scenes.before(each.exit.observed),
                after=_soon(each.exit, scenes.after(each.exit.observed)),
            )
            for each in deaths
            if each.id not in known
        ]
        if not new:
            return self
        gone = {each.id for each in new}
        sizes = {process: size for process, size in self.sizes.items() if process not in gone}
        return ObituariesLedger(_bounded((*self.kept, *new)), sizes, self.scanned)

    def told(self, exits: Iterable[Exit], scenes: ScenesLedger) -> ObituariesLedger:
        """After more was learned of these exits: how they ended, or what the count of OOM kills did."""
        more = {each.id: each for each in exits}
        if not more:
            return self
        kept = tuple(_told(each, more[each.id], scenes) if each.id in more else each for each in self.kept)
        return msgspec.structs.replace(self, kept=kept)

    def with_scene(self, scene: Scene, epoch: int) -> ObituariesLedger:
        """After a look at the container of this epoch: for some it is the first after their end, or the last before."""
        kept = tuple(_in_scene(each, scene) if each.epoch == epoch else each for each in self.kept)
        return msgspec.structs.replace(self, kept=kept)


def tree_bytes(stub: Stub) -> int:
    """What a stub and everything below it hold; pages that they share count for each."""
    return stub.process.rss_bytes + sum(each.rss_bytes for each in stub.descendants)


def _began_to_die(event: Exit) -> Instant:
    """Until when a look shows what the container held with it.

    The kernel counts a kill at once, and takes its time to end who held much: a look in between shows it freed.
    """
    oom = event.oom
    if oom is None or not oom.rose or oom.seen.mono >= event.observed.mono:
        return event.observed
    return oom.seen


def _soon(event: Exit, scene: Scene | None) -> Scene | None:
    if scene is None or scene.observed.mono - event.observed.mono > SOON:
        return None
    return scene


def _told(death: Obituary, event: Exit, scenes: ScenesLedger) -> Obituary:
    status = death.exit.status if death.exit.status is not None else event.status
    told = msgspec.structs.replace(death.exit, status=status, oom=event.oom or death.exit.oom)
    before, until = death.before, _began_to_die(told)
    if before is not None and before.observed.mono >= until.mono:
        before = scenes.before(until)
    return msgspec.structs.replace(death, exit=told, before=before)


def _in_scene(death: Obituary, scene: Scene) -> Obituary:
    if scene.observed.mono > death.exit.observed.mono:
        first = death.after or _soon(death.exit, scene)
        return death if first is death.after else msgspec.structs.replace(death, after=first)
    if scene.observed.mono >= _began_to_die(death.exit).mono:
        return death
    return msgspec.structs.replace(death, before=scene)


def _bounded(kept: tuple[Obituary, ...]) -> tuple[Obituary, ...]:
    # Workers go first: a model may start one for each request.
    while len(kept) > KEPT:
        oldest = next((i for i, each in enumerate(kept) if each.role is Role.WORKER), 0)
        kept = (*kept[:oldest], *kept[oldest + 1 :])
    return kept
