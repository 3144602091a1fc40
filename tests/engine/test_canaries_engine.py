"""Canaries on virtual time: when they go out, what waits for them (nothing), and which gates they move."""

from __future__ import annotations

import asyncio

import pytest

from probe.facts.canaries import CanaryOutcome
from probe.facts.gates import Gate
from probe.settings import CanarySettings, Settings
from tests.engine.doubles import Stage, instant_errands, watching
from tests.worlds import python_model, stub

__all__ = ["instant_errands"]
pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("instant_errands")]

ECHO = Settings(canary={"echo": CanarySettings(inputs={"X": [1]}, deadline=10.0, idle=30.0)})


def sent(stage: Stage) -> list[float]:
    """When canaries went out, in seconds of the test."""
    return [moment.mono - 1000.0 for moment, _ in stage.canaries]


async def test_an_idle_model_is_asked_once_in_its_period_and_nobody_else_is() -> None:
    """With the first poll after it was idle for long enough, and again after as long."""
    async with watching(Stage(), ECHO) as watch:
        await watch.opened()
        await asyncio.sleep(100)
        assert sent(watch.stage) == pytest.approx([30, 60, 90], abs=6)
        assert watch.latest.status.models[0].canary is not None
        assert watch.latest.status.models[0].canary.ok
        assert not watch.ever("CanaryFailed")
    async with watching(Stage()) as watch:
        await watch.opened()
        await asyncio.sleep(600)
        assert watch.stage.canaries == []


async def test_two_failures_close_ready_within_an_interval_and_a_pass_opens_it() -> None:
    """The second follows with the next poll; then it backs off, and the first that passes clears all."""
    async with watching(Stage(canary=CanaryOutcome.ERROR), ECHO) as watch:
        await watch.opened()
        raised = await watch.until(lambda: watch.finding("CanaryFailed") is not None, 40)
        assert watch.ok(Gate.READY)
        closed = await watch.until(lambda: not watch.ok(Gate.READY), 10)
        assert closed - raised <= 5.1
        assert watch.ok(Gate.LIVE)
        await asyncio.sleep(60)
        assert len(watch.stage.canaries) <= 5
        watch.stage.canary = CanaryOutcome.PASSED
        await watch.until(lambda: watch.ok(Gate.READY), 320)
        assert watch.finding("CanaryFailed") is None


async def test_a_canary_that_hangs_holds_up_no_poll_and_no_other_is_sent_meanwhile() -> None:
    """Polls go on at their pace; one canary is out in the whole daemon."""
    models = {name: python_model(name) for name in ("echo", "other")}
    stage = Stage(configs=models, stubs=(stub(11, "echo_0_0"), stub(12, "other_0_0")), hung={"canary"})
    settings = Settings(canary=dict.fromkeys(models, CanarySettings(idle=10.0)))
    async with watching(stage, settings) as watch:
        await watch.opened()
        await watch.until(lambda: bool(stage.canaries), 30)
        polls = len(stage.polls)
        await asyncio.sleep(100)
        assert len(stage.polls) - polls == pytest.approx(20, abs=2)
        assert len(stage.canaries) == 1
        assert watch.latest.status.probe.loop_age_seconds == 0.0
        stage.hung.clear()
        await watch.until(lambda: len({order.key for _, order in stage.canaries}) == 2, 10)


async def test_silence_of_the_whole_server_is_no_failure_of_a_model() -> None:
    """TritonHung says it; the canary that timed out meanwhile is not held against its model."""
    stage = Stage(canary=CanaryOutcome.TIMEOUT)
    async with watching(stage, ECHO) as watch:
        await watch.opened()
        await watch.until(lambda: bool(stage.canaries), 40)
        stage.mute = True
        await asyncio.sleep(60)
        assert len(stage.canaries) == 1
        assert not watch.ever("CanaryFailed")
        assert watch.latest.status.models[0].canary is None


async def test_what_nobody_can_tell_is_tried_again_and_is_no_finding() -> None:
    """A connection that was lost under it, for one."""
    stage = Stage(canary=None)
    async with watching(stage, ECHO) as watch:
        await watch.opened()
        await asyncio.sleep(60)
        assert len(stage.canaries) >= 4
        assert not watch.ever("CanaryFailed")


async def test_a_defect_costs_a_line_and_nothing_else() -> None:
    """The task runs again, and what Triton may have counted is settled."""
    stage = Stage(broken={"canary"})
    async with watching(stage, ECHO) as watch:
        await watch.opened()
        await asyncio.sleep(60)
        assert {name for name, _ in watch.complaints} == {"send-canaries"}
        assert all(not each.others.waiting for each in watch.engine.book.models.records.values())
        stage.broken.clear()
        await watch.until(lambda: watch.latest.status.models[0].canary is not None, 60)


async def test_under_traffic_none_is_sent() -> None:
    """Counters that move show that it works."""
    async with watching(Stage(), ECHO) as watch:
        await watch.opened()
        for _ in range(60):
            watch.stage.executions += 1
            await asyncio.sleep(5)
        assert watch.stage.canaries == []
