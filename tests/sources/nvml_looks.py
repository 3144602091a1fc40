"""What tests of the NVML source share: how to look, how to listen, and helpers that differ a little."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import psutil

from probe.facts.nvml import Gpu, NvmlReading, NvmlState, Xid
from probe.sources.nvml.source import NvmlSource
from testbed.tools import PATIENCE


async def only(source: NvmlSource) -> Gpu:
    """Look once at a machine with one GPU."""
    reading = await source.look()
    assert reading.state is NvmlState.OK, reading
    (gpu,) = reading.gpus
    return gpu


async def look_until(
    source: NvmlSource, wanted: Callable[[NvmlReading], bool], seconds: float = PATIENCE
) -> NvmlReading:
    """Look until a reading is as wanted; fails with the last one when time is up."""
    ends = time.monotonic() + seconds
    while not wanted(reading := await source.look()):
        assert time.monotonic() < ends, reading
        await asyncio.sleep(0.02)
    return reading


async def look_until_told(source: NvmlSource) -> NvmlReading:
    """Look until Xids are told: the helper registers for them beside its first looks."""
    return await look_until(source, lambda reading: reading.xids_told is True)


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Let the loop turn until it holds; fails where it does not in time."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        await asyncio.sleep(0.01)


def helpers() -> list[int]:
    """Tell the pids of this process's living NVML helpers."""
    return [each.pid for each in psutil.Process().children() if _helps(each)]


def _helps(child: psutil.Process) -> bool:
    try:
        alive = child.status() != psutil.STATUS_ZOMBIE
        return alive and any("probe.sources.nvml" in one for one in child.cmdline())
    except psutil.NoSuchProcess:  # it ended between two questions
        return False


def helper_after(lines: str) -> list[str]:
    """Return the command of a helper that does these lines first: another binding, shorter patience."""
    return [sys.executable, "-c", f"{lines}\nfrom probe.sources.nvml.helper import main\nmain()"]


class Heard:
    """Listens to a source."""

    def __init__(self, source: NvmlSource) -> None:
        self.xids: list[Xid] = []
        source.listen(self.xids.append)

    @property
    def codes(self) -> list[int]:
        """The codes so far, in order."""
        return [each.code for each in self.xids]
