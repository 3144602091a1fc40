"""What broke of this Triton around an Xid: the evidence that it concerns us and not another tenant; pure."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator

import msgspec

from probe.facts.instants import Instant
from probe.facts.models import ModelVersion
from probe.facts.processes import Exit
from probe.ledgers.models import ModelsLedger
from probe.ledgers.server import ServerLedger
from probe.ledgers.stubs import StubsLedger
from probe.ledgers.workers import WorkersLedger

BEFORE, AFTER = 10.0, 60.0
"""Seconds around an Xid: the driver reports it when the fault is handled, and a program meets it with its next call."""
FAILING_LOOKS = 2
"""Polls with failures and no success among them: one bad request is no evidence."""

_ORDERS = frozenset((signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
"""Somebody else sends these; no error of a GPU does."""


class Hurt(msgspec.Struct, frozen=True):
    """Something of ours that broke: ``who`` it was, in words that begin a sentence's part, and when."""

    who: str
    at: Instant


class Incident(msgspec.Struct, frozen=True):
    """A hurt with the processes that it concerns, by which it belongs to a GPU; None where they are not known."""

    hurt: Hurt
    pids: frozenset[int] | None


def incidents(
    server: ServerLedger, stubs: StubsLedger, workers: WorkersLedger, models: ModelsLedger
) -> Iterator[Incident]:
    """Everything that is broken by now, and may be so for a GPU's sake."""
    if server.gone is not None and server.process is not None:
        end = Exit(server.process, server.gone, server.exit_status)
        if _broke(end):
            yield Incident(Hurt("tritonserver ended", server.gone), frozenset((server.process.pid,)))
    for stub in stubs.dead:
        if _broke(stub.exit):
            hurt = Hurt(f"the stub {stub.instance} ended", stub.exit.observed)
            yield Incident(hurt, stub.last.pids)
    for worker in workers.dead:
        if _broke(worker.exit):
            hurt = Hurt(f"a worker of {worker.last.arguments.name} ended", worker.exit.observed)
            yield Incident(hurt, frozenset((worker.exit.id.pid,)))
    for record in models.records.values():
        since = record.progress.failing_since
        if since is not None and record.progress.failing_looks >= FAILING_LOOKS:
            yield Incident(Hurt(f"{record.key} began to fail", since), _pids(record.key, server, stubs))


def first_around(moment: Instant, pids: frozenset[int] | None, found: Iterable[Incident]) -> Hurt | None:
    """The first of these around this moment on a GPU with these processes (None: nobody knows which)."""
    near = [
        each.hurt
        for each in found
        if -BEFORE <= each.hurt.at.mono - moment.mono <= AFTER
        and (pids is None or each.pids is None or pids & each.pids)
    ]
    return min(near, key=lambda hurt: hurt.at.mono, default=None)


def _broke(end: Exit) -> bool:
    return end.violent and end.signal not in _ORDERS and not end.oom_killed


def _pids(model: ModelVersion, server: ServerLedger, stubs: StubsLedger) -> frozenset[int] | None:
    mine = stubs.of(model)
    if mine:
        return frozenset(pid for each in mine for pid in each.stub.pids)
    return frozenset((server.process.pid,)) if server.process is not None else None
