"""Does work come out of a model, and is it any good?  One load's history from poll to poll; pure.

What Triton counts (seen in release 24.10): a request that raises, or reaches a dead stub, is a failure with
reason BACKEND; one that timed out in the queue is REJECTED; one whose client went away before its turn is
CANCELED when the turn comes.  A request that is malformed, or that a full queue refuses, is counted nowhere.
A hung execution counts nothing, and what waits behind it stays pending, whether its client waits or not: even
after the model is loaded anew, for the gauge of both loads is one.
"""

from __future__ import annotations

import msgspec

from probe.facts.instants import Instant
from probe.facts.models import ModelStatistics
from probe.facts.triton import FailureReasons
from probe.ledgers.pace import Pace


class Look(msgspec.Struct, frozen=True):
    """What one poll told of a model beside its counters.

    ``pending`` is None where the metrics do not tell; ``metered`` says that they were answered at all.
    """

    observed: Instant
    ended: Instant
    pending: int | None = None
    reasons: FailureReasons | None = None
    metered: bool = False


class Progress(msgspec.Struct, frozen=True):
    """One load.

    ``waiting_since``: requests waited at that moment, and nothing came out since.  ``waiting_until``: up to
    when polls showed so, None where only one did.  ``moved_at``: nothing came out after this moment.
    ``failing_since`` and ``failing_until``: the first and the last poll with new failures, since the last
    success; ``uncertain``: why some of them failed could not be read.
    """

    moved_at: Instant | None = None
    waiting_since: Instant | None = None
    waiting_until: Instant | None = None
    waiting: int = 0
    """Requests in the queue when it was last told."""
    ghosts: int = 0
    """Of those pending, how many wait at a load that this one replaced: they will never be answered."""
    turned_away: int = 0
    """Requests that timed out in the queue since ``waiting_since``."""
    slowest_seconds: float = 0.0
    """The longest mean duration of requests between two polls, queue and all."""
    failing_since: Instant | None = None
    failing_until: Instant | None = None
    failures: int = 0
    failing_looks: int = 0
    uncertain: bool = False
    reasons: FailureReasons | None = None
    pace: Pace = Pace()

    @property
    def flat_seconds(self) -> float:
        """How long polls have shown that requests wait and nothing comes out; 0 before the second."""
        if self.waiting_since is None or self.waiting_until is None:
            return 0.0
        return self.waiting_until.mono - self.waiting_since.mono

    @property
    def failing_seconds(self) -> float:
        """How far the first and the last poll with failures are apart."""
        if self.failing_since is None or self.failing_until is None:
            return 0.0
        return self.failing_until.mono - self.failing_since.mono

    def after(
        self, was: ModelStatistics, row: ModelStatistics, look: Look, *, success: int, failure: int
    ) -> Progress:
        """After a poll of the same load; ``was`` are the counters of the poll before.

        ``success`` and ``failure`` are how many requests of others than the probe came to their end since.
        """
        idle = _counts(was) == _counts(row)
        if idle and not look.pending and self.waiting_since is None and look.reasons == self.reasons:
            return self
        if idle and self.waiting_until is not None and _sums(was) != _sums(row):
            # As many requests as before, and other times: another load, whose counters caught up.
            return begun(look, again=True)
        pace = self.pace if idle else self.pace.after(was, row, look.observed)
        kept = msgspec.structs.replace(
            self, pace=pace, reasons=look.reasons if look.metered else self.reasons
        )
        return kept._failed(self.reasons, look, success, failure)._waited(self.reasons, was, row, look)  # noqa: SLF001

    def _failed(self, known: FailureReasons | None, look: Look, success: int, failure: int) -> Progress:
        if success > 0:
            return msgspec.structs.replace(
                self, failing_since=None, failing_until=None, failures=0, failing_looks=0, uncertain=False
            )
        theirs = _at_fault(known, look.reasons, failure)
        if theirs <= 0:
            return self
        return msgspec.structs.replace(
            self,
            failing_since=self.failing_since or look.observed,
            failing_until=look.observed,
            failures=self.failures + theirs,
            failing_looks=self.failing_looks + 1,
            uncertain=self.uncertain or not look.metered,
        )

    def _waited(
        self, known: FailureReasons | None, was: ModelStatistics, row: ModelStatistics, look: Look
    ) -> Progress:
        done = row.success > was.success or row.executions > was.executions
        if not done and row.failure > was.failure:
            if not look.metered and self.waiting_since is not None:
                # They may have been turned away, or have come out: a missing sample moves nothing.
                return self
            done = known is None or look.reasons is None or _served(look.reasons) > _served(known)
        if done:
            waiting, ghosts = self._queue(look.pending)
            return msgspec.structs.replace(
                self,
                moved_at=look.ended,
                waiting_since=look.ended if waiting else None,
                waiting_until=None,
                waiting=waiting,
                ghosts=ghosts,
                turned_away=0,
                slowest_seconds=max(self.slowest_seconds, _mean_seconds(was, row)),
            )
        away = look.reasons.rejected - known.rejected if look.reasons is not None and known is not None else 0
        away = self.turned_away + max(0, away)
        if look.pending is None:
            return self
        waiting, ghosts = self._queue(look.pending)
        if not waiting and not away:
            # All were taken up: what executes is pending no more.
            return msgspec.structs.replace(
                self, waiting_since=None, waiting_until=None, waiting=0, ghosts=ghosts
            )
        # Once requests timed out behind an execution that never ended, none need wait for it to be stuck.
        return msgspec.structs.replace(
            self,
            waiting_since=self.waiting_since or look.ended,
            waiting_until=None if self.waiting_since is None else look.observed,
            waiting=waiting,
            ghosts=ghosts,
            turned_away=away,
        )

    def _queue(self, pending: int | None) -> tuple[int, int]:
        # How many wait at this load, and how many at the one before it.
        if pending is None:
            return 0, self.ghosts
        ghosts = min(self.ghosts, pending)
        return pending - ghosts, ghosts


def begun(look: Look, *, again: bool) -> Progress:
    """At the first poll of a load; what its counters hold already says nothing of now.

    ``again``: another load went before it, at which all that is pending may wait.
    """
    pending = look.pending or 0
    waiting = 0 if again else pending
    return Progress(
        moved_at=look.ended,
        waiting_since=look.ended if waiting else None,
        waiting=waiting,
        ghosts=pending - waiting,
        reasons=look.reasons,
    )


def _counts(row: ModelStatistics) -> tuple[int, ...]:
    return row.success, row.failure, row.executions


def _sums(row: ModelStatistics) -> tuple[int, ...]:
    return row.success_ns, row.compute_infer_ns, row.last_inference_ms


def _served(reasons: FailureReasons) -> int:
    # One that was given up while it executed has come out of the model too.
    return reasons.canceled + reasons.other


def _at_fault(known: FailureReasons | None, told: FailureReasons | None, failure: int) -> int:
    # Without a figure of before, all that was ever turned away may have been so just now.
    if told is None:
        return failure
    if known is None:
        return failure - told.rejected - told.canceled
    return min(failure, told.other - known.other)


def _mean_seconds(was: ModelStatistics, row: ModelStatistics) -> float:
    count = row.success - was.success
    return (row.success_ns - was.success_ns) / count / 1e9 if count > 0 else 0.0
