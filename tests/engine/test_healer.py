"""The engine reloads a model on virtual time: what it orders, what it waits for, and what it tells."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from probe.engine.healer import SETTLED_WITHIN
from probe.facts.gates import AT_ONCE, Gate
from probe.facts.models import ModelState
from probe.facts.status import Transition
from probe.facts.triton import CallFailure, Failure
from probe.settings import HealSettings, Settings
from tests.engine.doubles import Stage, Watch, instant_errands, watching
from tests.worlds import entry, python_model, server, stub

__all__ = ["instant_errands"]
pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("instant_errands")]

HEALING = Settings(heal=HealSettings(reload_model=True))
REFUSED = CallFailure("load echo", Failure.ERROR, "load failed for model 'echo': no such file", 0.1)
Obey = Callable[[str, str], Awaitable[CallFailure | None]]


def explicit(**more: object) -> Stage:
    """A Triton in EXPLICIT mode."""
    return Stage(server=server("--model-control-mode=explicit", pid=10), **more)  # type: ignore[arg-type]


def unloading_and_loading(stage: Stage, seconds: float = 1.4) -> Obey:
    """A real Triton's way: a load of what is loaded does nothing, a reload brings new stubs after a while."""
    pids = iter(range(100, 10_000))

    async def obey(what: str, name: str) -> CallFailure | None:
        if what == "load" and name in stage.configs:
            return None
        config = stage.configs.pop(name, python_model(name, 2))
        stage.stubs = tuple(each for each in stage.stubs if each.arguments.name.rpartition("_0_")[0] != name)
        await asyncio.sleep(seconds)
        stage.configs[name] = config
        stage.stubs += tuple(stub(next(pids), f"{name}_0_{each}") for each in range(2))
        return None

    return obey


def heals(watch: Watch) -> list[str]:
    """What was told of reloads, oldest first."""
    return [each.message for each in reversed(watch.latest.transitions) if each.kind == "heal"]


def told(watch: Watch, number: int) -> Transition:
    """One of them."""
    return [each for each in reversed(watch.latest.transitions) if each.kind == "heal"][number]


async def test_a_dead_stubs_model_is_reloaded_at_once_and_ready_opens_with_the_end_of_it() -> None:
    """A load first, which does nothing here; then unload and load; no look is waited for in between."""
    stage = explicit()
    stage.obey = unloading_and_loading(stage)
    async with watching(stage, HEALING) as watch:
        await watch.opened()
        killed = watch.now
        stage.exit(11)
        await watch.until(lambda: not watch.ok(Gate.READY))
        opened = await watch.until(lambda: watch.ok(Gate.READY))
        assert opened - killed < 1.6
        assert stage.orders == [("load", "echo"), ("reload", "echo")]
        assert heals(watch) == [
            "Reloading it for StubDead (reload 1 of at most 3 within 1 h).",
            "Reloaded in 1.4 s; 2 of 2 instances are alive.",
        ]
        assert told(watch, 0).subject == "echo"
        assert told(watch, 0).reason == "StubDead"
        assert watch.latest.tallies.heals == {("echo", "ok"): 1, ("echo", "failed"): 0}
        await asyncio.sleep(120)
        assert len(stage.orders) == 2
        assert watch.latest.tallies.gate_transitions[Gate.READY] == 3
        assert watch.complaints == []


async def test_a_load_that_replaced_the_model_is_enough() -> None:
    """As where its files changed: nothing is taken away from those that still serve."""
    stage = explicit()

    async def obey(what: str, name: str) -> None:
        await asyncio.sleep(1)
        stage.stubs += (stub(21, "echo_0_0"), stub(22, "echo_0_1"))

    stage.obey = obey
    async with watching(stage, HEALING) as watch:
        await watch.opened()
        stage.exit(11)
        await watch.until(lambda: len(heals(watch)) == 2)
        assert stage.orders == [("load", "echo")]
        assert watch.ok(Gate.READY)


async def test_a_model_that_got_well_meanwhile_is_not_unloaded() -> None:
    """Nothing was replaced, and nothing is wrong any more: it now calls for no more instances than live."""
    stage = explicit()

    async def obey(what: str, name: str) -> None:
        stage.configs["echo"] = python_model("echo", 1)
        stage.stubs = (stub(12, "echo_0_0"),)
        await asyncio.sleep(1)

    stage.stubs = (stub(11, "echo_0_1"), stub(12, "echo_0_0"))
    stage.obey = obey
    async with watching(stage, HEALING) as watch:
        await watch.opened()
        stage.exit(11)
        await watch.until(lambda: len(heals(watch)) == 2)
        assert stage.orders == [("load", "echo")]
        assert heals(watch)[1].startswith("Reloaded in")


async def test_ready_stays_closed_while_the_new_stubs_are_still_loading() -> None:
    """They show in the first scan, and serve nobody for another minute."""
    stage = explicit()

    async def obey(what: str, name: str) -> None:
        await asyncio.sleep(1)
        stage.stubs += (stub(21, "echo_0_0"), stub(22, "echo_0_1"))
        await asyncio.sleep(300)

    stage.obey = obey
    async with watching(stage, HEALING) as watch:
        await watch.opened()
        stage.exit(11)
        await watch.until(lambda: not watch.ok(Gate.READY))
        began = len(watch.snapshots)
        opened = await watch.until(lambda: watch.ok(Gate.READY), 310)
        assert opened > 300
        # Nor is a restart asked for, which would begin all of it again.
        assert all(each.status.gates[Gate.LIVE].ok for each in watch.snapshots[began:])


async def test_a_users_own_word_on_live_stands_above_a_reload() -> None:
    """Who wrote when live fails gets it then."""
    stage = explicit()
    stage.obey = unloading_and_loading(stage, seconds=300)
    settings = Settings(heal=HEALING.heal, gates={"StubDead": {Gate.LIVE: AT_ONCE}})
    async with watching(stage, settings) as watch:
        await watch.opened()
        stage.exit(11)
        await watch.until(lambda: not watch.ok(Gate.LIVE))


async def test_a_live_gate_that_failed_is_not_opened_by_the_next_reload() -> None:
    """The answer of /livez does not go to and fro."""
    stage = explicit()

    async def obey(what: str, name: str) -> CallFailure | None:
        await asyncio.sleep(35)
        return REFUSED

    stage.obey = obey
    async with watching(stage, HEALING) as watch:
        await watch.opened()
        stage.exit(11)
        # Down to 60 s the first reload failed, and the second is not due yet or spares it.
        failed = await watch.until(lambda: not watch.ok(Gate.LIVE), 130)
        begun = len(watch.snapshots)
        await watch.until(lambda: len(stage.orders) == 3, 130)
        await asyncio.sleep(30)
        assert watch.now > failed + 30
        assert not any(each.status.gates[Gate.LIVE].ok for each in watch.snapshots[begun:])
        assert watch.latest.tallies.gate_transitions[Gate.LIVE] == 1


async def test_a_failed_reload_is_told_with_tritons_text_and_tried_again_with_pauses() -> None:
    """Three times in an hour, and then it is left with its finding."""
    stage = explicit()

    async def obey(what: str, name: str) -> CallFailure | None:
        return REFUSED

    stage.obey = obey
    async with watching(stage, HEALING) as watch:
        await watch.opened()
        stage.exit(11)
        await watch.until(lambda: len(heals(watch)) == 7, 60)
        # Nothing was unloaded: what can not be loaded is not taken away.
        assert stage.orders == [("load", "echo")] * 3
        assert heals(watch)[1] == (
            "The reload failed after 0.0 s: load echo: load failed for model 'echo': no such file. "
            "Next one in 10 s at the earliest."
        )
        assert heals(watch)[5].endswith("no such file.")
        assert heals(watch)[6] == (
            "Reloaded 3 times within 1 h, and no cure: it is not reloaded again before one of these is that "
            "long ago."
        )
        assert [told(watch, each).severity for each in (0, 1, 6)] == ["info", "warning", "warning"]
        assert watch.latest.tallies.heals == {("echo", "ok"): 0, ("echo", "failed"): 3}
        await asyncio.sleep(600)
        assert len(stage.orders) == 3
        assert len(heals(watch)) == 7
        assert watch.finding("StubDead") is not None


async def test_a_reload_that_triton_says_it_did_and_that_cured_nothing_is_a_failed_one() -> None:
    """The finding is what counts, not the answer."""
    stage = explicit()
    async with watching(stage, HEALING) as watch:
        await watch.opened()
        stage.exit(11)
        await watch.until(lambda: len(heals(watch)) == 2, 30)
        assert stage.orders == [("load", "echo"), ("reload", "echo")]
        assert heals(watch)[1] == (
            f"The reload failed after {SETTLED_WITHIN:.1f} s: Triton says that it is loaded, and StubDead still "
            f"stands after {SETTLED_WITHIN:.0f} s. Next one in 10 s at the earliest."
        )


async def test_a_model_that_did_not_come_back_is_loaded_again() -> None:
    """An unload that succeeded and a load that did not: by itself nobody would miss it."""
    stage = explicit()
    real = unloading_and_loading(stage)

    async def obey(what: str, name: str) -> CallFailure | None:
        if what == "reload":
            stage.configs.clear()
            stage.stubs = ()
            stage.index = (entry("echo", ModelState.UNAVAILABLE, "unloaded"),)
            return REFUSED
        return await real(what, name)

    stage.obey = obey
    async with watching(stage, HEALING) as watch:
        await watch.opened()
        stage.exit(11)
        await watch.until(lambda: len(heals(watch)) == 4, 60)
        assert stage.orders == [("load", "echo"), ("reload", "echo"), ("load", "echo")]
        assert heals(watch)[2] == (
            "Reloading it for an earlier reload that did not end well (reload 2 of at most 3 within 1 h)."
        )
        assert heals(watch)[3].startswith("Reloaded in 1.4 s")
        await asyncio.sleep(60)
        assert len(stage.orders) == 3


async def test_a_model_that_triton_says_is_loaded_and_is_not_is_a_failed_reload() -> None:
    """Its statistics know better."""
    stage = explicit()

    async def obey(what: str, name: str) -> None:
        if what == "reload":
            stage.configs.clear()
            stage.stubs = ()
            stage.index = (entry("echo", ModelState.UNAVAILABLE, "unloaded"),)

    stage.obey = obey
    async with watching(stage, HEALING) as watch:
        await watch.opened()
        stage.exit(11)
        await watch.until(lambda: len(heals(watch)) == 2, 30)
        assert "its statistics do not have it ready after 10 s" in heals(watch)[1]


async def test_without_a_scan_after_the_load_nothing_is_unloaded() -> None:
    """What the load did can not be seen, so it is not known that an unload is needed."""
    stage = explicit()

    async def obey(what: str, name: str) -> None:
        stage.hung.add("processes")
        await asyncio.sleep(0.1)

    stage.obey = obey
    async with watching(stage, HEALING) as watch:
        await watch.opened()
        stage.exit(11)
        await watch.until(lambda: len(heals(watch)) == 2, 30)
        assert stage.orders == [("load", "echo")]
        assert "what it did can not be seen" in heals(watch)[1]


async def test_models_are_reloaded_one_after_the_other() -> None:
    """Two deaths in one moment: the second waits for the end of the first."""
    stage = explicit(
        configs={"echo": python_model("echo", 2), "other": python_model("other", 2)},
        stubs=(stub(11, "echo_0_0"), stub(12, "echo_0_1"), stub(13, "other_0_0"), stub(14, "other_0_1")),
    )
    stage.obey = unloading_and_loading(stage)
    async with watching(stage, HEALING) as watch:
        await watch.opened()
        stage.exit(13)
        stage.exit(11)
        await watch.until(lambda: len(heals(watch)) == 4, 30)
        assert [name for _, name in stage.orders] in (
            ["echo", "echo", "other", "other"],
            ["other", "other", "echo", "echo"],
        )
        assert [each.split(" ")[0] for each in heals(watch)] == ["Reloading", "Reloaded"] * 2
        await watch.until(lambda: watch.ok(Gate.READY))


async def test_switched_off_or_in_another_mode_nothing_is_ordered() -> None:
    """The default, and a Triton that would refuse."""
    for stage, settings in ((explicit(), Settings()), (Stage(), HEALING)):
        async with watching(stage, settings) as watch:
            await watch.opened()
            stage.exit(11)
            await asyncio.sleep(100)
            assert stage.orders == []
            assert watch.latest.tallies.heals == {}
            assert ("heal" in watch.tasks) == settings.heal.reload_model


async def test_a_triton_that_dies_in_the_midst_is_a_failed_reload_and_owed_nothing() -> None:
    """The new one loads its models itself."""
    stage = explicit()

    async def obey(what: str, name: str) -> CallFailure | None:
        if what == "load":
            return None
        stage.exit(10)
        await asyncio.sleep(0.5)
        return CallFailure("load echo", Failure.REFUSED, "", 0.5)

    stage.obey = obey
    async with watching(stage, HEALING) as watch:
        await watch.opened()
        stage.exit(11)
        await watch.until(lambda: len(heals(watch)) == 2, 30)
        assert "load echo: refused" in heals(watch)[1]
        stage.server, stage.up = server("--model-control-mode=explicit", pid=20), True
        stage.stubs = (stub(21, "echo_0_0"), stub(22, "echo_0_1"))
        await watch.opened()
        await asyncio.sleep(60)
        assert len(stage.orders) == 2


async def test_a_defect_in_a_reload_is_told_and_does_not_stop_healing() -> None:
    """The task is guarded, and the model is not under treatment for ever."""
    stage = explicit()

    async def obey(what: str, name: str) -> CallFailure | None:
        if len(stage.orders) == 1:
            raise RuntimeError("a defect")
        return await real(what, name)

    real = unloading_and_loading(stage)
    stage.obey = obey
    async with watching(stage, HEALING) as watch:
        await watch.opened()
        stage.exit(11)
        await watch.until(lambda: watch.ok(Gate.READY) and len(heals(watch)) == 4, 60)
        assert [(name, str(error)) for name, error in watch.complaints] == [("heal", "a defect")]
        assert "the probe itself failed" in heals(watch)[1]


async def test_the_end_of_the_daemon_ends_a_reload() -> None:
    """Nothing waits for a load of minutes."""
    stage = explicit()
    stage.obey = unloading_and_loading(stage, seconds=300)
    async with watching(stage, HEALING) as watch:
        await watch.opened()
        stage.exit(11)
        await watch.until(lambda: len(stage.orders) == 2)
        began = watch.now
    assert asyncio.get_running_loop().time() - began < 0.1
    assert stage.closed >= {"triton", "exits"}
