"""``/dev/shm`` over time: whose region each file is, how full it was, and what nobody owns any more; pure.

A stub and tritonserver share a region, and tritonserver removes it when it takes the instance down.  The region
of a stub that died therefore stays, mapped by tritonserver, until the model is unloaded: that is its death's
affair.  Only a tritonserver that was killed, or left before its instances had ended, leaves regions behind.  They
outlive it, for the file system belongs to the pod or the volume.
"""

from __future__ import annotations

from functools import cached_property

import msgspec

from probe.facts.container import ContainerReading, ShmFile, ShmLevel, ShmUse
from probe.facts.instants import Instant
from probe.facts.models import ModelVersion
from probe.facts.processes import ProcessId, ProcessReading, StubArguments
from probe.ledgers.models import ModelsLedger
from probe.ledgers.ownership import likely_version, owner
from probe.ledgers.regions import looks_like_region, prefixes_of

SURE_AFTER = 1.0
"""Seconds between the first and the last of the looks that must find no process: a region is a file for a moment
before tritonserver maps it, and after it unmapped it."""
ASKED_AGAIN = 60.0
"""Seconds between searches once the answer is known: each reads what every process maps."""
MOST_OWNERS = 4096
"""Regions that are remembered beyond their stubs where no listing says which are left."""


class Owner(msgspec.Struct, frozen=True):
    """The stub whose region a file is, or was, by its own arguments; ``live`` as long as it lives."""

    stub: ProcessId
    model: ModelVersion
    instance: str
    live: bool = True


class Doubt(msgspec.Struct, frozen=True):
    """A region that no live stub names, and what searches for who maps it brought.

    ``unmapped_since``: the first of the searches in a row that found nobody.
    """

    since: Instant
    asked: Instant | None = None
    unmapped_since: Instant | None = None
    undecided: bool = False

    @property
    def orphan(self) -> bool:
        """Whether surely no process owns it."""
        return (
            self.asked is not None
            and self.unmapped_since is not None
            and self.asked.mono - self.unmapped_since.mono >= SURE_AFTER
        )

    def due(self, moment: Instant) -> bool:
        """Whether who maps it is worth asking (again)."""
        if self.asked is None or (self.unmapped_since is not None and not self.orphan):
            return True
        return moment.mono - self.asked.mono >= ASKED_AGAIN

    def answered(self, name: str, use: ShmUse, moment: Instant) -> Doubt:
        """After a look that may have asked about this name."""
        if name in use.unmapped:
            return Doubt(self.since, moment, self.unmapped_since or moment)
        if name in use.mapped:
            return Doubt(self.since, moment)
        return Doubt(self.since, moment, undecided=True) if name in use.undecided else self


class Growth(msgspec.Struct, frozen=True):
    """How a region grew since it was first seen, in bytes; it never shrinks.  ``at``: when it last did.

    It grows by what a request's tensors need at once, so that ``step_bytes``, the most between two looks, may be
    far above the step that it was started with.
    """

    first_bytes: int
    held_bytes: int
    step_bytes: int = 0
    at: Instant | None = None


class ShmLedger(msgspec.Struct, frozen=True, dict=True):
    """The file system and the regions in it.  ``use`` and ``looked`` are of the last look that could see it."""

    owners: dict[str, Owner] = {}
    doubts: dict[str, Doubt] = {}
    growths: dict[str, Growth] = {}
    prefixes: tuple[str, ...] = ()
    use: ShmUse | None = None
    looked: Instant | None = None
    level: ShmLevel | None = None
    """The latest word on how full it is, of a look or of an event."""
    peak: ShmLevel | None = None
    """The fullest that it was in this epoch."""

    @cached_property
    def files(self) -> dict[str, ShmFile]:
        """What was listed, by name; empty where nothing could be."""
        return {each.name: each for each in (self.use.files if self.use is not None else None) or ()}

    @cached_property
    def regions(self) -> dict[str, ShmFile]:
        """The files that are, or were, regions of stubs."""
        return {name: each for name, each in self.files.items() if self._is_region(name)}

    @cached_property
    def others_bytes(self) -> int:
        """What all other listed files hold: shared memory of clients, of frameworks, semaphores."""
        return sum(each.held_bytes for name, each in self.files.items() if name not in self.regions)

    @cached_property
    def orphans(self) -> tuple[ShmFile, ...]:
        """The regions that surely no process owns, by name."""
        return tuple(
            self.files[name]
            for name in sorted(self.doubts)
            if self.doubts[name].orphan and name in self.files
        )

    @property
    def orphan_bytes(self) -> int | None:
        """What they hold; None where that is not known of every region."""
        use = self.use
        if use is None or use.files is None or use.cut:
            return None
        undoubted = use.shared_beyond and not self.regions.keys() <= self.owners.keys()
        if undoubted or any(each.undecided for each in self.doubts.values()):
            return None
        return sum(each.held_bytes for each in self.orphans)

    @property
    def suspects(self) -> frozenset[str]:
        """Of which files the next look should find out who maps them."""
        moment = self.looked
        if moment is None:
            # What an earlier tritonserver's stubs had is there at the first look, if it is at all.
            return frozenset(name for name, each in self.owners.items() if not each.live)
        return frozenset(name for name, each in self.doubts.items() if each.due(moment))

    @property
    def unsure(self) -> bool:
        """Whether one more look would tell whether a region is an orphan."""
        return any(
            not each.orphan and (each.asked is None or each.unmapped_since is not None)
            for each in self.doubts.values()
        )

    def of(self, model: ModelVersion) -> dict[str, ShmFile]:
        """The listed regions of this version's stubs, those of its dead too, but no orphans."""
        left = {each.name for each in self.orphans}
        return {
            name: each
            for name, each in self.regions.items()
            if name in self.owners and self.owners[name].model == model and name not in left
        }

    def forgotten(self) -> ShmLedger:
        """At the start of an epoch: another tritonserver may have another ``/dev/shm``.

        Whose the regions of the last one were is still known: they may be found again.
        """
        owners = {name: msgspec.structs.replace(each, live=False) for name, each in self.owners.items()}
        return ShmLedger(owners=owners)

    def with_scan(self, reading: ProcessReading, models: ModelsLedger) -> ShmLedger:
        """After a scan of processes."""
        owners = {
            name: msgspec.structs.replace(each, live=False) if each.live else each
            for name, each in self.owners.items()
        }
        for each in reading.stubs:
            name = each.arguments.shm_region
            known = owners.get(name)
            same = known is not None and known.stub == each.process.id
            if name and (not each.process.gone or same):
                model = _model(each.arguments, models, known.model if known is not None and same else None)
                owners[name] = Owner(each.process.id, model, each.arguments.name, not each.process.gone)
        if len(owners) > MOST_OWNERS:
            owners = {name: each for name, each in owners.items() if each.live}
        server = reading.server
        return msgspec.structs.replace(
            self,
            owners=owners,
            doubts={name: each for name, each in self.doubts.items() if not _live(owners, name)},
            prefixes=prefixes_of(server) if server is not None and server.arguments else self.prefixes,
        )

    def with_look(self, reading: ContainerReading) -> ShmLedger:
        """After a look at the container; one that could not see the file system teaches nothing."""
        use, moment = reading.shm, reading.observed
        if use is None or (self.looked is not None and moment.mono < self.looked.mono):
            return self
        told = ShmLevel(moment, use.size_bytes, use.used_bytes, use.inodes_free, use.inodes_total)
        seen = msgspec.structs.replace(self, use=use, looked=moment).with_level(told)
        if use.files is None:
            return seen
        # What is not listed is gone, unless there was too much to list.
        owners = {
            name: each for name, each in self.owners.items() if each.live or use.cut or name in seen.files
        }
        left = (name for name in seen.regions if not _live(owners, name))
        doubts = {
            name: self.doubts.get(name, Doubt(moment)).answered(name, use, moment)
            for name in left
            # A file that only looks like a region may belong to another Triton that nobody sees from here.
            if name in owners or not use.shared_beyond
        }
        growths = {
            name: _grown(self.growths.get(name), each.held_bytes, moment)
            for name, each in seen.regions.items()
        }
        return msgspec.structs.replace(seen, owners=owners, doubts=doubts, growths=growths)

    def with_level(self, level: ShmLevel) -> ShmLedger:
        """After it was told how full the file system is."""
        if self.level is not None and level.observed.mono < self.level.observed.mono:
            return self
        peak = self.peak
        # Of another size it is another file system, or one that was mounted anew.
        if peak is None or peak.size_bytes != level.size_bytes or level.used_bytes >= peak.used_bytes:
            peak = level
        return msgspec.structs.replace(self, level=level, peak=peak)

    def _is_region(self, name: str) -> bool:
        return name in self.owners or looks_like_region(name, self.prefixes)


def _live(owners: dict[str, Owner], name: str) -> bool:
    return name in owners and owners[name].live


def _model(arguments: StubArguments, models: ModelsLedger, before: ModelVersion | None) -> ModelVersion:
    # Once Triton has let go of a model, its configuration no longer leads from the instance to it.
    return owner(arguments, models) or before or likely_version(arguments)


def _grown(before: Growth | None, held: int, moment: Instant) -> Growth:
    if before is None:
        return Growth(held, held)
    if held <= before.held_bytes:
        return before
    step = max(before.step_bytes, held - before.held_bytes)
    return Growth(before.first_bytes, held, step, moment)
