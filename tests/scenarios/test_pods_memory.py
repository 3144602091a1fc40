"""Memory that a real container has not got: who was killed, why, and the line that keeps it from coming again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from probe.facts.findings import Finding
from probe.sandbox.client import TritonError
from probe.sandbox.daemon import CLOSED, OPEN
from probe.sandbox.repositories import Repository
from testbed.pods.manifests import resources_in
from testbed.pods.models import add_greedy
from testbed.pods.pod import MIB, LimitedPod
from testbed.pods.resources import Resources

OpenLimitedPod = Callable[..., LimitedPod]
SHIPPED = "interval: 5s\n"
"""The shipped interval: what is told in time comes from the kernel's word and not from a quick poll."""


def test_a_stub_that_outgrows_the_limit_is_killed_and_told_with_the_line_that_cures_it(
    limited_pod: OpenLimitedPod, repository: Repository
) -> None:
    """Cgroup version 1 kills the stub alone: StubDead and OomKilled say so, and a reload clears the first."""
    add_greedy(add_greedy(repository, "greedy", takes="memory"), "calm")
    pod = limited_pod()
    server = pod.triton(
        repository, resources=Resources(memory=256 * MIB), control_mode="explicit", load_models=("*",)
    ).wait_ready()
    probe = pod.probe(server, SHIPPED)
    probe.wait_code("/readyz", OPEN)
    server.client.infer("greedy", (50.0,))

    with pytest.raises(TritonError, match="is not healthy"):
        server.client.infer("greedy", (400.0,))
    assert "StubDead greedy/1 greedy_0_0" in probe.wait_code("/readyz", CLOSED, seconds=3).body
    dead = probe.wait_finding("StubDead", "greedy")
    assert "want of memory" in str(dead.evidence["cause"])
    assert "memory.oom_control rose from 0 to 1" in str(dead.evidence["cause_rests_on"])
    assert dead.evidence["container_limit_bytes"] == 256 * MIB
    assert raised(dead) > 256 * MIB
    killed = probe.wait_finding("OomKilled")
    assert killed.evidence["kills"] == 1
    assert killed.evidence["whole_container"] is False
    assert "greedy_0_0" in killed.message
    assert raised(killed) > 256 * MIB
    exits = [line for line in probe.ask("/metrics").body.splitlines() if "stub_exits_total{" in line]
    assert exits == ['triton_probe_stub_exits_total{cause="oom_killed",model="greedy"} 1.0']
    assert probe.ask("/readyz?model=calm").code == OPEN

    server.client.unload("greedy")
    probe.wait_until("the unload", lambda: not server.client.model_ready("greedy"))
    server.client.load("greedy")
    probe.wait_clear("StubDead", "greedy")
    probe.wait_code("/readyz", OPEN)
    assert server.client.infer("greedy", (50.0,)) == [50.0]
    # The container can be killed in again: what was told stays for a while.
    assert probe.finding("OomKilled") is not None


def test_a_stub_that_outgrows_the_limit_while_it_loads_is_a_load_that_was_killed(
    limited_pod: OpenLimitedPod, repository: Repository
) -> None:
    """Triton only says "is not healthy"; the probe says stub_oom_killed, and under its line the model loads."""
    add_greedy(add_greedy(repository, "heavy", load_mib=300), "calm")
    pod = limited_pod()
    server = pod.triton(repository, resources=Resources(memory=256 * MIB), control_mode="explicit")
    probe = pod.probe(server, SHIPPED)
    server.client.load("calm")
    probe.wait_code("/readyz", OPEN)
    with pytest.raises(TritonError, match="is not healthy"):
        server.client.load("heavy")
    failed = probe.wait_finding("ModelLoadFailed", "heavy")
    assert failed.evidence["cause"] == "stub_oom_killed"
    assert "is not healthy" in failed.message
    assert "for want of memory" in failed.message
    assert probe.wait_finding("OomKilled").evidence["kills"] == 1
    proposed = raised(failed)
    server.stop()

    second = pod.triton(repository, resources=Resources(memory=proposed), ports=server.ports).wait_ready()
    assert second.client.model_ready("heavy")
    probe.wait_clear("ModelLoadFailed", "heavy")
    probe.wait_code("/readyz", OPEN)


@pytest.mark.parametrize(
    ("node", "given", "without"),
    [
        (400 * MIB, Resources(), {"BestEffortPod", "MemoryUnlimited"}),
        (None, Resources(memory=400 * MIB), set()),
    ],
    ids=["nothing on a crowded node", "a limit that is too low"],
)
def test_the_seed_story_ends_with_the_line_that_doctor_proposes(
    limited_pod: OpenLimitedPod,
    repository: Repository,
    node: int | None,
    given: Resources,
    without: set[str],
) -> None:
    """A model allocates in initialize: ``resources: {}`` on a node with too little, or a limit that is too low.

    What a kill cut off nobody saw, so the line may have to be raised more than once, each time by the same words.
    """
    add_greedy(repository, "heavy", load_mib=500)
    with limited_pod(memory=node) as pod:
        told = pod.doctor(pod.triton(repository, resources=given))
    assert told["ModelLoadFailed"].evidence["cause"] == "stub_oom_killed"
    assert set(told) & {"BestEffortPod", "MemoryUnlimited"} == without

    # On a node with room: the scheduler looks for one that has what is asked for.
    for _ in range(3):
        given = resources_in(told["ModelLoadFailed"].remedy)
        with limited_pod() as pod:
            server = pod.triton(repository, resources=given)
            if server.client.model_ready("heavy"):
                told = pod.doctor(server)
                break
            told = pod.doctor(server)
    assert not set(told) & {"ModelLoadFailed", "BestEffortPod", "MemoryUnlimited"}


def raised(finding: Finding) -> int:
    """The memory limit that it proposes, in bytes."""
    proposed = resources_in(finding.remedy).memory
    assert proposed is not None
    return proposed
