"""The watch on Triton's ``/dev/shm``, with the real kernel's events."""

from __future__ import annotations

import asyncio
import errno
import itertools
import mmap
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from probe.facts.container import ShmLevel
from probe.facts.processes import ProcessId
from probe.kits.inotify import Inotify
from probe.sources.container import shm, shm_watch
from probe.sources.container.shm_watch import LONGEST_PAUSE, PAUSE, ShmWatch
from probe.sources.processes.procfs import Procfs
from testbed.tools import missing

MIB = 1 << 20


async def soon(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait in the loop until it holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  (what the kernel does rings no bell of ours)
            await asyncio.sleep(0.005)


@pytest.fixture
def triton() -> Iterator[subprocess.Popen[str]]:
    """A process with a ``/dev/shm`` of 16 MiB of its own, which reads commands."""
    if os.geteuid() != 0:
        missing("root, for namespaces")
    script = "mount -t tmpfs -o size=16m none /dev/shm && echo ready && exec sh"
    with subprocess.Popen(
        ("unshare", "--mount", "sh", "-c", script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as made:
        try:
            assert made.stdout is not None
            assert made.stdout.readline() == "ready\n"
            yield made
        finally:
            made.kill()


def identity(pid: int) -> ProcessId:
    """The process's pid and start."""
    stat = Procfs().stat(pid)
    assert stat is not None
    return ProcessId(pid, stat.start_ticks)


def folder(triton: subprocess.Popen[str]) -> Path:
    """Its ``/dev/shm`` as it is seen from here."""
    return Path(f"/proc/{triton.pid}/root/dev/shm")


def watching(watch: ShmWatch) -> bool:
    """Whether the kernel tells it."""
    return watch.watching


async def begun(watch: ShmWatch, process: ProcessId) -> None:
    """Watch this process, and wait until the kernel tells."""
    watch.watch(process)
    await soon(lambda: watch.watching)


async def tried(watch: ShmWatch, process: ProcessId) -> None:
    """Watch this process, and wait until that was tried."""
    watch.watch(process)
    await soon(lambda: watch._opening is None)


def open_files() -> int:
    """How many descriptors this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def grow(path: Path, size: int) -> None:
    """As a region is made, and as it grows."""
    with path.open("ab") as file:
        os.truncate(file.fileno(), size)
        os.posix_fallocate(file.fileno(), 0, size)


async def test_a_region_that_comes_grows_and_goes_is_told_each_time(triton: subprocess.Popen[str]) -> None:
    """With how full the file system then is, in bytes; nobody polls."""
    told: list[ShmLevel] = []
    watch = ShmWatch(told.append)
    await begun(watch, identity(triton.pid))
    try:
        grow(folder(triton) / "region", MIB)
        await soon(lambda: told and told[-1].used_bytes == MIB)
        grow(folder(triton) / "region", 15 * MIB)
        await soon(lambda: told[-1].used_bytes == 15 * MIB)
        assert told[-1].size_bytes == 16 * MIB
        assert told[-1].nearly_full
        assert told[-1].inodes_free
        (folder(triton) / "region").unlink()
        await soon(lambda: told[-1].used_bytes == 0)
    finally:
        watch.close()


async def test_only_a_file_by_the_name_of_a_region_that_comes_is_told_as_one(
    triton: subprocess.Popen[str],
) -> None:
    """Clients make and remove files of their own with each request."""
    told: list[ShmLevel] = []
    watch = ShmWatch(told.append)
    await begun(watch, identity(triton.pid))
    try:
        grow(folder(triton) / "clients", MIB)
        await soon(lambda: told and told[-1].used_bytes == MIB)
        assert not any(each.region_came for each in told)
        grow(folder(triton) / "triton_python_backend_shm_region_1", MIB)
        await soon(lambda: told[-1].used_bytes == 2 * MIB)
        assert sum(each.region_came for each in told) == 1
    finally:
        watch.close()


async def test_what_is_written_through_a_mapping_and_what_is_read_tells_nothing(
    triton: subprocess.Popen[str],
) -> None:
    """Tensors cost nobody a turn of the loop, and neither do the probe's own looks."""
    path = folder(triton) / "region"
    grow(path, MIB)
    told: list[ShmLevel] = []
    watch = ShmWatch(told.append)
    await begun(watch, identity(triton.pid))
    try:
        with path.open("r+b") as file, mmap.mmap(file.fileno(), MIB) as mapped:
            for letter in b"abcdefghij":
                mapped[:] = bytes([letter]) * MIB
                list(folder(triton).iterdir())
                await asyncio.sleep(PAUSE / 5)
            assert told == []
            (folder(triton) / "last").mkdir()
            await soon(lambda: told)
            assert len(told) == 1
    finally:
        watch.close()


async def test_a_flood_of_changes_is_told_at_a_bounded_pace(
    triton: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, then after a pause, a longer one once it goes on and on; and the end of it is told too."""
    monkeypatch.setattr(shm_watch, "FLOOD", 3 * PAUSE)
    loop = asyncio.get_running_loop()
    moments: list[float] = []
    levels: list[ShmLevel] = []

    def told(level: ShmLevel) -> None:
        moments.append(loop.time())
        levels.append(level)

    def gaps() -> list[float]:
        return [after - before for before, after in itertools.pairwise(moments)]

    watch = ShmWatch(told)
    await begun(watch, identity(triton.pid))
    try:
        while max(gaps(), default=0.0) < LONGEST_PAUSE * 0.99:
            (folder(triton) / "one").touch()
            (folder(triton) / "one").unlink()
            await asyncio.sleep(0.001)
        grow(folder(triton) / "last", 3 * MIB)
        await soon(lambda: levels[-1].used_bytes == 3 * MIB)
    finally:
        watch.close()
    assert all(gap >= PAUSE * 0.99 for gap in gaps())
    assert len(moments) < 40


async def test_another_process_is_watched_instead_and_none_at_the_end(triton: subprocess.Popen[str]) -> None:
    """The same one is not taken twice; after the close nobody is told."""
    told: list[ShmLevel] = []
    watch = ShmWatch(told.append)
    process = identity(triton.pid)
    await begun(watch, process)
    queue = watch._queue
    watch.watch(process)
    assert watch._queue is queue
    await begun(watch, identity(os.getpid()))
    assert watch._queue is not queue
    await begun(watch, process)
    (folder(triton) / "a").touch()
    await soon(lambda: told)
    (folder(triton) / "b").touch()
    await soon(lambda: watch._timer is not None)
    watch.watch(None)
    assert not watching(watch)
    count = len(told)
    watch._stirred()
    watch._tell()
    assert len(told) == count
    watch.close()


async def test_an_unmounted_file_system_is_no_longer_watched(triton: subprocess.Popen[str]) -> None:
    """The next call takes what is there then."""
    told: list[ShmLevel] = []
    watch = ShmWatch(told.append)
    process = identity(triton.pid)
    await begun(watch, process)
    assert triton.stdin is not None
    triton.stdin.write("umount --lazy /dev/shm && mount -t tmpfs -o size=32m none /dev/shm\n")
    triton.stdin.flush()
    await soon(lambda: shutil.disk_usage(folder(triton)).total == 32 * MIB)
    watch.close()
    await begun(watch, process)
    (folder(triton) / "a").touch()
    await soon(lambda: told and told[-1].size_bytes == 32 * MIB)
    watch.close()


async def test_a_watch_that_the_kernel_ended_is_taken_again(
    triton: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by an event of its own, whatever else waits."""
    told: list[ShmLevel] = []
    watch = ShmWatch(told.append)
    process = identity(triton.pid)
    await begun(watch, process)
    assert watch._queue is not None
    watch._queue.remove(1)
    await soon(lambda: not watching(watch))
    assert told == []
    await begun(watch, process)

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(shm, "use_of", broken)
    (folder(triton) / "a").touch()
    await soon(lambda: not watching(watch))
    measured: list[int] = []
    monkeypatch.setattr(shm, "use_of", measured.append)
    await begun(watch, process)
    (folder(triton) / "b").touch()
    await soon(lambda: measured)
    assert told == []
    assert watching(watch)
    watch.close()


async def test_what_can_not_be_watched_is_tried_again(
    triton: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone, another process by then, or no watch to be had: nothing is left open, nothing raises."""
    watch = ShmWatch(lambda _: None)
    process = identity(triton.pid)
    before = open_files()
    await tried(watch, ProcessId(process.pid, process.start_ticks + 1))
    await tried(watch, ProcessId(1 << 22, 1))
    refused = OSError(errno.ENOSPC, "no watch left")

    def refuse(*_: object) -> int:
        raise refused

    with monkeypatch.context() as patch:
        patch.setattr(Inotify, "add", refuse)
        await tried(watch, process)
    assert not watching(watch)
    assert open_files() == before
    await begun(watch, process)
    watch.close()


async def test_a_container_whose_root_does_not_answer_keeps_one_thread_and_nothing_else(
    triton: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop goes on; what comes late is closed again, and the next try watches."""
    answer = threading.Event()
    reached = shm.reached

    def hangs(*arguments: Any) -> int:  # noqa: ANN401
        answer.wait(30)
        return reached(*arguments)

    monkeypatch.setattr(shm_watch, "OPEN_DEADLINE", 0.05)
    monkeypatch.setattr(shm, "reached", hangs)
    watch = ShmWatch(lambda _: None)
    process = identity(triton.pid)
    before = open_files()
    for _ in range(3):
        await tried(watch, process)
    assert not watching(watch)
    assert sum(each.name == "open-shm" for each in threading.enumerate()) == 1
    answer.set()
    await soon(lambda: watch._errand is not None and watch._errand.busy_seconds is None)
    await soon(lambda: open_files() == before)
    await begun(watch, process)
    watch.close()
    await soon(lambda: open_files() == before)


async def test_the_last_process_that_was_asked_for_is_watched(triton: subprocess.Popen[str]) -> None:
    """Asked for while the way to another is still being found."""
    watch = ShmWatch(lambda _: None)
    watch.watch(identity(os.getpid()))
    process = identity(triton.pid)
    await begun(watch, process)
    await soon(lambda: watch._process == process and watch._opening is None)
    told: list[ShmLevel] = []
    watch._on_change = told.append
    (folder(triton) / "a").touch()
    await soon(lambda: told)
    assert told[-1].size_bytes == 16 * MIB
    watch.watch(None)
    watch.watch(process)
    watch.watch(None)
    await soon(lambda: watch._opening is None)
    assert not watching(watch)
    watch.close()
