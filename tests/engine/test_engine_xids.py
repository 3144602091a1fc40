"""An Xid is in the book at once, whatever the looks do; a flood of them keeps nobody busy."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from probe.facts.nvml import GpuBusy
from tests.engine.doubles import Stage, Watch, gpu_reading, instant_errands, watching
from tests.worlds import gpu

__all__ = ["instant_errands"]
pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("instant_errands")]


def count(watch: Watch, uuid: str, code: int) -> int:
    """Return how often the book has it."""
    record = watch.engine.book.gpus.of(uuid).get(code)
    return record.count if record is not None else 0


async def test_an_xid_is_judged_at_once_and_has_the_gpus_looked_at() -> None:
    """No interval is waited for: what the driver wants done about the GPU is news too."""
    stage = Stage(nvml=gpu_reading(11))
    async with watching(stage) as watch:
        await watch.opened()
        await asyncio.sleep(32.5)
        looks, told, began = stage.calls["nvml"], len(watch.snapshots), watch.now
        stage.xid("GPU-0", 79)
        assert count(watch, "GPU-0", 79) == 1
        await watch.until(lambda: len(watch.snapshots) > told)
        await watch.until(lambda: stage.calls["nvml"] == looks + 1)
        assert watch.now - began < 0.2


async def test_an_xid_is_judged_while_a_look_hangs() -> None:
    """The look that hangs is what it may explain."""
    stage = Stage(nvml=gpu_reading(11))
    async with watching(stage) as watch:
        await watch.opened()
        stage.hung.add("nvml")
        await asyncio.sleep(32.5)
        told, began = len(watch.snapshots), watch.now
        stage.xid("GPU-0", 119)
        await watch.until(lambda: len(watch.snapshots) > told)
        assert watch.now - began < 0.2
        assert count(watch, "GPU-0", 119) == 1


async def test_a_flood_of_one_code_is_counted_and_stirs_once() -> None:
    """A process that faults over and over costs neither looks nor judgements, but another code does."""
    stage = Stage(nvml=gpu_reading(11))
    async with watching(stage) as watch:
        await watch.opened()
        await asyncio.sleep(32.1)
        looks, told = stage.calls["nvml"], len(watch.snapshots)
        for _ in range(200):
            stage.xid("GPU-0", 31)
            await asyncio.sleep(0.005)
        assert count(watch, "GPU-0", 31) == 200
        assert stage.calls["nvml"] == looks + 1
        assert len(watch.snapshots) <= told + 3  # of the Xid, of a turn that was due, of a scan
        stage.xid("GPU-0", 48)
        await watch.until(lambda: stage.calls["nvml"] == looks + 2)
        await asyncio.sleep(3)
        looks = stage.calls["nvml"]
        stage.xid("GPU-0", 31)
        await watch.until(lambda: stage.calls["nvml"] == looks + 1)


async def test_a_flood_on_a_mig_instance_stirs_once_too() -> None:
    """It is reported of the whole GPU, and counted for the device."""
    reading = gpu_reading(11)
    part = gpu("MIG-1", {}, mig=True, parent="GPU-1", gpu_instance=5, compute_instance=0)
    stage = Stage(nvml=msgspec.structs.replace(reading, gpus=(*reading.gpus, part)))
    async with watching(stage) as watch:
        await watch.opened()
        await asyncio.sleep(32.1)
        looks, told = stage.calls["nvml"], len(watch.snapshots)
        for _ in range(200):
            stage.xid("GPU-1", 31, 5, 0)
            await asyncio.sleep(0.005)
        assert count(watch, "MIG-1", 31) == 200
        assert stage.calls["nvml"] == looks + 1
        assert len(watch.snapshots) <= told + 3


async def test_how_busy_a_gpu_was_is_no_news_between_turns() -> None:
    """It is another figure at each look: the next turn has it, and none is made for it."""
    reading = gpu_reading(11)
    stage = Stage(nvml=reading)
    async with watching(stage) as watch:
        await watch.opened()
        await asyncio.sleep(32.5)
        told = len(watch.snapshots)
        for percent in range(12):
            (gpu,) = reading.gpus
            busy = msgspec.structs.replace(gpu, busy=(GpuBusy(11, float(percent)),))
            stage.nvml = msgspec.structs.replace(reading, gpus=(busy,))
            watch.engine._desk.wake["nvml"].ring()
            await watch.until(lambda percent=percent: _share(watch) == percent)  # type: ignore[misc]
        assert len(watch.snapshots) - told <= 1
        lost = msgspec.structs.replace(reading.gpus[0], error="GPU_IS_LOST")
        stage.nvml = msgspec.structs.replace(reading, gpus=(lost,))
        told = len(watch.snapshots)
        watch.engine._desk.wake["nvml"].ring()
        await watch.until(lambda: len(watch.snapshots) > told, 0.2)


def _share(watch: Watch) -> float | None:
    last = watch.engine.book.evidence.last
    busy = last.gpus[0].busy if last is not None and last.gpus else None
    return busy[0].percent if busy else None
