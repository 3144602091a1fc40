"""Is a process in a frozen cgroup told from one that only sleeps, wherever its cgroup can be seen?"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probe.facts.processes import ProcessState
from probe.sources.container import files
from probe.sources.processes.freezer import LOOKS_AT_ONCE, Freezer
from probe.sources.processes.procfs import Procfs, Stat
from testbed.freezers import FreezableCgroup, freezable_cgroup
from testbed.tools import until
from tests.sources.costs import in_reads

V1, V2 = 1, 2


def stat(pid: int, state: ProcessState = ProcessState.SLEEPING, start: int = 1) -> Stat:
    """A process in this state."""
    return Stat(pid, "triton_python_b", state, 1, 0, start, 0, 0)


ASLEEP = {V1: ProcessState.UNINTERRUPTIBLE, V2: ProcessState.SLEEPING}
"""How ``stat`` shows what the freezer of each version holds."""


# The real kernel


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A child that does nothing."""
    with subprocess.Popen(["sleep", "100"]) as child:
        yield child.pid
        child.kill()


@pytest.fixture(params=[V1, V2], ids=["version 1", "version 2"])
def cgroup(request: pytest.FixtureRequest, tmp_path: Path, sleeper: int) -> Iterator[FreezableCgroup]:
    """A cgroup of each version, thawed before the sleeper is waited for."""
    with freezable_cgroup(request.param, tmp_path / "freezer") as made:
        yield made


def held(freezer: Freezer, pid: int) -> str | None:
    """Which frozen cgroup holds this process, by a look at it as it is now."""
    seen = Procfs().stat(pid)
    assert seen is not None
    return freezer.held([seen]).get(pid)


def test_a_frozen_child_is_held_until_it_thaws(cgroup: FreezableCgroup, sleeper: int) -> None:
    """With the path of its cgroup; one that is in a cgroup which could be frozen is not."""
    freezer = Freezer(Procfs())
    assert held(freezer, sleeper) is None
    cgroup.take(sleeper)
    assert held(freezer, sleeper) is None
    cgroup.freeze()
    until(lambda: held(freezer, sleeper) is not None)
    assert (held(freezer, sleeper) or "").endswith(f"/{cgroup.folder.name}")
    cgroup.thaw()
    until(lambda: held(freezer, sleeper) is None)


def test_a_child_is_held_by_a_cgroup_above_its_own(cgroup: FreezableCgroup, sleeper: int) -> None:
    """Freezing goes down: what freezes a pod freezes its containers."""
    inner = cgroup.below()
    inner.take(sleeper)
    freezer = Freezer(Procfs())
    assert held(freezer, sleeper) is None
    cgroup.freeze()
    until(lambda: (held(freezer, sleeper) or "").endswith("/inner"))


def test_what_is_killed_in_a_frozen_cgroup_is_gone_and_not_held(cgroup: FreezableCgroup) -> None:
    """Version 2 lets a killed process go; version 1 lets it end once it thaws."""
    with subprocess.Popen(["sleep", "100"]) as child:
        cgroup.take(child.pid)
        cgroup.freeze()
        child.kill()
        if cgroup.version == V1:
            cgroup.thaw()
        until(lambda: (seen := Procfs().stat(child.pid)) is not None and seen.state is ProcessState.ZOMBIE)
        cgroup.freeze()
        assert held(Freezer(Procfs()), child.pid) is None


# A /proc that says what a test wants


class Tree:
    """A ``/proc`` and a file system of cgroups, both made of plain files."""

    def __init__(self, root: Path) -> None:
        self.proc = root / "proc"
        (self.proc / "self").mkdir(parents=True)
        self.ours("")

    def ours(self, mountinfo: str) -> None:
        """What the probe itself has mounted."""
        (self.proc / "self" / "mountinfo").write_text(mountinfo)

    def process(self, pid: int, cgroup: str, mountinfo: str = "") -> Path:
        """A process; its root, below which its mounts are to be found."""
        folder = self.proc / str(pid)
        (folder / "root").mkdir(parents=True, exist_ok=True)
        (folder / "cgroup").write_text(cgroup)
        (folder / "mountinfo").write_text(mountinfo)
        return folder / "root"

    def freezer(self) -> Freezer:
        """One that reads this tree."""
        return Freezer(Procfs(self.proc))


def put(folder: Path, version: int, *, frozen: bool = True) -> None:
    """A cgroup's file that tells it."""
    folder.mkdir(parents=True, exist_ok=True)
    if version == V1:
        (folder / "freezer.state").write_text("FROZEN\n" if frozen else "THAWED\n")
    else:
        (folder / "cgroup.events").write_text(f"populated 1\nfrozen {int(frozen)}\n")


def mount(version: int, point: str, root: str = "/", number: int = 30) -> str:
    """A line of a mountinfo."""
    kind, options = ("cgroup", "rw,freezer") if version == V1 else ("cgroup2", "rw")
    return f"{number} 20 0:{number} {root} {point} ro,nosuid - {kind} {kind} {options}\n"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """An empty one."""
    return Tree(tmp_path)


LINE = {V1: "6:freezer:{}\n0::/\n", V2: "0::{}\n"}


@pytest.mark.parametrize("version", [V1, V2])
def test_on_a_host_the_probes_own_mount_shows_every_cgroup(tree: Tree, tmp_path: Path, version: int) -> None:
    """Nothing of the process but its cgroup has to be readable."""
    top = tmp_path / "cgroup"
    tree.ours(mount(version, str(top)))
    tree.process(7, LINE[version].format("/pods/triton"))
    (tree.proc / "7" / "mountinfo").unlink()
    put(top / "pods" / "triton", version)
    assert tree.freezer().held([stat(7, ASLEEP[version])]) == {7: "/pods/triton"}
    put(top / "pods" / "triton", version, frozen=False)
    assert tree.freezer().held([stat(7, ASLEEP[version])]) == {}


@pytest.mark.parametrize("version", [V1, V2])
def test_from_another_container_it_is_seen_through_the_processs_root(tree: Tree, version: int) -> None:
    """A sidecar's own mount shows its own container; the path is relative to the sidecar's namespace."""
    tree.ours(mount(version, "/sys/fs/cgroup", "/"))
    root = tree.process(
        7, LINE[version].format("/../triton"), mount(version, "/sys/fs/cgroup/x", "/../triton")
    )
    put(root / "sys/fs/cgroup/x", version)
    assert tree.freezer().held([stat(7, ASLEEP[version])]) == {7: "/../triton"}


def test_version_2_freezes_beside_a_freezer_of_version_1(tree: Tree, tmp_path: Path) -> None:
    """In the hybrid layout both are asked, and either may hold it."""
    one, two = tmp_path / "one", tmp_path / "two"
    tree.ours(mount(V1, str(one)) + mount(V2, str(two), number=31))
    tree.process(7, "6:freezer:/a\n0::/b\n")
    put(one / "a", V1, frozen=False)
    put(two / "b", V2)
    assert tree.freezer().held([stat(7)]) == {7: "/b"}
    put(two / "b", V2, frozen=False)
    put(one / "a", V1)
    assert tree.freezer().held([stat(7, ProcessState.UNINTERRUPTIBLE)]) == {7: "/a"}


@pytest.mark.parametrize(
    ("version", "state", "expected"),
    [
        (V1, ProcessState.UNINTERRUPTIBLE, True),
        (V1, ProcessState.SLEEPING, False),
        (V1, ProcessState.RUNNING, False),
        (V2, ProcessState.SLEEPING, True),
        (V2, ProcessState.STOPPED, True),
        (V2, ProcessState.RUNNING, False),
        (V2, ProcessState.ZOMBIE, False),
        (V1, ProcessState.ZOMBIE, False),
        (V1, ProcessState.DEAD, False),
    ],
)
def test_a_process_that_shows_otherwise_is_not_held(
    tree: Tree, tmp_path: Path, version: int, state: ProcessState, *, expected: bool
) -> None:
    """One that runs, or is dead, is not frozen, whatever is read of a cgroup."""
    tree.ours(mount(version, str(tmp_path / "cgroup")))
    tree.process(7, LINE[version].format("/a"))
    put(tmp_path / "cgroup" / "a", version)
    assert (7 in tree.freezer().held([stat(7, state)])) is expected


def test_what_can_not_be_seen_is_not_held(tree: Tree) -> None:
    """No cgroup, no mount, no file, a refusal: then ``stat`` alone speaks."""
    freezer = tree.freezer()
    assert freezer.held([stat(7)]) == {}
    tree.process(8, "0::/a\n")
    tree.process(9, "0::/a\n", mount(V2, "/sys/fs/cgroup", "/a"))
    tree.process(10, "nonsense")
    tree.process(11, "6:freezer:/a\n", mount(V2, "/sys/fs/cgroup"))
    assert freezer.held([stat(8), stat(9), stat(10), stat(11)]) == {}


def reads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every path that is read from now on."""
    seen: list[bytes] = []
    proper = files._read

    def counting(path: bytes) -> bytes:
        seen.append(path)
        return proper(path)

    monkeypatch.setattr(files, "_read", counting)
    return seen


def test_each_cgroup_is_read_once_a_scan_and_each_process_in_its_turn(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 stubs in one cgroup cost one file, and a share of them is looked up again."""
    tree.ours(mount(V2, str(tmp_path / "cgroup")))
    put(tmp_path / "cgroup" / "a", V2)
    many = [stat(pid) for pid in range(1000, 2000)]
    for each in many:
        tree.process(each.pid, "0::/a\n")
    freezer = tree.freezer()
    assert len(freezer.held(many)) == len(many)
    seen = reads(monkeypatch)
    looked_up: set[bytes] = set()
    for _ in range(1000 // LOOKS_AT_ONCE + 1):
        seen.clear()
        assert len(freezer.held(many)) == len(many)
        assert sum(path.endswith(b"/cgroup.events") for path in seen) == 1
        assert len(seen) <= LOOKS_AT_ONCE + 1
        looked_up |= {path for path in seen if path.endswith(b"/cgroup")}
    assert len(looked_up) == len(many)


def test_a_process_that_moves_is_followed(tree: Tree, tmp_path: Path) -> None:
    """Into a frozen cgroup, and out of it; one that is reused is another."""
    tree.ours(mount(V2, str(tmp_path / "cgroup")))
    put(tmp_path / "cgroup" / "a", V2)
    put(tmp_path / "cgroup" / "b", V2, frozen=False)
    freezer = tree.freezer()
    for where, expected in (("a", {7: "/a"}), ("b", {}), ("a", {7: "/a"})):
        tree.process(7, f"0::/{where}\n")
        assert freezer.held([stat(7)]) == expected
    tree.process(7, "0::/b\n")
    assert freezer.held([stat(7, start=2)]) == {}
    assert freezer.held([]) == {}


def test_a_cgroup_is_seen_on_when_the_process_through_which_it_was_seen_is_gone(tree: Tree) -> None:
    """Another of its processes lends its eyes."""
    for pid in (7, 8):
        root = tree.process(pid, "0::/a\n", mount(V2, "/sys/fs/cgroup", "/a"))
        put(root / "sys/fs/cgroup", V2)
    freezer = tree.freezer()
    assert set(freezer.held([stat(7), stat(8)])) == {7, 8}
    (tree.proc / "7" / "root/sys/fs/cgroup/cgroup.events").unlink()
    assert set(freezer.held([stat(8)])) == {8}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(cgroup=st.binary(max_size=60), mounts=st.binary(max_size=120), told=st.binary(max_size=40))
def test_no_content_of_any_file_raises(tree: Tree, cgroup: bytes, mounts: bytes, told: bytes) -> None:
    """Garbage is nothing that is known."""
    root = tree.process(7, "")
    (tree.proc / "7" / "cgroup").write_bytes(cgroup)
    (tree.proc / "7" / "mountinfo").write_bytes(mounts)
    (root / "cgroup.events").write_bytes(told)
    tree.freezer().held([stat(7), stat(2**40)])


@pytest.mark.skipif(not Path("/proc/self/cgroup").exists(), reason="a kernel without cgroups")
def test_a_look_at_a_thousand_processes_costs_little() -> None:
    """About 115 reads of a small file, as every two seconds has one: this process stands for a thousand."""
    many = [stat(os.getpid(), start=number) for number in range(1000)]
    freezer = Freezer(Procfs())
    freezer.held(many)
    assert in_reads(lambda: freezer.held(many)) < 400
