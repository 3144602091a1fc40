"""Whose end is to be kept: those that the kernel told of, and those that a scan found missing; pure."""

from __future__ import annotations

import signal
from collections.abc import Iterator

from probe.facts.instants import Instant
from probe.facts.processes import Exit, ProcessReading, Server
from probe.ledgers.families import FamiliesLedger, Member
from probe.ledgers.kinds import named
from probe.ledgers.lives import LiveStub
from probe.ledgers.obituaries import Obituary, Role, tree_bytes
from probe.ledgers.server import ServerLedger
from probe.ledgers.stubs import StubsLedger
from probe.ledgers.workers import WorkersLedger


def missing(reading: ProcessReading, server: ServerLedger, stubs: StubsLedger) -> Iterator[Obituary]:
    """Who ended without a word of the kernel, by a scan that no longer finds them."""
    here = {each.process.id for each in reading.stubs if not each.process.gone}
    if reading.server is not None and not reading.server.process.gone:
        here.add(reading.server.process.id)
    for process, live in stubs.live.items():
        if process not in here:
            yield of_stub(live, Exit(process, reading.observed), server.epoch)
    if server.server is not None and server.gone is None and server.server.process.id not in here:
        event = Exit(server.server.process.id, reading.observed)
        yield of_server(server.server, event, server.epoch, server.began)


def told(
    event: Exit,
    server: ServerLedger,
    stubs: StubsLedger,
    families: FamiliesLedger,
    workers: WorkersLedger,
) -> Obituary | None:
    """Whose end the kernel told; ``workers`` are those after it, the others as they were before.

    Most that runs below a stub comes and goes: of that, a death of one that served, and what was killed.
    """
    live, member = stubs.live.get(event.id), families.known(event.id)
    if live is not None:
        return of_stub(live, event, server.epoch)
    if member is not None:
        matters = workers.model_of(event.id) is not None or event.signal == signal.SIGKILL
        return of_worker(member, event, server.epoch) if matters else None
    if server.server is not None and event.id == server.process:
        return of_server(server.server, event, server.epoch, server.began)
    return None


def of_server(server: Server, event: Exit, epoch: int, began: Instant | None) -> Obituary:
    """Of tritonserver."""
    rss = server.process.rss_bytes
    return Obituary(event, Role.SERVER, Role.SERVER.value, epoch, began or event.observed, rss, rss)


def of_stub(live: LiveStub, event: Exit, epoch: int) -> Obituary:
    """Of a stub, whether its model was ever loaded or not."""
    stub = live.stub
    return Obituary(
        event,
        Role.STUB,
        stub.arguments.name,
        epoch,
        live.first_seen,
        stub.process.rss_bytes,
        tree_bytes(stub),
        stub.arguments,
        served=live.served,
    )


def of_worker(member: Member, event: Exit, epoch: int) -> Obituary:
    """Of a process below a stub."""
    size = member.process.rss_bytes
    return Obituary(
        event,
        Role.WORKER,
        named(member.process),
        epoch,
        member.first_seen,
        size,
        size,
        member.arguments,
        served=member.ready_looks > 0,
    )
