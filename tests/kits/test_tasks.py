"""Tasks that never die silently, and the bell that wakes them."""

from __future__ import annotations

import asyncio

import pytest

from probe.kits.tasks import RESTART_AFTER, Bell, guarded

pytestmark = pytest.mark.looptime


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


class Told:
    """Whom failures are told, and when."""

    def __init__(self) -> None:
        self.failures: list[tuple[float, str, Exception]] = []

    def __call__(self, name: str, error: Exception) -> None:
        """Remember it."""
        self.failures.append((now(), name, error))


async def test_a_task_that_raises_is_told_and_runs_again_after_a_second() -> None:
    """As often as it raises: a defect costs a line, and no spinning."""
    told, error = Told(), ValueError("a defect")

    async def work() -> None:
        await asyncio.sleep(2)
        raise error

    task = asyncio.create_task(guarded("worker", work, told))
    await asyncio.sleep(10)
    task.cancel()
    assert told.failures == [(2.0, "worker", error), (5.0, "worker", error), (8.0, "worker", error)]
    assert RESTART_AFTER == 1.0


async def test_a_task_that_ends_is_told_and_runs_again() -> None:
    """Endless work that ends is a defect too."""
    told = Told()

    async def work() -> None:
        await asyncio.sleep(0)

    task = asyncio.create_task(guarded("worker", work, told))
    await asyncio.sleep(1.5)
    task.cancel()
    assert [(name, str(error)) for _, name, error in told.failures] == [
        ("worker", "the task ended, although it has no end")
    ] * 2


async def test_a_task_ends_by_cancellation_alone() -> None:
    """Which is no failure."""
    told = Told()
    task = asyncio.create_task(guarded("worker", lambda: asyncio.sleep(3600), told))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told.failures == []


async def test_a_bell_wakes_its_waiter_at_once() -> None:
    """Not when the time is over."""
    bell = Bell()
    asyncio.get_running_loop().call_later(3, bell.ring)
    assert await bell.wait(60) is True
    assert now() == 3


async def test_a_bell_that_is_not_rung_is_waited_for_no_longer_than_told() -> None:
    """Also not at all."""
    bell = Bell()
    assert await bell.wait(5) is False
    assert await bell.wait(0) is False
    assert await bell.wait(-1) is False
    assert now() == 5


async def test_rings_before_a_wait_are_one_ring() -> None:
    """Who was busy is woken once by all of them, and the bell is silent again."""
    bell = Bell()
    bell.ring()
    bell.ring()
    assert await bell.wait(0) is True
    assert await bell.wait(1) is False
    bell.ring()
    assert await bell.wait(1) is True
    assert now() == 1


async def test_a_cancelled_wait_loses_no_ring() -> None:
    """It is heard by the next one."""
    bell = Bell()
    waiting = asyncio.create_task(bell.wait(60))
    await asyncio.sleep(1)
    waiting.cancel()
    bell.ring()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await bell.wait(0) is True
