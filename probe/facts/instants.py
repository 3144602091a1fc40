"""When something was seen: on the clock that never steps, and on the one that people read."""

from __future__ import annotations

import datetime

import msgspec


class Instant(msgspec.Struct, frozen=True, order=True):
    """One moment on both clocks.

    ``mono`` (seconds of CLOCK_MONOTONIC) is what durations are computed from, so that a stepped wall
    clock moves no gate; ``wall`` (seconds since the Unix epoch) is only ever shown.
    """

    mono: float
    wall: float

    def shifted(self, seconds: float) -> Instant:
        """The moment this many seconds later (earlier where negative)."""
        return Instant(self.mono + seconds, self.wall + seconds)

    def as_datetime(self) -> datetime.datetime:
        """The wall clock's moment in UTC."""
        return datetime.datetime.fromtimestamp(self.wall, tz=datetime.UTC)
