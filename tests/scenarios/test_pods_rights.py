"""A probe that may read less than it needs, beside a real Triton: what it says, and what it must not say."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from probe.sandbox.client import TritonError
from probe.sandbox.daemon import CLOSED, OPEN
from probe.sandbox.repositories import Repository
from testbed.pods.containers import BY_DEFAULT, RESTRICTED, Rights
from testbed.pods.models import add_greedy
from testbed.pods.pod import MIB, LimitedPod
from testbed.pods.resources import Resources

OpenLimitedPod = Callable[..., LimitedPod]
BRISK = "interval: 1s\n"
LIMITED = Resources(memory=256 * MIB, cpu=1.0)
OF_LIMITS = (
    "BestEffortPod",
    "MemoryUnlimited",
    "CpuUnlimited",
    "MemoryPressure",
    "CpuThrottled",
    "PidsPressure",
    "OomKilled",
    "ShmPressure",
    "ShmTooSmall",
    "ShmLeaked",
)


def test_another_user_is_told_once_what_cures_it_and_concludes_nothing(
    limited_pod: OpenLimitedPod, repository: Repository
) -> None:
    """With another uid the cgroup is closed: one finding, no figures, no cause of a death.

    ``/dev/shm`` is the pod's own, which the probe has too: it is read all the same.
    """
    add_greedy(repository, "greedy", takes="memory")
    pod = limited_pod()
    server = pod.triton(repository, resources=LIMITED).wait_ready()
    probe = pod.probe(server, BRISK, rights=Rights(2000, 2000))
    probe.wait_code("/readyz", OPEN)
    denied = probe.wait_finding("ProcessAccessDenied")
    assert denied.evidence["denied"] == "cgroup"
    assert "runAsUser" in denied.remedy
    assert "runAsGroup" in denied.remedy
    told = probe.status().container
    for part in (told.memory, told.cpu, told.pids):
        assert not [name for name, value in (msgspec.to_builtins(part) or {}).items() if value is not None]
    assert told.shm is not None
    assert told.shm.size_bytes == 64 * MIB

    with pytest.raises(TritonError, match="is not healthy"):
        server.client.infer("greedy", (400.0,))
    probe.wait_code("/readyz", CLOSED)
    dead = probe.wait_finding("StubDead")
    assert "want of memory (" not in str(dead.evidence["cause"])
    raised = [each for each in probe.events() if each["kind"] == "finding_raised"]
    assert [each["reason"] for each in raised].count("ProcessAccessDenied") == 1
    assert not {each["reason"] for each in raised} & set(OF_LIMITS)


def test_fewer_capabilities_than_tritons_are_too_few_and_ptrace_makes_up_for_them(
    limited_pod: OpenLimitedPod, repository: Repository
) -> None:
    """Triton as root with a runtime's capabilities: a probe that dropped all is refused, and its remedy works."""
    add_greedy(repository, "calm")
    pod = limited_pod()
    server = pod.triton(repository, resources=LIMITED, rights=BY_DEFAULT)
    probe = pod.probe(server, BRISK, rights=Rights(0, 0, RESTRICTED.more))
    denied = probe.wait_finding("ProcessAccessDenied")
    assert "SYS_PTRACE" in denied.remedy
    probe.stop()

    allowed = pod.probe(server, BRISK, rights=Rights(0, 0, (*RESTRICTED.more, "--cap-add=SYS_PTRACE")))
    allowed.wait_code("/readyz", OPEN)
    assert allowed.finding("ProcessAccessDenied") is None
    told = allowed.status().container
    assert told.memory is not None
    assert told.memory.limit_bytes == 256 * MIB
    assert told.shm is not None
