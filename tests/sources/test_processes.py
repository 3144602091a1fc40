"""One scan of ``/proc``: which processes are a Triton's, on trees written by hand."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from probe.facts.processes import ProcessId, ProcessReading, ProcessState
from probe.sources.processes.procfs import Procfs
from probe.sources.processes.source import ProcessSource

SERVER, STUB = "tritonserver", "triton_python_b"


class Tree:
    """A folder like ``/proc``, whose processes come, change and go as a test says."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(
        self,
        pid: int,
        name: str,
        parent: int = 1,
        *,
        start: int | None = None,
        state: str = "S",
        arguments: tuple[str, ...] = (),
    ) -> ProcessId:
        """Write a process; one that was there with this pid is replaced."""
        self.end(pid)
        folder = self.root / str(pid)
        folder.mkdir()
        begun = pid * 10 if start is None else start
        fields = ["0"] * 50
        fields[0], fields[1], fields[19], fields[21] = state, str(parent), str(begun), "3"
        (folder / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
        line = "" if state == "Z" else "".join(f"{each}\0" for each in arguments or (name,))
        (folder / "cmdline").write_text(line)
        return ProcessId(pid, begun)

    def server(self, pid: int, port: int | None = None, **how: object) -> ProcessId:
        """A tritonserver, on its default port or on another."""
        told = () if port is None else (f"--grpc-port={port}",)
        return self.add(pid, SERVER, arguments=("tritonserver", *told), **how)  # type: ignore[arg-type]

    def stub(self, pid: int, server: int, name: str = "echo_0", **how: object) -> ProcessId:
        """A stub that this server started."""
        how = {"parent": server, **how}
        return self.add(pid, STUB, arguments=stub_line(server, name), **how)  # type: ignore[arg-type]

    def end(self, pid: int) -> None:
        """Take it away."""
        shutil.rmtree(self.root / str(pid), ignore_errors=True)


def stub_line(server: int, name: str, region: str = "region") -> tuple[str, ...]:
    """A stub's arguments, of release 24.10."""
    size = str(1 << 20)
    lib = "/opt/tritonserver/backends/python"
    path = "/models/echo/1/model.py"
    return (f"{lib}/stub", path, region, size, size, str(server), lib, "336", name, "DEFAULT", "")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """An empty ``/proc`` but for its first process."""
    grown = Tree(tmp_path)
    grown.add(1, "pause", 0)
    return grown


def source(tree: Tree, port: int | None = 8001) -> ProcessSource:
    """A source that scans this tree."""
    return ProcessSource(port, Procfs(tree.root))


def names(reading: ProcessReading) -> dict[int, str]:
    """Each stub's instance name by pid."""
    return {each.process.id.pid: each.arguments.name for each in reading.stubs}


def server_pid(reading: ProcessReading) -> int | None:
    """The pid of the server that was chosen."""
    return reading.server.process.id.pid if reading.server is not None else None


def test_an_empty_machine_has_no_triton(tree: Tree) -> None:
    """Nothing is no error."""
    reading = source(tree).scan()
    assert (reading.server, reading.stubs, reading.other_servers, reading.scanned) == (None, (), 0, 1)


def test_a_server_and_its_stubs_are_found(tree: Tree) -> None:
    """With what their command lines say, and each stub with everything below it."""
    tree.server(10)
    tree.stub(20, 10)
    tree.stub(30, 10, "echo_1", state="T")
    tree.add(40, "VLLM::EngineCor", 20)
    tree.add(41, "VLLM::Worker_TP", 40)
    tree.add(50, "bash", 10)
    reading = source(tree).scan()
    assert server_pid(reading) == 10
    assert names(reading) == {20: "echo_0", 30: "echo_1"}
    first, second = sorted(reading.stubs, key=lambda each: each.process.id)
    assert first.pids == {20, 40, 41}
    assert first.arguments.shm_region == "region"
    assert second.process.state is ProcessState.STOPPED
    assert second.pids == {30}


def test_a_zombie_keeps_the_arguments_that_it_had(tree: Tree) -> None:
    """Its command line is empty from the moment of its death; server and stub are told from memory."""
    looking = source(tree, 9000)
    tree.server(10, 9000)
    tree.stub(20, 10, "echo_7")
    looking.scan()
    tree.server(10, 9000, state="Z")
    tree.stub(20, 10, state="Z", parent=1)
    reading = looking.scan()
    (stub,) = reading.stubs
    assert stub.process.gone
    assert stub.arguments.name == "echo_7"
    assert reading.server is not None
    assert reading.server.process.gone
    assert reading.server.option("grpc-port") == "9000"


def test_a_zombie_that_was_never_seen_alive_is_nobodys_instance(tree: Tree) -> None:
    """It is a stub without a name, and a server that is no better than any other."""
    tree.server(10)
    tree.stub(20, 10, state="Z")
    (stub,) = source(tree).scan().stubs
    assert (stub.arguments.name, stub.arguments.model_path) == ("", "")


def test_a_stub_that_has_not_executed_yet_is_no_server(tree: Tree) -> None:
    """Between fork and exec a stub is another tritonserver below the tritonserver."""
    tree.server(10)
    tree.server(11, parent=10)
    reading = source(tree).scan()
    assert (server_pid(reading), reading.other_servers, reading.stubs) == (10, 0, ())


def test_what_a_model_forks_is_a_worker_and_no_stub(tree: Tree) -> None:
    """A fork keeps the stub's name and its whole command line."""
    tree.server(10)
    tree.stub(20, 10)
    tree.stub(21, 10, parent=20)
    tree.stub(22, 10, parent=21)
    (stub,) = source(tree).scan().stubs
    assert stub.process.id.pid == 20
    assert stub.pids == {20, 21, 22}


@pytest.mark.parametrize("inside", [10, 999], ids=["one pid namespace", "seen from outside"])
def test_a_fork_that_outlives_its_stub_does_not_stand_in_for_it(tree: Tree, inside: int) -> None:
    """The first process adopts it, and its command line is the dead stub's: counted, it would hide the death."""
    looking = source(tree)
    tree.server(10)
    tree.add(20, STUB, 10, arguments=stub_line(inside, "echo_0"))
    tree.add(21, STUB, 20, arguments=stub_line(inside, "echo_0"))
    looking.scan()
    tree.add(20, STUB, 10, state="Z")
    tree.add(21, STUB, 1, arguments=stub_line(inside, "echo_0"))
    for _ in range(2):
        reading = looking.scan()
        assert [(each.process.id.pid, each.process.gone) for each in reading.stubs] == [(20, True)]
    tree.end(20)
    assert looking.scan().stubs == ()


def test_a_fork_whose_stub_was_never_seen_is_told_by_its_servers_pid(tree: Tree) -> None:
    """Its arguments name a living tritonserver as its parent, and that is not its parent."""
    tree.server(10)
    tree.stub(21, 10, parent=1)
    assert source(tree).scan().stubs == ()


def test_stubs_of_a_server_that_is_gone_are_still_told(tree: Tree) -> None:
    """Orphans hold memory: with no server, beside its successor, and below its zombie."""
    looking = source(tree)
    tree.stub(20, 10, parent=1)
    assert names(looking.scan()) == {20: "echo_0"}
    tree.server(30)
    assert names(looking.scan()) == {20: "echo_0"}
    tree.server(10, state="Z")
    assert names(looking.scan()) == {20: "echo_0"}


def test_of_several_servers_ours_is_the_one_with_our_port(tree: Tree) -> None:
    """The others are counted, and their stubs are not ours."""
    tree.server(10, 9001)
    tree.server(11)
    tree.server(12, 9002)
    tree.stub(20, 10, "theirs_0")
    tree.stub(21, 11, "default_0")
    tree.stub(22, 12, "ours_0")
    reading = source(tree, 9002).scan()
    assert (server_pid(reading), reading.other_servers, names(reading)) == (12, 2, {22: "ours_0"})
    reading = source(tree, 8001).scan()
    assert (server_pid(reading), names(reading)) == (11, {21: "default_0"})


def test_without_a_port_to_go_by_the_youngest_living_server_is_ours(tree: Tree) -> None:
    """A unix socket, or a port that something between us maps."""
    tree.server(10, 9001, start=500)
    tree.server(11, 9002, start=300)
    tree.server(12, 9003, start=900, state="Z")
    for port in (None, 7777):
        assert server_pid(source(tree, port).scan()) == 10


def test_another_server_is_never_taken_for_ours_once_ours_was_seen(tree: Tree) -> None:
    """Gone is gone, though a second Triton runs beside; its stubs do not become ours either."""
    looking = source(tree, 9001)
    tree.server(10, 9001)
    tree.server(11, 9002)
    tree.stub(21, 11, "theirs_0")
    assert server_pid(looking.scan()) == 10
    tree.server(10, state="Z")
    reading = looking.scan()
    assert reading.server is not None
    assert reading.server.process.gone
    tree.end(10)
    reading = looking.scan()
    assert (reading.server, reading.other_servers, reading.stubs) == (None, 1, ())
    tree.server(12, 9001)
    assert server_pid(looking.scan()) == 12


def test_a_living_server_comes_before_the_zombie_of_its_predecessor(tree: Tree) -> None:
    """An unreaped predecessor on the same port stays a zombie for as long as its parent likes."""
    looking = source(tree)
    tree.server(10, start=900)
    looking.scan()
    tree.server(10, start=900, state="Z")
    tree.server(11, start=500)
    assert server_pid(looking.scan()) == 11


def test_a_pid_that_is_given_to_another_process_is_another_process(tree: Tree) -> None:
    """Same pid, other start: nothing that was remembered of the first holds for the second."""
    looking = source(tree)
    tree.server(10)
    first = tree.stub(20, 10, "first_0", start=200)
    assert [each.process.id for each in looking.scan().stubs] == [first]
    second = tree.stub(20, 10, "second_0", start=300)
    (stub,) = looking.scan().stubs
    assert (stub.process.id, stub.arguments.name) == (second, "second_0")
    tree.add(20, "bash", 10, start=400)
    assert looking.scan().stubs == ()


def test_a_script_that_becomes_the_server_is_read_again(tree: Tree) -> None:
    """A wrapper named tritonserver that ends in exec keeps pid and start, and has other arguments then."""
    looking = source(tree, 9001)
    tree.add(10, SERVER, arguments=("/bin/sh", "/usr/local/bin/tritonserver"))
    looking.scan()
    tree.server(10, 9001)
    reading = looking.scan()
    assert reading.server is not None
    assert reading.server.option("grpc-port") == "9001"


def test_arguments_that_came_late_are_read_at_the_next_scan(tree: Tree) -> None:
    """A stub seen at the moment of its exec has no arguments yet."""
    looking = source(tree)
    tree.server(10)
    tree.add(20, STUB, 10, arguments=("bash", "-c"))
    assert names(looking.scan()) == {20: ""}
    tree.stub(20, 10, "echo_0")
    assert names(looking.scan()) == {20: "echo_0"}


def test_files_that_contradict_each_other_end_a_scan_too(tree: Tree) -> None:
    """Read one after the other while pids are reused, parents may form a circle."""
    tree.server(10)
    tree.stub(20, 10)
    tree.add(30, "python3", 20)
    tree.add(31, "python3", 32)
    tree.add(32, "python3", 31)
    tree.add(33, "python3", 33)
    (stub,) = source(tree).scan().stubs
    assert stub.pids == {20, 30}
    tree.add(20, STUB, 30, arguments=stub_line(999, "echo_0"))
    (stub,) = source(tree).scan().stubs
    assert stub.pids == {20, 30}


def test_broken_files_are_passed_over(tree: Tree) -> None:
    """A process that ends between two reads, and one that may not be read."""
    tree.server(10)
    tree.stub(20, 10)
    for name, content in (("stat", b"\xff\x00garbage"), ("cmdline", b"\xff" * 100)):
        tree.stub(21, 10)
        (tree.root / "21" / name).write_bytes(content)
        reading = source(tree).scan()
        assert 20 in names(reading)
    (tree.root / "22").mkdir()
    (tree.root / "not-a-pid").mkdir()
    assert names(source(tree).scan()) == {20: "echo_0", 21: ""}


def test_a_huge_command_line_is_a_servers_like_any_other(tree: Tree) -> None:
    """Thousands of --load-model options: what is read of them is enough."""
    many = tuple(f"--load-model=model_{index:06}" for index in range(20_000))
    tree.add(10, SERVER, arguments=("tritonserver", "--grpc-port=9001", *many))
    reading = source(tree, 9001).scan()
    assert reading.server is not None
    assert reading.server.option("grpc-port") == "9001"
    assert len(reading.server.options("load-model")) > 5000


def test_device_nodes_and_regions_are_seen_through_the_servers_root(tree: Tree) -> None:
    """Only ``nvidia<N>`` is a GPU; a region's bytes are those that it occupies, not those it spans."""
    tree.server(10)
    tree.stub(20, 10)
    server = source(tree).scan().server
    assert server is not None
    assert (server.gpu_minors, server.root_readable) == (None, False)
    dev = tree.root / "10" / "root" / "dev"
    (dev / "shm").mkdir(parents=True)
    for name in ("nvidia0", "nvidia12", "nvidiactl", "nvidia-uvm", "nvidia3x", "null"):
        (dev / name).touch()
    with (dev / "shm" / "region").open("wb") as region:
        region.write(b"x" * 8192)
        region.truncate(1 << 30)
    reading = source(tree).scan()
    assert reading.server is not None
    assert (reading.server.gpu_minors, reading.server.root_readable) == ((0, 12), True)
    assert reading.stubs[0].shm_bytes == 8192


def test_pids_that_are_asked_about_exist_or_not(tree: Tree) -> None:
    """By the scan, or where a mount hides processes, by the kernel; numbers that are no pid exist nowhere."""
    hidden = os.getpid()
    asked = (1, hidden, 0, -1, 2**22 + 1, 2**32 - 1, 2**70)
    reading = source(tree).scan(asked)
    assert reading.existing_pids == {1, hidden}
    assert [each.id.pid for each in reading.asked] == [1]


@pytest.mark.parametrize(
    ("environment", "visible"),
    [
        (b"PATH=/bin\0CUDA_VISIBLE_DEVICES=GPU-1, MIG-2\0X=1\0", ("GPU-1", "MIG-2")),
        (b"CUDA_VISIBLE_DEVICES=GPU-1\0CUDA_VISIBLE_DEVICES=GPU-2\0", ("GPU-1",)),
        (b"CUDA_VISIBLE_DEVICES=0,1\0", None),
        (b"CUDA_VISIBLE_DEVICES=GPU-1,1\0", None),
        (b"CUDA_VISIBLE_DEVICES=\0", None),
        (b"CUDA_VISIBLE_DEVICES=\xff\0", None),
        (b"NVIDIA_VISIBLE_DEVICES=GPU-1\0", None),
        (b"", None),
        (None, None),
    ],
)
def test_the_devices_that_triton_may_see_are_read_where_they_are_uuids(
    tree: Tree, environment: bytes | None, visible: tuple[str, ...] | None
) -> None:
    """Ordinals mean nothing from outside, and an environment may be closed to us."""
    tree.server(10)
    if environment is not None:
        (tree.root / "10" / "environ").write_bytes(environment)
    server = source(tree).scan().server
    assert server is not None
    assert server.visible_devices == visible


def test_a_thousand_stubs_are_scanned_in_no_time(tree: Tree) -> None:
    """The work grows with the processes, not with their square."""
    tree.server(10)
    for index in range(1000):
        tree.stub(1000 + 2 * index, 10, f"echo_{index}")
        tree.add(1001 + 2 * index, "python3", 1000 + 2 * index)
    looking = source(tree)
    looking.scan()
    before = os.times()
    assert len(looking.scan().stubs) == 1000
    after = os.times()
    assert (after.user + after.system) - (before.user + before.system) < 0.5


def titles(reading: ProcessReading) -> dict[int, str]:
    """The command line of each process below a stub, by pid."""
    return {each.id.pid: each.title for one in reading.stubs for each in one.descendants}


def test_what_runs_below_a_stub_has_a_title_that_is_read_once_for_each_name(tree: Tree) -> None:
    """Setproctitle changes the name and the command line, after the process began."""
    looking = source(tree)
    tree.server(10)
    tree.stub(20, 10)
    tree.add(40, "python3", 20, arguments=("python3", "-c", "from x\nimport  y"))
    assert titles(looking.scan()) == {40: "python3 -c from x import y"}
    (tree.root / "40" / "cmdline").write_text("something else\0")
    assert titles(looking.scan()) == {40: "python3 -c from x import y"}
    tree.add(40, "VLLM::EngineCor", 20, arguments=("VLLM::EngineCore",))
    assert titles(looking.scan()) == {40: "VLLM::EngineCore"}
    tree.add(40, "VLLM::EngineCor", 20, state="Z")
    assert titles(looking.scan()) == {40: "VLLM::EngineCore"}


def test_a_title_that_came_late_is_read_at_the_next_scan(tree: Tree) -> None:
    """A zombie that was never seen alive has none, and neither has a process that may not be read."""
    looking = source(tree)
    tree.server(10)
    tree.stub(20, 10)
    tree.add(40, "python3", 20, state="Z")
    assert titles(looking.scan()) == {40: ""}
    tree.add(40, "python3", 20, arguments=("python3", "worker.py"))
    assert titles(looking.scan()) == {40: "python3 worker.py"}


def test_a_title_is_one_short_line_of_text(tree: Tree) -> None:
    """Whatever a process wrote there: it ends up in messages."""
    tree.server(10)
    tree.stub(20, 10)
    tree.add(40, "evil", 20, arguments=("evil\x1b[2J\x07", "x" * 100_000))
    title = titles(source(tree).scan())[40]
    assert title.startswith("evil?[2J? xxx")
    assert len(title) == 200


def test_processes_that_are_asked_about_are_found_wherever_they_are(tree: Tree) -> None:
    """By pid and start time; what is gone, or is another by now, is not told."""
    looking = source(tree)
    tree.server(10)
    tree.stub(20, 10)
    here = tree.add(40, "VLLM::EngineCor", 20, arguments=("VLLM::EngineCore",))
    looking.scan()
    tree.end(20)
    tree.add(40, "VLLM::EngineCor", 1, arguments=("VLLM::EngineCore",))
    reading = looking.scan(kept=(here, ProcessId(40, 1), ProcessId(41, 410)))
    assert [(each.id, each.parent, each.title) for each in reading.kept] == [(here, 1, "VLLM::EngineCore")]
    tree.add(40, "VLLM::EngineCor", 1, state="Z")
    (zombie,) = looking.scan(kept=(here,)).kept
    assert zombie.gone
    assert zombie.title == "VLLM::EngineCore"
