"""The container source against this machine's own kernel: real cgroups, namespaces and users."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from probe.facts.container import ContainerReading, Limit
from probe.sources.container.source import ContainerSource
from testbed.tools import until
from tests.cgroups import emptied, limit_memory, made_cgroup, own_place
from tests.sources.children import child, needs_root
from tests.sources.costs import in_reads

__all__ = ["made_cgroup"]

MIB = 1 << 20
SHM = "/dev/shm"
REPOSITORY = Path(__file__).parents[2]
LOOK = """
import os, sys, msgspec
from probe.sources.container.source import ContainerSource
source = ContainerSource()
msgspec.json.encode(source.look(os.getpid()))  # the interpreter's files may be closed to the user
if user := int(sys.argv[2]):
    os.setgroups([]), os.setresgid(user, user, user), os.setresuid(user, user, user)
sys.stdout.buffer.write(msgspec.json.encode(source.look(int(sys.argv[1]))))
"""
WAITING = "echo ready; exec cat >/dev/null"  # lives until its input is closed


def look_from(pid: int, *before: str, user: int = 0) -> ContainerReading:
    """Look from another process: behind a command, or as another user."""
    answer = subprocess.run(
        [*before, sys.executable, "-c", LOOK, str(pid), str(user)],
        check=True,
        capture_output=True,
        cwd=REPOSITORY,
        timeout=120,
    )
    return msgspec.json.decode(answer.stdout, type=ContainerReading)


def joining(directory: Path, then: str = WAITING) -> tuple[str, ...]:
    """A command that enters the cgroup before it does anything else."""
    return ("sh", "-c", f"echo $$ > {directory}/cgroup.procs && {then}")


def test_this_very_process_is_read_as_the_files_say() -> None:
    """The figures of this process's own cgroups are those of the kernel's files."""
    reading = ContainerSource().look(os.getpid())
    place = own_place(b"memory")
    assert place is not None
    assert reading.cgroup == place.version
    assert f":{reading.path}\n" in Path("/proc/self/cgroup").read_text()
    assert reading.node_memory_bytes == psutil.virtual_memory().total
    assert reading.oom_score_adj == int(Path("/proc/self/oom_score_adj").read_text())
    assert (reading.denied, reading.owner) == ((), None)
    assert reading.memory.limit is not None or place.names == ()
    if reading.memory.used_bytes is not None:
        assert 0 < reading.memory.used_bytes <= (reading.memory.peak_bytes or sys.maxsize)
        assert 0 <= (reading.memory.working_set_bytes or 0) <= reading.memory.used_bytes
    disk = shutil.disk_usage(SHM)
    assert reading.shm is not None
    assert reading.shm.size_bytes == disk.total


def test_a_real_memory_limit_is_found_above_a_nested_cgroup(made_cgroup: Callable[[bytes], Path]) -> None:
    """A limit on the parent binds the child, and the path says where it is."""
    outer = made_cgroup(b"memory")
    name = limit_memory(outer, 64 * MIB)
    inner = outer / "inner"
    inner.mkdir()
    try:
        with child(*joining(inner if name == "memory.limit_in_bytes" else outer)) as pid:
            reading = ContainerSource().look(pid)
    finally:
        until(lambda: emptied(inner))
    assert reading.memory.limit == Limit(64 * MIB, str(outer / name))
    assert reading.memory.used_bytes is not None
    assert reading.memory.used_bytes < 64 * MIB
    assert reading.memory.oom_kills == 0
    assert outer.name in reading.path


def test_a_real_oom_kill_is_counted(made_cgroup: Callable[[bytes], Path]) -> None:
    """A neighbour in the same cgroup that the kernel killed shows in the survivor's account."""
    directory = made_cgroup(b"memory")
    limit_memory(directory, 32 * MIB)
    with child(*joining(directory)) as pid:
        greedy = f"exec {sys.executable} -c 'bytearray(200 << 20)'"
        swap = directory / "memory.swap.max"
        if swap.exists():
            swap.write_text("0")
        killed = subprocess.run(joining(directory, greedy), check=False, timeout=120)
        assert killed.returncode == -9
        memory = ContainerSource().look(pid).memory
    assert memory.oom_kills == 1
    assert Path(memory.oom_kills_path).parent == directory
    assert memory.peak_bytes is not None
    assert 30 * MIB < memory.peak_bytes <= 32 * MIB


def test_real_limits_on_cpu_and_processes_are_read(made_cgroup: Callable[[bytes], Path]) -> None:
    """Half a core and twelve processes come back as such, with what was used."""
    cpu, pids = made_cgroup(b"cpu"), made_cgroup(b"pids")
    if (cpu / "cpu.max").exists():
        (cpu / "cpu.max").write_text("50000 100000")
    else:
        (cpu / "cpu.cfs_quota_us").write_text("50000")
    (pids / "pids.max").write_text("12")
    join_cpu = f"echo $$ > {cpu}/cgroup.procs && {WAITING}"
    with child(*joining(pids, join_cpu)) as pid:
        reading = ContainerSource().look(pid)
    assert reading.cpu.limit is not None
    assert reading.cpu.limit.value == 0.5
    assert reading.cpu.throttled_seconds is not None
    assert reading.cpu.used_seconds is not None
    assert reading.pids == type(reading.pids)(Limit(12, str(pids / "pids.max")), 1, refused=0)


@needs_root
def test_a_private_cgroup_namespace_is_seen_from_outside_and_from_another(
    made_cgroup: Callable[[bytes], Path],
) -> None:
    """The kernel writes both paths relative to the reader, so that they agree wherever it stands."""
    directory = made_cgroup(b"memory")
    name = limit_memory(directory, 48 * MIB)
    kind = "cgroup2" if name == "memory.max" else "cgroup -o memory"
    inside = (
        f"exec unshare --cgroup --mount sh -c 'umount -R /sys/fs/cgroup 2>/dev/null;"
        f" mount -t {kind} none /sys/fs/cgroup && {WAITING}'"
    )
    with child(*joining(directory, inside)) as pid:
        outside = ContainerSource().look(pid)
        other = look_from(pid, "unshare", "--cgroup")
    expected = Limit(48 * MIB, f"/sys/fs/cgroup/{name}")
    assert outside.memory.limit == expected
    assert other.memory.limit == expected
    assert outside.path.endswith(directory.name)
    assert re.fullmatch(rf"(/\.\.)*/{directory.name}", other.path)
    assert other.memory.used_bytes


@needs_root
def test_dev_shm_of_another_mount_namespace_is_its_own() -> None:
    """Triton's own 16 MiB are read, not the probe's."""
    script = f"mount -t tmpfs -o size=16m none /dev/shm && head -c 1048576 /dev/zero > /dev/shm/x; {WAITING}"
    with child("unshare", "--mount", "sh", "-c", script) as pid:
        shm = ContainerSource().look(pid).shm
    assert shm is not None
    assert shm.size_bytes == 16 * MIB
    assert shm.used_bytes == MIB
    assert shm.inodes_free


@needs_root
def test_another_user_is_told_what_it_may_not_read() -> None:
    """Without the target's uid its cgroup and its own ``/dev/shm`` are refused, and said so once."""
    script = f"mount -t tmpfs -o size=16m none /dev/shm && {WAITING}"
    with child("unshare", "--mount", "sh", "-c", script) as pid:
        reading = look_from(pid, user=1000)
    assert reading.denied == ("cgroup", "shm")
    assert reading.owner is not None
    assert (reading.owner.uid, reading.owner.gid) == (0, 0)
    assert reading.shm is None
    assert reading.memory == type(reading.memory)()
    assert reading.cgroup in (1, 2)
    assert reading.oom_score_adj == 0


@needs_root
def test_a_shared_dev_shm_needs_no_permission() -> None:
    """Where both have the same mount, as the containers of a pod do, the probe's own tells it."""
    with child("sh", "-c", WAITING) as pid:
        reading = look_from(pid, user=1000)
    assert reading.denied == ("cgroup",)
    assert reading.shm is not None
    assert reading.shm.size_bytes == shutil.disk_usage(SHM).total


@pytest.mark.parametrize("user", [0, pytest.param(1000, marks=needs_root)])
def test_a_zombie_and_a_gone_process_are_no_container(user: int) -> None:
    """A process that waits to be reaped has no root any more, which is not a refusal."""
    with subprocess.Popen(["true"]) as dying:
        os.waitid(os.P_PID, dying.pid, os.WEXITED | os.WNOWAIT)
        zombie = look_from(dying.pid, user=user)
    gone = look_from(dying.pid, user=user)
    assert zombie == ContainerReading(zombie.observed)
    assert gone == ContainerReading(gone.observed)


def test_a_look_costs_no_more_than_the_files_it_reads() -> None:
    """About twenty small files every few seconds, for ever: measured in reads, whatever the machine."""
    source = ContainerSource()
    source.look(os.getpid())
    assert in_reads(lambda: source.look(os.getpid())) < 100
