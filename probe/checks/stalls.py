"""Do requests wait at a model out of which nothing comes any more?

An execution that hangs shows in nothing that Triton says: it is live and ready, and the stub's heartbeat goes
on (python_backend, ``pb_stub.cc``).  What shows is a queue in front of counters that stand still.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from probe.checks.observation import Observation
from probe.checks.stubs import believed_deaths
from probe.facts.canaries import CanaryOutcome
from probe.facts.findings import Claim, Scalar, Subject, SubjectKind
from probe.facts.gates import Gate
from probe.facts.instants import Instant
from probe.ledgers.lives import LiveStub
from probe.ledgers.models import ModelRecord

USUAL_TIMES = 3.0
"""Times its usual duration that a request may take before its model is called stalled."""
PROVEN_SECONDS = 60.0
"""Seconds over which looks must have shown the stall before it may fail the live gate: while Triton is not
asked, or does not answer, a claim goes on and becomes no surer."""
BUSY_CORES = 0.1
"""CPU above which a stub computes; one that sleeps or waits for a lock takes far less."""


class Stall(msgspec.Struct, frozen=True):
    """Since when nothing comes out, up to when that was seen, and what waits."""

    since: Instant
    until: Instant
    what: str

    @property
    def seconds(self) -> float:
        """How long it was seen."""
        return self.until.mono - self.since.mono


def judge(seen: Observation) -> Iterator[Claim]:
    """One claim a ready model that is stalled, unless all of its stubs are known to be dead or stopped."""
    if not seen.watching:
        return
    for record in seen.records():
        stall = stall_of(seen, record)
        if stall is not None and stall.seconds >= patience(seen, record) and not _explained(seen, record):
            yield _claim(seen, record, stall)


def patience(seen: Observation, record: ModelRecord) -> float:
    """Seconds without an answer that are nothing unusual for this model."""
    row, usual = record.statistics, 0.0
    if row is not None and row.success:
        usual = row.success_ns / row.success / 1e9 * USUAL_TIMES
    # A sequence's slot, or a batch that fills, may take its whole time twice.
    held = 2 * record.config.held_back_seconds if record.config is not None else 0.0
    return max(seen.settings.interval, usual, record.progress.slowest_seconds, held)


def stall_of(seen: Observation, record: ModelRecord) -> Stall | None:
    """What waits without an answer: requests in the queue, or a canary; the longer of the two."""
    if not record.ready:
        return None
    found = [each for each in (_queue(seen, record), _canary(seen, record)) if each is not None]
    return max(found, key=lambda each: each.seconds, default=None)


def _queue(seen: Observation, record: ModelRecord) -> Stall | None:
    progress = record.progress
    if progress.waiting_since is None or progress.waiting_until is None:
        return None
    canary = seen.book.canaries.of(record.key)
    if (
        canary is not None
        and canary.last.outcome is CanaryOutcome.PASSED
        and canary.last.ended.mono > progress.waiting_since.mono
    ):
        # Something came out after the last poll.
        return None
    if progress.turned_away:
        what = f"{progress.turned_away} requests timed out in its queue, {progress.waiting} wait there"
    else:
        one = progress.waiting == 1
        what = f"{progress.waiting} request{' waits' if one else 's wait'} in its queue"
    return Stall(progress.waiting_since, progress.waiting_until, what)


def _canary(seen: Observation, record: ModelRecord) -> Stall | None:
    canary, moved = seen.book.canaries.of(record.key), record.progress.moved_at
    if canary is None or canary.unanswered_since is None or moved is None or record.statistics_at is None:
        return None
    # Something may have come out after the first of several that were not answered.
    sent = (canary.unanswered_since, canary.last.sent)
    out = next((each for each in sent if each.mono >= moved.mono), None)
    if out is None or canary.last.outcome is not CanaryOutcome.TIMEOUT:
        return None
    until = min(canary.last.ended, record.statistics_at)
    what = f"the canary is not answered ({canary.last.seconds:.0f} s and more)"
    return Stall(out, max(until, out), what)


def _explained(seen: Observation, record: ModelRecord) -> bool:
    # StubDead and StubFrozen say it with its cause; only an instance that is left can stall.
    stubs = seen.book.stubs.of(record.key)
    stopped = sum(each.stopped_since is not None for each in stubs)
    troubled = bool(believed_deaths(seen, record)) or stopped > 0
    return troubled and stopped == len(stubs)


def _claim(seen: Observation, record: ModelRecord, stall: Stall) -> Claim:
    row = record.statistics
    stubs = seen.book.stubs.of(record.key)
    ever = row is not None and bool(row.success or row.executions)
    usual = (
        f"a request takes {row.success_ns / row.success / 1e9:.3g} s in the mean of this load"
        if row is not None and row.success
        else "it has answered nothing since it was loaded"
    )
    cores = [seen.book.activity.of(each.stub.process.id, stall.since) for each in stubs]
    whom = f" {_told(stubs, cores)}" if stubs else ""
    evidence: dict[str, Scalar] = {
        "flat_seconds": round(stall.seconds, 1),
        "pending": record.pending,
        "turned_away": record.progress.turned_away,
        "success_total": row.success if row is not None else None,
        "failure_total": row.failure if row is not None else None,
        "patience_seconds": round(patience(seen, record), 1),
        "stub_pids": " ".join(str(each.stub.process.id.pid) for each in stubs) or None,
        "cpu_cores": round(sum(each for each in cores if each is not None), 2)
        if any(each is not None for each in cores)
        else None,
    }
    return Claim(
        "ModelStalled",
        Subject(SubjectKind.MODEL, model=record.key.name, version=record.key.version),
        f"Nothing came out of it for {stall.seconds:.1f} s while {stall.what}; {usual}.{whom}",
        _remedy(seen, record, stubs, cores),
        stall.until,
        evidence,
        spares=frozenset((Gate.LIVE,)) if _spared(seen, record, stall, cores, ever=ever) else frozenset(),
    )


def _spared(
    seen: Observation, record: ModelRecord, stall: Stall, cores: list[float | None], *, ever: bool
) -> bool:
    server = seen.book.server.server
    # A model under the rate limiter may wait for what others hold; of one whose configuration is not known,
    # nobody knows how long it holds requests back by design.
    limited = server is not None and server.option("rate-limit") == "execution_count"
    if stall.seconds < PROVEN_SECONDS or limited or record.config is None:
        return True
    # A first execution may compile for minutes (an engine, a graph), and after a restart it would be the
    # first again.  One that is seen to compute nothing does not.
    asleep = bool(cores) and all(each is not None and each < BUSY_CORES for each in cores)
    return not ever and not asleep and stall.seconds < seen.settings.models.stuck_after


def _told(stubs: tuple[LiveStub, ...], cores: list[float | None]) -> str:
    told = []
    for each, busy in zip(stubs, cores, strict=True):
        process = each.stub.process
        does = process.state.value
        if busy is not None:
            does = f"{'computes' if busy >= BUSY_CORES else 'is idle'}, {busy:.2f} cores"
        told.append(f"{each.stub.arguments.name} (pid {process.id.pid}) {does}")
    return f"Its stub process{'es' if len(told) > 1 else ''}: {'; '.join(told)}."


def _remedy(
    seen: Observation, record: ModelRecord, stubs: tuple[LiveStub, ...], cores: list[float | None]
) -> str:
    known = [each for each in cores if each is not None]
    if known and max(known) >= BUSY_CORES:
        cause = "A stub that computes is in a loop, or in an input far larger than usual."
    elif known:
        cause = "A stub that is idle waits: for a lock, a socket, another model (BLS), or a device."
    else:
        cause = "It waits for a lock, a device or another service, or is in a loop."
    look = (
        " Look first with `py-spy dump --nonblocking --pid <stub>`: one that pauses the stub can abort all of Triton."
        if stubs
        else ""
    )
    instead = (
        f" Or load the model once more, without an unload ({seen.load_beside(record.key.name)}): a fresh copy serves, "
        "and the hung one keeps its memory until the restart."
        if seen.explicit_control
        else ""
    )
    return (
        "Restart the Triton container: Triton can neither cancel a hung execution nor unload its model, which would "
        f"be UNLOADING for ever.{instead} {cause}{look}"
    )
