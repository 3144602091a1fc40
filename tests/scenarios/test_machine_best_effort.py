"""``resources: {}`` and a small ``/dev/shm`` on cgroup version 2, on a node whose memory runs out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.machine.host import Machine
from testbed.machine.plays import careless

pytestmark = pytest.mark.timeout(900)
SECONDS = 400.0


@pytest.fixture(scope="module")
def pod(machine: Machine) -> Iterator[Machine]:
    """The machine, with the pod in it."""
    try:
        machine.play(careless.open_stage, seconds=SECONDS)
        yield machine
    finally:
        machine.play(careless.close_stage)


def test_a_pod_without_resources_is_told_before_anything_happens(pod: Machine) -> None:
    """BestEffortPod and MemoryUnlimited, each with a line to write."""
    told = pod.play(careless.looked, seconds=SECONDS)
    assert told.container.qos == "BestEffort"
    assert told.container.memory.limited is False
    assert told.container.cpu.limited is False
    assert told.container.cpu.weight == 1
    assert told.best_effort.evidence["oom_score_adj"] == 1000
    assert "resources: {requests: {" in told.best_effort.remedy
    assert "limits: {memory: " in told.unlimited.remedy


def test_instances_that_do_not_fit_into_shm_are_told_with_a_size_that_fits(pod: Machine) -> None:
    """Four regions of 4 MiB beside one that is there do not fit into 16 MiB."""
    told = pod.play(careless.shared, seconds=SECONDS)
    assert "shared memory" in told.complaint
    assert told.failed.evidence["cause"] == "shm_exhausted"
    assert told.too_small.evidence["size_bytes"] == careless.SHM
    for each in (told.failed, told.too_small):
        assert "medium: Memory, sizeLimit: " in each.remedy


def test_a_region_that_grew_leaves_no_room_for_the_next_request(pod: Machine) -> None:
    """ShmPressure says so before a request fails."""
    told = pod.play(careless.filled, seconds=SECONDS)
    assert told.pressed.evidence["size_bytes"] == careless.SHM
    assert "medium: Memory, sizeLimit: " in told.pressed.remedy
    assert "No space left on device" in told.complaint


def test_when_the_node_runs_out_best_effort_dies_for_a_guaranteed_neighbour(pod: Machine) -> None:
    """The neighbour took no more than it was promised; the remedy is to be promised something too."""
    told = pod.play(careless.sacrificed, seconds=SECONDS)
    assert (told.neighbour_lives, told.qos_of_neighbour) == (True, "guaranteed")
    assert told.kill.told.evidence["kills"] == 1
    assert "echo_0" in told.kill.told.message
    assert "resources: {" in told.kill.told.remedy
    assert "the node, or a cgroup above" in told.kill.told.remedy
