"""What each model executed while the same stubs served it; pure.

A framework takes its GPU with its first use: only of who had that occasion is an absence worth anything.
"""

from __future__ import annotations

import msgspec

from probe.facts.instants import Instant
from probe.facts.models import ModelStatistics, ModelVersion
from probe.facts.processes import ProcessId
from probe.ledgers.lives import LiveStub
from probe.ledgers.models import ModelRecord, ModelsLedger
from probe.ledgers.stubs import StubsLedger

TURNS = 4
"""Executions for each stub after which every one of them has had its turn.  Seen in 24.10: requests one after the
other go to the instances strictly in turn; of many at once, each free instance gets the next, so that also those
that are 100 times slower had one of the first."""
_START_ERROR = 1.0
"""Seconds by which ``started_at`` may be early: the kernel tells its boot in whole seconds."""


class Exercise(msgspec.Struct, frozen=True):
    """Executions of one model version since these stubs were first polled together.

    ``baseline`` is Triton's count at that poll and ``succeeded`` its count of successes, ``executions`` what came
    since; what only failed is no execution here, for its inputs may have been refused before any GPU was needed.
    ``since`` is when they were first seen to have executed something; a first look may know it by Triton's own time
    of the last inference.  ``each_since``: when they were first seen to have executed so much that each has had its
    turn, where Triton binds no request to an instance.
    """

    stubs: frozenset[ProcessId]
    baseline: int
    succeeded: int
    polled: Instant
    executions: int = 0
    since: Instant | None = None
    each_since: Instant | None = None


class ExerciseLedger(msgspec.Struct, frozen=True):
    """By model version."""

    records: dict[ModelVersion, Exercise] = {}

    def of(self, model: ModelVersion, stubs: tuple[LiveStub, ...]) -> Exercise | None:
        """What these stubs executed; None where nothing is known of exactly these."""
        found = self.records.get(model)
        return found if found is not None and found.stubs == _ids(stubs) else None

    def with_models(self, models: ModelsLedger, stubs: StubsLedger) -> ExerciseLedger:
        """After Triton was polled or asked."""
        records = {}
        for key, record in models.records.items():
            serving = stubs.of(key)
            if serving and record.ready and record.statistics is not None:
                after = _after(self.records.get(key), record, record.statistics, serving)
                if after is not None:
                    records[key] = after
        return msgspec.structs.replace(self, records=records)


def _ids(stubs: tuple[LiveStub, ...]) -> frozenset[ProcessId]:
    return frozenset(each.stub.process.id for each in stubs)


def _after(
    before: Exercise | None, record: ModelRecord, row: ModelStatistics, stubs: tuple[LiveStub, ...]
) -> Exercise | None:
    polled, counted, ids = record.statistics_at, record.counted_at, _ids(stubs)
    # What a poll counted that began before the youngest stub was seen may be work of the one that it replaces.
    if polled is None or counted is None or any(each.first_seen.mono >= polled.mono for each in stubs):
        return None
    same = before is not None and before.stubs == ids
    occasion = counted if _had_occasion(row, stubs) else None
    if before is None or not same or row.executions < before.baseline + before.executions:
        # A poll that began before the last of another load's stubs ended tells of that load; only where it is the
        # first that shows this one ready is there none.
        first = counted == record.ready_since
        return Exercise(ids, row.executions, row.success, polled, 0, occasion if first else None)
    if polled == before.polled:
        return before
    executed = min(row.executions - before.baseline, row.success - before.succeeded)
    return msgspec.structs.replace(
        before,
        polled=polled,
        executions=executed,
        since=before.since or occasion or (counted if executed else None),
        each_since=before.each_since or (counted if executed >= TURNS * len(ids) else None),
    )


def _had_occasion(row: ModelStatistics, stubs: tuple[LiveStub, ...]) -> bool:
    # Triton's last_inference moves with failed requests too (seen in 24.10), which may never reach a stub.
    if not row.executions or row.failure:
        return False
    last = row.last_inference_ms / 1000
    return all(each.stub.process.started_at + _START_ERROR < last for each in stubs)
