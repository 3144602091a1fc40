"""Whose requests Triton counted: those of others, told apart from the probe's own canaries; pure.

Triton (2.51) has one counter for everybody.  It counts a request that passed as one success, one that failed
in a backend as one failure, of an ensemble as two; one that it refused for its inputs not at all; and one
that nobody waits for any more when it ends, if ever.  It may count a moment after it answered.
"""

from __future__ import annotations

import msgspec

from probe.facts.canaries import CanaryOutcome
from probe.facts.instants import Instant
from probe.facts.models import ModelVersion

COUNTED_WITHIN = 2.0
"""Seconds after an answer within which Triton has counted its request."""

_ANSWERED = (CanaryOutcome.PASSED, CanaryOutcome.WRONG)


class Owed(msgspec.Struct, frozen=True):
    """Requests of one canary that Triton has not counted yet; each that fails counts ``weight`` times.

    ``outcome`` None: the canary is still out.  ``until``: what was not counted by then never will be; None
    where nobody can tell, as for a canary that timed out and may end later.
    """

    by: ModelVersion
    count: int
    weight: int = 1
    outcome: CanaryOutcome | None = None
    until: Instant | None = None

    @property
    def may_wait(self) -> bool:
        """Whether it may still stand in a queue of Triton's."""
        return self.outcome in (None, CanaryOutcome.TIMEOUT)


class Others(msgspec.Struct, frozen=True):
    """The requests of others to one model version in its present load.

    ``busy_at``: when one of them was last seen to complete or to wait, at first when the load was first
    seen.  ``served_since``: a moment after which one of them surely succeeded.  ``owed``: what Triton is
    still to count for canaries.
    """

    busy_at: Instant | None = None
    served_since: Instant | None = None
    owed: tuple[Owed, ...] = ()

    @property
    def waiting(self) -> int:
        """How many requests of canaries may stand in the model's queue."""
        return sum(each.count for each in self.owed if each.may_wait)

    def discounted(self, success: int, failure: int, observed: Instant) -> tuple[int, int, Others]:
        """How many of these newly counted requests are others', and what is still owed after them."""
        left = []
        for each in self.owed:
            succeeded = min(success, each.count)
            success -= succeeded
            room = 0 if each.outcome in _ANSWERED else (each.count - succeeded) * each.weight
            failed = min(failure, room)
            failure -= failed
            count = each.count - succeeded - -(-failed // each.weight)
            if count and (each.until is None or observed.mono <= each.until.mono):
                left.append(msgspec.structs.replace(each, count=count))
        return success, failure, msgspec.structs.replace(self, owed=tuple(left))

    def seen(
        self, at: Instant, success: int, failure: int, waiting: int | None, *, since: Instant | None
    ) -> Others:
        """After a poll at this moment; ``since`` is the poll before of the same load, None for the first."""
        active = success or failure or waiting or since is None
        return msgspec.structs.replace(
            self,
            busy_at=at if active else self.busy_at,
            served_since=since if success and since is not None else self.served_since,
        )

    def sending(self, by: ModelVersion, count: int, weight: int) -> Others:
        """While a canary is out that Triton will count so often here."""
        return msgspec.structs.replace(self, owed=(*self.owed, Owed(by, count, weight)))

    def ended(self, by: ModelVersion, outcome: CanaryOutcome, ended: Instant) -> Others:
        """After that canary came to its end, or taught nothing (``UNSENDABLE``)."""
        settled = self.owed
        if outcome is CanaryOutcome.PASSED:
            # A queue is served in order: what timed out before is through, or its instance never will be.
            settled = tuple(
                each for each in settled if each.by != by or each.outcome is not CanaryOutcome.TIMEOUT
            )
        until = None if outcome is CanaryOutcome.TIMEOUT else ended.shifted(COUNTED_WITHIN)
        return msgspec.structs.replace(
            self,
            owed=tuple(
                msgspec.structs.replace(each, outcome=outcome, until=until)
                if each.by == by and each.outcome is None
                else each
                for each in settled
            ),
        )
