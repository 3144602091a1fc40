"""The life of the NVML helper: started once, waited for never too long, restarted with pauses."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from probe.facts.nvml import NvmlState
from probe.sources.nvml.process import LONGEST_LINE
from probe.sources.nvml.source import NvmlSource
from testbed.nvml.double import EVERY, FOREVER, GpuState, NvmlDouble
from testbed.tools import PATIENCE
from tests.sources.nvml_looks import helpers, look_until, until

GPU = GpuState(uuid="GPU-1")


@pytest.fixture(autouse=True)
def one_gpu(double: NvmlDouble) -> None:
    """Give the double a GPU."""
    double.set(gpus=[GPU])


@pytest.fixture
async def source(double: NvmlDouble) -> AsyncIterator[NvmlSource]:
    """Lend a source that waits patiently, whose helper is up."""
    source = NvmlSource(deadline=60)
    await look_until(source, lambda reading: reading.state is NvmlState.OK)
    yield source
    await source.close()


@pytest.fixture
async def hasty(double: NvmlDouble) -> AsyncIterator[NvmlSource]:
    """Lend a source with a deadline that tests can wait for."""
    source = NvmlSource(deadline=1.0)
    # The first helper may need longer than the deadline to come up on a busy machine.
    await look_until(source, lambda reading: reading.state is NvmlState.OK)
    yield source
    await source.close()


async def test_no_helper_runs_before_the_first_look(double: NvmlDouble) -> None:
    """A source that is never asked starts nothing."""
    source = NvmlSource()
    assert source.pid is None
    assert helpers() == []
    await source.close()


async def test_looks_share_one_helper(source: NvmlSource) -> None:
    """Look after look, the same process answers."""
    pid = source.pid
    readings = [await source.look() for _ in range(5)]
    assert [each.state for each in readings] == [NvmlState.OK] * 5
    assert helpers() == [pid]


async def test_the_helper_starts_from_any_folder(
    double: NvmlDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The working directory neither hides the package nor replaces what the helper imports."""
    (tmp_path / "pynvml.py").write_text("raise SystemExit(7)")
    (tmp_path / "json.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    source = NvmlSource(deadline=60)
    assert (await source.look()).state is NvmlState.OK
    await source.close()


async def test_a_hang_is_told_within_the_deadline_and_heals(hasty: NvmlSource, double: NvmlDouble) -> None:
    """While every call hangs, looks say HUNG with a growing age; then the same helper goes on."""
    source, pid = hasty, hasty.pid
    double.set(gpus=[GPU], hang={EVERY: FOREVER})
    began = time.monotonic()
    first = await source.look()
    assert first.state is NvmlState.HUNG
    assert time.monotonic() - began > 0.9
    assert first.outstanding_seconds >= 1.0
    begun = source._number
    second = await source.look()
    assert source._number == begun, "the helper was asked once more"
    assert second.state is NvmlState.HUNG
    assert second.outstanding_seconds > first.outstanding_seconds
    assert helpers() == [pid]
    double.set(gpus=[GpuState(uuid="GPU-2")])
    healed = await look_until(source, lambda reading: reading.state is NvmlState.OK)
    assert [gpu.uuid for gpu in healed.gpus] == ["GPU-2"]
    assert source.pid == pid


async def test_an_answer_that_takes_its_time_tells_when_it_was_asked_for(double: NvmlDouble) -> None:
    """What happened while the driver was at it may be in no list of it."""
    source = NvmlSource(deadline=60)
    await source.look()
    double.set(gpus=[GPU], hang={"nvmlDeviceGetCount_v2": 0.3})
    before = time.monotonic()
    slow = await source.look()
    assert slow.state is NvmlState.OK
    assert before <= slow.began.mono <= slow.observed.mono - 0.3
    await source.close()


async def test_a_look_between_is_not_multiplied(source: NvmlSource, double: NvmlDouble) -> None:
    """Looks that overlap share one request and one answer."""
    double.set(gpus=[GPU], hang={"nvmlDeviceGetCount_v2": 0.1})
    before = source._number
    readings = await asyncio.gather(*(source.look() for _ in range(10)))
    assert {each.state for each in readings} == {NvmlState.OK}
    assert source._number == before + 1


async def test_an_abandoned_helper_is_replaced_once_it_is_gone(double: NvmlDouble) -> None:
    """A call outstanding for too long costs the helper its life; the next one finds NVML again."""
    source = NvmlSource(deadline=0.3, abandon_after=0.6)
    await look_until(source, lambda reading: reading.state is NvmlState.OK)
    first = source.pid
    double.set(gpus=[GPU], hang={EVERY: FOREVER})
    await look_until(source, lambda _: first not in helpers())
    assert (await source.look()).state is NvmlState.HUNG
    double.set(gpus=[GPU])
    await look_until(source, lambda reading: reading.state is NvmlState.OK)
    assert source.pid != first
    assert len(helpers()) == 1
    await source.close()


async def test_a_helper_that_can_not_die_is_never_multiplied(
    double: NvmlDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In uninterruptible sleep SIGKILL waits: the source sends it once, starts no second, and says HUNG."""
    source = NvmlSource(deadline=0.2, abandon_after=0.3)
    await look_until(source, lambda reading: reading.state is NvmlState.OK)
    process = source._process
    assert process is not None
    kills = []
    monkeypatch.setattr(process._popen, "kill", lambda: kills.append(1))
    double.set(gpus=[GPU], hang={EVERY: FOREVER})
    reading = await look_until(source, lambda reading: reading.outstanding_seconds > 1.0)
    assert reading.state is NvmlState.HUNG
    assert kills == [1]
    assert helpers() == [process.pid]
    monkeypatch.undo()
    process._killed = False
    await source.close()
    await until(lambda: helpers() == [])


async def test_a_killed_helper_comes_back_after_a_pause(source: NvmlSource) -> None:
    """Its death is an ERROR that names the signal; a second later another answers."""
    pid = source.pid
    assert pid is not None
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    reading = await look_until(source, lambda reading: reading.state is NvmlState.ERROR)
    assert "signal 9" in reading.detail
    assert helpers() == []
    await look_until(source, lambda reading: reading.state is NvmlState.OK)
    assert time.monotonic() - killed > 0.9
    assert source.pid != pid


async def test_a_helper_found_dead_by_the_next_question_is_told_with_its_signal(source: NvmlSource) -> None:
    """The question comes before the loop has read the end of the pipe: it is the same end."""
    assert source.pid is not None
    os.kill(source.pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while b") Z " not in Path(f"/proc/{source.pid}/stat").read_bytes():  # noqa: ASYNC240  (the loop must not turn)
        assert time.monotonic() < deadline
    reading = await source.look()
    assert (reading.state, "signal 9" in reading.detail) == (NvmlState.ERROR, True)


async def test_pauses_double_up_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper that never comes up is tried after 1, 2, 4 … and at last every 60 seconds."""
    clock = 1000.0
    starts: list[float] = []
    monkeypatch.setattr("probe.sources.nvml.source.time", SimpleNamespace(monotonic=lambda: clock))
    source = NvmlSource(command=["/nowhere/python"])
    give_up = source._give_up

    def noted(why: str) -> None:
        starts.append(clock)
        give_up(why)

    monkeypatch.setattr(source, "_give_up", noted)
    for _ in range(1200):
        reading = await source.look()
        clock += 0.25
    assert reading.state is NvmlState.ERROR
    assert "can not be started" in reading.detail
    pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert pauses[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert set(pauses[6:]) == {60}


SCRIPTS = {
    "no JSON": "sys.stdin.readline(); print('Traceback (most recent call last):')",
    "not UTF-8": "sys.stdin.readline(); sys.stdout.buffer.write(b'\\xff\\xfe\\n')",
    "another shape": "sys.stdin.readline(); print('[1, 2]')",
    "wrong types": 'sys.stdin.readline(); print(\'{"id": 1, "gpus": [{"uuid": 5}]}\')',
    "an Xid without a code": 'sys.stdin.readline(); print(\'{"xid": {"uuid": "GPU-1"}}\')',
    "an Xid of no shape": "sys.stdin.readline(); print('{\"xid\": 79}')",
    "another request's answer": "sys.stdin.readline(); print('{\"id\": 77}')",
    "too deep": "sys.stdin.readline(); print('[' * 100000)",
    "no end of line": f"sys.stdin.readline(); sys.stdout.write('x' * {LONGEST_LINE + 70000})",
    "nothing": "sys.stdin.readline(); sys.exit(3)",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
async def test_garbage_is_an_error_and_costs_the_helper_its_life(script: str) -> None:
    """A helper that answers anything but an answer is ended, whatever it would have done next."""
    tail = "; sys.stdout.flush(); time.sleep(60)"
    source = NvmlSource(deadline=60, command=[sys.executable, "-c", f"import sys, time; {script}{tail}"])
    reading = await source.look()
    assert reading.state is NvmlState.ERROR
    assert reading.detail
    assert reading.gpus == ()
    process = source._process
    assert process is not None
    assert await process.wait_gone(PATIENCE)
    await source.close()


async def test_a_line_that_nobody_asked_for_is_an_error(tmp_path: Path) -> None:
    """A chatty helper is not trusted: the next look says so."""
    script = "import time; print('{\"id\": 0}', flush=True); time.sleep(60)"
    source = NvmlSource(deadline=60, command=[sys.executable, "-c", script])
    reading = await source.look()
    assert reading.state is NvmlState.ERROR
    assert "not asked" in reading.detail
    await source.close()


async def test_close_is_quick_while_nvml_hangs(source: NvmlSource, double: NvmlDouble) -> None:
    """It waits for nobody: no process is left, and a look that still waits gets its answer."""
    double.set(gpus=[GPU], hang={EVERY: FOREVER})
    waiting = asyncio.create_task(source.look())
    await asyncio.sleep(0)  # the look sends its request
    began = time.monotonic()
    await source.close()
    assert time.monotonic() - began < 30, "the look had 60 s"
    assert (await waiting).state is NvmlState.ERROR
    await until(lambda: helpers() == [])
    assert (await source.look()).state is NvmlState.ERROR
    assert helpers() == []


async def test_a_cancelled_look_leaves_the_source_usable(source: NvmlSource, double: NvmlDouble) -> None:
    """Whoever stops waiting takes nothing from the next one."""
    double.set(gpus=[GPU], hang={EVERY: FOREVER})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await source.look()
    double.set(gpus=[GPU])
    assert (await look_until(source, lambda reading: reading.state is NvmlState.OK)).gpus


async def test_the_helper_ignores_ctrl_c(source: NvmlSource) -> None:
    """SIGINT reaches the whole foreground group; only the daemon acts on it."""
    pid = source.pid
    assert pid is not None
    os.kill(pid, signal.SIGINT)
    assert (await source.look()).state is NvmlState.OK
    assert source.pid == pid


async def told(lines: asyncio.StreamReader, state: bytes) -> int:
    """Read until the daemon tells that state; returns its helper's pid."""
    async with asyncio.timeout(PATIENCE):
        while not (line := await lines.readline()).startswith(state):
            assert line
    return int(line.split()[1])


DAEMON = """
import asyncio, os, signal
from probe.sources.nvml.source import NvmlSource

async def main():
    source = NvmlSource(deadline=0.5, abandon_after=3600)
    while True:
        print((await source.look()).state, source.pid, flush=True)
        await asyncio.sleep(0.02)

asyncio.run(main())
"""


async def test_the_helper_dies_with_its_daemon_even_inside_a_hung_call(double: NvmlDouble) -> None:
    """SIGKILL on the daemon leaves no helper behind: the kernel passes it on."""
    double.set(gpus=[GPU])
    daemon = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        DAEMON,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    assert daemon.stdout is not None
    pid = await told(daemon.stdout, b"ok")
    double.set(gpus=[GPU], hang={EVERY: FOREVER})
    assert await told(daemon.stdout, b"hung") == pid
    helper = psutil.Process(pid)
    daemon.kill()
    await daemon.wait()
    ends = time.monotonic() + PATIENCE
    while helper.is_running() and helper.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < ends
        await asyncio.sleep(0.02)
