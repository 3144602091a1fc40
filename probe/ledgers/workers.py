"""Workers that ended while their stub lived on: was that a death, and is it mended; pure.

Not every end is a death: unloading and reloading end workers too, most models kill theirs in ``finalize``,
and through a whole reload Triton says that the model is ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from probe.facts.instants import Instant
from probe.facts.models import ModelVersion
from probe.facts.processes import Exit, ProcessId
from probe.ledgers.families import FamiliesLedger, Member
from probe.ledgers.kinds import WorkerKind, replaces
from probe.ledgers.lives import LiveStub
from probe.ledgers.models import ModelRecord, ModelsLedger
from probe.ledgers.ownership import copies, group_of, likely_version
from probe.ledgers.stubs import StubsLedger

SETTLED_LOOKS = 2
"""Scans that must have seen a child while its model was ready; one that is gone before was an errand."""
SETTLED_AFTER = 5.0
"""Seconds after which a child counts as settled too, where scans are far apart."""
LATE_SETTLED_AFTER = 60.0
"""Seconds for a child that began when its model already served: most of those do one request's work."""
DOUBT_AT_MOST = 60.0
"""Seconds after which a stub that lost a worker is not ending any more, however many stubs there are."""
DEAD_AT_MOST = 1000


class DeadWorker(msgspec.Struct, frozen=True):
    """A worker that ended while its stub lived.

    ``newest`` is the latest start of anything below the stub at that moment: what is like it and younger came
    in its place.  ``loaded`` says that Triton had the model loaded after the exit; ``believed``, that all
    else was seen too that makes it a death, and no part of an unload or a reload.
    """

    last: Member
    model: ModelVersion
    exit: Exit
    newest: int
    loaded: bool = False
    believed: bool = False


class WorkersLedger(msgspec.Struct, frozen=True):
    """Workers whose end is a death, or may turn out to be one; in the order of their exits."""

    dead: tuple[DeadWorker, ...] = ()

    def of(self, model: ModelVersion) -> tuple[DeadWorker, ...]:
        """The believed deaths of this version, earliest first."""
        return tuple(each for each in self.dead if each.believed and each.model == model)

    def model_of(self, process: ProcessId) -> ModelVersion | None:
        """The model of a worker whose end may be a death, else None."""
        return next((each.model for each in self.dead if each.exit.id == process), None)

    def unexplained(self, process: ProcessId) -> bool:
        """Whether Triton has not yet said whether it had the model of this worker loaded after its exit."""
        return any(each.exit.id == process and not each.loaded for each in self.dead)

    def configuration_wanted(self, process: ProcessId, models: ModelsLedger) -> bool:
        """Whether the model's configuration was not read since the exit of this worker, which it may settle."""
        return any(
            each.exit.id == process and each.loaded and not _read_since(each, models.records.get(each.model))
            for each in self.dead
        )

    @property
    def doubtful(self) -> frozenset[str]:
        """The models of which more must be learned before an exit is a death, or none."""
        return frozenset(each.model.name for each in self.dead if not each.believed)

    def with_exit(self, event: Exit, member: Member, stubs: StubsLedger) -> WorkersLedger:
        """After a member ended."""
        live = stubs.live.get(member.stub)
        if live is None or live.retired or not _alarming(member, event):
            return self
        if self.model_of(event.id) is not None:
            return self
        # A stub of a load whose configuration was not read yet has no model: it may find the one that it names.
        model = live.model or likely_version(member.arguments)
        dead = DeadWorker(member, model, event, member.newest)
        return WorkersLedger((*self.dead, dead)[-DEAD_AT_MOST:])

    def with_scan(self, observed: Instant, families: FamiliesLedger, stubs: StubsLedger) -> WorkersLedger:
        """After a scan: an engine that is not there any more has ended; a younger one replaces a dead one."""
        ledger = self
        for process, member in families.lost.items():
            ledger = ledger.with_exit(Exit(process, observed), member, stubs)
        return WorkersLedger(tuple(_unreplaced(ledger.dead, families))) if ledger.dead else ledger

    def told(self, event: Exit) -> WorkersLedger:
        """After more was learned of an exit: how it ended, or what the count of OOM kills did."""
        return WorkersLedger(tuple(_told(each, event) for each in self.dead)) if self.dead else self

    def with_word(self, name: str, versions: Iterable[ModelVersion], observed: Instant) -> WorkersLedger:
        """After Triton said which versions of this model it had loaded at this moment."""
        loaded = frozenset(versions)
        kept = (
            each
            for each in self.dead
            if each.believed
            or each.model.name != name
            or each.exit.observed.mono > observed.mono
            or each.model in loaded
        )
        return WorkersLedger(
            tuple(
                msgspec.structs.replace(each, loaded=True)
                if each.model in loaded and each.exit.observed.mono <= observed.mono
                else each
                for each in kept
            )
        )

    def settled(self, stubs: StubsLedger, models: ModelsLedger) -> WorkersLedger:
        """After more was learned: without what means nothing any more, and with belief in what is sure."""
        if not self.dead:
            return self
        return WorkersLedger(tuple(_settled(self.dead, stubs, models)))


def _alarming(member: Member, event: Exit) -> bool:
    if member.kind is WorkerKind.ENGINE:
        return True
    lived = event.observed.mono - member.first_seen.mono
    settled = member.ready_looks >= SETTLED_LOOKS or lived >= SETTLED_AFTER
    return event.violent and settled and (member.founding or lived >= LATE_SETTLED_AFTER)


def _unreplaced(dead: tuple[DeadWorker, ...], families: FamiliesLedger) -> Iterator[DeadWorker]:
    taken: dict[ProcessId, Member] = {}
    left = []
    for each in dead:
        like = (
            one
            for one in families.of(each.last.stub)
            if one.process.id.start_ticks > each.newest
            and one.process.id not in taken
            and replaces(one.process, each.last.process)
        )
        found = next(like, None)
        if found is None:
            left.append(each)
        else:
            taken[found.process.id] = found
    for each in left:
        # One newcomer stands in for one of the dead, also at the next scan.
        used = [
            one.process.id.start_ticks
            for one in taken.values()
            if one.stub == each.last.stub and replaces(one.process, each.last.process)
        ]
        yield msgspec.structs.replace(each, newest=max(each.newest, *used)) if used else each


def _told(death: DeadWorker, event: Exit) -> DeadWorker:
    if death.exit.id != event.id:
        return death
    status = death.exit.status if death.exit.status is not None else event.status
    told = msgspec.structs.replace(death.exit, status=status, oom=event.oom or death.exit.oom)
    return msgspec.structs.replace(death, exit=told)


def _settled(dead: tuple[DeadWorker, ...], stubs: StubsLedger, models: ModelsLedger) -> Iterator[DeadWorker]:
    for each in dead:
        live, record = stubs.live.get(each.last.stub), models.records.get(each.model)
        if live is None or live.retired or live.model not in (None, each.model) or record is None:
            continue
        after = _after(each, record)
        if after is None or _replaced(each, live, stubs, record):
            continue
        sure = (
            record.ready
            and live.model is not None
            and after.loaded
            and stubs.scanned is not None
            and stubs.scanned.mono >= each.exit.observed.mono
            and _read_since(each, record)
            and _serves(each, live, stubs, record)
        )
        yield msgspec.structs.replace(after, believed=after.believed or sure)


def _after(death: DeadWorker, record: ModelRecord) -> DeadWorker | None:
    # What the record says of the moments after the exit; None where the exit means nothing.
    moment = death.exit.observed.mono
    if not record.ready:
        left = record.since is not None and record.since.mono > moment
        return None if death.believed or left else death
    polled = record.statistics_at is not None and record.statistics_at.mono > moment
    if death.loaded or not polled:
        return death
    # Where it became ready only since, the exit was part of its loading, which went well all the same.
    served = record.ready_since is not None and record.ready_since.mono <= moment
    return msgspec.structs.replace(death, loaded=True) if served else None


def _replaced(death: DeadWorker, live: LiveStub, stubs: StubsLedger, record: ModelRecord) -> bool:
    # Another load took over since, and what its stub still does, if anything, is nobody's concern: requests
    # that wait for a dead worker may keep it for ever.
    name = live.stub.arguments.name
    younger = sum(
        each.stub.arguments.name == name and each.stub.process.id.start_ticks > death.last.stub.start_ticks
        for each in stubs.of(record.key)
    )
    return (
        record.ready_since is not None
        and record.ready_since.mono > death.exit.observed.mono
        and younger >= copies(name, record.config)
    )


def _read_since(death: DeadWorker, record: ModelRecord | None) -> bool:
    return (
        record is not None
        and record.config_at is not None
        and record.config_at.mono > death.exit.observed.mono
    )


def _serves(death: DeadWorker, live: LiveStub, stubs: StubsLedger, record: ModelRecord) -> bool:
    """Whether its stub is one of the present load, and none of a load that makes way for another.

    A reload starts the new stubs first, and the configuration is the new load's before the old one is told to
    end: then there are too many.  Where a change of the count alone adds and removes instances in place (core,
    ``UpdateInstanceGroup``), which of them has to go is not told, and several may have one name.
    """
    name, begun = live.stub.arguments.name, live.stub.process.id.start_ticks
    group = group_of(name)
    groups = record.config.groups if record.config is not None else ()
    called_for = sum(each.instances for each in groups if each.name == group)
    beside = [each.stub for each in stubs.of(record.key) if group_of(each.stub.arguments.name) == group]
    if len(beside) <= called_for:
        return True
    younger = sum(each.arguments.name == name and each.process.id.start_ticks > begun for each in beside)
    if called_for == 0 or younger >= copies(name, record.config):
        return False
    older = sum(each.arguments.name == name and each.process.id.start_ticks < begun for each in beside)
    if older and record.ready_since is not None and live.first_seen.mono < record.ready_since.mono:
        # Counters began anew since it was first seen: it serves, and the older one of its name only lingers.
        return True
    scanned = stubs.scanned.mono if stubs.scanned is not None else 0.0
    return scanned - death.exit.observed.mono > DOUBT_AT_MOST
