"""Which processes belong to which stub, over time: below it, adopted by others, or left behind by it; pure.

A process whose parent ends gets another one, so that a look at the tree alone would lose a worker of a
worker, and everything that outlives its stub.  Members are therefore remembered by pid and start time until
they end, over epochs too.  Helpers (compilers, shells, trackers) are none.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from probe.facts.instants import Instant
from probe.facts.processes import Exit, Process, ProcessId, ProcessReading, Stub, StubArguments
from probe.ledgers.kinds import WorkerKind, helping, kind_of
from probe.ledgers.models import ModelsLedger
from probe.ledgers.stubs import StubsLedger

EACH_AT_MOST, ALL_AT_MOST = 64, 1024
"""Members of one stub, and of all: each is a pidfd and a question at every scan."""


class Member(msgspec.Struct, frozen=True):
    """A process of a stub's family, as last seen.

    ``stub`` and ``arguments`` are those of the stub, which may be gone.  ``founding`` says that it was there
    before its stub was seen to serve.  ``ready_looks`` counts the scans that saw it while its model was ready;
    ``newest`` is the latest start (in ticks) of anything seen below its stub by then.
    """

    process: Process
    kind: WorkerKind
    stub: ProcessId
    arguments: StubArguments
    first_seen: Instant
    founding: bool
    ready_looks: int = 0
    newest: int = 0


class FamiliesLedger(msgspec.Struct, frozen=True):
    """Every member that is here.

    ``lost`` are those that the last scan no longer found, ``ended`` exits that a scan which began earlier may
    still miss, ``newest`` the latest start below each stub.
    """

    members: dict[ProcessId, Member] = {}
    lost: dict[ProcessId, Member] = {}
    ended: dict[ProcessId, Instant] = {}
    newest: dict[ProcessId, int] = {}

    def of(self, stub: ProcessId) -> tuple[Member, ...]:
        """The members of this stub's family."""
        return tuple(each for each in self.members.values() if each.stub == stub)

    @property
    def pids(self) -> dict[ProcessId, frozenset[int]]:
        """By stub: the pids of its family, also of those that no tree leads to any more for they were adopted."""
        found: dict[ProcessId, set[int]] = {}
        for process, member in self.members.items():
            found.setdefault(member.stub, set()).add(process.pid)
        return {stub: frozenset(pids) for stub, pids in found.items()}

    def known(self, process: ProcessId) -> Member | None:
        """The member that this is, or was until the last scan."""
        return self.members.get(process) or self.lost.get(process)

    def with_exit(self, event: Exit) -> FamiliesLedger:
        """After the kernel told of an exit."""
        if event.id not in self.members:
            return self
        members = {process: each for process, each in self.members.items() if process != event.id}
        ended = {**self.ended, event.id: event.observed}
        return msgspec.structs.replace(self, members=members, ended=ended)

    def with_scan(self, reading: ProcessReading, stubs: StubsLedger, models: ModelsLedger) -> FamiliesLedger:
        """After a scan: who is new, who is still here, and who is not."""
        ended = {
            process: moment for process, moment in self.ended.items() if moment.mono >= reading.observed.mono
        }
        newest = self._newest(reading)
        seen: dict[ProcessId, Member] = {}
        for stub in reading.stubs:
            for process in _workers(stub):
                seen[process.id] = self.members.get(process.id) or _new(
                    process, stub, reading.observed, stubs
                )
                seen[process.id] = _seen(seen[process.id], process, newest, stubs, models)
        for process in reading.kept:
            if process.id in self.members and process.id not in seen:
                seen[process.id] = _seen(self.members[process.id], process, newest, stubs, models)
        here = {
            process: each
            for process, each in seen.items()
            if not each.process.gone and process not in ended and each.kind is not WorkerKind.HELPER
        }
        lost = {
            process: each
            for process, each in self.members.items()
            if process not in seen or seen[process].process.gone
        }
        return FamiliesLedger(dict(self._chosen(here)), lost, ended, newest)

    def _newest(self, reading: ProcessReading) -> dict[ProcessId, int]:
        return {
            stub.process.id: max(
                self.newest.get(stub.process.id, 0), *(each.id.start_ticks for each in stub.descendants)
            )
            for stub in reading.stubs
            if stub.descendants
        }

    def _chosen(self, here: dict[ProcessId, Member]) -> Iterator[tuple[ProcessId, Member]]:
        # Engines first, then whom we know, then the oldest: a flood of children must not drive them out.
        def rank(item: tuple[ProcessId, Member]) -> tuple[bool, bool, int, int]:
            process, each = item
            known = process in self.members
            return each.kind is not WorkerKind.ENGINE, not known, process.start_ticks, process.pid

        counts: dict[ProcessId, int] = {}
        left = ALL_AT_MOST
        for process, each in sorted(here.items(), key=rank):
            if counts.get(each.stub, 0) < EACH_AT_MOST and left > 0:
                counts[each.stub] = counts.get(each.stub, 0) + 1
                left -= 1
                yield process, each


def _new(process: Process, stub: Stub, observed: Instant, stubs: StubsLedger) -> Member:
    live = stubs.live.get(stub.process.id)
    founding = live is None or not live.served
    return Member(process, kind_of(process), stub.process.id, stub.arguments, observed, founding)


def _seen(
    member: Member,
    process: Process,
    newest: dict[ProcessId, int],
    stubs: StubsLedger,
    models: ModelsLedger,
) -> Member:
    live = stubs.live.get(member.stub)
    record = models.records.get(live.model) if live is not None and live.model is not None else None
    ready = record is not None and record.ready
    # It may have renamed itself since.
    return msgspec.structs.replace(
        member,
        process=process,
        kind=kind_of(process),
        ready_looks=member.ready_looks + ready,
        newest=newest.get(member.stub, member.newest),
    )


def _workers(stub: Stub) -> Iterator[Process]:
    helpers = helping(stub.descendants)
    return (each for each in stub.descendants if each.id not in helpers)
