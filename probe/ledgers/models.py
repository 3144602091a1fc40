"""Models over time: state, configuration, statistics, traffic over reloads."""

from __future__ import annotations

import msgspec

from probe.facts.instants import Instant
from probe.facts.models import IndexEntry, ModelConfig, ModelState, ModelStatistics, ModelVersion
from probe.facts.triton import InquiryReading, TritonReading


class Traffic(msgspec.Struct, frozen=True):
    """Requests of one model version since the probe first saw it; Triton's own counters reset at reload."""

    success: int = 0
    failure: int = 0
    last_success_wall: float | None = None
    """Seconds since the Unix epoch."""
    compute_seconds_per_inference: float | None = None
    """Over the last look that saw an inference."""


class ModelRecord(msgspec.Struct, frozen=True):
    """One version of one model as last seen.

    ``ready_since``: when the probe first saw this load ready; ``told_ready`` is Triton's own
    ``ModelReady`` where it was asked.  ``reloads`` counts the loads seen by counters that went back.
    """

    key: ModelVersion
    state: ModelState = ModelState.UNKNOWN
    reason: str = ""
    since: Instant | None = None
    """When it entered its state."""
    statistics: ModelStatistics | None = None
    statistics_at: Instant | None = None
    ready_since: Instant | None = None
    exercised_since: Instant | None = None
    """When this load was first seen to have executed something."""
    config: ModelConfig | None = None
    config_at: Instant | None = None
    told_ready: bool | None = None
    told_ready_at: Instant | None = None
    pending: int | None = None
    traffic: Traffic = Traffic()
    reloads: int = 0

    @property
    def ready(self) -> bool:
        """Whether Triton's lifecycle has it ready."""
        return self.state is ModelState.READY


class ModelsLedger(msgspec.Struct, frozen=True):
    """Every model version that Triton speaks of.

    ``vanished`` are those that left the statistics and of which the index has not yet told why.
    """

    records: dict[ModelVersion, ModelRecord] = {}
    statistics_at: Instant | None = None
    index_at: Instant | None = None
    known: frozenset[str] = frozenset()
    """Names in the repository, loaded or not."""

    def named(self, name: str) -> tuple[ModelRecord, ...]:
        """Every version of this model."""
        return tuple(each for each in self.records.values() if each.key.name == name)

    @property
    def vanished(self) -> tuple[ModelVersion, ...]:
        """Versions whose state nobody has told since they left the statistics."""
        return tuple(key for key, each in self.records.items() if each.state is ModelState.UNKNOWN)

    def forgotten(self) -> ModelsLedger:
        """At the start of an epoch: nothing is known of any model, and its traffic goes on."""
        return ModelsLedger(
            records={
                key: ModelRecord(key=key, traffic=each.traffic, reloads=each.reloads + 1)
                for key, each in self.records.items()
                if each.traffic != Traffic()
            }
        )

    def with_poll(self, reading: TritonReading) -> ModelsLedger:
        """After a poll; without statistics nothing is learned and nothing forgotten."""
        if reading.statistics is None:
            return self
        if self.statistics_at is not None and reading.observed.mono < self.statistics_at.mono:
            return self
        pending = dict(reading.pending or ())
        records = {
            key: self._left(each, reading.observed) if each.ready else each
            for key, each in self.records.items()
        }
        for row in reading.statistics:
            before = self.records.get(row.key, ModelRecord(row.key))
            records[row.key] = _counted(before, row, reading.observed, pending.get(row.key))
        return msgspec.structs.replace(
            self,
            records=records,
            statistics_at=reading.observed,
            known=self.known | {row.key.name for row in reading.statistics},
        )

    def with_answers(self, reading: InquiryReading) -> ModelsLedger:
        """After an inquiry."""
        records = dict(self.records)
        for config in reading.configs:
            if config.key in records:
                records[config.key] = msgspec.structs.replace(
                    records[config.key], config=config, config_at=reading.observed
                )
        for key, told in reading.readiness:
            if key in records:
                records[key] = msgspec.structs.replace(
                    records[key], told_ready=told, told_ready_at=reading.observed
                )
        if reading.index is None:
            return msgspec.structs.replace(self, records=records)
        return _indexed(self, records, reading.index, reading.observed)

    def without(self, key: ModelVersion, observed: Instant) -> ModelsLedger:
        """After Triton said, at this moment, that this version is not ready."""
        record = self.records.get(key)
        if record is None or not record.ready:
            return self
        return msgspec.structs.replace(self, records={**self.records, key: self._left(record, observed)})

    @staticmethod
    def _left(record: ModelRecord, observed: Instant) -> ModelRecord:
        return msgspec.structs.replace(
            record,
            state=ModelState.UNKNOWN,
            reason="",
            since=observed,
            ready_since=None,
            exercised_since=None,
            statistics=None,
            told_ready=None,
            pending=None,
        )


def _counted(
    record: ModelRecord, row: ModelStatistics, observed: Instant, pending: int | None
) -> ModelRecord:
    before = record.statistics
    reloaded = before is not None and (row.success < before.success or row.failure < before.failure)
    base = before if before is not None and not reloaded else None
    traffic = record.traffic
    success = row.success - (base.success if base else 0)
    failure = row.failure - (base.failure if base else 0)
    inferences = row.compute_infer_count - (base.compute_infer_count if base else 0)
    compute_ns = row.compute_infer_ns - (base.compute_infer_ns if base else 0)
    last = row.last_inference_ms / 1000 if row.last_inference_ms else None
    if last is None and success > 0:
        last = observed.wall
    fresh = reloaded or not record.ready
    exercised = None if fresh else record.exercised_since
    if exercised is None and row.executions > 0:
        exercised = observed
    return msgspec.structs.replace(
        record,
        state=ModelState.READY,
        reason="",
        since=record.since if record.ready else observed,
        statistics=row,
        statistics_at=observed,
        ready_since=observed if fresh or record.ready_since is None else record.ready_since,
        exercised_since=exercised,
        pending=pending,
        reloads=record.reloads + reloaded,
        traffic=Traffic(
            success=traffic.success + max(0, success),
            failure=traffic.failure + max(0, failure),
            last_success_wall=last if last is not None else traffic.last_success_wall,
            compute_seconds_per_inference=(
                compute_ns / inferences / 1e9 if inferences > 0 else traffic.compute_seconds_per_inference
            ),
        ),
    )


def _indexed(
    ledger: ModelsLedger,
    records: dict[ModelVersion, ModelRecord],
    index: tuple[IndexEntry, ...],
    observed: Instant,
) -> ModelsLedger:
    listed = {entry.key for entry in index}
    for entry in index:
        before = records.get(entry.key)
        # Statistics of a later moment outrank the index: they are read every interval.
        if before is not None and before.ready:
            continue
        if entry.state is ModelState.READY:
            continue
        if entry.state is ModelState.UNKNOWN and before is None:
            # In the repository and never loaded: nothing to say of it.
            continue
        record = before or ModelRecord(entry.key)
        changed = record.state is not entry.state or record.reason != entry.reason
        records[entry.key] = msgspec.structs.replace(
            record,
            state=entry.state,
            reason=entry.reason,
            since=observed if changed or record.since is None else record.since,
        )
    for key in [key for key, each in records.items() if not each.ready and key not in listed]:
        del records[key]
    return msgspec.structs.replace(
        ledger,
        records=records,
        index_at=observed,
        known=frozenset(entry.key.name for entry in index) | {key.name for key in records},
    )
