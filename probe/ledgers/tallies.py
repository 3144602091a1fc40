"""What was seen of one model inside tritonserver in windows in which it alone executed; pure."""

from __future__ import annotations

import msgspec

from probe.facts.instants import Instant

USED_WINDOWS = 2
"""Windows that make it known: an execution of another that has not ended yet is counted nowhere."""
IDLE_SECONDS = 10.0
"""Execution in all windows together that makes an idle GPU proof: the driver takes samples at least once a second,
and no kernel that a model of use runs hides from all of ten."""
IDLE_WINDOWS = 3


class Use(msgspec.Struct, frozen=True):
    """One GPU, in windows in which one model alone executed.

    ``percent`` is the mean of the driver's samples; it takes none in which the process was idle, so that
    the process was busy for no more than that part of ``seconds``.
    """

    windows: int
    percent: float
    seconds: float
    first: Instant
    last: Instant

    @property
    def known(self) -> bool:
        """Whether that is enough to say that it uses the GPU."""
        return self.windows >= USED_WINDOWS

    def and_before(self, known: Use | None) -> Use:
        """With what was known before."""
        if known is None:
            return self
        seconds = self.seconds + known.seconds
        return Use(
            self.windows + known.windows,
            (self.percent * self.seconds + known.percent * known.seconds) / seconds,
            seconds,
            known.first,
            self.last,
        )


class Idle(msgspec.Struct, frozen=True):
    """Windows in which one model alone executed, and no GPU that tritonserver is on was busy."""

    windows: int
    seconds: float
    """Of execution."""
    cpu_seconds: float
    first: Instant
    last: Instant

    def and_before(self, known: Idle | None) -> Idle:
        """With what was known before."""
        if known is None:
            return self
        return Idle(
            self.windows + known.windows,
            self.seconds + known.seconds,
            self.cpu_seconds + known.cpu_seconds,
            known.first,
            self.last,
        )

    @property
    def proven(self) -> bool:
        """Whether that is enough to say that it computes on the CPU."""
        return self.windows >= IDLE_WINDOWS and self.seconds >= IDLE_SECONDS
