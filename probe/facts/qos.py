"""The pod's QoS class, as the kubelet writes it where anybody can read it.

No API is asked: the class shows in ``oom_score_adj`` (kubernetes, ``pkg/kubelet/qos/policy.go``), in the CPU
weight (``pkg/kubelet/cm/helpers_linux.go``) and in the path of the cgroup (``qos_container_manager_linux.go`` there).
"""

from __future__ import annotations

import enum
import itertools
import re

from probe.facts.container import ContainerReading


class QosClass(enum.StrEnum):
    """The classes of Kubernetes, by their names there."""

    BEST_EFFORT = "BestEffort"
    BURSTABLE = "Burstable"
    GUARANTEED = "Guaranteed"


FIRST_TO_DIE = 1000
"""``oom_score_adj`` of a BestEffort pod: the kernel kills it before all others."""
NO_REQUEST = 999
"""Of a container that requests less than a thousandth of the node's memory, or none, in a Burstable pod."""
NO_SHARE = 1
"""CPU weight (of 1 to 10000; 2 shares in version 1) of a container that requests no CPU."""

_GUARANTEED = -997
_BURSTABLE = range(2, FIRST_TO_DIE)
_CUT_OFF = 3
_THOUSAND = 1000

_BY_PATH = (
    (QosClass.BEST_EFFORT, re.compile(r"(.*-)?kubepods-besteffort(-.*)?\.slice|kubepods/besteffort")),
    (QosClass.BURSTABLE, re.compile(r"(.*-)?kubepods-burstable(-.*)?\.slice|kubepods/burstable")),
    (QosClass.GUARANTEED, re.compile(r"(.*-)?kubepods-pod.*\.slice|kubepods/pod.*")),
)
_SESSION = "/user.slice/"
"""Where systemd keeps what users start."""
_SESSIONS = (100, 200)
"""``oom_score_adj`` that systemd gives to what users start (user@.service and its units).  From within a rootless
container its path does not show: then these scores alone are no witness of a request of exactly 90 or 80 %."""


def qos_of(reading: ContainerReading) -> QosClass | None:
    """The class that all witnesses agree on; None where there is none (no Kubernetes), or where they do not.

    A process may raise its own ``oom_score_adj``, and an engine outside Kubernetes leaves it at 0.
    """
    by_path = _by_path(reading.path)
    if by_path is None and reading.oom_score_adj in _SESSIONS:
        return None
    told = {each for each in (_by_score(reading), by_path) if each is not None}
    if len(told) != 1:
        return None
    (found,) = told
    if found is QosClass.BEST_EFFORT and reading.cpu.weight not in (None, NO_SHARE):
        return None  # such a pod requests nothing
    if reading.oom_score_adj is not None and _by_score(reading) is None:
        return None
    return found


def requested_memory(reading: ContainerReading) -> int | None:
    """Bytes of memory that a container of a Burstable pod requests, to a thousandth of the node's; None unknown.

    The kubelet writes 1000 - 1000 * request / node, cut off to 3..999: at the ends it tells no figure.
    """
    score, node = reading.oom_score_adj, reading.node_memory_bytes
    if score is None or node is None or qos_of(reading) is not QosClass.BURSTABLE:
        return None
    return (_THOUSAND - score) * node // _THOUSAND if _CUT_OFF < score < NO_REQUEST else None


def _by_score(reading: ContainerReading) -> QosClass | None:
    score = reading.oom_score_adj
    if score == FIRST_TO_DIE:
        return QosClass.BEST_EFFORT
    if score == _GUARANTEED:
        return QosClass.GUARANTEED
    if score in _BURSTABLE and not reading.path.startswith(_SESSION):
        return QosClass.BURSTABLE
    return None


def _by_path(path: str) -> QosClass | None:
    names = [name for name in path.split("/") if name]
    steps = {*names, *(f"{one}/{other}" for one, other in itertools.pairwise(names))}
    for found, form in _BY_PATH:
        if any(form.fullmatch(step) for step in steps):
            return found
    return None
