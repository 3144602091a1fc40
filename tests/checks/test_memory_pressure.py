"""Does the check speak up near the limit, or where tasks wait for memory, with who holds it and what to write?"""

from __future__ import annotations

from typing import Any

import pytest

from probe.checks.container.memory_pressure import judge
from probe.facts.container import Limit, MemoryUse
from probe.facts.findings import Action
from tests.worlds import GIB, MIB, World, python_model, server, serving, stub

FILE = "/sys/fs/cgroup/memory.max"
EIGHT = Limit(8.0 * GIB, FILE)
NO_LIMIT = Limit(None, FILE)
NODES_OWN = Limit(8.0 * GIB, "/sys/fs/cgroup/memory/kubepods/memory.limit_in_bytes")


def use(held: float, limit: Limit | None = EIGHT, **more: Any) -> MemoryUse:  # noqa: ANN401
    """A container that holds so many GiB."""
    return MemoryUse(limit, working_set_bytes=int(held * GIB), **more)


def look(memory: MemoryUse, node: int | None = 64 * GIB, **more: Any) -> World:  # noqa: ANN401
    """One look at it, beside two models."""
    world = serving(python_model("m", 2), python_model("n"))
    world = world.with_stub(
        stub(100, "m_0_0", rss=4 * GIB),
        stub(101, "m_0_1", rss=2 * GIB, workers=(200,)),
        stub(102, "n_0_0", rss=64 * MIB),
    )
    return world.scans().contained(memory=memory, node_memory_bytes=node, **more)


def stalled(limit: Limit | None, *, held: float = 1.0) -> World:
    """Two looks between which tasks waited for 4 of 20 s."""
    world = look(use(held, limit, stall_seconds=5.0)).later(19)
    return world.contained(memory=use(held, limit, stall_seconds=9.0), node_memory_bytes=64 * GIB)


def test_one_look_tells_how_near_who_and_what_to_write() -> None:
    """The largest are summed over all processes of a model's stubs."""
    claim = look(use(7.6)).only("MemoryPressure", judge)
    assert claim.message == (
        "Triton's container holds 7.6 GiB that can not be reclaimed of its limit of 8.0 GiB (95%). At the limit the "
        "kernel kills a process, mostly the largest stub. Resident: m/1 7.0 GiB, tritonserver 100 MiB, n/1 64 MiB."
    )
    assert "from 8.0 GiB: resources: {limits: {memory: 10752Mi}}" in claim.remedy
    assert claim.action is None
    assert claim.evidence == {
        "limit_bytes": 8 * GIB,
        "limit_file": FILE,
        "unreclaimable_bytes": int(7.6 * GIB),
        "working_set_bytes": int(7.6 * GIB),
    }


def test_what_else_is_known_is_said_beside_it() -> None:
    """The request by the score, what lies in /dev/shm, and that the whole container dies at once."""
    claim = look(use(7.6, shmem_bytes=3 * GIB, oom_group=True), oom_score_adj=937).only(
        "MemoryPressure", judge
    )
    assert "(95%), with about 4.0 GiB requested; 3.0 GiB of it in /dev/shm and other tmpfs." in claim.message
    assert "kills all processes of the container at once (memory.oom.group)" in claim.message
    assert claim.evidence["requested_bytes_estimate"] == 63 * 64 * GIB // 1000
    assert claim.evidence["oom_group"] is True
    assert "/dev/shm" not in look(use(7.6, shmem_bytes=GIB)).only("MemoryPressure", judge).message


@pytest.mark.parametrize(("held", "left"), [(7.8, "about 3 min"), (7.95, "about 50 s")])
def test_steady_growth_tells_when_the_limit_is_reached(held: float, left: str) -> None:
    """By the pace of the last minutes."""
    world, step = look(use(held - 0.06)), 0.01
    for index in range(1, 7):
        world = world.later(9).contained(memory=use(held - 0.06 + index * step), node_memory_bytes=64 * GIB)
    claim = world.only("MemoryPressure", judge)
    assert f"61 MiB a minute, it is full in {left}." in claim.message
    assert isinstance(claim.evidence["seconds_to_limit"], int)


def test_growth_that_takes_long_is_not_worth_a_word() -> None:
    """An hour on, everything may be different."""
    world = look(use(7.3))
    for index in range(1, 7):
        world = world.later(9).contained(memory=use(7.3 + index / 5000))
    claim = world.only("MemoryPressure", judge)
    assert "minute" not in claim.message
    assert "seconds_to_limit" not in claim.evidence


def test_a_node_that_has_no_more_is_not_asked_for_it() -> None:
    """A limit beyond the node is none."""
    claim = look(use(7.6), node=9 * GIB).only("MemoryPressure", judge)
    assert "The node has no more than 9.0 GiB: give the models fewer instances" in claim.remedy
    assert "limits:" not in claim.remedy


@pytest.mark.parametrize(
    "memory",
    [
        use(7.1),
        use(7.9, active_file_bytes=3 * GIB),
        use(60.0, NO_LIMIT),
        use(7.9, NODES_OWN),
        use(7.9, None),
        MemoryUse(EIGHT, used_bytes=8 * GIB),
        MemoryUse(),
    ],
)
def test_there_is_no_pressure_without_a_limit_that_is_near(memory: MemoryUse) -> None:
    """File cache is none, the limit of all pods together is none of its own, and the unknown is no finding."""
    assert look(memory).reasons(judge) == []


def test_stalls_join_what_is_near() -> None:
    """One finding says both."""
    claim = stalled(EIGHT, held=7.6).only("MemoryPressure", judge)
    assert "For 20% of the last 20 s some task of Triton's container waited for memory" in claim.message
    assert claim.evidence["stall_share"] == 0.2


def test_stalls_far_below_the_limit_are_pressure_too() -> None:
    """Reclaim of file cache over and over: more memory cures it."""
    claim = stalled(EIGHT).only("MemoryPressure", judge)
    assert claim.message.startswith("For 20% of the last 20 s")
    assert "resources: {limits: {memory: 10752Mi}}" in claim.remedy
    assert claim.action is None
    assert "unreclaimable_bytes" not in claim.evidence


@pytest.mark.parametrize("limit", [None, NO_LIMIT, NODES_OWN])
def test_stalls_without_a_limit_of_its_own_are_the_node_s(limit: Limit | None) -> None:
    """Nothing in the container can cure them but a request."""
    claim = stalled(limit).only("MemoryPressure", judge)
    assert claim.action is Action.CHECK_NODE
    assert "resources.requests.memory" in claim.remedy
    assert "limits:" not in claim.remedy


def test_one_look_tells_no_stalls() -> None:
    """Whatever was counted before it."""
    assert look(use(1.0, stall_seconds=1e6)).reasons(judge) == []


def test_who_holds_it_is_left_out_where_processes_can_not_be_seen() -> None:
    """The figures of the cgroup are enough."""
    claim = serving(server=None).contained(memory=use(7.6)).only("MemoryPressure", judge)
    assert "Resident" not in claim.message


def test_of_a_triton_that_is_gone_or_was_not_looked_at_nothing_is_said() -> None:
    """Its container went with it."""
    assert serving().reasons(judge) == []
    gone = look(use(7.6)).having(server=server()).server_exits(signal=9)
    assert gone.reasons(judge) == []
