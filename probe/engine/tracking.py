"""How each source does: last look, last delivery, how long looks take."""

from __future__ import annotations

import msgspec

from probe.facts.instants import Instant
from probe.facts.status import Histogram, SourceStatus, SourceTally

DURATION_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds: from a scan of a small /proc to the longest deadline."""


class Track(msgspec.Struct, frozen=True):
    """One source.

    ``ok``: the last look brought what the source is for.  ``delivered``: when a look last brought a
    definite answer, be it "there is nothing here"; what does not deliver grows stale.
    """

    began: Instant
    ok: bool | None = None
    delivered: Instant | None = None
    succeeded: Instant | None = None
    error: str | None = None
    duration: float | None = None
    durations: Histogram = Histogram.empty(DURATION_BOUNDS)

    def looked(self, now: Instant, seconds: float, *, ok: bool, delivered: bool, error: str | None) -> Track:
        """After a look."""
        return msgspec.structs.replace(
            self,
            ok=ok,
            delivered=now if delivered else self.delivered,
            succeeded=now if ok else self.succeeded,
            error=error,
            duration=seconds,
            durations=self.durations.observed(seconds),
        )

    def stale_seconds(self, now: Instant) -> float:
        """Seconds since it last delivered, or since it was first asked."""
        return now.mono - (self.delivered or self.began).mono

    def status(self, now: Instant) -> SourceStatus:
        """As ``/status`` shows it."""
        age = now.mono - self.succeeded.mono if self.succeeded is not None else None
        return SourceStatus(self.ok, age, self.error, self.duration)

    def tally(self) -> SourceTally:
        """As the metrics count it."""
        return SourceTally(self.durations, self.succeeded.wall if self.succeeded is not None else None)
