"""A stub that runs: whose it is, whether it is held, and whether its load serves; pure."""

from __future__ import annotations

import msgspec

from probe.facts.instants import Instant
from probe.facts.models import ModelVersion
from probe.facts.processes import ProcessId, ProcessState, Stub
from probe.ledgers.models import ModelsLedger
from probe.ledgers.ownership import owner


class LiveStub(msgspec.Struct, frozen=True):
    """A stub that runs.  ``model`` None: not one of a loaded model (yet), or an auto-complete stub.

    ``orphaned``: it is older than tritonserver, so it is what an earlier server left behind.
    """

    stub: Stub
    model: ModelVersion | None
    first_seen: Instant
    orphaned: bool = False
    stopped_since: Instant | None = None
    """Since when every scan saw it stopped, frozen, or in uninterruptible sleep without a tick of CPU."""
    stopped_looks: int = 0
    served: bool = False
    """Triton had its model ready while it lived."""
    wounded: bool = False
    """Another stub of the same load died beside it."""
    retired: bool = False
    """Its load has ended and it lingers: an unload waits for ever for an instance whose stub died after it
    failed a request, and keeps the other stubs of that load (seen in release 24.10)."""


def named(live: LiveStub, models: ModelsLedger) -> LiveStub:
    """The stub with its model, as far as that can be told by now."""
    model = None if live.orphaned else owner(live.stub.arguments, models)
    return live if model == live.model or model is None else msgspec.structs.replace(live, model=model)


def seen(
    before: LiveStub | None, stub: Stub, observed: Instant, models: ModelsLedger, begun: int
) -> LiveStub:
    """The stub after a scan found it; ``begun`` is the start of tritonserver in ticks."""
    if before is None:
        orphaned = stub.process.id.start_ticks < begun
        first = named(LiveStub(stub, None, observed, orphaned=orphaned), models)
        return _paused(first, None, stub, observed)
    again = named(msgspec.structs.replace(before, stub=stub), models)
    return _paused(again, before, stub, observed)


def _paused(live: LiveStub, before: LiveStub | None, stub: Stub, observed: Instant) -> LiveStub:
    state = stub.process.state
    # Any disk access shows as uninterruptible for a moment: only two looks without a tick are a state.
    stuck = (
        state is ProcessState.UNINTERRUPTIBLE
        and before is not None
        and before.stub.process.cpu_ticks == stub.process.cpu_ticks
        and before.stub.process.state is ProcessState.UNINTERRUPTIBLE
    )
    if not stub.process.paused and not stuck:
        return msgspec.structs.replace(live, stopped_since=None, stopped_looks=0)
    since = live.stopped_since or observed
    return msgspec.structs.replace(live, stopped_since=since, stopped_looks=live.stopped_looks + 1)


def by_instance(live: LiveStub) -> tuple[str, ProcessId]:
    """How stubs are listed."""
    return live.stub.arguments.name, live.stub.process.id


def has_served(stub: LiveStub, models: ModelsLedger) -> bool:
    """Whether Triton had its model ready while it lived."""
    record = models.records.get(stub.model) if stub.model is not None else None
    return (
        record is not None
        and record.ready
        and record.statistics_at is not None
        and record.statistics_at.mono > stub.first_seen.mono
    )


def older(stub: LiveStub, moment: Instant) -> bool:
    """Whether it was there at that moment."""
    return stub.first_seen.mono <= moment.mono
