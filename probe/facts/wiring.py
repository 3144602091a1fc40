"""How the probe is wired into a pod: names, ports, and the figures of every kubelet probe with what each rests on.

``k8s/`` and ``inject`` write the same wiring; this is where it is decided.  Figures of the kubelet: the longest
back-off between restarts of a container is 300 s (kubernetes, ``pkg/kubelet/kubelet.go``, ``MaxContainerBackOff``),
and a probe that gets no answer has failed.
"""

from __future__ import annotations

import msgspec

CONTAINER = "triton-probe"
"""The sidecar's name in the pod."""
PORT = 8003
"""Where it answers.  The kubelet looks for a named port in the probed container alone: Triton's probes need this."""
PORT_NAME = "probe"
"""For monitors, which find a port by name."""
USER = 1000
"""uid and gid: ``triton-server`` in Triton's own images.  The kernel asks for both before it shows a process."""

_LONGEST_BACK_OFF = 300
_LATE_LOOK = 30
"""The kubelet sleeps up to half as long again as what is left of a back-off, or as the minute after which it looks
anyway: at worst it begins to sleep a minute before the end (``completeWork`` in ``pkg/kubelet/pod_workers.go``)."""
_WORST_START = 30
"""Seconds until it answers on a node that starves it of CPU."""


class ProbeTiming(msgspec.Struct, frozen=True):
    """A kubelet's HTTP probe of the sidecar: its path, and seconds and counts as in a manifest."""

    path: str
    period_seconds: int
    timeout_seconds: int
    failure_threshold: int

    @property
    def seconds_to_fail(self) -> int:
        """How long at most it fails before the kubelet acts; one period less at least, from failure to failure."""
        return self.period_seconds * self.failure_threshold


READINESS = ProbeTiming("/readyz", period_seconds=5, timeout_seconds=5, failure_threshold=1)
"""Out of service within one period: the daemon has debounced already, and answers from memory."""
LIVENESS = ProbeTiming(
    "/livez",
    period_seconds=10,
    timeout_seconds=5,
    failure_threshold=(_LONGEST_BACK_OFF + _LATE_LOOK + _WORST_START) // 10 + 2,
)
"""A probe that is killed over and over answers again within 360 s at worst; until then nothing restarts Triton.
Two more than these periods: the first failure may come with the fall, and the last must find it back."""
STARTUP = ProbeTiming("/startupz", period_seconds=5, timeout_seconds=5, failure_threshold=720)
"""An hour: the largest models take tens of minutes to load, and what is slow is not cured by a restart."""
OWN_LIVENESS = ProbeTiming("/healthz", period_seconds=10, timeout_seconds=5, failure_threshold=6)
"""The sidecar's own: a minute, for a restart costs what it knows, and a starved one is not cured by it."""
