"""The watch on a container's counts of OOM kills, over files laid out as a cgroup, and over real ones."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from probe.facts.container import OomCounts
from probe.facts.processes import ProcessId
from probe.kits.inotify import Inotify
from probe.sources.container import events, held
from probe.sources.container.cgroups import UNIFIED
from probe.sources.container.events import ContainerWatch
from probe.sources.container.held import Held, News, hold
from probe.sources.container.source import ContainerSource
from probe.sources.processes.procfs import Procfs
from tests.cgroups import emptied, limit_memory, made_cgroup
from tests.sources.cgroup_trees import (
    PID,
    START_TICKS,
    V1_CGROUP,
    V1_FILES,
    V1_MOUNTS,
    V2_FILES,
    V2_MOUNT,
    Tree,
    tree,
)

__all__ = ["made_cgroup", "tree"]

PATIENCE = 10.0
TRITON = ProcessId(PID, START_TICKS)
FOR_EVER = 3600.0


def said(kills: int, groups: int = 0, full: int = 0) -> str:
    """A ``memory.events`` of version 2, always of the same length; ``full``: how often reclaim met the limit."""
    return f"low 0\nhigh 0\nmax {full:06}\noom {kills:06}\noom_kill {kills:06}\noom_group_kill {groups:06}\n"


def put(file: Path, text: str) -> None:
    """Write without a moment in which the file is empty, as a cgroup's never is."""
    descriptor = os.open(file, os.O_WRONLY)
    try:
        os.pwrite(descriptor, text.encode(), 0)
    finally:
        os.close(descriptor)


def rewrite(file: Path, content: bytes) -> None:
    """Put this in place of all that it holds."""
    file.write_bytes(content)


def obstruct(file: Path, kind: str) -> None:
    """Put something else in its place."""
    file.unlink()
    if kind == "directory":
        file.mkdir()
    elif kind == "fifo":
        os.mkfifo(file)
    else:
        file.symlink_to(file.name)


class Witness:
    """Collects what a watch tells."""

    def __init__(self, proc: Path) -> None:
        self.told: list[OomCounts] = []
        self.limits = 0
        self.watch = ContainerWatch(self.told.append, self._note, proc)

    def _note(self) -> None:
        self.limits += 1

    @property
    def kills(self) -> list[tuple[int, int | None]]:
        """What was told of counts, without moments."""
        return [(each.kills, each.group_kills) for each in self.told]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition."""
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110  (a list that callbacks fill tells no event)
                await asyncio.sleep(0.002)

    async def begin(self, process: ProcessId = TRITON) -> None:
        """Watch, and wait until the file is held open."""
        self.watch.watch(process)
        await self.until(lambda: self.watch.watched is not None)

    async def tried(self, process: ProcessId = TRITON) -> None:
        """Watch, and wait until that has come to its end."""
        self.watch.watch(process)
        await self.until(lambda: self.watch._opening is None)


@pytest.fixture
async def witness(tree: Tree) -> AsyncIterator[Witness]:
    """A watch of the test's own loop, on the process of the tree."""
    watching = Witness(tree.proc)
    yield watching
    watching.watch.close()


@pytest.fixture
def v2(tree: Tree) -> Path:
    """The process is in a container of version 2 that lost nobody yet; its ``memory.events``."""
    tree.process("0::/\n", V2_MOUNT.format(root="/"))
    tree.put(V2_FILES | {"memory.events": said(0)})
    return tree.cgroup_fs / "memory.events"


@pytest.fixture
def v1(tree: Tree) -> Path:
    """The process is in a container of version 1; its ``memory.oom_control``."""
    tree.process(V1_CGROUP, V1_MOUNTS)
    tree.put(V1_FILES)
    return tree.cgroup_fs / "memory/memory.oom_control"


def descriptors() -> int:
    """How many files this process has open."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_kill_is_told_with_the_path_that_looks_give(witness: Witness, tree: Tree, v2: Path) -> None:
    """The counts of looks and of events are compared by where they were read."""
    await witness.begin()
    assert witness.kills == [(0, 0)], "what to compare with is told when the watch begins"
    put(v2, said(1))
    await witness.until(lambda: len(witness.told) > 1)
    assert witness.kills == [(0, 0), (1, 0)]
    memory = tree.look().memory
    assert [each.path for each in witness.told] == [memory.oom_kills_path] * 2
    assert memory.oom_kills == 1
    assert witness.told[0].observed.mono < witness.told[1].observed.mono


async def test_a_kill_of_the_whole_container_is_told_by_itself(witness: Witness, v2: Path) -> None:
    """The kernel counts it after the first of its victims."""
    await witness.begin()
    put(v2, said(1))
    await witness.until(lambda: witness.kills[-1] == (1, 0))
    put(v2, said(1, groups=1))
    await witness.until(lambda: witness.kills[-1] == (1, 1))


async def test_memory_at_its_limit_is_no_news(witness: Witness, v2: Path) -> None:
    """Reclaim changes the same file; only counts of kills stir anybody."""
    await witness.begin()
    for full in range(1, 4):
        put(v2, said(0, full=full))
        await asyncio.sleep(0)
    put(v2, said(1, full=4))
    await witness.until(lambda: len(witness.told) > 1)
    assert witness.kills == [(0, 0), (1, 0)]


async def test_while_events_pour_in_only_some_are_read(
    witness: Witness, v2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one event nothing is read for a while, and what came meanwhile is found at its end."""
    monkeypatch.setattr(events, "REST", FOR_EVER)
    monkeypatch.setattr(events, "MOST_REST", FOR_EVER)
    reads = 0
    read = Held.read

    def counting(self: Held) -> OomCounts | None:
        nonlocal reads
        reads += 1
        return read(self)

    await witness.begin()
    monkeypatch.setattr(Held, "read", counting)
    put(v2, said(0, full=1))
    await witness.until(lambda: reads == 1)
    put(v2, said(1, full=2))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert (reads, len(witness.told)) == (1, 1)
    counts = witness.watch.counts()
    assert counts is not None
    assert counts.kills == 1, "who asks is told all the same"


async def test_a_kill_while_the_watch_rests_is_told_at_its_end(
    witness: Witness, v2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the rest was doubled by what came before."""
    monkeypatch.setattr(events, "REST", 0.001)
    await witness.begin()
    for full in range(1, 20):
        put(v2, said(0, full=full))
        await asyncio.sleep(0.002)
    put(v2, said(1, full=20))
    await witness.until(lambda: witness.kills == [(0, 0), (1, 0)])


@pytest.mark.usefixtures("v2")
async def test_a_limit_that_is_written_is_told_at_every_level(witness: Witness, tree: Tree) -> None:
    """A pod's own as well as its container's, memory, CPU and processes."""
    tree.process("0::/pod/c1\n", V2_MOUNT.format(root="/"))
    tree.put(V2_FILES, "pod/c1")
    tree.put({"memory.max": "max"}, "pod")
    await witness.begin()
    assert witness.watch.watched == "/sys/fs/cgroup/pod/c1/memory.events"
    for count, name in enumerate(("pod/memory.max", "pod/c1/cpu.max", "pod/c1/pids.max", "memory.max"), 1):
        put(tree.cgroup_fs / name, "9")
        await witness.until(lambda count=count: witness.limits == count)  # type: ignore[misc]
    assert len(witness.told) == 1


async def test_version_1_tells_nobody_and_answers(witness: Witness, v1: Path) -> None:
    """Its counts have no events in a container; who sees a process end asks."""
    await witness.begin()
    put(v1, "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n")
    counts = witness.watch.counts()
    assert counts is not None
    assert (counts.kills, counts.group_kills) == (7, None)
    assert counts.path == "/sys/fs/cgroup/memory/memory.oom_control"
    assert witness.kills == [(2, None)]


@pytest.mark.parametrize(("where", "code"), [("open", errno.EMFILE), ("add", errno.ENOSPC)])
async def test_without_inotify_the_counts_can_still_be_asked(
    witness: Witness, v2: Path, caplog: pytest.LogCaptureFixture, where: str, code: int
) -> None:
    """Other programs may use up what the node has of it: that is said once, and tried again."""
    before = descriptors()

    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(Inotify, where, refuse)
        patch.setattr(events, "RETRY", 0.0)
        await witness.begin()
        await witness.tried()
        put(v2, said(1))
        counts = witness.watch.counts()
        assert counts is not None
        assert counts.kills == 1
    assert witness.kills == [(0, 0)]
    assert [each.getMessage().count(os.strerror(code)) for each in caplog.records] == [1]
    await witness.tried()
    put(v2, said(2))
    await witness.until(lambda: witness.kills[-1] == (2, 0))
    witness.watch.close()
    assert descriptors() == before


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENODEV])
@pytest.mark.usefixtures("v2")
async def test_what_may_not_be_opened_is_left_to_looks(
    witness: Witness, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A look says what is missing for want of permission; here nothing is raised and nothing told."""

    def refuse(path: bytes) -> int:
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(held, "opened", refuse)
    await witness.tried()
    assert (witness.watch.watched, witness.watch.counts(), witness.told) == (None, None, [])
    monkeypatch.undo()
    await witness.tried()
    assert witness.watch.watched is None, "it is not tried again at once"
    monkeypatch.setattr(witness.watch, "_due", 0.0)
    await witness.begin()


@pytest.mark.parametrize("cgroup", ["", "rubbish\n", "0::/\n", "7:cpu:/\n"])
async def test_a_process_without_an_account_of_memory_is_not_watched(
    witness: Witness, tree: Tree, cgroup: str
) -> None:
    """No cgroup that can be told, or one without the controller."""
    tree.process(cgroup, V2_MOUNT.format(root="/"))
    await witness.tried()
    assert witness.watch.watched is None


@pytest.mark.usefixtures("v2")
async def test_a_pid_that_now_is_another_process_is_not_watched(witness: Witness, tree: Tree) -> None:
    """Same number, other start time: its container is not Triton's."""
    before = descriptors()
    tree.starts(START_TICKS + 1)
    await witness.tried()
    assert (witness.watch.watched, witness.told) == (None, [])
    assert descriptors() == before


@pytest.mark.usefixtures("v2")
async def test_a_process_that_is_moved_midway_is_not_watched(
    witness: Witness, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was opened is then of a cgroup that it has left."""
    listen = Held.listen

    def moving(self: Held, limits: list[bytes]) -> None:
        listen(self, limits)
        (tree.base / "cgroup").write_text("0::/other\n")

    monkeypatch.setattr(Held, "listen", moving)
    await witness.tried()
    assert witness.watch.watched is None


async def test_another_process_is_watched_in_place_of_the_first(
    witness: Witness, tree: Tree, v2: Path
) -> None:
    """What happens to the container of the first from then on is nobody's business."""
    await witness.begin()
    tree.starts(9)
    tree.put(V2_FILES | {"memory.events": said(3)}, "new")
    tree.process("0::/new\n", V2_MOUNT.format(root="/"))
    await witness.begin(ProcessId(PID, 9))
    put(v2, said(1))
    put(tree.cgroup_fs / "new/memory.events", said(4))
    await witness.until(lambda: len(witness.told) > 2)
    assert witness.kills == [(0, 0), (3, 0), (4, 0)]
    witness.watch.watch(None)
    assert (witness.watch.watched, witness.watch.counts()) == (None, None)


@pytest.mark.parametrize("how", ["told", "read"])
async def test_a_removed_cgroup_is_let_go_and_opened_anew(
    witness: Witness, v2: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The kernel says so when the file is read (ENODEV), or ends the watch; the process may be elsewhere now."""
    monkeypatch.setattr(events, "RETRY", 0.0)
    await witness.begin()
    if how == "told":
        end_watch(witness.watch)
        await witness.until(lambda: witness.watch.watched is None)
    else:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", _no_device)
            assert witness.watch.counts() is None
    put(v2, said(5))
    assert witness.watch.watched is None
    await witness.begin()
    assert witness.kills == [(0, 0), (5, 0)]


def end_watch(watch: ContainerWatch) -> None:
    """Have the kernel say that the watch ended, as it does when a file system goes away."""
    assert watch._held is not None
    assert watch._held.queue is not None
    watch._held.queue.remove(watch._held._counting)


def _no_device(*_: object) -> bytes:
    raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0" * 9,
        b"oom_kill",
        b"oom_kill \n",
        b"oom_kill -1\n",
        b"oom_kill x\n",
        b"oom_kill 1 2\n",
        b"oom 5\n",
    ],
)
async def test_garbage_is_no_count(witness: Witness, v2: Path, text: bytes) -> None:
    """Neither told nor answered, and the next good one is."""
    await witness.begin()
    rewrite(v2, text)
    assert witness.watch.counts() is None
    rewrite(v2, said(2).encode())
    await witness.until(lambda: witness.kills[-1] == (2, 0))
    assert witness.kills == [(0, 0), (2, 0)]


@pytest.mark.parametrize("kind", ["directory", "fifo", "link loop"])
async def test_another_kind_of_file_in_the_way_neither_blocks_nor_raises(
    witness: Witness, v2: Path, kind: str
) -> None:
    """A container can put anything at its paths."""
    obstruct(v2, kind)
    await witness.tried()
    assert witness.watch.counts() is None
    assert witness.told == []


@pytest.mark.usefixtures("v2")
async def test_a_file_system_that_hangs_holds_nobody_up(
    witness: Witness, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are opened on a thread, one at a time; what comes too late is closed, and the loop goes on."""
    before = descriptors()
    released = threading.Event()
    made: list[bool] = []

    def hanging(process: ProcessId, proc: Path) -> Held | None:
        found = hold(process, proc)
        released.wait(PATIENCE)
        made.append(found is not None)
        return found

    monkeypatch.setattr(events, "hold", hanging)
    monkeypatch.setattr(events, "OPEN_DEADLINE", 0.01)
    monkeypatch.setattr(events, "RETRY", 0.0)
    await witness.tried()
    await witness.tried()
    assert witness.watch.watched is None
    released.set()
    await witness.until(lambda: len(made) == 1)
    await witness.until(lambda: descriptors() == before)
    monkeypatch.setattr(events, "OPEN_DEADLINE", PATIENCE)
    await witness.begin()
    assert made == [True, True]


@pytest.mark.usefixtures("v2")
async def test_who_is_wanted_no_more_when_its_files_are_open_is_not_watched(
    witness: Witness, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is wanted by then is opened at once."""
    entered, released = threading.Event(), threading.Event()

    def slow(process: ProcessId, proc: Path) -> Held | None:
        found = hold(process, proc)
        entered.set()
        released.wait(PATIENCE)
        return found

    monkeypatch.setattr(events, "hold", slow)
    witness.watch.watch(TRITON)
    await witness.until(entered.is_set)
    witness.watch.watch(None)
    tree.starts(9)
    witness.watch.watch(ProcessId(PID, 9))
    released.set()
    await witness.until(lambda: witness.watch.watched is not None)
    assert len(witness.told) == 1


async def test_everything_is_given_back(tree: Tree, v2: Path) -> None:
    """Descriptors, and the reader in the loop, also in the middle of a rest; twice is the same as once."""
    before = descriptors()
    witness = Witness(tree.proc)
    await witness.begin()
    put(v2, said(1))
    await witness.until(lambda: len(witness.told) == 2)
    witness.watch.close()
    witness.watch.close()
    assert descriptors() == before
    put(v2, said(2))
    await asyncio.sleep(0.03)
    assert len(witness.told) == 2


def identity(pid: int) -> ProcessId:
    """Who has this pid now."""
    stat = Procfs().stat(pid)
    assert stat is not None
    return ProcessId(pid, stat.start_ticks)


async def test_the_kernel_s_own_change_of_a_cgroup_s_file_is_told_and_its_removal_is_an_error(
    made_cgroup: Callable[[bytes], Path],
) -> None:
    """A file of version 2 is watched by the descriptor that it is read by, through the root of a process.

    Up to Linux 6.18 at least, the removal of a cgroup is told to no watch: only a read finds out.
    """
    directory = made_cgroup(UNIFIED)
    here = str(directory)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:  # noqa: ASYNC220
        path = f"/proc/{child.pid}/root{here}/cgroup.events"
        counts = Held(path, os.open(path, os.O_RDONLY))
        counts.listen([])
        assert counts.queue is not None
        told = asyncio.Event()
        asyncio.get_running_loop().add_reader(counts.queue.fileno(), told.set)
        rewrite(directory / "cgroup.procs", b"%d" % child.pid)
        async with asyncio.timeout(PATIENCE):
            await told.wait()
        assert counts.news() == News(counts=True, limits=False, ended=False)
        asyncio.get_running_loop().remove_reader(counts.queue.fileno())
        child.kill()
    await removed(directory)
    with pytest.raises(OSError, match="No such device"):
        counts.read()
    counts.close()


async def removed(directory: Path) -> None:
    """Wait until the cgroup could be removed."""
    async with asyncio.timeout(PATIENCE):
        while not emptied(directory):  # noqa: ASYNC110  (the kernel tells nobody)
            await asyncio.sleep(0.01)


async def test_a_real_kill_is_read_from_what_is_held_until_the_cgroup_is_gone(
    made_cgroup: Callable[[bytes], Path],
) -> None:
    """The path is that of a look, and the count is there although the container's processes are all gone."""
    directory = made_cgroup(b"memory")
    limit_memory(directory, 32 << 20)
    join = f"echo $$ > {directory}/cgroup.procs && echo ready && read go && exec {sys.executable}"
    greedy = ["sh", "-c", f"{join} -c 'bytearray(200 << 20)'"]
    witness = Witness(Path("/proc"))
    with subprocess.Popen(greedy, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as victim:  # noqa: ASYNC220
        assert victim.stdin is not None
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"ready\n"
        await witness.begin(identity(victim.pid))
        looked = ContainerSource().look(victim.pid)
        victim.stdin.write(b"go\n")
        victim.stdin.close()
        assert victim.wait(PATIENCE) == -9
    counts = witness.watch.counts()
    assert counts is not None
    assert (counts.kills, counts.path) == (1, looked.memory.oom_kills_path)
    await removed(directory)
    assert (witness.watch.counts(), witness.watch.watched) == (None, None)
    witness.watch.close()
