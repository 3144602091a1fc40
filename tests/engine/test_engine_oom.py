"""The engine on virtual time: what the kernel tells of the container, before, with and after an exit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from probe.facts.gates import Gate
from probe.facts.processes import ProcessId
from probe.settings import Settings
from tests.engine.doubles import KILLED, Stage, Watch, instant_errands, watching
from tests.worlds import GIB, server, stub, worker

__all__ = ["instant_errands"]
pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("instant_errands")]

SLOW = Settings(interval=3600.0)
"""No look but those that an event calls for."""
WANT = "killed by the kernel for want of memory (SIGKILL)"


async def served(watch: Watch) -> Watch:
    """Every gate is open, and the container is watched and was looked at."""
    await watch.opened()
    await watch.until(lambda: watch.stage.watched_container is not None)
    await watch.until(lambda: watch.engine.book.container is not None)
    await asyncio.sleep(0.1)
    return watch


async def cause_of_death(watch: Watch) -> object:
    """What the finding of the dead stub says of its cause."""
    await watch.until(lambda: watch.finding("StubDead") is not None)
    found = watch.finding("StubDead")
    assert found is not None
    return found.evidence["cause"]


@pytest.mark.parametrize("seconds", [0.0, 0.02, 5.0])
async def test_a_kill_that_is_told_before_the_exit_explains_it(seconds: float) -> None:
    """A process that holds much memory dies seconds after the kernel counted it."""
    async with watching(Stage(), SLOW) as watch:
        await served(watch)
        watch.stage.oom(1)
        await asyncio.sleep(seconds)
        watch.stage.exit(11)
        assert await cause_of_death(watch) == WANT


@pytest.mark.parametrize(("held", "status"), [(True, KILLED), (False, KILLED), (True, None)])
async def test_a_kill_of_a_process_whose_end_is_no_death_is_told_at_once(
    held: bool,  # noqa: FBT001
    status: int | None,
) -> None:
    """What a model started a moment ago: where the kernel tells of no kill, the exit does."""
    stage = Stage(held=held)
    async with watching(stage, SLOW) as watch:
        await served(watch)
        child = worker(21, "python3", parent=11)
        stage.stubs = (stub(11, "echo_0_0", workers=(child,)), stub(12, "echo_0_1"))
        await watch.until(lambda: 21 in {each.pid for each in stage.watched})
        stage.oom_kills = 1
        killed = watch.now
        stage.exit(21, status)
        told = await watch.until(lambda: watch.finding("OomKilled") is not None)
        assert told - killed < 0.1
        looks = stage.calls["container"]
        stage.exit(12, 11)
        await asyncio.sleep(1)
        assert stage.calls["container"] == looks


@pytest.mark.parametrize("held", [True, False])
async def test_a_kill_that_is_told_after_the_exit_explains_it(held: bool) -> None:  # noqa: FBT001
    """The count is read at the exit itself, where it is held open, or by a look."""
    stage = Stage(held=held)
    async with watching(stage, SLOW) as watch:
        await served(watch)
        stage.oom_kills = 1
        looks = stage.calls["container"]
        stage.exit(11)
        assert await cause_of_death(watch) == WANT
        assert stage.calls["container"] - looks == (0 if held else 1)
        stage.oom(1)
        await asyncio.sleep(0.1)
        assert await cause_of_death(watch) == WANT


async def test_one_kill_explains_one_of_two_exits() -> None:
    """Whoever ended by SIGKILL beside it was killed by somebody else."""
    async with watching(Stage(), SLOW) as watch:
        await served(watch)
        watch.stage.oom(1)
        watch.stage.exit(11)
        watch.stage.exit(12)
        await watch.until(lambda: len(causes(watch)) == 2)
        assert sorted(cause == WANT for cause in causes(watch)) == [False, True]


def causes(watch: Watch) -> list[object]:
    """Of every dead stub."""
    status = watch.latest.status
    return [each.evidence["cause"] for each in status.findings if each.reason == "StubDead"]


async def test_an_exit_that_is_no_kill_asks_for_no_count() -> None:
    """A segmentation fault says all there is to say."""
    stage = Stage(held=True)
    async with watching(stage, SLOW) as watch:
        await served(watch)
        stage.oom_kills = 1
        stage.exit(11, 11)
        assert "SIGSEGV" in str(await cause_of_death(watch))
        assert stage.calls["counts"] == 0


async def test_the_counts_are_read_when_tritonserver_ends() -> None:
    """With it the container ends, and a moment later its cgroup is gone: nobody could look any more."""
    stage = Stage(held=True)
    async with watching(stage, SLOW) as watch:
        await served(watch)
        stage.oom_kills, stage.oom_group_kills = 3, 1
        looks = stage.calls["container"]
        stage.exit(10, KILLED)
        assert stage.calls["counts"] == 1
        last = watch.engine.book.kills.last
        assert last is not None
        assert last.kills == 3
        assert stage.calls["container"] == looks
        await watch.until(lambda: watch.finding("TritonDown") is not None)


async def test_the_container_of_a_server_that_is_gone_is_watched_until_the_next() -> None:
    """Its stubs may outlive it, and be killed for want of memory as well."""
    stage = Stage()
    async with watching(stage) as watch:
        await served(watch)
        first = stage.watched_container
        assert first == ProcessId(10, 100)
        stage.exit(10)
        await watch.until(lambda: watch.finding("TritonDown") is not None)
        scans = stage.calls["processes"]
        await watch.until(lambda: stage.calls["processes"] > scans + 1)
        assert stage.watched_container == first
        stage.server, stage.up = server(pid=30), True
        stage.stubs = (stub(31, "echo_0_0"), stub(32, "echo_0_1"))
        await watch.until(lambda: watch.ok(Gate.READY))
        assert stage.watched_container == ProcessId(30, 300)


async def test_a_kill_that_only_a_look_shows_is_told_with_that_look() -> None:
    """Of a process that nobody watches, where the kernel tells nothing: no turn is waited for on top."""
    stage = Stage()
    async with watching(stage) as watch:
        await served(watch)
        await asyncio.sleep(2.5)
        stage.exit(12, 11)
        await asyncio.sleep(0.1)
        looks, stage.oom_kills = stage.calls["container"], 1
        looked = await watch.until(lambda: stage.calls["container"] > looks)
        assert await watch.until(lambda: watch.finding("OomKilled") is not None) - looked < 0.2


async def changed(watch: Watch, act: Callable[[], None]) -> int:
    """How many looks at the container follow an event, within a second."""
    before = watch.stage.calls["container"]
    act()
    await asyncio.sleep(1.0)
    return watch.stage.calls["container"] - before


async def test_a_kill_and_a_new_limit_are_followed_by_one_look_at_once() -> None:
    """What holds after it is wanted for the findings, and no interval is waited for."""
    stage = Stage()
    async with watching(stage, SLOW) as watch:
        await served(watch)
        assert await changed(watch, lambda: None) == 0
        assert await changed(watch, lambda: stage.oom(1)) == 1
        assert await changed(watch, lambda: stage.limit(4 * GIB)) == 1
        reading = watch.engine.book.container
        assert reading is not None
        assert reading.memory.limit is not None
        assert reading.memory.limit.value == 4 * GIB


async def test_a_limit_that_changed_is_shown_at_once() -> None:
    """No interval passes between a resize of the pod and what is judged by the new limit."""
    stage = Stage()
    async with watching(stage, SLOW) as watch:
        await served(watch)
        stage.limit(4 * GIB)
        await watch.until(lambda: watch.latest.status.container.memory.limit_bytes == 4 * GIB, 0.1)


async def test_a_triton_that_is_moved_is_followed_into_its_new_cgroup() -> None:
    """A look finds the counts elsewhere than they are held: what is held is opened anew."""
    stage = Stage(held=True, oom_path="/old/memory.events")
    async with watching(stage) as watch:
        await served(watch)
        stage.oom(0)
        stage.oom_path = "/new/memory.events"
        await asyncio.sleep(8.0)
        stage.oom_kills = 1
        stage.exit(11)
        assert await cause_of_death(watch) == WANT
