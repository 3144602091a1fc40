"""Real cgroups of this machine, read by the real source and judged: what is pressure, and what only looks like it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from probe.checks.container import cpu, memory_pressure, pids
from probe.checks.observation import Observation
from probe.facts.container import ContainerReading
from probe.facts.findings import Claim
from probe.ledgers import windows
from probe.ledgers.book import Book
from probe.ledgers.strain import unreclaimable
from probe.settings import Settings
from probe.sources.container.source import ContainerSource
from testbed.tools import until
from tests.cgroups import limit_memory, made_cgroup

__all__ = ["made_cgroup"]

MIB = 1 << 20
BUSY = "import sys; print('ready', flush=True)\nwhile True: pass"
WAITING = "import sys; print('ready', flush=True); sys.stdin.read()"
GREEDY = "import sys; held = bytearray({size}); print('ready', flush=True); sys.stdin.read()"
READING = """
import pathlib, sys
for _ in range(3):
    with pathlib.Path({path!r}).open('rb') as file:
        while file.read(1 << 20): pass
print('ready', flush=True); sys.stdin.read()
"""
THREADS = """
import sys, threading
done = threading.Event()
started = []
while True:
    try:
        thread = threading.Thread(target=done.wait)
        thread.start()
        started.append(thread)
    except RuntimeError:
        break
print('ready', flush=True); sys.stdin.read(); done.set()
"""


@contextlib.contextmanager
def running(directory: Path, program: str) -> Iterator[int]:
    """The pid of a Python program in this cgroup that has said ``ready``; killed at the end."""
    command = (
        "sh",
        "-c",
        f'echo $$ > {directory}/cgroup.procs && exec "$@"',
        "sh",
        sys.executable,
        "-c",
        program,
    )
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as made:
        try:
            assert made.stdout is not None
            assert made.stdout.readline() == "ready\n"
            yield made.pid
        finally:
            made.kill()


class Watch:
    """Looks at one process's container over and over, as the daemon does."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.book = Book()
        self.reading = ContainerSource().look(None)

    def look(self, pid: int) -> ContainerReading:
        """Look once more."""
        self.reading = ContainerSource().look(pid)
        self.book = self.book.with_container(self.reading)
        return self.reading

    def claims(self) -> tuple[Claim, ...]:
        """What the checks say of limits that are near or too low, at this moment; a missing one is none."""
        seen = Observation(self.reading.observed, Settings(), self.book)
        told = (claim for each in (cpu, memory_pressure, pids) for claim in each.judge(seen))
        return tuple(each for each in told if each.reason != "CpuUnlimited")

    def reasons(self) -> list[str]:
        """Their reasons."""
        return [each.reason for each in self.claims()]


def test_a_busy_process_below_its_quota_is_throttled_and_an_idle_one_is_not(
    made_cgroup: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fiftieth of a core, which it gets on a busy machine too; the window is shortened, the counters are real."""
    monkeypatch.setattr(windows, "SECONDS", 2.0)
    directory = made_cgroup(b"cpu")
    watch = Watch()
    with running(directory, WAITING) as idle:
        with running(directory, BUSY) as busy:
            if (directory / "cpu.max").exists():
                (directory / "cpu.max").write_text("2000 100000")
            else:
                (directory / "cpu.cfs_quota_us").write_text("2000")
            watch.look(busy)
            assert watch.reasons() == []
            until(lambda: watch.look(busy) and watch.reasons(), seconds=30)
            (claim,) = watch.claims()
        until(lambda: watch.look(idle) and not watch.reasons(), seconds=30)
    assert claim.reason == "CpuThrottled"
    assert claim.evidence["limit_cores"] == 0.02
    assert "from 20m to 100m: resources: {limits: {cpu: 100m}}" in claim.remedy


def test_a_limit_on_processes_that_threads_used_up_is_told_from_one_look(
    made_cgroup: Callable[[bytes], Path],
) -> None:
    """A program that starts threads until the kernel refuses one."""
    directory = made_cgroup(b"pids")
    (directory / "pids.max").write_text("12")
    watch = Watch()
    with running(directory, THREADS) as pid:
        watch.look(pid)
    (claim,) = watch.claims()
    assert claim.reason == "PidsPressure"
    assert (claim.evidence["used"], claim.evidence["limit"]) == (12, 12)
    assert claim.evidence["limit_file"] == str(directory / "pids.max")


def test_file_cache_up_to_the_limit_is_no_pressure_and_memory_is(
    made_cgroup: Callable[[bytes], Path], tmp_path: Path
) -> None:
    """A file that was read again and again fills the cgroup and can be dropped; what a process holds can not."""
    directory = made_cgroup(b"memory")
    limit_memory(directory, 128 * MIB)
    file = tmp_path / "weights"
    file.write_bytes(b"w" * 112 * MIB)
    with file.open("rb+") as opened:
        # Whose page is in memory already is charged to whoever brought it there.
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    watch = Watch()
    with running(directory, READING.format(path=str(file))) as pid:
        # The kernel brings the parts of its account up to date within seconds.
        until(lambda: (unreclaimable(watch.look(pid)) or 0) in range(1, 40 * MIB))
        assert watch.reasons() == []
        assert watch.reading.memory.used_bytes is not None
        assert watch.reading.memory.used_bytes > 0.9 * 128 * MIB
    watch = Watch()
    with running(directory, GREEDY.format(size=117 * MIB)) as pid:
        until(lambda: watch.look(pid) and watch.reasons())
    (claim,) = watch.claims()
    assert claim.reason == "MemoryPressure"
    assert claim.evidence["limit_bytes"] == 128 * MIB
    assert "resources: {limits: {memory: 192Mi}}" in claim.remedy
