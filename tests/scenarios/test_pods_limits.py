"""What a container may use, set by the kernel and not by a test: what is told where it is little, much, or nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from probe.sandbox.client import TritonError
from probe.sandbox.daemon import OPEN
from probe.sandbox.repositories import Repository
from testbed.pods.manifests import resources_in
from testbed.pods.models import add_greedy
from testbed.pods.pod import MIB, LimitedPod
from testbed.pods.resources import Resources, may_be_spared

OpenLimitedPod = Callable[..., LimitedPod]
BRISK = "interval: 1s\n"
UNBOUND = ("BestEffortPod", "MemoryUnlimited", "CpuUnlimited")


def test_empty_resources_are_told_and_a_guaranteed_container_has_nothing_to_tell(
    limited_pod: OpenLimitedPod, repository: Repository
) -> None:
    """First in line for the OOM killer and without a limit; all of it clears in a container that has both."""
    add_greedy(repository, "calm")
    pod = limited_pod()
    first = pod.triton(repository)
    probe = pod.probe(first, BRISK)
    probe.wait_code("/readyz", OPEN)
    found = {reason: probe.wait_finding(reason) for reason in UNBOUND}
    assert probe.status().container.qos == "BestEffort"
    assert found["BestEffortPod"].evidence["oom_score_adj"] == 1000
    assert found["BestEffortPod"].evidence["cpu_weight"] == 1
    assert "resources: {}" in found["BestEffortPod"].message
    proposed = resources_in(found["MemoryUnlimited"].remedy).memory
    assert proposed is not None
    assert resources_in(found["BestEffortPod"].remedy).memory == proposed
    assert probe.ask("/readyz").body == "ok"
    first.stop()

    pod.triton(repository, resources=Resources(memory=proposed, cpu=1.0), ports=first.ports).wait_ready()
    for reason in UNBOUND:
        probe.wait_clear(reason)
    # A machine that may not spare a process from the OOM killer leaves no sign of the class.
    expected = "Guaranteed" if may_be_spared() else None
    probe.wait_until("the class", lambda: (probe.status().container.qos == expected) or None)


def test_a_sidecar_with_a_request_of_its_own_does_not_hide_empty_resources(
    limited_pod: OpenLimitedPod, repository: Repository
) -> None:
    """The pod is Burstable then, and Triton's container is first in line all the same (``oom_score_adj`` 999)."""
    pod = limited_pod()
    told = pod.doctor(pod.triton(repository, resources=Resources(memory_request=1)))
    assert told["BestEffortPod"].evidence["oom_score_adj"] == 999
    assert told["BestEffortPod"].evidence["qos"] == "Burstable"


def test_a_cpu_limit_that_throttles_is_told_until_it_is_raised(
    limited_pod: OpenLimitedPod, repository: Repository
) -> None:
    """A fifth of a core under load: how often, how much, and what to set instead, which holds while it runs."""
    add_greedy(repository, "busy", takes="cpu")
    pod = limited_pod()
    server = pod.triton(
        repository,
        resources=Resources(memory=256 * MIB, cpu=1.0),
        control_mode="explicit",
        load_models=("*",),
    ).wait_ready()
    probe = pod.probe(server, BRISK)
    probe.wait_code("/readyz", OPEN)
    assert probe.finding("CpuThrottled") is None
    pod.resize(server, Resources(memory=256 * MIB, cpu=0.2))

    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            server.client.infer("busy", (0.5,), seconds=30)

    load = threading.Thread(target=ask)
    load.start()
    try:
        throttled = probe.wait_finding("CpuThrottled", seconds=45)
        assert throttled.evidence["limit_cores"] == 0.2
        assert (resources_in(throttled.remedy).cpu or 0) > 0.2
        pod.resize(server, Resources(memory=256 * MIB, cpu=2.0))
        probe.wait_clear("CpuThrottled")
    finally:
        ended.set()
        load.join()


def test_a_limit_on_processes_that_a_load_runs_into_is_told(
    limited_pod: OpenLimitedPod, repository: Repository
) -> None:
    """A stub can start no thread: Triton tells no more than that, or hangs; PidsPressure names the limit."""
    add_greedy(add_greedy(repository, "calm"), "threads", load_threads=200)
    pod = limited_pod()
    server = pod.triton(
        repository,
        resources=Resources(memory=256 * MIB, pids=200),
        control_mode="explicit",
        load_models=("calm",),
    ).wait_ready()
    probe = pod.probe(server, BRISK)
    probe.wait_code("/readyz", OPEN)
    assert probe.finding("PidsPressure") is None
    with pytest.raises((TritonError, TimeoutError)):
        server.client.load("threads", seconds=10)
    pressed = probe.wait_finding("PidsPressure")
    assert pressed.evidence["limit"] == 200
    assert pressed.evidence["refused"]
    assert "podPidsLimit" in pressed.remedy
    assert probe.ask("/readyz?model=calm").code == OPEN


def test_memory_near_the_limit_is_told_before_anybody_is_killed(
    limited_pod: OpenLimitedPod, repository: Repository
) -> None:
    """MemoryPressure names who holds it and the next limit; it clears when that limit is set while all runs."""
    add_greedy(repository, "greedy", takes="memory")
    pod = limited_pod()
    server = pod.triton(repository, resources=Resources(memory=256 * MIB, cpu=2.0)).wait_ready()
    probe = pod.probe(server, BRISK)
    probe.wait_code("/readyz", OPEN)
    assert probe.finding("MemoryPressure") is None
    server.client.infer("greedy", (212.0,))
    pressed = probe.wait_finding("MemoryPressure")
    assert pressed.evidence["limit_bytes"] == 256 * MIB
    assert "greedy/1" in pressed.message
    raised = resources_in(pressed.remedy).memory
    assert raised is not None
    pod.resize(server, Resources(memory=raised, cpu=2.0))
    probe.wait_clear("MemoryPressure")
    assert probe.status().container.memory is not None
    assert probe.finding("OomKilled") is None
