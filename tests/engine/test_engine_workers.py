"""The engine on virtual time: exits of workers, and why a process ended."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from probe.facts.gates import Gate
from probe.facts.processes import ProcessState
from probe.facts.triton import CallFailure, Failure
from probe.settings import Settings
from tests.engine.doubles import SILENT, UNLOADED, Stage, Watch, instant_errands, watching
from tests.worlds import process, python_model, stub, worker

__all__ = ["instant_errands"]
pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("instant_errands")]

SLOW = Settings(interval=3600.0)
"""No poll but those that an exit calls for."""


def engines(**more: object) -> Stage:
    """Two stubs, each with an engine below it."""
    both = (stub(11, "echo_0_0", workers=(21,)), stub(12, "echo_0_1", workers=(22,)))
    return Stage(stubs=both, **more)  # type: ignore[arg-type]


async def served(watch: Watch) -> Watch:
    """Every gate is open, and the workers are watched."""
    await watch.opened()
    await watch.until(lambda: {21, 22} <= {each.pid for each in watch.stage.watched})
    await asyncio.sleep(0.1)
    return watch


async def test_a_dead_engine_closes_ready_at_once_and_asks_little() -> None:
    """One scan, one word and one configuration; the delay is counted from the exit."""
    async with watching(engines(), SLOW) as watch:
        await served(watch)
        scans, killed = watch.stage.calls["processes"], watch.now
        asked = len(watch.stage.inquiries)
        watch.stage.exit(21)
        failed = await watch.until(lambda: not watch.ok(Gate.READY))
        assert failed - killed < 0.005
        found = watch.finding("WorkerDead")
        assert found is not None
        assert (found.subject.instance, found.evidence["pid"]) == ("echo_0_0", 21)
        assert sum(watch.latest.tallies.delays["WorkerDead"].counts) == 1
        assert watch.stage.calls["processes"] - scans == 1
        assert [each.configs for each in watch.stage.inquiries[asked : asked + 1]] == [
            (python_model("echo").key,)
        ]
        assert not watch.ever("StubDead")


async def test_workers_that_end_together_are_asked_about_once() -> None:
    """Eight workers of an engine end with it."""
    many = tuple(worker(21 + index, f"VLLM::Worker_TP{index}", parent=11) for index in range(8))
    stage = Stage(stubs=(stub(11, "echo_0_0", workers=many), stub(12, "echo_0_1")))
    async with watching(stage, SLOW) as watch:
        await watch.opened()
        await asyncio.sleep(3)
        words, scans = stage.calls["word"], stage.calls["processes"]
        for index in range(8):
            stage.exit(21 + index)
        await watch.until(lambda: not watch.ok(Gate.READY))
        await watch.until(
            lambda: (found := watch.finding("WorkerDead")) is not None and found.evidence["workers_dead"] == 8
        )
        assert stage.calls["word"] - words == 1
        assert stage.calls["processes"] - scans == 1


async def test_an_exit_whose_model_triton_has_unloaded_is_no_death() -> None:
    """Its ``finalize`` killed it."""
    stage = engines()
    async with watching(stage) as watch:
        await served(watch)
        stage.word = UNLOADED
        stage.exit(21)
        stage.exit(22)
        await asyncio.sleep(60)
        assert not watch.ever("WorkerDead")


async def test_the_workers_of_a_reload_are_no_deaths() -> None:
    """The new stubs run, Triton says "ready", and the old ones end their engines before themselves."""
    stage = engines()
    async with watching(stage) as watch:
        await served(watch)
        await asyncio.sleep(1)
        stage.stubs += (stub(31, "echo_0_0", workers=(41,)), stub(32, "echo_0_1", workers=(42,)))
        for gone in (21, 11, 22, 12):
            stage.exit(gone, 0 if gone < 20 else 9)
            await asyncio.sleep(0.3)
        await asyncio.sleep(30)
        assert not watch.ever("WorkerDead")
        assert not watch.ever("StubDead")
        watch.stage.exit(41)
        await watch.until(lambda: watch.finding("WorkerDead") is not None, 0.01)


async def test_an_instance_that_is_removed_in_place_is_no_death_of_anything() -> None:
    """The configuration calls for one fewer before its stub ends, cleanly, and its engine before it."""
    stage = engines()
    async with watching(stage) as watch:
        await served(watch)
        await asyncio.sleep(1)
        stage.configs["echo"] = python_model("echo", 1)
        stage.exit(21)
        await asyncio.sleep(0.3)
        stage.exit(11, 0)
        await asyncio.sleep(30)
        assert not watch.ever("WorkerDead")
        assert not watch.ever("StubDead")
        assert all(each.status.gates[Gate.READY].ok for each in watch.snapshots[3:])


@pytest.mark.parametrize("word", [SILENT, CallFailure("statistics", Failure.ERROR, "", 0.0)])
async def test_without_triton_s_word_the_next_poll_settles_it(word: str | CallFailure) -> None:
    """A worker's end alone proves nothing: its own model may have ended it."""
    stage = engines(word=word)
    async with watching(stage) as watch:
        await served(watch)
        await asyncio.sleep(6)
        stage.mute = True
        stage.exit(21)
        await asyncio.sleep(20)
        assert not watch.ever("WorkerDead")
        stage.mute = False
        await watch.until(lambda: watch.finding("WorkerDead") is not None, 12.0)


async def test_a_worker_that_dies_before_a_poll_saw_its_model_ready_is_found() -> None:
    """Triton says that it is loaded, and is polled for the rest."""
    stage = engines(configs={})
    async with watching(stage, SLOW) as watch:
        await watch.until(lambda: watch.ok(Gate.STARTUP))
        stage.configs = {"echo": python_model("echo", 2)}
        await watch.engine._looks.look_at_triton()
        stage.configs = {}
        await watch.engine._looks.look_at_triton()
        await served(watch)
        stage.configs = {"echo": python_model("echo", 2)}
        stage.exit(21)
        await watch.until(lambda: watch.finding("WorkerDead") is not None, 0.1)


async def test_workers_that_end_with_their_server_are_no_finding_of_their_own() -> None:
    """The server's exit says what there is to say."""
    stage = engines(word=CallFailure("statistics", Failure.EXITING, "", 0.0))
    async with watching(stage, SLOW) as watch:
        await served(watch)
        stage.up = False
        stage.exit(21)
        await asyncio.sleep(0.2)
        stage.exit(10)
        await asyncio.sleep(1)
        assert not watch.ever("WorkerDead")
        assert watch.finding("TritonDown") is not None


async def test_a_child_that_ends_as_it_may_costs_nothing() -> None:
    """No scan and no question for a process that did its work."""
    one = stub(11, "echo_0_0", workers=(process(21, parent=11), process(22, parent=11)))
    async with watching(Stage(stubs=(one, stub(12, "echo_0_1"))), SLOW) as watch:
        await served(watch)
        await asyncio.sleep(6.5)
        before = watch.stage.calls.copy()
        watch.stage.exit(21, 0)
        await asyncio.sleep(0.5)
        assert watch.stage.calls == before
        watch.stage.exit(22, 1 << 8)
        await watch.until(lambda: watch.finding("WorkerDead") is not None, 0.01)


async def test_an_engine_that_a_scan_misses_is_found_without_an_exit() -> None:
    """No descriptor could be had for it."""
    stage = engines()
    async with watching(stage) as watch:
        await served(watch)
        await asyncio.sleep(6)
        first, second = stage.stubs
        stage.stubs = (msgspec.structs.replace(first, descendants=()), second)
        await watch.until(lambda: watch.finding("WorkerDead") is not None, 9.0)


async def test_what_outlives_its_stub_is_asked_about_until_it_ends() -> None:
    """It is an orphan after ten seconds, and none when it is gone."""
    stage = engines()
    async with watching(stage) as watch:
        await served(watch)
        stage.left = stage.stubs[0].descendants
        stage.exit(11)
        await watch.until(lambda: watch.finding("StubOrphaned") is not None, 15.0)
        assert 21 in {each.pid for each in stage.watched}
        left = stage.left
        stage.left = ()
        stage.exit(21, 9)
        assert left
        await watch.until(lambda: watch.finding("StubOrphaned") is None, 3.0)


# Why it ended


async def test_an_oom_kill_is_told_with_the_death_itself() -> None:
    """The count is read at once, before the exit is counted by its cause."""
    async with watching(engines(), SLOW) as watch:
        await served(watch)
        await watch.until(lambda: watch.engine.book.kills.last is not None)
        watch.stage.oom_kills = 1
        watch.stage.exit(11)
        await watch.until(lambda: not watch.ok(Gate.READY), 0.01)
        found = watch.finding("StubDead")
        assert found is not None
        assert "want of memory" in found.message
        assert watch.latest.tallies.stub_exits == {("echo", "oom_killed"): 1}


async def test_an_oom_kill_while_a_model_loads_is_counted_as_such() -> None:
    """The stub serves no model yet; its name is told by its command line."""
    stage = engines()
    stage.stubs += (stub(13, "big", "big"),)
    async with watching(stage) as watch:
        await served(watch)
        stage.oom_kills = 1
        stage.exit(13)
        await watch.until(lambda: bool(watch.latest.tallies.stub_exits), 6.0)
        assert watch.latest.tallies.stub_exits == {("big", "oom_killed"): 1}


async def test_an_oom_kill_while_a_model_loads_is_a_finding_at_once_with_its_delay() -> None:
    """No model, no gate, and no turn that is due waits for it."""
    stage = engines()
    stage.stubs += (stub(13, "big_0_0", "big"),)
    async with watching(stage, SLOW) as watch:
        await served(watch)
        await watch.until(lambda: watch.engine.book.kills.last is not None)
        stage.oom_kills = 1
        killed = watch.now
        stage.exit(13)
        told = await watch.until(lambda: watch.finding("OomKilled") is not None, 1.0)
        assert told - killed < 0.1
        found = watch.finding("OomKilled")
        assert found is not None
        assert "the stub big_0_0 (pid 13)" in found.message
        assert found.gates == found.pending == ()
        assert sum(watch.latest.tallies.delays["OomKilled"].counts) == 1
        stage.oom_kills = 2
        stage.exit(12)
        await watch.until(lambda: watch.finding("StubDead") is not None)
        assert sum(watch.latest.tallies.delays["OomKilled"].counts) == 1


async def test_a_worker_s_oom_kill_is_told_too() -> None:
    """It holds the most memory."""
    async with watching(engines(), SLOW) as watch:
        await served(watch)
        watch.stage.oom_kills = 1
        watch.stage.exit(21)
        await watch.until(lambda: not watch.ok(Gate.READY), 0.01)
        found = watch.finding("WorkerDead")
        assert found is not None
        assert "want of memory" in found.message


@pytest.mark.parametrize("source", ["hung", "broken"])
async def test_a_container_that_can_not_be_read_delays_no_death_and_is_no_sample(source: str) -> None:
    """The cause is the signal alone then."""
    async with watching(engines(), SLOW) as watch:
        await served(watch)
        getattr(watch.stage, source).add("container")
        watch.stage.oom_kills = 1
        killed = watch.now
        watch.stage.exit(11)
        failed = await watch.until(lambda: not watch.ok(Gate.READY))
        assert failed - killed < 0.04
        found = watch.finding("StubDead")
        assert found is not None
        assert found.evidence["cause"] == "killed by SIGKILL"
        assert watch.latest.tallies.stub_exits == {("echo", "signal"): 1}


async def test_the_container_is_read_for_a_sigkill_alone_and_once_for_many() -> None:
    """No other end can be an OOM kill."""
    stage = engines()
    async with watching(stage, SLOW) as watch:
        await served(watch)
        before = stage.calls["container"]
        stage.exit(21, 11)
        await asyncio.sleep(0.1)
        assert stage.calls["container"] == before
        for pid in (22, 11, 12):
            stage.exit(pid)
        await asyncio.sleep(0.1)
        assert stage.calls["container"] == before + 1


async def test_a_death_that_ends_with_its_reaping_opens_ready_with_the_scan_that_shows_it() -> None:
    """No stub came or went with it, and no poll or turn is near."""
    stage = Stage(stubs=(stub(11, "echo_0_0"), stub(12, "echo_0_1")))
    async with watching(stage, SLOW) as watch:
        await watch.opened()
        await asyncio.sleep(3)
        stage.exit(12)
        zombie = stub(12, "echo_0_1", state=ProcessState.ZOMBIE)
        stage.stubs = (*stage.stubs, zombie, stub(13, "echo_0_0"), stub(14, "echo_0_1"))
        await watch.until(lambda: watch.finding("StubDead") is not None)
        await asyncio.sleep(10)
        assert watch.finding("StubDead") is not None
        reaped = watch.now
        stage.stubs = tuple(each for each in stage.stubs if each is not zombie)
        cured = await watch.until(lambda: watch.finding("StubDead") is None)
        assert cured - reaped < 2.1
