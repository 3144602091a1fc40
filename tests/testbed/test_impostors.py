"""Do the impostors look like what they stand for, to the probe's own eyes?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from probe.facts.processes import ProcessReading, ProcessState, StubArguments
from probe.sandbox.pods import Pod
from probe.sandbox.ports import free_ports
from probe.sources.processes.arguments import parse_stub_arguments
from probe.sources.processes.source import ProcessSource
from testbed.impostors.lines import command_line
from testbed.impostors.server import ImpostorServer
from testbed.tools import until

(PORT,) = free_ports(1)
"""Not any port: a look from outside sees the servers of other test runs too."""
OPTIONS = (f"--grpc-port={PORT}", "--model-control-mode=explicit")
MODEL = "/models/m/1/model.py"
MIB = 1 << 20


@pytest.fixture
def server(pod: Pod, tmp_path: Path) -> Iterator[ImpostorServer]:
    """A server of release 24.10 without stubs."""
    with ImpostorServer(pod, tmp_path, release=(2, 51), options=OPTIONS) as one:
        yield one


def scanned(server: ImpostorServer, looking: ProcessSource) -> ProcessReading:
    """A scan from outside, of this server's stubs alone."""
    reading = looking.scan()
    assert reading.server is not None
    assert reading.server.process.id.pid == server.program.pid
    ours = tuple(each for each in reading.stubs if each.process.parent == server.program.pid)
    return msgspec.structs.replace(reading, stubs=ours)


def states(reading: ProcessReading) -> dict[str, ProcessState]:
    """Each stub's state by its name."""
    return {each.arguments.name: each.process.state for each in reading.stubs}


def test_a_server_is_found_by_name_and_port_with_its_stubs(server: ImpostorServer) -> None:
    """Its options, its stubs' arguments, and whose children they are."""
    one = server.start("m_0_0", MODEL)
    reading = scanned(server, ProcessSource(PORT))
    assert reading.server is not None
    assert reading.server.process.name == "tritonserver"
    assert reading.server.option("model-control-mode") == "explicit"
    (stub,) = reading.stubs
    assert stub.process.name == "triton_python_b"
    assert stub.process.id.pid == server.outer(one)
    assert stub.arguments.parent_pid == server.pid
    assert (stub.arguments.model_path, stub.arguments.name) == (MODEL, "m_0_0")


def test_a_killed_stub_is_a_zombie_until_its_server_looks(server: ImpostorServer) -> None:
    """Which keeps its name, and is gone once it is reaped; one that runs is not reaped."""
    looking = ProcessSource(PORT)
    one, other = server.start("m_0_0", MODEL), server.start("m_0_1", MODEL)
    asleep = {"m_0_0": ProcessState.SLEEPING, "m_0_1": ProcessState.SLEEPING}
    until(lambda: states(scanned(server, looking)) == asleep)  # one that has just begun may be running still
    assert not server.reap(one)
    server.kill(one)
    until(lambda: states(scanned(server, looking))["m_0_0"] is ProcessState.ZOMBIE)
    assert server.reap(one)
    assert set(states(scanned(server, looking))) == {"m_0_1"}
    assert not server.reap(other)


def test_a_pid_can_be_given_again(server: ImpostorServer) -> None:
    """To another stub, which began later; not while somebody has it."""
    looking = ProcessSource(PORT)
    one = server.start("m_0_0", MODEL)
    before = scanned(server, looking).stubs[0].process.id
    with pytest.raises(OSError, match="was wanted"):
        server.start("m_0_1", MODEL, pid=one.pid)
    server.kill(one)
    until(lambda: server.reap(one))
    again = server.start("m_0_0", MODEL, pid=one.pid)
    after = next(each.process.id for each in scanned(server, looking).stubs if each.arguments.name == "m_0_0")
    assert again.pid == one.pid
    assert (after.pid, after.start_ticks) != (before.pid, before.start_ticks)


def test_stubs_end_with_their_server(server: ImpostorServer) -> None:
    """Whatever becomes of it."""
    one = server.start("m_0_0", MODEL)
    server.program.process.kill()
    server.close()
    until(lambda: server.pod.outer_pid(one.pid) is None)


@pytest.mark.parametrize(
    ("release", "words", "region", "size"),
    [
        ((2, 34), 9, "triton_python_backend_shm_region_7", 64 * MIB),
        ((2, 38), 9, "triton_python_backend_shm_region_7", MIB),
        ((2, 39), 10, "triton_vllm_backend_shm_region_7", MIB),
        ((2, 45), 10, "triton_vllm_backend_shm_region_", MIB),
        ((2, 59), 10, "triton_vllm_backend_shm_region_", MIB),
        ((2, 60), 10, "triton_vllm_backend_shm_region_", MIB),
    ],
)
@pytest.mark.parametrize("folder", ["/models", "/my models/of 7"])
def test_the_probe_reads_every_releases_lines(
    release: tuple[int, int], words: int, region: str, size: int, folder: str
) -> None:
    """Also those that a shell split at blanks."""
    path = f"{folder}/m/1/model.py"
    line = command_line(release, name="m_0_0", model_path=path, parent_pid=5, number=7, backend="vllm")
    whole = release >= (2, 60) or " " not in folder
    assert (len(line) == words) == whole
    told = parse_stub_arguments(line)
    assert told is not None
    runtime = "/opt/tritonserver/backends/vllm" if words > 9 else ""
    assert told == StubArguments(path, told.shm_region, size, size, 5, "m_0_0", runtime)
    assert told.shm_region.startswith(region)
