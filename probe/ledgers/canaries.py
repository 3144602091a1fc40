"""Canaries over time: what the last one of each model brought, and since when none is answered; pure."""

from __future__ import annotations

import msgspec

from probe.facts.canaries import CanaryOutcome, CanaryResult
from probe.facts.instants import Instant
from probe.facts.models import ModelVersion
from probe.facts.status import CanaryTally, Histogram

DURATION_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: from a model that echoes to the longest deadline that is of use."""
NO_TALLY = CanaryTally(Histogram.empty(DURATION_BOUNDS))
TALLIES_AT_MOST = 10_000
"""Models whose counters are kept: names come and go for ever."""

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
    """The canaries of every model version that was sent any in this epoch.

    ``postponed``: when one was last tried that taught nothing.  ``tallies`` go on over epochs, by model.
    """

    records: dict[ModelVersion, CanaryRecord] = {}
    postponed: dict[ModelVersion, Instant] = {}
    tallies: dict[str, CanaryTally] = {}

    def of(self, key: ModelVersion) -> CanaryRecord | None:
        """The record of this version, or None where it was sent none."""
        return self.records.get(key)

    def with_result(self, result: CanaryResult) -> CanariesLedger:
        """After a canary came to its end."""
        return CanariesLedger(
            {**self.records, result.key: _after(self.records.get(result.key), result)},
            {key: each for key, each in self.postponed.items() if key != result.key},
            _tallied(self.tallies, result),
        )

    def postponing(self, key: ModelVersion, tried: Instant) -> CanariesLedger:
        """After one of which nobody can tell whether it would have passed: it was never answered by Triton."""
        return msgspec.structs.replace(self, postponed={**self.postponed, key: tried})

    def forgotten(self) -> CanariesLedger:
        """At the start of an epoch: nothing was sent to anybody, and the counters go on."""
        return CanariesLedger(tallies=self.tallies)

    def only(self, keys: frozenset[ModelVersion]) -> CanariesLedger:
        """Without the versions that are not among these: another load is another model."""
        if self.records.keys() <= keys and self.postponed.keys() <= keys:
            return self
        return CanariesLedger(
            {key: each for key, each in self.records.items() if key in keys},
            {key: each for key, each in self.postponed.items() if key in keys},
            self.tallies,
        )


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


def _tallied(tallies: dict[str, CanaryTally], result: CanaryResult) -> dict[str, CanaryTally]:
    if result.outcome is CanaryOutcome.UNSENDABLE:
        return tallies
    before = tallies.get(result.key.name, NO_TALLY)
    failed = result.outcome is not CanaryOutcome.PASSED
    after = CanaryTally(before.durations.observed(result.seconds), before.failures + failed)
    # The latest last, and the oldest go.
    others = [(name, each) for name, each in tallies.items() if name != result.key.name]
    return dict([*others[-TALLIES_AT_MOST + 1 :], (result.key.name, after)])
