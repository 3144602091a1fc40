"""A Guaranteed pod on cgroup version 2, with the real Triton and the real daemon, against each of its limits.

One pod for all: each test leaves it as it was, until the kernel kills in it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.machine.host import Machine
from testbed.machine.plays import guaranteed
from testbed.machine.plays.guaranteed import LIMIT, RAISED

pytestmark = pytest.mark.timeout(900)
SECONDS = 400.0


@pytest.fixture(scope="module")
def pod(machine: Machine) -> Iterator[Machine]:
    """The machine, with the pod in it."""
    try:
        machine.play(guaranteed.open_stage, seconds=SECONDS)
        yield machine
    finally:
        machine.play(guaranteed.close_stage)


def test_the_container_is_told_as_the_kubelet_made_it(pod: Machine) -> None:
    """Limits, class and version, read in Triton's own cgroup from another container; nothing is wrong with it."""
    told = pod.play(guaranteed.container, seconds=SECONDS)
    assert (told.cgroup, told.qos) == (2, "Guaranteed")
    assert (told.memory.limited, told.memory.limit_bytes) == (True, LIMIT)
    assert told.memory.oom_group is False
    assert told.memory.oom_kills == 0
    assert 0 < (told.memory.working_set_bytes or 0) < LIMIT
    assert told.cpu.limit_cores == 2.0
    assert told.cpu.weight == guaranteed.RESOURCES.weight
    assert told.pids.limit == 1000
    assert 0 < (told.pids.used or 0) < 1000
    assert None not in (told.memory.stall_seconds, told.cpu.stall_seconds, told.memory.peak_bytes)
    assert told.shm.size_bytes == 64 << 20


def test_a_limit_that_is_raised_while_triton_runs_is_seen(pod: Machine) -> None:
    """As an in-place resize does."""
    assert pod.play(guaranteed.raised, seconds=SECONDS).memory.limit_bytes == RAISED


def test_a_cpu_limit_that_holds_the_container_back_is_told(pod: Machine) -> None:
    """CpuThrottled says how much, of which limit, and which line to write."""
    told = pod.play(guaranteed.throttled, seconds=SECONDS)
    assert told.evidence["limit_cores"] == 0.5
    assert "limits: {cpu: " in told.remedy


def test_a_fork_that_the_limit_refuses_is_told(pod: Machine) -> None:
    """PidsPressure: the stub of a model that is loaded then can not be started."""
    told = pod.play(guaranteed.crowded, seconds=SECONDS)
    assert isinstance(told.evidence["refused_lately"], int)
    assert told.evidence["refused_lately"] > 0
    assert "podPidsLimit" in told.remedy


def test_memory_near_its_limit_is_told(pod: Machine) -> None:
    """MemoryPressure: before anything is killed."""
    told = pod.play(guaranteed.pressed, seconds=SECONDS)
    assert "limits: {memory: " in told.remedy


def test_a_stub_that_outgrows_the_limit_is_a_death_for_want_of_memory(pod: Machine) -> None:
    """StubDead and OomKilled name the model, the kernel's count and the line that cures it; Triton is up."""
    told = pod.play(guaranteed.outgrown, seconds=SECONDS)
    assert "is not healthy" in told.complaint
    assert "for want of memory" in str(told.dead.evidence["cause"])
    assert "rose from 0 to 1" in str(told.dead.evidence["cause_rests_on"])
    assert "limits: {memory: " in told.dead.remedy
    assert told.gate_delay_seconds is not None
    kill = told.kill.told
    assert kill.evidence["kills"] == 1
    assert kill.evidence["whole_container"] is False
    assert "hog" in kill.message
    assert "limits: {memory: " in kill.remedy


def test_the_kill_of_the_whole_container_is_told_for_what_it_is(pod: Machine) -> None:
    """``memory.oom.group``, the kubelet's default: TritonDown names who was too large, and nothing is left."""
    told = pod.play(guaranteed.ended, seconds=SECONDS)
    assert "oom_group_kill 1\n" in told.events
    assert "for want of memory" in told.down.message
    assert "whole" in told.down.message
    assert "limits: {memory: " in told.down.remedy
    assert told.told.evidence["whole_container"] is True
    assert told.gate_delay_seconds is not None


def test_what_a_killed_container_left_behind_is_told_after_its_restart(pod: Machine) -> None:
    """The new cgroup counts from nothing; OomKilled stands, and the regions in ``/dev/shm`` are orphans."""
    told = pod.play(guaranteed.restarted, seconds=SECONDS)
    assert told.counted == 0
    assert told.told.evidence["earlier_container"] is True
    assert told.regions
    assert told.leaked.evidence["leaked"] == len(told.regions)
    for each in told.regions:
        assert each in told.leaked.message
    assert len(told.left) == 1


def test_a_stub_that_outgrows_the_limit_in_its_load_is_why_the_load_failed(pod: Machine) -> None:
    """Triton's bare sentence comes with its cause."""
    told = pod.play(guaranteed.swollen, seconds=SECONDS)
    assert "is not healthy" in told.complaint
    assert told.failed.evidence["cause"] == "stub_oom_killed"
    assert "limits: {memory: " in told.failed.remedy
