"""The real Triton's processes, as ``/proc`` shows them, and exits as the kernel tells them."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from probe.facts.processes import Exit, ProcessId, ProcessReading, ProcessState
from probe.sandbox.pods import Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from probe.sandbox.wheel import TritonInstallation
from probe.sources.processes.exits import ExitWatch, most_watched
from probe.sources.processes.procfs import Procfs
from probe.sources.processes.source import ProcessSource
from testbed.tools import PATIENCE, until

StartTriton = Callable[..., TritonServer]

_SCAN = """
import sys, msgspec
from probe.sources.processes.source import ProcessSource
sys.stdout.buffer.write(msgspec.json.encode(ProcessSource(int(sys.argv[1])).scan([1, 2**22])))
"""


@pytest.fixture(scope="module")
def server(
    triton_installation: TritonInstallation, pods_work: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """A Triton with two instances of one model and one of another, which starts a child of its own."""
    folder = tmp_path_factory.mktemp("processes")
    repository = (
        Repository(folder / "models")
        .add_echo(kind="KIND_CPU", instances=2)
        .add_echo("parent", parameters={"children": "1", "child_name": "VLLM::EngineCore"})
    )
    with Pod.open() as pod:
        log = folder / "triton.log"
        yield TritonServer(pod, triton_installation, repository.path, log=log).wait_ready()


def scan_inside(server: TritonServer) -> ProcessReading:
    """One scan by a process of the pod, as the sidecar makes it."""
    port = str(server.ports[0])
    program = server.pod.popen((sys.executable, "-c", _SCAN, port), stdout=subprocess.PIPE)
    told, _ = program.process.communicate(timeout=PATIENCE)
    return msgspec.json.decode(told, type=ProcessReading)


def instances(reading: ProcessReading) -> list[str]:
    """The instance names of the stubs."""
    return sorted(each.arguments.name for each in reading.stubs)


def test_a_pods_own_scan_finds_server_stubs_and_their_children(server: TritonServer) -> None:
    """With the pids of the pod, instance names, models, states and memory."""
    reading = scan_inside(server)
    assert reading.server is not None
    assert reading.server.option("grpc-port") == str(server.ports[0])
    assert server.pod.outer_pid(reading.server.process.id.pid) == server.outer_pid
    assert reading.server.process.rss_bytes > 10 << 20
    assert abs(reading.server.process.started_at - time.time()) < 3600
    assert instances(reading) == ["echo_0_0", "echo_0_1", "parent_0"]
    assert reading.other_servers == 0
    assert reading.initial_namespace is False
    assert reading.existing_pids == {1}
    assert [each.id.pid for each in reading.asked] == [1]
    assert reading.ticks is not None
    assert 0 < reading.ticks - reading.server.process.id.start_ticks < 3600 * reading.ticks_per_second
    assert reading.began_after(reading.server.process, reading.observed.shifted(-86_400))
    assert not reading.began_after(reading.server.process, reading.observed)
    for stub in reading.stubs:
        assert stub.process.parent == stub.arguments.parent_pid == reading.server.process.id.pid
        assert stub.process.name == "triton_python_b"
        assert stub.arguments.runtime_dir == "DEFAULT"
        model = stub.arguments.name.partition("_")[0]
        assert re.search(rf"/models/{model}/1/model\.py\Z", stub.arguments.model_path)
        assert not stub.process.gone
        assert stub.process.rss_bytes > 1 << 20
        below = [(each.name, each.title) for each in stub.descendants]
        assert [name for name, _ in below] == (["VLLM::EngineCor"] if model == "parent" else [])
        assert all(title.startswith("VLLM::EngineCore -c import sys") for _, title in below)


def test_regions_and_device_nodes_are_those_of_the_servers_own_root(server: TritonServer) -> None:
    """``/dev/shm`` is the pod's, not ours; the device nodes are what the server has of them."""
    reading = scan_inside(server)
    for stub in reading.stubs:
        region = Path(f"/proc/{server.outer_pid}/root/dev/shm/{stub.arguments.shm_region}")
        assert not (Path("/dev/shm") / stub.arguments.shm_region).exists()
        assert stub.shm_bytes == region.stat().st_blocks * 512
        assert stub.shm_bytes > 0
    assert reading.server is not None
    assert reading.server.root_readable
    nodes = (re.fullmatch("nvidia([0-9]+)", each.name) for each in Path("/dev").iterdir())
    assert reading.server.gpu_minors == tuple(sorted(int(each[1]) for each in nodes if each))


def test_a_look_from_outside_finds_the_same_under_other_numbers(server: TritonServer) -> None:
    """A host sees the pod's processes too; the parent's pid in the arguments is then another one's."""
    reading = ProcessSource(server.ports[0]).scan()
    assert reading.server is not None
    assert reading.server.process.id.pid == server.outer_pid
    ours = [each for each in reading.stubs if each.process.parent == server.outer_pid]
    assert sorted(each.arguments.name for each in ours) == ["echo_0_0", "echo_0_1", "parent_0"]
    assert {each.process.id.pid for each in ours} == {each.pid for each in server.stubs()}
    assert all(each.shm_bytes for each in ours)


class Witness:
    """Collects what an exit watch tells."""

    def __init__(self) -> None:
        self.exits: list[Exit] = []
        self.told = asyncio.Event()
        self.watch = ExitWatch(self._note)

    def _note(self, event: Exit) -> None:
        self.exits.append(event)
        self.told.set()

    async def one(self) -> Exit:
        """The exit that comes next."""
        async with asyncio.timeout(PATIENCE):
            await self.told.wait()
        self.told.clear()
        return self.exits[-1]


@pytest.fixture
async def witness() -> AsyncIterator[Witness]:
    """An exit watch of the test's own loop."""
    watching = Witness()
    yield watching
    watching.watch.close()


def identity(pid: int) -> ProcessId:
    """Who has this pid now."""
    stat = Procfs().stat(pid)
    assert stat is not None
    return ProcessId(pid, stat.start_ticks)


class Child:
    """A child that ends with the code that it is told, when it is told."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["sh", "-c", "read code; exit $code"], stdin=subprocess.PIPE)
        self.id = identity(self.process.pid)

    def end(self, code: int) -> None:
        """Let it end; it stays a zombie."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"%d\n" % code)
        self.process.stdin.close()

    def reap(self) -> int:
        """Wait for it."""
        return self.process.wait(PATIENCE)


@pytest.fixture
def child() -> Iterator[Callable[[], Child]]:
    """Start children; none survives the test."""
    started: list[Child] = []

    def start() -> Child:
        started.append(Child())
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        if each.process.stdin is not None:
            each.process.stdin.close()


async def test_a_killed_stub_is_told_at_once_with_its_signal(
    triton: StartTriton, repository: Repository, witness: Witness
) -> None:
    """Triton leaves it a zombie, whose ``stat`` tells the signal; a scan finds it by its remembered name."""
    repository.add_echo(kind="KIND_CPU", instances=2)
    server = await asyncio.to_thread(lambda: triton().wait_ready())
    looking = ProcessSource(server.ports[0])
    ours = [each for each in looking.scan().stubs if each.process.parent == server.outer_pid]
    witness.watch.watch(each.process.id for each in ours)
    before = time.monotonic()
    os.kill(ours[0].process.id.pid, signal.SIGKILL)
    told = await witness.one()
    assert told.id == ours[0].process.id
    assert (told.signal, told.code) == (signal.SIGKILL, None)
    assert before <= told.observed.mono <= time.monotonic()
    after = {each.process.id: each for each in looking.scan().stubs}
    dead = after[told.id]
    assert dead.process.state is ProcessState.ZOMBIE
    assert dead.arguments == ours[0].arguments
    assert not after[ours[1].process.id].process.gone
    assert witness.watch.watched == {ours[1].process.id}
    assert len(witness.exits) == 1


async def test_an_exit_code_is_told_while_the_zombie_waits(
    witness: Witness, child: Callable[[], Child]
) -> None:
    """Nobody has reaped it: its ``stat`` holds the status."""
    one = child()
    witness.watch.watch([one.id])
    one.end(3)
    told = await witness.one()
    assert (told.id, told.code, told.signal) == (one.id, 3, None)


@pytest.mark.parametrize("code", [0, 3])
async def test_an_exit_code_is_told_after_the_parent_reaped_it(
    witness: Witness, child: Callable[[], Child], code: int
) -> None:
    """Its ``/proc`` folder is gone by then; the pidfd still knows, from kernel 6.15 on."""
    one = child()
    witness.watch.watch([one.id])
    one.end(code)
    one.reap()
    told = await witness.one()
    assert told.id == one.id
    if told.status is None and _kernel() < (6, 15):
        pytest.skip("kernels before 6.15 do not tell a pidfd's holder the exit status")
    assert (told.code, told.signal) == (code, None)


async def test_a_zombies_zero_is_not_believed(witness: Witness, child: Callable[[], Child]) -> None:
    """``stat`` shows 0 also to those who may not know: a clean exit is unknown until it is reaped."""
    one = child()
    one.end(0)
    until(lambda: (stat := Procfs().stat(one.id.pid)) is not None and stat.state is ProcessState.ZOMBIE)
    witness.watch.watch([one.id])
    assert (await witness.one()).status is None


_LEADERLESS = """
import ctypes, platform, sys, threading
threading.Thread(target=sys.stdin.readline).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)
"""


@pytest.fixture
def leaderless() -> Iterator[subprocess.Popen[bytes]]:
    """A process whose main thread has ended while another goes on: the kernel shows it as a zombie."""
    with subprocess.Popen([sys.executable, "-c", _LEADERLESS], stdin=subprocess.PIPE) as process:
        line = Path(f"/proc/{process.pid}/stat")
        until(lambda: b") Z " in line.read_bytes())
        yield process
        process.kill()


async def test_a_process_whose_main_thread_ended_has_not_exited(
    witness: Witness, leaderless: subprocess.Popen[bytes]
) -> None:
    """A killed stub looks like this for a moment, and its pidfd can not tell the signal yet."""
    stat = Procfs().stat(leaderless.pid)
    assert stat is not None
    assert stat.state is ProcessState.SLEEPING
    witness.watch.watch([identity(leaderless.pid)])
    leaderless.kill()
    assert (await witness.one()).signal == signal.SIGKILL


async def test_who_is_not_watched_any_more_calls_nobody(witness: Witness, child: Callable[[], Child]) -> None:
    """Watching others instead lets go of the first; its exit is silent, theirs is told once."""
    first, second = child(), child()
    witness.watch.watch([first.id, second.id])
    witness.watch.watch([second.id])
    first.end(1)
    first.reap()
    second.end(2)
    second.reap()
    assert (await witness.one()).id == second.id
    await asyncio.sleep(0.05)
    assert [each.id for each in witness.exits] == [second.id]
    assert witness.watch.watched == frozenset()


async def test_a_callback_may_change_what_is_watched(child: Callable[[], Child]) -> None:
    """Of two exits in one turn of the loop, the first's callback lets go of the other."""
    exits: list[Exit] = []

    def note(event: Exit) -> None:
        exits.append(event)
        watch.close()

    watch = ExitWatch(note)
    both = [child(), child()]
    watch.watch(each.id for each in both)
    for each in both:
        each.end(1)
        each.reap()
    await asyncio.sleep(0.05)
    assert len(exits) == 1
    assert watch.watched == frozenset()


async def test_who_is_gone_already_is_silent(witness: Witness, child: Callable[[], Child]) -> None:
    """A scan finds that exit; the watch neither raises nor calls."""
    one = child()
    one.end(1)
    one.reap()
    witness.watch.watch([one.id, ProcessId(2**22 + 1, 1)])
    await asyncio.sleep(0.02)
    assert (witness.exits, witness.watch.watched) == ([], frozenset())


async def test_a_pid_that_now_is_another_process_is_not_watched(
    witness: Witness, child: Callable[[], Child]
) -> None:
    """Same number, other start time: whoever was meant is gone."""
    one = child()
    witness.watch.watch([ProcessId(one.id.pid, one.id.start_ticks - 1)])
    assert witness.watch.watched == frozenset()
    one.end(1)
    one.reap()
    await asyncio.sleep(0.02)
    assert witness.exits == []


async def test_out_of_descriptors_is_left_to_the_scan(
    witness: Witness, child: Callable[[], Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses (EMFILE, or a kernel without pidfds): nothing is watched, nothing raised."""

    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(24, "Too many open files")

    one = child()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pidfd_open", refuse)
        witness.watch.watch([one.id])
    assert witness.watch.watched == frozenset()
    witness.watch.watch([one.id])
    assert witness.watch.watched == {one.id}, "it is tried again at the next scan"


async def test_of_too_many_the_first_are_watched(
    witness: Witness, child: Callable[[], Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the descriptors that the process may have are left for everything else."""
    assert 0 < most_watched() < sys.maxsize
    monkeypatch.setattr(witness.watch, "_at_most", 2)
    many = [child().id for _ in range(3)]
    witness.watch.watch(many)
    assert witness.watch.watched == set(many[:2])
    witness.watch.watch(many[1:])
    assert witness.watch.watched == set(many[1:])
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert most_watched() == sys.maxsize


async def test_descriptors_do_not_leak(witness: Witness, child: Callable[[], Child]) -> None:
    """500 times watched and let go, missed, and exited: as many open files as before."""
    one = child()
    gone = ProcessId(one.id.pid, one.id.start_ticks - 1)
    before = _descriptors()
    for _ in range(500):
        witness.watch.watch([one.id, gone])
        witness.watch.watch([])
    assert _descriptors() == before
    witness.watch.watch([one.id])
    assert _descriptors() == before + 1
    one.process.kill()
    assert (await witness.one()).signal == signal.SIGKILL
    assert _descriptors() == before


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  (a listing without a descriptor per entry)


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
