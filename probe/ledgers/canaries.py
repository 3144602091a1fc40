"""Canaries over time: what the last one of each model brought, and since when none is answered; pure."""

from __future__ import annotations

import msgspec

from probe.facts.canaries import CanaryOutcome, CanaryResult
from probe.facts.instants import Instant
from probe.facts.models import ModelVersion

_ANSWERED = (CanaryOutcome.PASSED, CanaryOutcome.ERROR, CanaryOutcome.WRONG)


class CanaryRecord(msgspec.Struct, frozen=True):
    """The canaries of one model version in its present load.

    ``failed_in_a_row`` counts those that were sent and did not pass; ``unanswered_since`` is when the
    first of a run of canaries was sent of which none brought any answer.
    """

    last: CanaryResult
    passed_at: Instant | None = None
    failed_in_a_row: int = 0
    unanswered_since: Instant | None = None


class CanariesLedger(msgspec.Struct, frozen=True):
    """The canaries of every model version that was sent any in this epoch."""

    records: dict[ModelVersion, CanaryRecord] = {}

    def of(self, key: ModelVersion) -> CanaryRecord | None:
        """The record of this version, or None where it was sent none."""
        return self.records.get(key)

    def with_result(self, result: CanaryResult) -> CanariesLedger:
        """After a canary came to its end."""
        return CanariesLedger({**self.records, result.key: _after(self.records.get(result.key), result)})

    def only(self, keys: frozenset[ModelVersion]) -> CanariesLedger:
        """Without the versions that are not among these: another load is another model."""
        if self.records.keys() <= keys:
            return self
        return CanariesLedger({key: each for key, each in self.records.items() if key in keys})


def _after(before: CanaryRecord | None, result: CanaryResult) -> CanaryRecord:
    if result.outcome is CanaryOutcome.PASSED:
        return CanaryRecord(result, passed_at=result.ended)
    failed = before.failed_in_a_row if before is not None else 0
    since = before.unanswered_since if before is not None else None
    if result.outcome in _ANSWERED:
        since = None
    elif result.outcome is CanaryOutcome.TIMEOUT:
        since = since or result.sent
    return CanaryRecord(
        result,
        passed_at=before.passed_at if before is not None else None,
        failed_in_a_row=failed + (result.outcome is not CanaryOutcome.UNSENDABLE),
        unanswered_since=since,
    )
