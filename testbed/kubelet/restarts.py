"""When a container that ended is started again, and how one is ended."""

from __future__ import annotations

import enum

import msgspec

from testbed.kubelet.specs import ContainerSpec, PodSpec

RESYNC_SECONDS = 60.0
"""A pod is looked at again after this, and up to half as much more (``pkg/kubelet/pod_workers.go``)."""
_RESYNC_JITTER = 0.5
_LEAST_GRACE = 2
_ROUNDING = 1e-6


class Cause(enum.Enum):
    """Why the kubelet ends a container."""

    LIVENESS = "failed liveness probe"
    STARTUP = "failed startup probe"


class _Entry(msgspec.Struct):
    seconds: float
    updated_at: float


class BackOff:
    """The back-off of one container: 10 s, doubled at each restart, up to 300 s.

    ``client-go/util/flowcontrol/backoff.go``; the figures are those of ``pkg/kubelet/kubelet.go``.
    """

    def __init__(self, first: float = 10.0, longest: float = 300.0) -> None:
        self._first = first
        self._longest = longest
        self._entry: _Entry | None = None

    def left(self, now: float, finished_at: float) -> float:
        """Seconds for which it may not be started yet, counted from its last end; 0 where it may."""
        if self._entry is None or self._expired(finished_at):
            return 0.0
        left = self._entry.seconds - (now - finished_at)
        return left if left > _ROUNDING else 0.0

    def restarted(self, now: float, finished_at: float) -> None:
        """Count a restart of what ended then."""
        if self._entry is None or self._expired(finished_at):
            self._entry = _Entry(self._first, now)
        else:
            self._entry = _Entry(min(self._entry.seconds * 2, self._longest), now)

    def _expired(self, finished_at: float) -> bool:
        # A container that ran for twice the longest back-off is taken for a stable one.
        return self._entry is not None and finished_at - self._entry.updated_at > 2 * self._longest


def retry_after(left: float, fraction: float) -> float:
    """In how many seconds a pod is looked at again, of which a container has ``left`` seconds of back-off.

    At its end, but not later than a resync, and up to half as much more by a random ``fraction``
    (``completeWork`` in ``pkg/kubelet/pod_workers.go``).  Before 1.33 it was 10 to 15 s.
    """
    return min(left, RESYNC_SECONDS) * (1 + _RESYNC_JITTER * fraction)


def restarts(policy: str, code: int) -> bool:
    """Whether a container that ended so is started again (``ShouldContainerBeRestarted``)."""
    return policy == "Always" or (policy == "OnFailure" and code != 0)


def grace_seconds(pod: PodSpec, container: ContainerSpec, cause: Cause) -> int:
    """Seconds from SIGTERM to SIGKILL: the probe's own, else the pod's; never less than 2.

    ``setTerminationGracePeriod`` and ``killContainer`` in ``pkg/kubelet/kuberuntime/kuberuntime_container.go``.
    """
    probe = container.liveness_probe if cause is Cause.LIVENESS else container.startup_probe
    own = None if probe is None else probe.termination_grace_period_seconds
    return max(pod.termination_grace_period_seconds if own is None else own, _LEAST_GRACE)
