"""Is an OOM kill told with its victims, for as long as it matters, and the end of a whole container as what it was?"""

from __future__ import annotations

from typing import Any

import pytest

from probe.checks.deaths.ends import UNNAMED
from probe.checks.deaths.ooms import LATE, judge
from probe.checks.server import judge as judge_server
from probe.facts.container import Limit, MemoryUse
from probe.facts.findings import CONTAINER
from probe.facts.models import ModelState
from probe.ledgers.kills import WINDOW
from probe.ledgers.obituaries import GROWTH_SECONDS
from tests.worlds import GIB, MIB, World, entry, python_model, server, serving, stub, worker

TWO = python_model("m", 2)
PATH = "/c/memory.events"
UNHEALTHY = "Internal: Stub process 'n_0_0' is not healthy."


def counted(world: World, kills: int | None, *, groups: int | None = None, **more: Any) -> World:  # noqa: ANN401
    """The container is looked at: so many kills, and 1.9 of its 2 GiB in use."""
    use = MemoryUse(
        Limit(2.0 * GIB, "max"), 1900 * MIB, 1900 * MIB, oom_kills=kills, oom_group_kills=groups, **more
    )
    return world.contained(memory=use)


def begun(**more: Any) -> World:  # noqa: ANN401
    """A Triton in a container that nothing was killed in since the probe came."""
    return counted(serving(TWO), 0, **more)


# OomKilled


def test_a_kill_is_told_with_its_victim_its_memory_and_its_moment() -> None:
    """As the container's, and it fails no gate of its own."""
    killed = begun().oom(1, path="").exits(101, signal=9)
    claim = killed.only("OomKilled", judge)
    assert claim.subject == CONTAINER
    assert claim.event_at == killed.book.kills.rises[0].after.observed
    assert claim.message == (
        "The kernel killed a process of Triton's container for want of memory at 2026-09-21T14:13:25Z. It was the stub "
        "m_0_1 (pid 101). The container held 1.9 GiB of its limit of 2.0 GiB 1.0 s before."
    )
    assert "resources: {limits: {memory: 3Gi}}" in claim.remedy
    assert claim.evidence == {
        "kills": 1,
        "count_before": 0,
        "count_after": 1,
        "count_file": None,
        "kills_in_containers_before": 0,
        "victims": "the stub m_0_1 (pid 101)",
        "victims_unknown": 0,
        "whole_container": False,
        "oom_group": None,
        "earlier_container": False,
        "killed_at": "2026-09-21T14:13:25Z",
        "container_limit_bytes": 2 * GIB,
        "container_used_bytes": 1900 * MIB,
        "container_working_set_bytes": 1900 * MIB,
        "container_seconds_before": 1.0,
    }


def test_a_rise_that_a_look_found_is_told_and_has_no_moment_of_its_own() -> None:
    """The exit that it explains has one."""
    claim = counted(begun(), 1).only("OomKilled", judge)
    assert claim.event_at is None
    assert "It was a process that nobody watched." in claim.message
    assert "memory between 2026-09-21T14:13:24Z and 2026-09-21T14:13:25Z." in claim.message
    assert claim.evidence["killed_at"] is None
    exited = begun().exits(101, signal=9)
    moment = exited.book.obituaries.kept[-1].exit.observed
    assert counted(exited, 1).only("OomKilled", judge).event_at == moment


def test_whom_a_kill_hit_may_still_be_told() -> None:
    """The kernel tells of a kill before its victim is gone."""
    told = begun().oom(1, path="")
    assert "It was a process that nobody saw end yet." in told.only("OomKilled", judge).message
    late = told.later(WINDOW + 1)
    assert "It was a process that nobody watched." in late.only("OomKilled", judge).message


def test_kills_from_before_the_probe_came_are_none() -> None:
    """Nor is a count that falls, or can not be read."""
    assert counted(serving(TWO), 7).reasons(judge) == []
    assert counted(counted(serving(TWO), 7), 0).reasons(judge) == []
    assert counted(counted(serving(TWO), 7), None).reasons(judge) == []


def test_a_kill_is_told_for_ten_minutes_and_longer_while_its_victim_is_missing() -> None:
    """A stub that nobody brought back, a worker, or a model that did not load."""
    lone = counted(begun(), 1).asks(index=(entry("m", ModelState.READY), entry("n", ModelState.LOADING)))
    assert lone.later(LATE - 2).reasons(judge) == ["OomKilled"]
    assert lone.later(LATE + 2).reasons(judge) == []
    dead = counted(begun().exits(101, signal=9), 1).scans().polls().later(LATE + 100)
    assert dead.reasons(judge) == ["OomKilled"]
    back = dead.with_stub(stub(300, "m_0_1", "m")).scans().polls()
    assert back.reasons(judge) == []
    engine = worker(110, parent=100)
    lost = counted(serving(TWO).with_worker(100, engine).scans(), 0).worker_exits(110, signal=9)
    lost = counted(lost, 1).explains("m").polls().later(LATE + 100)
    assert lost.reasons(judge) == ["OomKilled"]
    assert "the worker VLLM::EngineCore of m_0_0 (pid 110)" in lost.only("OomKilled", judge).message


def test_a_model_that_was_killed_in_its_load_is_missing_until_it_loads() -> None:
    """Whether its stub was seen or not, it is named."""
    unhealthy = (entry("m", ModelState.READY), entry("n", ModelState.UNAVAILABLE, UNHEALTHY))
    seen = begun().with_stub(stub(200, "n_0_0", "n")).scans().asks(index=(entry("n", ModelState.LOADING),))
    seen = counted(seen.exits(200, signal=9), 1).asks(index=unhealthy)
    assert "the stub n_0_0 (pid 200)" in seen.later(LATE + 50).only("OomKilled", judge).message
    unseen = counted(begun().asks(index=(entry("n", ModelState.LOADING),)), 1).asks(index=unhealthy)
    claim = unseen.only("OomKilled", judge)
    assert claim.evidence["victims"] == "by all appearances a stub of n, which failed to load"


def test_several_kills_are_one_claim_that_names_the_first_few() -> None:
    """And how many nobody watched."""
    new = tuple(stub(300 + each, f"x_0_{each}", "x") for each in range(7))
    seen = counted(begun().with_stub(*new).scans(), 0)
    for one in new:
        seen = seen.exits(one.process.id.pid, signal=9)
    claim = counted(counted(seen, 7), 9).only("OomKilled", judge)
    assert "killed 9 processes of Triton's container for want of memory, the last between" in claim.message
    assert "the stub x_0_4 (pid 304), 2 more that were watched, 2 that nobody watched." in claim.message
    assert (claim.evidence["kills"], claim.evidence["victims_unknown"]) == (9, 2)


def test_a_stub_that_had_no_arguments_yet_is_told_without_a_name() -> None:
    """It has a stub's name for some instants before it has a stub's arguments; no list has a hole in it."""
    new = stub(300, "")
    seen = counted(begun().with_stub(new).scans(), 0, oom_group=True, groups=0)
    seen = seen.oom(3, path="", groups=1).exits(300, signal=9).exits(100, signal=9).exits(101, signal=9)
    claim = seen.server_exits(signal=9).only("OomKilled", judge)
    assert f"{UNNAMED} (pid 300)" in claim.message
    assert f"{UNNAMED} with " in claim.message
    assert claim.evidence["largest_stub"] is None


def test_a_worker_of_whom_no_more_is_known_is_named_by_its_pid() -> None:
    """Its end was no death, and the count claims it all the same."""
    child = worker(110, "python3", parent=100)
    seen = counted(serving(TWO).with_worker(100, child).scans(), 0)
    seen = counted(seen.worker_exits(110), 1)
    assert "a process below a stub (pid 110)" in seen.only("OomKilled", judge).message


# The whole container


def whole(world: World, *, first: str) -> World:
    """The kernel kills every process of the container, and tells in this order; big ones take longer to die."""
    if first == "count":
        world = world.oom(3, path="", groups=1)
    world = world.exits(101, signal=9).exits(100, signal=9)
    if first == "stubs":
        world = world.oom(3, path="", groups=1)
    world = world.server_exits(signal=9)
    return world.oom(3, path="", groups=1) if first == "exits" else world


def grown(**more: Any) -> World:  # noqa: ANN401
    """One stub has grown much within a minute."""
    world = serving(TWO).later(GROWTH_SECONDS)
    world = world.with_stub(stub(101, "m_0_1", "m", rss=1700 * MIB)).scans()
    return counted(world, 0, **{"groups": 0, "oom_group": True, **more})


@pytest.mark.parametrize("first", ["count", "stubs", "exits"])
def test_a_container_that_was_killed_as_a_whole_is_told_as_that(first: str) -> None:
    """By TritonDown and OomKilled alike, with who had grown; and there are no dead stubs beside a dead Triton."""
    seen = whole(grown(), first=first)
    down = seen.only("TritonDown", judge_server)
    assert "killed by signal 9. The kernel killed Triton's whole container for want of memory" in down.message
    assert "oom_kill of the container rose from 0 to 3" in down.message
    assert "The container held 1.9 GiB of its limit of 2.0 GiB" in down.message
    assert (
        "had grown most: m_0_1 with 1.7 GiB, 1.6 GiB of it within a minute, m_0_0 with 100 MiB."
        in down.message
    )
    assert down.remedy.startswith("Raise resources.limits.memory")
    assert "resources: {limits: {memory: 3Gi}}" in down.remedy
    assert down.evidence["whole_container"] is True
    assert down.evidence["largest_stub"] == "m_0_1"
    claim = seen.only("OomKilled", judge)
    assert claim.message.startswith("The kernel killed the whole of Triton's container for want of memory at")
    assert "Among them: tritonserver (pid 5), the stub" in claim.message
    assert "m_0_1 with 1.7 GiB" in claim.message
    assert claim.evidence["oom_group"] is True
    assert sorted(seen.reasons()) == ["OomKilled", "TritonDown"]
    assert seen.later(LATE + 100).reasons(judge) == ["OomKilled"]


def test_a_stub_that_was_killed_alone_before_had_no_part_in_the_end_of_all() -> None:
    """It had grown most, and what it held was free again by then."""
    alone = grown(oom_group=False).oom(1, path="", groups=0).exits(101, signal=9)
    both = alone.later(3).oom(3, path="", groups=1).exits(100, signal=9).server_exits(signal=9)
    assert both.only("TritonDown", judge_server).evidence["largest_stub"] == "m_0_0"


def test_one_kill_that_was_counted_in_time_is_not_all_that_died() -> None:
    """The kernel counts them one by one, and the cgroup is gone before the next look."""
    seen = grown().oom(1, path="", groups=0).exits(101, signal=9).exits(100, signal=9).server_exits(signal=9)
    message = seen.only("OomKilled", judge).message
    assert "1 process by its count" in message
    assert "Among them: tritonserver (pid 5), the stub m_0_1 (pid 101), the stub m_0_0 (pid 100)." in message


def test_what_killed_the_container_is_told_when_the_next_one_runs() -> None:
    """Its counters begin at 0, which is neither a kill nor a proof that there was none."""
    seen = whole(grown(), first="count")
    again = serving(TWO, server=server(pid=77), first_pid=500)
    seen = seen.having(server=again.server, stubs=again.stubs).scans().polls().asks()
    seen = counted(seen, 0, groups=0)
    claim = seen.only("OomKilled", judge)
    assert "the whole of Triton's container before this one" in claim.message
    assert claim.evidence["earlier_container"] is True
    assert "m_0_1 with 1.7 GiB" in claim.message
    assert "TritonDown" not in seen.reasons()
    assert "StubDead" not in seen.reasons()
    assert seen.later(LATE + 2).reasons(judge) == []
    more = counted(seen.exits(500, signal=9), 1, groups=0).only("OomKilled", judge)
    assert "killed a process of Triton's container for want of memory at" in more.message
    assert "It was the stub m_0_0 (pid 500)." in more.message
    assert "Before that it had killed 3 processes of earlier containers, the last at" in more.message
    assert (more.evidence["count_before"], more.evidence["count_after"], more.evidence["kills"]) == (0, 1, 1)
    assert more.evidence["kills_in_containers_before"] == 3


def test_a_container_that_is_killed_over_and_over_is_told_with_its_last_end() -> None:
    """What the kernel counted in the containers before is no figure of this one, and nor are their victims."""
    seen = whole(grown(), first="count")
    for pid in (600, 700):
        again = serving(TWO, server=server(pid=pid), first_pid=pid + 1)
        seen = seen.having(server=again.server, stubs=again.stubs).scans().polls().asks()
        seen = counted(seen, 0, groups=0, oom_group=True).oom(3, path="", groups=1)
        seen = seen.exits(pid + 1, signal=9).exits(pid + 2, signal=9).server_exits(signal=9)
    claim = seen.only("OomKilled", judge)
    assert ", 3 processes by its count" in claim.message
    assert (
        "Among them: tritonserver (pid 700), the stub m_0_0 (pid 701), the stub m_0_1 (pid 702)."
        in claim.message
    )
    assert "Before that it had killed 6 processes of earlier containers, the last at" in claim.message


def test_a_triton_that_was_killed_alone_says_so() -> None:
    """What the models inside it hold is its own; the stubs that still live may be the largest all the same."""
    seen = counted(begun().server_exits(signal=9), 1)
    down = seen.only("TritonDown", judge_server)
    assert (
        "The kernel killed it for want of memory (oom_kill of the container rose from 0 to 1)."
        in down.message
    )
    assert "had held most: m_0_0 with 100 MiB, m_0_1 with 100 MiB." in down.message
    assert "(the process last held 100 MiB)" in down.remedy
    assert down.evidence["whole_container"] is False
    assert "tritonserver (pid 5)" in seen.only("OomKilled", judge).message


def test_a_triton_that_was_killed_before_it_was_up_says_so_too() -> None:
    """A model that takes too much at the start kills the container before any port opens."""
    started = World(server=server()).scans()
    seen = counted(started, 0, oom_group=True).server_exits(signal=9).oom(1, path="")
    claim = seen.only("TritonStarting", judge_server)
    assert (
        "ended, killed by signal 9 before its ports opened. The kernel killed Triton's whole" in claim.message
    )
    assert claim.remedy.startswith("Raise resources.limits.memory")
    assert claim.evidence["whole_container"] is True
    assert "largest_stub" not in claim.evidence


def test_a_triton_that_ended_in_another_way_says_nothing_of_memory() -> None:
    """Whatever was counted beside it."""
    for seen in (counted(begun().server_exits(code=1), 1), counted(begun().server_exits(signal=9), 0)):
        assert "memory" not in seen.only("TritonDown", judge_server).message
