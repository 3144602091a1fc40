"""Models over time: state, configuration, statistics, traffic over reloads."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import msgspec

from probe.facts.canaries import CanaryOutcome
from probe.facts.instants import Instant
from probe.facts.models import IndexEntry, ModelConfig, ModelState, ModelStatistics, ModelVersion
from probe.facts.triton import CallFailure, Failure, InquiryReading, TritonReading
from probe.ledgers.others import Others
from probe.ledgers.progress import Look, Progress, begun

PAST_AT_MOST = 10_000
"""Versions whose traffic is remembered after they went."""


class Traffic(msgspec.Struct, frozen=True):
    """Requests of others than the probe to one model version since the probe first saw it.

    Triton's own counters reset at reload.
    """

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
    tried_after: Instant | None = None
    """A moment before its present load, or the last attempt at one, began: the last look that showed it otherwise.
    None where it is ready, or was never seen otherwise."""
    statistics: ModelStatistics | None = None
    statistics_at: Instant | None = None
    counted_at: Instant | None = None
    """When the poll had ended that brought its statistics: what they count had happened by then."""
    ready_since: Instant | None = None
    exercised_since: Instant | None = None
    """When this load was first seen to have executed something."""
    failed_at: Instant | None = None
    """When this load was last seen to have failed a request, whoever sent it."""
    config: ModelConfig | None = None
    config_at: Instant | None = None
    config_since: Instant | None = None
    """Since when its configuration is as it is: reading it again changes nothing."""
    told_ready: bool | None = None
    told_ready_at: Instant | None = None
    readiness_asked: Instant | None = None
    readiness_seconds: float = 0.0
    """How long the last question on its readiness took where it was slow, answered or not; else 0."""
    pending: int | None = None
    progress: Progress = Progress()
    """Requests in its queue, less those that canaries, or an earlier load, may have left there."""
    others: Others = Others()
    traffic: Traffic = Traffic()
    reloads: int = 0

    @property
    def ready(self) -> bool:
        """Whether Triton's lifecycle has it ready."""
        return self.state is ModelState.READY


class ModelsLedger(msgspec.Struct, frozen=True, dict=True):
    """Every model version that Triton speaks of.

    ``vanished`` are those that left the statistics and of which the index has not yet told why.
    """

    records: dict[ModelVersion, ModelRecord] = {}
    statistics_at: Instant | None = None
    index_at: Instant | None = None
    known: frozenset[str] = frozenset()
    """Names in the repository, loaded or not."""
    asked: Instant | None = None
    """When an inquiry last came back, whatever it brought."""
    restricted: dict[str, CallFailure] = {}
    """Calls of an inquiry for which Triton demands a header, by their first word."""
    past: dict[ModelVersion, Traffic] = {}
    """Traffic of versions that Triton no longer speaks of: it goes on when they come back."""

    def named(self, name: str) -> tuple[ModelRecord, ...]:
        """Every version of this model."""
        return self._by_name.get(name, ())

    @cached_property
    def _by_name(self) -> dict[str, tuple[ModelRecord, ...]]:
        # Asked for every step of every ensemble: by search, 1,000 models would cost a million looks.
        named: dict[str, tuple[ModelRecord, ...]] = {}
        for each in self.records.values():
            named[each.key.name] = (*named.get(each.key.name, ()), each)
        return named

    @property
    def vanished(self) -> tuple[ModelVersion, ...]:
        """Versions whose state nobody has told since they left the statistics."""
        return tuple(key for key, each in self.records.items() if each.state is ModelState.UNKNOWN)

    def meant(self, reference: ModelVersion) -> ModelRecord | None:
        """The ready version that a step names; an empty version is the latest, as Triton takes it."""
        ready = (
            each
            for each in self.named(reference.name)
            if each.ready and reference.version in ("", each.key.version)
        )
        return max(ready, key=lambda each: (len(each.key.version), each.key.version), default=None)

    def sending(self, by: ModelVersion, touches: Iterable[tuple[ModelVersion, int]]) -> ModelsLedger:
        """While a canary to ``by`` is out that Triton will count so often on these models."""
        records = dict(self.records)
        for key, count in touches:
            if key in records:
                before = records[key]
                # A failed ensemble is counted as two failures (2.51).
                double = key == by and before.config is not None and before.config.ensemble
                others = before.others.sending(by, count, 2 if double else 1)
                records[key] = msgspec.structs.replace(before, others=others)
        return msgspec.structs.replace(self, records=records)

    def canary_ended(self, by: ModelVersion, outcome: CanaryOutcome, ended: Instant) -> ModelsLedger:
        """After that canary came to its end, or taught nothing (``UNSENDABLE``)."""
        records = {
            key: msgspec.structs.replace(each, others=each.others.ended(by, outcome, ended))
            if each.others.owed
            else each
            for key, each in self.records.items()
        }
        return msgspec.structs.replace(self, records=records)

    def forgotten(self) -> ModelsLedger:
        """At the start of an epoch: nothing is known of any model, and its traffic goes on."""
        return ModelsLedger(past=_kept(self.past, self.records.values()))

    def with_poll(self, reading: TritonReading) -> ModelsLedger:
        """After a poll; without statistics nothing is learned and nothing forgotten."""
        if reading.statistics is None:
            return self
        if self.statistics_at is not None and reading.observed.mono < self.statistics_at.mono:
            return self
        pending, reasons = dict(reading.pending or ()), dict(reading.failure_reasons)
        records = {
            key: self._left(each, reading.observed) if each.ready else each
            for key, each in self.records.items()
        }
        for row in reading.statistics:
            before = self.records.get(row.key) or self._new(row.key)
            look = Look(
                reading.observed,
                reading.ended,
                pending.get(row.key),
                reasons.get(row.key),
                metered=reading.pending is not None,
            )
            records[row.key] = _counted(before, row, look)
        return msgspec.structs.replace(
            self,
            records=records,
            statistics_at=reading.observed,
            known=self.known | {row.key.name for row in reading.statistics},
            past={key: each for key, each in self.past.items() if key not in records},
        )

    def _new(self, key: ModelVersion) -> ModelRecord:
        return ModelRecord(key, traffic=self.past.get(key, Traffic()))

    def with_answers(self, reading: InquiryReading) -> ModelsLedger:
        """After an inquiry."""
        records = dict(self.records)
        for config in reading.configs:
            if config.key in records:
                before = records[config.key]
                records[config.key] = msgspec.structs.replace(
                    before,
                    config=config,
                    config_at=reading.observed,
                    config_since=before.config_since if before.config == config else reading.observed,
                )
        for key, told in reading.readiness:
            if key in records:
                records[key] = msgspec.structs.replace(
                    records[key],
                    told_ready=told,
                    told_ready_at=reading.observed,
                    readiness_asked=reading.observed,
                    readiness_seconds=0.0,
                )
        for key, seconds in reading.slow:
            if key in records:
                records[key] = msgspec.structs.replace(
                    records[key], readiness_asked=reading.observed, readiness_seconds=seconds
                )
        after = msgspec.structs.replace(
            self, records=records, asked=reading.observed, restricted=_restricted(self.restricted, reading)
        )
        return after if reading.index is None else after._indexed(reading.index, reading.observed)  # noqa: SLF001

    def _indexed(self, index: tuple[IndexEntry, ...], observed: Instant) -> ModelsLedger:
        records = dict(self.records)
        listed = {entry.key for entry in index}
        for entry in index:
            before = records.get(entry.key)
            # Statistics of a later moment outrank the index: they are read every interval.
            if (before is not None and before.ready) or entry.state is ModelState.READY:
                continue
            if entry.state is ModelState.UNKNOWN and before is None:
                # In the repository and never loaded: nothing to say of it.
                continue
            record = before or self._new(entry.key)
            changed = record.state is not entry.state or record.reason != entry.reason
            records[entry.key] = msgspec.structs.replace(
                record,
                state=entry.state,
                reason=entry.reason,
                since=observed if changed or record.since is None else record.since,
                tried_after=self._tried_after(record)
                if changed or record.since is None
                else record.tried_after,
            )
        left = [each for key, each in records.items() if not each.ready and key not in listed]
        kept = {key: each for key, each in records.items() if each.ready or key in listed}
        return msgspec.structs.replace(
            self,
            records=kept,
            index_at=observed,
            known=frozenset(entry.key.name for entry in index) | {key.name for key in kept},
            past=_kept({key: each for key, each in self.past.items() if key not in kept}, left),
        )

    def _tried_after(self, record: ModelRecord) -> Instant | None:
        # What goes on from a load that was seen, or from being ready, is of one piece with it.
        going = record.since is not None and record.state in (ModelState.LOADING, ModelState.UNKNOWN)
        return record.tried_after if going else self.index_at

    def without(self, key: ModelVersion, observed: Instant) -> ModelsLedger:
        """After Triton said, at this moment, that this version is not ready."""
        record = self.records.get(key)
        if record is None or not record.ready:
            return self
        if record.statistics_at is not None and record.statistics_at.mono > observed.mono:
            # A poll that began later has it ready: that is another load.
            return self
        return msgspec.structs.replace(self, records={**self.records, key: self._left(record, observed)})

    @staticmethod
    def _left(record: ModelRecord, observed: Instant) -> ModelRecord:
        return msgspec.structs.replace(
            record,
            state=ModelState.UNKNOWN,
            reason="",
            since=observed,
            tried_after=record.statistics_at,
            ready_since=None,
            exercised_since=None,
            failed_at=None,
            statistics=None,
            told_ready=None,
            readiness_asked=None,
            readiness_seconds=0.0,
            pending=None,
            progress=Progress(),
            others=Others(),
        )


def _counted(record: ModelRecord, row: ModelStatistics, look: Look) -> ModelRecord:
    observed = look.observed
    before = record.statistics
    reloaded = before is not None and _went_back(before, row)
    base = before if before is not None and not reloaded else None
    traffic = record.traffic
    fresh = reloaded or not record.ready
    counted = row.success - (base.success if base else 0), row.failure - (base.failure if base else 0)
    success, failure, others = (Others() if fresh else record.others).discounted(*counted, observed)
    own = (success, failure) != counted
    if look.pending is not None:
        look = msgspec.structs.replace(look, pending=max(0, look.pending - others.waiting))
    progress = (
        record.progress.after(base, row, look, success=success, failure=failure)
        if base is not None
        else begun(look, again=reloaded or record.statistics_at is not None)
    )
    waiting = None if look.pending is None else progress.waiting
    inferences = row.compute_infer_count - (base.compute_infer_count if base else 0)
    compute_ns = row.compute_infer_ns - (base.compute_infer_ns if base else 0)
    last = None
    if success > 0 and not failure and not own:
        # Triton's last_inference moves with failed requests too (seen in 24.10): it is the time of a success
        # only where nothing but successes happened.
        last = row.last_inference_ms / 1000 if row.last_inference_ms else observed.wall
    elif success > 0 and (base is not None or reloaded):
        last = observed.wall
    exercised = None if fresh else record.exercised_since
    if exercised is None and row.executions > 0:
        exercised = look.ended
    return msgspec.structs.replace(
        record,
        state=ModelState.READY,
        reason="",
        since=record.since if record.ready else observed,
        tried_after=None,
        statistics=row,
        statistics_at=observed,
        counted_at=look.ended,
        ready_since=look.ended if fresh or record.ready_since is None else record.ready_since,
        exercised_since=exercised,
        failed_at=look.ended if counted[1] > 0 else None if fresh else record.failed_at,
        pending=waiting,
        progress=progress,
        others=others.seen(
            look.ended, success, failure, waiting, since=None if fresh else record.statistics_at
        ),
        # What Triton said of an earlier load's instances says nothing of this one's.
        told_ready=None if fresh else record.told_ready,
        readiness_asked=None if fresh else record.readiness_asked,
        readiness_seconds=0.0 if fresh else record.readiness_seconds,
        reloads=record.reloads + reloaded,
        traffic=Traffic(
            success=traffic.success + max(0, success),
            failure=traffic.failure + max(0, failure),
            last_success_wall=last if last is not None else traffic.last_success_wall,
            compute_seconds_per_inference=(
                compute_ns / inferences / 1e9
                if inferences > 0 and (success > 0 or not own)
                else traffic.compute_seconds_per_inference
            ),
        ),
    )


_COUNTERS = (
    *("success", "failure", "inferences", "executions"),
    *("compute_infer_ns", "success_ns", "batch_infer_ns"),
)


def _went_back(before: ModelStatistics, row: ModelStatistics) -> bool:
    # Triton's counters only rise within one load, so one that fell tells of a reload.
    return any(getattr(row, name) < getattr(before, name) for name in _COUNTERS)


def _kept(past: dict[ModelVersion, Traffic], left: Iterable[ModelRecord]) -> dict[ModelVersion, Traffic]:
    # Versions come and go for ever; the latest are the likeliest to come back.
    kept = {**past, **{each.key: each.traffic for each in left if each.traffic != Traffic()}}
    return dict(list(kept.items())[-PAST_AT_MOST:])


def _restricted(before: dict[str, CallFailure], reading: InquiryReading) -> dict[str, CallFailure]:
    answered = {
        "index": reading.index is not None,
        "config": bool(reading.configs),
        "ready": bool(reading.readiness),
    }
    kept = {call: each for call, each in before.items() if not answered.get(call)}
    refused = (each for each in reading.failures if each.failure is Failure.RESTRICTED)
    return {**kept, **{each.call.split(" ", 1)[0]: each for each in refused}}
