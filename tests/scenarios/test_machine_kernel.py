"""What the probe's events rest on, asked of a real kernel with cgroup version 2."""

from __future__ import annotations

import pytest

from testbed.machine.host import Machine
from testbed.machine.plays import kernel

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def told(machine: Machine) -> kernel.Told:
    """What an unprivileged watcher in the probe's container was told of Triton's."""
    return machine.play(kernel.watched)


def test_the_count_of_kills_is_told_to_another_container_before_the_victim_is_gone(told: kernel.Told) -> None:
    """By inotify through ``/proc/<pid>/root``, with the same user and no capability: the kill, then the exit."""
    kills = [each for each in told.killed if "oom_kill=1" in each.seen]
    assert kills[0].what == "memory.events:0x2"
    assert told.killed[-1].what == "exit"
    assert "oom_kill=1" in told.killed[-1].seen


def test_reclaim_at_the_limit_is_told_by_the_same_event(told: kernel.Told) -> None:
    """``max`` and ``oom`` change ``memory.events`` too: an event alone is no kill."""
    assert any("oom_kill=0" in each.seen for each in told.killed)


def test_a_limit_that_the_runtime_writes_is_told_in_the_container(told: kernel.Told) -> None:
    """The runtime writes from its own mount of the hierarchy, and the container's shows it."""
    assert told.limited[-1].what == "memory.max:0x2"


def test_a_removed_cgroup_is_told_to_nobody_and_known_by_reading(told: kernel.Told) -> None:
    """Linux 6.1 ends no watch with the cgroup; what is held open answers ENODEV."""
    # A write is told once or twice, as it truncates the file or not: the second may come this late.
    assert {each.what for each in told.removed} <= {"asked", "memory.max:0x2"}
    assert (told.removed[-1].what, told.removed[-1].seen) == ("asked", "OSError19")
