"""What lives on without those it worked for: stubs without a tritonserver, workers without their stub; pure."""

from __future__ import annotations

import msgspec

from probe.facts.instants import Instant
from probe.facts.processes import Process, ProcessId, ProcessReading, StubArguments
from probe.ledgers.families import FamiliesLedger

ORPHANED_AFTER = 10.0
"""Seconds: an unload, or a Triton that ends, needs some to end all of its processes."""


class Orphan(msgspec.Struct, frozen=True):
    """A process that nobody has use for any more, as last seen.

    ``arguments`` are those of the stub that it is, or was below; ``stub`` says which of the two;
    ``since`` is when a scan first saw it without its master.
    """

    process: Process
    arguments: StubArguments
    since: Instant
    stub: bool


class OrphansLedger(msgspec.Struct, frozen=True):
    """All of them by identity; over epochs, for they are what an earlier one left."""

    orphans: dict[ProcessId, Orphan] = {}
    scanned: Instant | None = None

    @property
    def lasting(self) -> tuple[Orphan, ...]:
        """Those that have been orphans for so long that nobody is ending them."""
        if self.scanned is None:
            return ()
        until = self.scanned.mono - ORPHANED_AFTER
        return tuple(each for each in self.orphans.values() if each.since.mono <= until)

    def with_scan(self, reading: ProcessReading, families: FamiliesLedger) -> OrphansLedger:
        """After a scan; ``families`` are those after it."""
        server = reading.server
        begun = None if server is None or server.process.gone else server.process.id.start_ticks
        served: set[ProcessId] = set()
        found: list[tuple[Process, StubArguments, bool]] = []
        for stub in reading.stubs:
            if stub.process.gone:
                continue
            if begun is not None and stub.process.id.start_ticks >= begun:
                served.add(stub.process.id)
            else:
                found.append((stub.process, stub.arguments, True))
        found += [
            (each.process, each.arguments, False)
            for each in families.members.values()
            if each.stub not in served
        ]
        orphans = {
            process.id: Orphan(process, arguments, self._since(process.id, reading.observed), stub)
            for process, arguments, stub in found
        }
        return OrphansLedger(orphans, reading.observed)

    def _since(self, process: ProcessId, observed: Instant) -> Instant:
        before = self.orphans.get(process)
        return observed if before is None else before.since
