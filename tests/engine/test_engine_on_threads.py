"""The engine on real threads and the real clock: a look that blocks blocks its own thread alone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from probe.engine.engine import Engine
from probe.engine.eyes import Eyes
from probe.facts.container import ContainerReading
from probe.facts.gates import Gate
from probe.facts.processes import ProcessId, ProcessReading
from probe.kits.clocks import now
from probe.settings import Settings
from probe.sources.nvml.source import NvmlSource
from testbed.nvml.double import FOREVER, GpuState, NvmlDouble, Xid
from testbed.tools import PATIENCE
from tests.engine.doubles import ContainerDouble, ProcessDouble, Stage


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """What blocked looks wait for; set when the test ends."""
    event = threading.Event()
    yield event
    event.set()


class BlockingProcesses(ProcessDouble):
    """Scans twice, then blocks in the kernel."""

    def __init__(self, stage: Stage, released: threading.Event) -> None:
        super().__init__(stage)
        self._released, self._scans = released, 0

    def scan(self, asked: Iterable[int] = (), kept: Iterable[ProcessId] = ()) -> ProcessReading:
        """Block from the third scan on."""
        self._scans += 1
        if self._scans > 2:
            self._released.wait()
        return super().scan(asked, kept)


class BlockingContainer(ContainerDouble):
    """Blocks in the kernel."""

    def __init__(self, stage: Stage, released: threading.Event) -> None:
        super().__init__(stage)
        self._released = released

    def look(self, pid: int | None, suspects: frozenset[str] = frozenset()) -> ContainerReading:  # noqa: ARG002
        """Block."""
        self._released.wait()
        return super().look(pid)


def blocked(stage: Stage, released: threading.Event) -> Eyes:
    """Eyes of which processes and container block."""
    return msgspec.structs.replace(
        stage.eyes(),
        processes=BlockingProcesses(stage, released),
        container=BlockingContainer(stage, released),
    )


async def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for a condition on the real clock."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not hold in time"
        await asyncio.sleep(0.002)


async def test_blocked_threads_delay_neither_exits_nor_the_loop_nor_closing(
    released: threading.Event,
) -> None:
    """An exit moves the gate while two looks hang in the kernel for ever, and close waits for none of them."""
    stage = Stage(clock=now)
    engine = Engine(Settings(interval=0.2), blocked(stage, released), "1", clock=now)
    tasks = [asyncio.create_task(work()) for _, work in engine.tasks()]

    def gates() -> dict[Gate, bool]:
        return {gate: each.ok for gate, each in engine.board.latest.status.gates.items()}

    await until(lambda: all(gates().values()))
    await until(
        lambda: engine._looks._scanner.busy_seconds is not None and engine._looks._scanner.busy_seconds > 0.05
    )
    assert engine._looks.container._reader.busy_seconds is not None
    turns: list[float] = []

    async def count() -> None:
        while True:
            turns.append(time.monotonic())
            await asyncio.sleep(0.01)

    counting = asyncio.create_task(count())
    # How soon is the bench's business: neither look comes back before the test is over.
    stage.exit(11)
    await until(lambda: not gates()[Gate.READY])
    before = len(turns)
    await until(lambda: len(turns) > before + 5)
    counting.cancel()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, counting, return_exceptions=True)
    await engine.close()
    assert not released.is_set()


async def test_a_look_that_blocks_is_an_error_of_its_source_by_name(released: threading.Event) -> None:
    """Told in /status, with the age of the look."""
    stage = Stage(clock=now)
    engine = Engine(Settings(interval=0.2), blocked(stage, released), "1", clock=now)
    looking = asyncio.create_task(engine._looks.container.look())
    await until(lambda: engine._looks.container._reader.busy_seconds is not None)
    await engine._looks.container.look()
    error = engine._desk.tracks["container"].error
    assert error is not None
    assert error.startswith("read-container has not come back for ")
    looking.cancel()
    await engine.close()


async def test_an_xid_reaches_the_book_while_the_driver_holds_a_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real source, helper and binding: who waits for events does not wait for questions."""
    double = NvmlDouble(tmp_path)
    for name, value in double.environment.items():
        monkeypatch.setenv(name, value)
    double.set(gpus=[GpuState(uuid="GPU-1")])
    source = NvmlSource()
    eyes = msgspec.structs.replace(Stage(clock=now).eyes(), nvml=source)
    engine = Engine(Settings(interval=0.2), eyes, "1", clock=now)
    tasks = [asyncio.create_task(work()) for _, work in engine.tasks()]

    def told() -> bool:
        last = engine.book.evidence.last
        return last is not None and last.xids_told is True

    await until(told)
    hang = {"nvmlDeviceGetMemoryInfo": FOREVER}
    double.set(gpus=[GpuState(uuid="GPU-1", hang=hang)])

    def held() -> bool:
        return source._request is not None and source._request.age > 0.5

    await until(held)
    double.set(gpus=[GpuState(uuid="GPU-1", hang=hang)], xids=[Xid("GPU-1", 79, 1)])
    await until(lambda: 79 in engine.book.gpus.of("GPU-1"))
    assert held()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await engine.close()
