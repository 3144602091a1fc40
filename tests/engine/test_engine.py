"""The engine on virtual time: when it looks, what it believes at once, and what it does not wait for."""

from __future__ import annotations

import asyncio
import math

import msgspec
import pytest

from probe.checks import roster
from probe.engine.engine import TURN, Engine
from probe.facts.gates import Gate
from probe.facts.models import InstanceKind, ModelState
from probe.facts.processes import ProcessState
from probe.facts.triton import CallFailure, Failure
from probe.settings import ModelsSettings, PlacementSettings, Policy, Settings
from tests.engine.doubles import SILENT, UNLOADED, Stage, gpu_reading, instant_errands, loop_clock, watching
from tests.worlds import entry, key, python_model, server, stub

__all__ = ["instant_errands"]
pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("instant_errands")]

OPEN = dict.fromkeys(Gate, True)


async def test_before_the_first_observation_live_is_open_and_ready_and_startup_fail() -> None:
    """Ignorance never restarts anything, and sends no traffic: only Initializing stands."""
    stage = Stage(hung={"triton", "nvml", "processes", "container"})
    async with watching(stage) as watch:
        first = watch.latest.status
        assert {gate: each.ok for gate, each in first.gates.items()} == {
            Gate.LIVE: True,
            Gate.READY: False,
            Gate.STARTUP: False,
        }
        assert [each.reason for each in first.findings] == ["Initializing"]
        await asyncio.sleep(300)
        assert watch.ok(Gate.LIVE)
        assert not watch.ok(Gate.READY)
        assert not watch.ok(Gate.STARTUP)


async def test_a_healthy_world_opens_every_gate_with_the_first_look() -> None:
    """Nothing but the first look itself is waited for."""
    async with watching(Stage()) as watch:
        assert await watch.until(lambda: all(map(watch.ok, Gate))) < 0.01
        assert watch.latest.status.triton.epoch == 1


@pytest.mark.parametrize("version", ["2.51.0", "2.68.0"])
async def test_no_gate_opens_before_the_first_look_has_its_index_and_configurations(version: str) -> None:
    """Statistics show ready models only: what failed to load, or is placed wrongly, is told later."""
    failed = entry("broken", ModelState.UNAVAILABLE, "internal: no such file", version="")
    stage = Stage(index=(failed,), inquiry_seconds=0.5, version=version)
    async with watching(stage) as watch:
        await watch.until(lambda: watch.finding("ModelLoadFailed") is not None)
        await asyncio.sleep(20)
        assert not any(each.status.gates[Gate.READY].ok for each in watch.snapshots)
        assert watch.ok(Gate.STARTUP)


async def test_a_missing_required_model_never_lets_ready_open() -> None:
    """It is known to be missing only from the index, and ready waits for that."""
    settings = Settings(models=ModelsSettings(required=("absent",)))
    async with watching(Stage(inquiry_seconds=0.2), settings) as watch:
        await watch.until(lambda: watch.finding("ModelMissing") is not None)
        assert not any(each.status.gates[Gate.READY].ok for each in watch.snapshots)


async def test_a_violent_exit_with_triton_silent_is_believed_after_30_ms() -> None:
    """The gate moves on the kernel's word when Triton does not say in time that it was an unload."""
    async with watching(Stage(word=SILENT), Settings(interval=3600.0)) as watch:
        await watch.opened()
        polls, killed = len(watch.stage.polls), watch.now
        watch.stage.exit(11)
        failed = await watch.until(lambda: not watch.ok(Gate.READY))
        assert 0.025 < failed - killed < 0.04
        assert len(watch.stage.polls) <= polls + 1
        (raised,) = [each for each in watch.latest.transitions if each.kind == "gate_failed"][:1]
        assert raised.reason == "StubDead"
        assert raised.delay_seconds == pytest.approx(0.03, abs=0.005)


async def test_a_violent_exit_of_a_model_that_triton_has_ready_is_told_at_once() -> None:
    """Triton's word ends the waiting."""
    async with watching(Stage(), Settings(interval=3600.0)) as watch:
        await watch.opened()
        killed = watch.now
        watch.stage.exit(11)
        failed = await watch.until(lambda: not watch.ok(Gate.READY))
        assert failed - killed < 0.005
        assert watch.latest.tallies.stub_exits == {("echo", "signal"): 1}
        assert sum(watch.latest.tallies.delays["StubDead"].counts) == 1


@pytest.mark.parametrize("status", [0, None])
async def test_a_clean_exit_is_believed_only_when_triton_says_that_the_model_is_still_loaded(
    status: int | None,
) -> None:
    """A stub that ends without an error is usually unloaded, so silence proves nothing."""
    async with watching(Stage(word=SILENT)) as watch:
        await watch.opened()
        watch.stage.mute = True
        watch.stage.exit(11, status)
        await asyncio.sleep(60)
        assert not watch.ever("StubDead")
        watch.stage.mute = False
        await watch.until(lambda: watch.finding("StubDead") is not None, 7.0)
        watch.stage.word = ""
        watch.stage.exit(12, status)
        killed = watch.now
        both = await watch.until(
            lambda: sum(each.reason == "StubDead" for each in watch.latest.status.findings) == 2
        )
        assert both - killed < 0.005


@pytest.mark.parametrize("status", [0, 9, 256])
async def test_an_exit_whose_model_triton_has_unloaded_is_no_death(status: int) -> None:
    """However violent: Triton said that the model is not ready."""
    stage = Stage()
    async with watching(stage) as watch:
        await watch.opened()
        stage.word = UNLOADED
        del stage.configs["echo"]
        stage.exit(11, status)
        stage.exit(12, status)
        await asyncio.sleep(60)
        assert not watch.ever("StubDead")
        assert watch.ok(Gate.READY)
        assert sum(watch.latest.tallies.stub_exits.values()) == 2


@pytest.mark.parametrize("failure", [Failure.REFUSED, Failure.EXITING])
async def test_a_stub_that_dies_with_its_server_is_no_finding_of_its_own(failure: Failure) -> None:
    """Triton going down kills its stubs: the server's exit says what there is to say."""
    stage = Stage(word=CallFailure("statistics", failure, "", 0.0))
    async with watching(stage, Settings(interval=3600.0)) as watch:
        await watch.opened()
        stage.up = False
        stage.exit(11)
        await asyncio.sleep(0.2)
        stage.exit(10)
        await asyncio.sleep(1)
        assert not watch.ever("StubDead")
        assert watch.finding("TritonDown") is not None


async def test_any_other_failure_to_answer_leaves_a_violent_exit_a_death() -> None:
    """A timeout or an error is no word about the model."""
    stage = Stage(word=CallFailure("statistics", Failure.ERROR, "", 0.0))
    async with watching(stage, Settings(interval=3600.0)) as watch:
        await watch.opened()
        stage.exit(11)
        await watch.until(lambda: watch.finding("StubDead") is not None, 0.01)


@pytest.mark.parametrize("stagger", [0.0, 0.5])
async def test_the_old_stubs_of_a_reload_are_no_deaths(stagger: float) -> None:
    """They exit without an error after new ones took their place; Triton says "ready" all the time."""
    async with watching(Stage()) as watch:
        await watch.opened()
        await asyncio.sleep(0.7)
        watch.stage.stubs += (stub(21, "echo_0_0"), stub(22, "echo_0_1"))
        await asyncio.sleep(stagger)
        watch.stage.exit(11, 0)
        await asyncio.sleep(stagger)
        watch.stage.exit(12, 0)
        await asyncio.sleep(30)
        assert not watch.ever("StubDead")
        assert all(each.status.gates[Gate.READY].ok for each in watch.snapshots[3:])
        assert watch.latest.status.models[0].instances.alive == 2


async def test_an_exit_of_nobody_we_know_changes_nothing() -> None:
    """Of a stub that was replaced, or is not an instance."""
    stage = Stage(stubs=(stub(11, "echo_0_0"), stub(12, "echo_0_1"), stub(13, "helper")))
    async with watching(stage) as watch:
        await watch.opened()
        stage.exit(13)
        await asyncio.sleep(30)
        assert not watch.ever("StubDead")
        assert watch.ok(Gate.READY)


async def test_the_exit_of_tritonserver_is_told_at_once_and_fails_live_after_its_hold() -> None:
    """Ready fails on the kernel's word, live 60 s later, to the millisecond."""
    async with watching(Stage()) as watch:
        await watch.opened()
        died = watch.now
        watch.stage.exit(10)
        failed = await watch.until(lambda: not watch.ok(Gate.READY))
        assert failed - died < 0.005
        down = watch.finding("TritonDown")
        assert down is not None
        assert down.gates == (Gate.READY,)
        assert down.pending == (Gate.LIVE,)
        assert watch.latest.status.triton.pid is None
        live = await watch.until(lambda: not watch.ok(Gate.LIVE), 61)
        assert live - died == pytest.approx(60.0, abs=0.01)
        after = watch.finding("TritonDown")
        assert after is not None
        assert after.gates == (Gate.READY, Gate.LIVE)
        assert sum(watch.latest.tallies.delays["TritonDown"].counts) == 1


async def test_a_new_tritonserver_is_a_new_epoch_that_starts_anew() -> None:
    """Verdicts about the old one are dropped, startup is asked again, and counters go on."""
    async with watching(Stage()) as watch:
        await watch.opened()
        watch.stage.exit(10)
        await watch.until(lambda: watch.finding("TritonDown") is not None)
        watch.stage.server, watch.stage.stubs = server(pid=20), ()
        await watch.until(lambda: watch.latest.status.triton.epoch == 2)
        assert "TritonDown" not in watch.reasons()
        assert not watch.ok(Gate.STARTUP)
        assert not watch.latest.status.models
        began = watch.now
        watch.stage.stubs = (stub(21, "echo_0_0"), stub(22, "echo_0_1"))
        watch.stage.up = True
        # A starting Triton is polled briskly, whatever the interval.
        await watch.opened()
        assert watch.now - began < 1.1
        assert watch.latest.tallies.gate_transitions[Gate.STARTUP] == 3
        assert [each.epoch for each in watch.latest.transitions if each.kind == "epoch"] == [2, 1]


async def test_startup_stays_open_while_a_model_is_loaded_later() -> None:
    """A server that has started does not start again within its epoch."""
    async with watching(Stage()) as watch:
        await watch.opened()
        watch.stage.index = (entry("late", ModelState.LOADING),)
        await watch.until(lambda: watch.finding("ModelLoading") is not None, 70)
        assert watch.ok(Gate.STARTUP)
        loading = watch.finding("ModelLoading")
        assert loading is not None
        assert loading.gates == ()
        assert loading.pending == ()


@pytest.mark.parametrize("source", ["triton", "nvml", "processes", "container"])
async def test_a_hung_source_delays_nothing_else_and_is_named(source: str) -> None:
    """The others go on at their pace, exits are told as fast, and the hung one grows stale by name."""
    async with watching(Stage(word=SILENT)) as watch:
        stage = watch.stage
        await watch.opened()
        stage.hung.add(source)
        before = stage.calls.copy()
        began = watch.now
        stale = await watch.until(lambda: watch.finding("ObservationStale") is not None, 25)
        assert 14.9 <= stale - began <= 22
        found = watch.finding("ObservationStale")
        assert found is not None
        assert found.subject.source == source
        assert source in found.message
        for other in {"triton", "nvml", "processes", "container"} - {source}:
            assert stage.calls[other] - before[other] >= 3
        assert not watch.engine.board.stalled(loop_clock().mono)
        killed = watch.now
        stage.exit(11)
        assert await watch.until(lambda: not watch.ok(Gate.READY)) - killed < 0.04
        stage.hung.clear()
        await watch.until(lambda: watch.finding("ObservationStale") is None, 25)
        assert watch.complaints == []


async def test_a_source_that_hangs_from_the_start_is_named_without_an_age() -> None:
    """Unknown is not a made-up figure."""
    async with watching(Stage(hung={"container"})) as watch:
        await watch.until(lambda: watch.finding("ObservationStale") is not None, 25)
        found = watch.finding("ObservationStale")
        assert found is not None
        assert found.evidence["age_seconds"] is None
        status = watch.latest.status.probe.sources["container"]
        assert status.ok is False
        assert status.age_seconds is None
        assert "read-container" in (status.error or "")
        assert watch.ok(Gate.READY)


@pytest.mark.parametrize(
    ("source", "task"),
    [
        ("triton", "watch-triton"),
        ("nvml", "watch-nvml"),
        ("processes", "watch-processes"),
        ("container", "watch-container"),
    ],
)
async def test_a_task_that_raises_is_reported_and_runs_again(source: str, task: str) -> None:
    """A defect costs a line in the log, and the source is looked at again when it is mended."""
    async with watching(Stage(broken={source})) as watch:
        await asyncio.sleep(5.5)
        assert {name for name, _ in watch.complaints} == {task}
        assert str(watch.complaints[0][1]) == f"{source} is broken"
        assert 3 <= len(watch.complaints) <= 6
        watch.stage.broken.clear()
        await watch.opened()
        assert not watch.tasks[task].done()


async def test_a_judgement_that_always_fails_is_told_and_stalls_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A probe that can no longer judge must not say by /healthz that it works."""
    async with watching(Stage()) as watch:
        await watch.opened()

        def judge(_: object) -> tuple[()]:
            raise RuntimeError("a defect")

        monkeypatch.setattr(roster, "judge", judge)
        await watch.until(lambda: watch.engine.board.stalled(loop_clock().mono), 30)
        assert ("turn", "a defect") in [(name, str(error)) for name, error in watch.complaints]
        monkeypatch.undo()
        await watch.until(lambda: not watch.engine.board.stalled(loop_clock().mono), 10)


async def test_the_heartbeat_is_as_old_as_the_last_turn() -> None:
    """It beats with every turn in the quietest world, and ages when the loop does not turn."""
    async with watching(Stage(), Settings(interval=60.0)) as watch:
        await watch.opened()
        for _ in range(30):
            await asyncio.sleep(0.7)
            assert watch.engine.board.loop_age(loop_clock().mono) <= TURN + 0.01
        watch.tasks["turn"].cancel()
        await asyncio.sleep(100)
        assert not watch.engine.board.stalled(loop_clock().mono)
        await asyncio.sleep(81)
        assert watch.engine.board.stalled(loop_clock().mono)


async def test_close_returns_soon_while_everything_hangs() -> None:
    """Not even sources whose own closing hangs are waited for."""
    stage = Stage(
        hung={"triton", "nvml", "processes", "container", "triton-close", "nvml-close"}, word=SILENT
    )
    engine = Engine(Settings(), stage.eyes(), "1", clock=stage.clock)
    tasks = [asyncio.create_task(work()) for _, work in engine.tasks()]
    await asyncio.sleep(30)
    began = asyncio.get_running_loop().time()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await engine.close()
    assert asyncio.get_running_loop().time() - began <= 1.0


async def test_close_lets_go_of_every_eye_and_of_exits_still_being_explained() -> None:
    """Nothing is left running behind a closed engine."""
    stage = Stage(word=SILENT)
    async with watching(stage) as watch:
        await watch.opened()
        stage.exit(11, 0)
        await asyncio.sleep(0)
    assert stage.closed == {"triton", "nvml", "exits", "events", "shm"}
    await asyncio.sleep(0)
    assert not [each for each in asyncio.all_tasks() if each.get_name().startswith("explain")]


async def test_an_idle_engine_judges_a_few_times_an_interval_also_while_a_far_hold_runs() -> None:
    """A pending live gate does not make it judge each second; CPU is a budget of the contract."""
    async with watching(Stage()) as watch:
        await watch.opened()
        watch.stage.exit(11)
        await watch.until(lambda: not watch.ok(Gate.READY))
        await asyncio.sleep(1)
        before = len(watch.snapshots)
        await asyncio.sleep(50)
        assert len(watch.snapshots) - before <= 3 * 10 + 3
        assert watch.ok(Gate.LIVE)


async def test_a_silent_world_is_judged_once_an_interval() -> None:
    """Where no source delivers, staleness and holds are still judged."""
    async with watching(Stage()) as watch:
        await watch.opened()
        watch.stage.hung.update(("triton", "nvml", "processes", "container"))
        await asyncio.sleep(30)
        before = len(watch.snapshots)
        await asyncio.sleep(50)
        assert 9 <= len(watch.snapshots) - before <= 11


async def test_a_settled_triton_is_polled_once_an_interval_and_an_absent_one_briskly() -> None:
    """A refused connection costs nobody anything; a poll of a working server does."""
    stage = Stage(server=None, up=False, stubs=())
    async with watching(stage) as watch:
        await asyncio.sleep(10)
        assert 9 <= len(stage.polls) <= 12
        stage.up = True
        await watch.opened()
        await asyncio.sleep(1)
        before = len(stage.polls)
        await asyncio.sleep(50)
        assert len(stage.polls) - before == 10


async def test_a_new_stub_has_its_models_configuration_read_again() -> None:
    """A reload without traffic shows in no counter, only in its stubs."""
    async with watching(Stage()) as watch:
        stage = watch.stage
        await watch.opened()
        await asyncio.sleep(10)
        asked = len(stage.inquiries)
        stage.stubs = (stub(31, "echo_0_0"), stub(32, "echo_0_1"))
        stage.configs["echo"] = python_model("echo", 2, InstanceKind.GPU, (0,))
        await watch.until(
            lambda: watch.engine.book.models.named("echo")[0].config == stage.configs["echo"], 2.5
        )
        assert key("echo") in stage.inquiries[asked].configs


async def test_a_model_with_a_critical_finding_is_asked_about_at_every_look() -> None:
    """So that a cure shows within an interval."""
    stage = Stage(configs={"echo": python_model("echo", 2), "other": python_model("other")}, stubs=())
    settings = Settings(placement=PlacementSettings(default=Policy.GPU))
    async with watching(stage, settings) as watch:
        await watch.until(lambda: watch.finding("CpuFallback") is not None)
        stage.configs["echo"] = python_model("echo", 2, InstanceKind.GPU, (0,))
        await watch.until(
            lambda: (
                "echo"
                not in {
                    each.subject.model
                    for each in watch.latest.status.findings
                    if each.reason == "CpuFallback"
                }
            ),
            5.1,
        )


async def test_a_stopped_stub_is_seen_by_the_next_scan_and_fails_ready_after_its_hold() -> None:
    """Nothing tells of a SIGSTOP: the scan every 2 s does, and the hold of 5 s is exact."""
    async with watching(Stage()) as watch:
        await watch.opened()
        one, other = watch.stage.stubs
        stopped = msgspec.structs.replace(one.process, state=ProcessState.STOPPED)
        watch.stage.stubs = (msgspec.structs.replace(one, process=stopped), other)
        seen = await watch.until(lambda: watch.finding("StubFrozen") is not None, 2.1)
        assert watch.ok(Gate.READY)
        failed = await watch.until(lambda: not watch.ok(Gate.READY), 6)
        assert failed - seen == pytest.approx(5.0, abs=0.01)
        watch.stage.stubs = (one, other)
        await watch.until(lambda: watch.ok(Gate.READY), 2.1)


async def test_pids_that_nvml_lists_are_looked_up_by_the_next_scan() -> None:
    """Which of them exist here tells whose pids the driver answers with."""
    async with watching(Stage(nvml=gpu_reading(11, 4711))) as watch:
        await watch.opened()
        await watch.until(lambda: frozenset((11, 4711)) in watch.stage.asked_pids, 1.0)
        assert watch.latest.status.gpus[0].uuid == "GPU-1"


async def test_the_container_of_a_dead_server_is_not_looked_at_by_its_pid() -> None:
    """The pid may be another's by then."""
    async with watching(Stage()) as watch:
        await watch.opened()
        await asyncio.sleep(6)
        assert watch.stage.asked_container[-1] == 10
        watch.stage.exit(10)
        looks = len(watch.stage.asked_container)
        await watch.until(lambda: len(watch.stage.asked_container) > looks)
        assert watch.stage.asked_container[-1] is None


async def test_exactly_the_server_and_its_stubs_are_watched_for_exits() -> None:
    """Others' exits are no business of the probe."""
    async with watching(Stage()) as watch:
        await watch.opened()
        assert {each.pid for each in watch.stage.watched} == {10, 11, 12}
        watch.stage.exit(10)
        await asyncio.sleep(2.1)
        assert 10 not in {each.pid for each in watch.stage.watched}


async def test_a_hung_triton_fails_ready_after_three_misses_and_live_after_thirty_seconds() -> None:
    """Both liveness calls time out while the process lives."""
    async with watching(Stage()) as watch:
        await watch.opened()
        watch.stage.mute = True
        first = await watch.until(lambda: watch.finding("TritonHung") is not None, 6)
        assert watch.ok(Gate.READY)
        failed = await watch.until(lambda: not watch.ok(Gate.READY), 16)
        assert failed - first <= 10.1
        live = await watch.until(lambda: not watch.ok(Gate.LIVE), 31)
        assert live - first == pytest.approx(30.0, abs=0.05)


async def test_one_look_with_every_eye_is_enough_for_a_doctor() -> None:
    """No task runs, and the whole of the first look is judged."""
    stage = Stage(nvml=gpu_reading(11))
    engine = Engine(Settings(), stage.eyes(), "1", clock=stage.clock)
    seen = await engine.look_once()
    assert {gate: each.ok for gate, each in seen.status.gates.items()} == OPEN
    assert seen.status.evidence.mode.value == "full"
    assert len(seen.status.models[0].stubs) == 2
    assert engine.board.latest is seen
    await engine.close()


async def test_no_snapshot_holds_a_number_that_is_not_finite() -> None:
    """JSON has none, and a made-up figure is no figure."""
    async with watching(Stage(executions=5)) as watch:
        await watch.opened()
        await asyncio.sleep(6)
        plain = msgspec.to_builtins(watch.latest.status)

    def numbers(value: object) -> list[float]:
        if isinstance(value, dict):
            return [each for one in value.values() for each in numbers(one)]
        if isinstance(value, (list, tuple)):
            return [each for one in value for each in numbers(one)]
        return [value] if isinstance(value, float) else []

    assert all(map(math.isfinite, numbers(plain)))
