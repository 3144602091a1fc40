"""Triton's ``/dev/shm`` in the engine: told by the kernel at once, and searched only where there is a doubt."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from probe.engine.engine import Engine
from probe.facts.container import ShmLevel
from probe.ledgers.shm import SURE_AFTER
from probe.settings import Settings
from tests.engine.doubles import Stage, Watch, instant_errands, watching
from tests.worlds import MIB

__all__ = ["instant_errands"]
pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("instant_errands")]

LEFT = "triton_python_backend_shm_region_051f6f90-7f0c-4e43-9d6a-0a3f5c1d2e3b"


def tell(watch: Watch, used: int, *, region_came: bool = False) -> None:
    """The kernel's word that this much of 64 MiB is in use now."""
    told = watch.stage.on_shm
    assert told is not None
    told(ShmLevel(watch.stage.clock(), 64 * MIB, used, region_came=region_came))


async def test_a_file_system_that_fills_is_told_at_once_and_looked_into() -> None:
    """Also if it is empty again by the next look; the fullest moment is kept."""
    stage = Stage()
    async with watching(stage) as watch:
        await watch.opened()
        await asyncio.sleep(32.5)
        looks, began = stage.calls["container"], watch.now
        tell(watch, 62 * MIB)
        await watch.until(lambda: watch.finding("ShmPressure") is not None)
        assert watch.now - began < 0.2
        await watch.until(lambda: stage.calls["container"] == looks + 1)
        tell(watch, 2 * MIB)
        await watch.until(lambda: watch.finding("ShmPressure") is None)
        peak = watch.engine.book.shm.peak
        assert peak is not None


async def test_a_region_that_comes_is_a_stub_to_look_for_at_once() -> None:
    """One that takes too much memory in its first second would be dead, unseen, before the next scan."""
    stage = Stage()
    async with watching(stage) as watch:
        await watch.opened()
        await asyncio.sleep(30.5)
        scans, began = stage.calls["processes"], watch.now
        tell(watch, 2 * MIB, region_came=True)
        tell(watch, 3 * MIB, region_came=True)
        await watch.until(lambda: stage.calls["processes"] > scans)
        assert watch.now - began < 0.2
        tell(watch, 3 * MIB)
        await asyncio.sleep(0.2)
        assert stage.calls["processes"] == scans + 1


async def test_a_change_that_leaves_it_as_it_was_stirs_nobody() -> None:
    """Regions and clients' files come and go all day."""
    stage = Stage()
    async with watching(stage) as watch:
        await watch.opened()
        await asyncio.sleep(32.1)
        looks, told = stage.calls["container"], len(watch.snapshots)
        for used in range(50):
            tell(watch, used * MIB // 2)
        await asyncio.sleep(0.5)
        assert (stage.calls["container"], len(watch.snapshots)) == (looks, told)
        level = watch.engine.book.shm.level
        assert level is not None
        assert level.used_bytes == 49 * MIB // 2


async def test_the_server_s_dev_shm_is_watched_while_it_lives() -> None:
    """And let go of with it, and at the end."""
    stage = Stage()
    async with watching(stage) as watch:
        await watch.opened()
        await watch.until(lambda: bool(stage.shm_watched))
        process = stage.shm_watched[-1]
        assert process is not None
        assert process.pid == 10
        stage.exit(10)
        await watch.until(lambda: stage.shm_watched[-1] is None)
    assert "shm" in stage.closed


async def test_what_an_earlier_tritonserver_left_is_told_after_the_second_look_that_finds_nobody() -> None:
    """A search is asked for by name, and no more once it is known."""
    stage = Stage(shm_left=(LEFT,))
    async with watching(stage) as watch:
        await watch.opened()
        leaked_at = await watch.until(lambda: watch.finding("ShmLeaked") is not None, 20)
        assert leaked_at <= 3 * Settings().interval + 1
        assert watch.latest.status.container.shm.orphan_bytes == MIB
        assert watch.engine.book.shm.suspects == frozenset()
        stage.shm_left = ()
        await watch.until(lambda: watch.finding("ShmLeaked") is None, 10)


async def test_a_doctor_looks_until_it_is_sure_of_what_was_left_and_no_longer() -> None:
    """Where nothing was left, one look is enough."""
    loop = asyncio.get_running_loop()
    clean = Stage()
    engine = Engine(Settings(), clean.eyes(), "1", clock=clean.clock)
    began = loop.time()
    await engine.look_once()
    assert loop.time() - began < SURE_AFTER
    assert clean.calls["container"] == 1
    await engine.close()
    stage = Stage(shm_left=(LEFT,))
    engine = Engine(Settings(), stage.eyes(), "1", clock=stage.clock)
    seen = await engine.look_once()
    assert "ShmLeaked" in {each.reason for each in seen.status.findings}
    assert stage.calls["container"] == 3
    await engine.close()


async def test_an_engine_without_a_watch_looks_as_ever() -> None:
    """Nobody tells of changes, and the looks go on."""
    stage = Stage()
    eyes = stage.eyes()
    engine = Engine(Settings(), msgspec.structs.replace(eyes, shm=None), "1", clock=stage.clock)
    seen = await engine.look_once()
    assert seen.status.container.shm.size_bytes is not None
    await engine.close()
    assert "shm" not in stage.closed
