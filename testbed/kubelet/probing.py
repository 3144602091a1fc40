"""The prober of one container and probe: when it asks, and what a row of answers comes to.

``pkg/kubelet/prober/worker.go``, with the first tick as of 1.21 and a startup probe that rests once it has succeeded
as of 1.28.
"""

from __future__ import annotations

import enum
import math

import msgspec

from testbed.kubelet.specs import ContainerSpec, ProbeSpec


class Kind(enum.Enum):
    """What a probe is for."""

    STARTUP = "startup"
    LIVENESS = "liveness"
    READINESS = "readiness"

    def of(self, container: ContainerSpec) -> ProbeSpec | None:
        """The container's probe of this kind."""
        return {
            Kind.STARTUP: container.startup_probe,
            Kind.LIVENESS: container.liveness_probe,
            Kind.READINESS: container.readiness_probe,
        }[self]


class Result(enum.Enum):
    """What is believed of a container."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


_AT_FIRST = {Kind.STARTUP: Result.UNKNOWN, Kind.LIVENESS: Result.SUCCESS, Kind.READINESS: Result.FAILURE}


class Life(msgspec.Struct, frozen=True):
    """One run of a container: when it began, and when and how it ended (seconds on the clock that is handed in)."""

    number: int
    started_at: float
    finished_at: float | None = None
    code: int = 0
    words: str = ""

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.finished_at is None


def first_tick(added_at: float, period: float, kubelet_age: float, fraction: float) -> float:
    """When a worker first looks: at once, or after a random ``fraction`` of the period.

    It waits only while the kubelet itself is younger than the period (``run`` in ``worker.go``).
    """
    return added_at + fraction * period if period > kubelet_age else added_at


class ProbeWorker:
    """The state of one probe of one container.  It asks through whoever calls it."""

    def __init__(self, kind: Kind, probe: ProbeSpec, first: float) -> None:
        self.kind = kind
        self.probe = probe
        self._tick = first
        self._asking = False
        self._triggered = False
        self._on_hold = False
        self._life: int | None = None
        self._believed = _AT_FIRST[kind]
        self._last: Result | None = None
        self._row = 0

    @property
    def due(self) -> float:
        """When it wants to look next; never while an answer is awaited.

        A tick that came meanwhile is not lost, and a second one is (Go's ``Ticker``).
        """
        if self._asking:
            return math.inf
        return -math.inf if self._triggered else self._tick

    def result(self, life: Life) -> Result | None:
        """What is believed of this run of the container; None where it has not been looked at yet."""
        return self._believed if life.number == self._life else None

    def trigger(self) -> None:
        """Look at once: a sync does so for a container that runs and is not ready (``prober_manager.go``)."""
        self._triggered = True

    def asks(self, now: float, life: Life | None, *, started: bool) -> bool:
        """Whether it asks now (``doProbe``); :meth:`answered` must follow then."""
        self._count_ticks(now)
        if life is None:
            return False
        if life.number != self._life:
            self._life = life.number
            self._believed = _AT_FIRST[self.kind]
            self._on_hold = False
        if self._on_hold:
            return False
        if not life.running:
            self._believed = Result.FAILURE
            return False
        if int(now - life.started_at) < self.probe.initial_delay_seconds:
            return False
        # Startup comes before the other two, and is done with once it succeeded.
        self._asking = started is not (self.kind is Kind.STARTUP)
        return self._asking

    def answered(self, outcome: Result | None) -> None:
        """Take an answer, or None for an error, which is thrown away: it neither counts nor begins a row anew.

        The row goes on over a restart, except after a failure that led to it.
        """
        self._asking = False
        if outcome is None:
            return
        self._row = self._row + 1 if outcome is self._last else 1
        self._last = outcome
        enough = {
            Result.SUCCESS: self.probe.success_threshold,
            Result.FAILURE: self.probe.failure_threshold,
        }
        if self._row < enough[outcome]:
            return
        self._believed = outcome
        if self.kind is Kind.STARTUP or (self.kind is Kind.LIVENESS and outcome is Result.FAILURE):
            # Until there is another run of the container.
            self._on_hold = True
            self._row = 0

    def _count_ticks(self, now: float) -> None:
        if self._triggered:
            self._triggered = False
            self._tick = now + self.probe.period_seconds
        else:
            self._tick += self.probe.period_seconds * (1 + (now - self._tick) // self.probe.period_seconds)
