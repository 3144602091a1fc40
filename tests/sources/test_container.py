"""The container source against trees of files shaped like each kind of cgroup, and against nonsense."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probe.facts.container import ContainerReading, Limit, MemoryUse
from probe.sources.container import files
from probe.sources.container.source import ContainerSource
from tests.sources.cgroup_trees import (
    GIB,
    PID,
    V1_CGROUP,
    V1_FILES,
    V1_MOUNTS,
    V1_READ,
    V1_UNLIMITED,
    V2_FILES,
    V2_MOUNT,
    V2_READ,
    Tree,
    tree,
)

__all__ = ["tree"]


def blank(reading: ContainerReading) -> bool:
    """Whether nothing at all was read."""
    return reading == ContainerReading(reading.observed)


@pytest.mark.parametrize(
    ("cgroup", "root"),
    [
        ("0::/\n", "/"),
        ("0::/../cri-containerd-1.scope\n", "/../cri-containerd-1.scope"),
        ("0::/../cri-containerd-1.scope\n", "/"),
        ("0::/kubepods.slice/c1.scope\n", "/kubepods.slice/c1.scope"),
        ("0::/a b\n", "/a\\040b"),
    ],
)
def test_a_v2_container_is_read_at_its_mount_point(tree: Tree, cgroup: str, root: str) -> None:
    """In a private namespace the mount point is the container, however the reader sees its path."""
    tree.process(cgroup, V2_MOUNT.format(root=root))
    tree.put(V2_FILES)
    reading = tree.look()
    assert (reading.memory, reading.cpu, reading.pids) == V2_READ
    assert (reading.cgroup, reading.path) == (2, cgroup.strip()[3:])
    assert reading.oom_score_adj == -997
    assert reading.shm is not None
    assert reading.node_memory_bytes
    assert reading.denied == ()


def test_a_v2_container_in_the_hosts_namespace_is_read_below_the_mount_point(tree: Tree) -> None:
    """A privileged container sees the whole tree: its own cgroup is found by its path."""
    tree.process("0::/kubepods.slice/c1.scope\n", V2_MOUNT.format(root="/"))
    tree.put({"memory.current": "1", "cpu.stat": "usage_usec 1"})
    tree.put(V2_FILES, "kubepods.slice/c1.scope")
    reading = tree.look()
    home = "/sys/fs/cgroup/kubepods.slice/c1.scope"
    assert reading.memory == msgspec.structs.replace(
        V2_READ[0], limit=Limit(8 * GIB, f"{home}/memory.max"), oom_kills_path=f"{home}/memory.events"
    )
    assert reading.cpu.used_seconds == 61.0
    assert reading.pids.used == 77


def test_a_v1_container_is_read_in_the_mount_of_each_controller(tree: Tree) -> None:
    """Every v1 controller has its own mount, named in its super options."""
    tree.process(V1_CGROUP, V1_MOUNTS)
    tree.put(V1_FILES)
    reading = tree.look()
    assert reading.cgroup == 1
    assert reading.path == "/kubepods/pod1/c1"
    assert (reading.memory, reading.cpu, reading.pids) == V1_READ


def test_in_a_hybrid_layout_each_controller_is_read_where_it_is_bound(tree: Tree) -> None:
    """A line that names the controller beats the v2 line beside it; one that none names is on v2."""
    tree.process(
        "4:memory:/m\n0::/u\n",
        "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
    )
    tree.put({"memory.limit_in_bytes": "1000", "memory.usage_in_bytes": "7"}, "memory/m")
    tree.put(V2_FILES, "unified/u")
    reading = tree.look()
    assert reading.cgroup == 1
    assert reading.path == "/m"
    assert reading.memory == MemoryUse(Limit(1000, "/sys/fs/cgroup/memory/m/memory.limit_in_bytes"), 7)
    assert reading.cpu.used_seconds == 61.0
    assert reading.pids.used == 77


@pytest.mark.parametrize(
    ("leaf", "pod", "top", "expected"),
    [
        ("max", "max", None, Limit(None, "/sys/fs/cgroup/pod/leaf/memory.max")),
        ("500", "max", None, Limit(500, "/sys/fs/cgroup/pod/leaf/memory.max")),
        ("500", "400", "900", Limit(400, "/sys/fs/cgroup/pod/memory.max")),
        ("max", "400", "300", Limit(300, "/sys/fs/cgroup/memory.max")),
        (None, "max", None, Limit(None, "/sys/fs/cgroup/pod/memory.max")),
        ("500", "rubbish", None, Limit(500, "/sys/fs/cgroup/pod/leaf/memory.max")),
        ("max", "rubbish", None, None),
        ("", None, None, None),
        ("-1", None, None, None),
        (None, None, None, None),
    ],
)
def test_the_smallest_limit_on_the_way_up_wins(
    tree: Tree, leaf: str | None, pod: str | None, top: str | None, expected: Limit | None
) -> None:
    """No limit is said only where every level was asked and none has one; unreadable is neither."""
    tree.process("0::/pod/leaf\n", V2_MOUNT.format(root="/"))
    levels = {"pod/leaf": leaf, "pod": pod, ".": top}
    for below, text in levels.items():
        if text is not None:
            tree.put({"memory.max": text}, below)
    assert tree.look().memory.limit == expected


@pytest.mark.parametrize("text", [V1_UNLIMITED, "9223372036854710272", str(1 << 62), str((1 << 64) - 1)])
def test_a_huge_v1_memory_limit_is_none(tree: Tree, text: str) -> None:
    """Version 1 has no word for "no limit": it writes a number that depends on the page size."""
    tree.process(V1_CGROUP, V1_MOUNTS)
    tree.put(V1_FILES | {"memory/memory.limit_in_bytes": text, "cpu,cpuacct/cpu.cfs_quota_us": "-1"})
    reading = tree.look()
    assert reading.memory.limit == Limit(None, "/sys/fs/cgroup/memory/memory.limit_in_bytes")
    assert reading.cpu.limit == Limit(None, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us")


def test_a_process_below_its_controllers_is_accounted_where_they_are_enabled(tree: Tree) -> None:
    """Version 2 may enable memory only above the process's own cgroup."""
    tree.process("0::/init\n", V2_MOUNT.format(root="/"))
    tree.put({"cgroup.procs": "42"}, "init")
    tree.put(V2_FILES)
    assert tree.look().memory == V2_READ[0]


def test_of_two_mounts_the_one_that_shows_the_ancestors_is_read(tree: Tree) -> None:
    """A pod limit that the container's own mount hides is found through the host's."""
    host = "40 23 0:28 / /sys/fs/cgroup/host ro - cgroup2 cgroup rw"
    tree.process("0::/pod/c1\n", f"{V2_MOUNT.format(root='/pod/c1')}\n{host}")
    tree.put({"memory.max": "900"})
    tree.put({"memory.max": "500"}, "host/pod")
    tree.put({"memory.max": "900"}, "host/pod/c1")
    assert tree.look().memory.limit == Limit(500, "/sys/fs/cgroup/host/pod/memory.max")


def test_a_mount_of_an_unnamed_ancestor_is_not_taken_for_the_container(tree: Tree) -> None:
    """A root above the reader's own namespace may be the node's: its figures are not Triton's."""
    tree.process("0::/../c1\n", V2_MOUNT.format(root="/../../.."))
    tree.put(V2_FILES)
    reading = tree.look()
    assert reading.cgroup == 2
    assert reading.memory == MemoryUse()


def test_working_set_is_never_below_zero(tree: Tree) -> None:
    """The two files are read one after the other, so that the cache may exceed the use."""
    tree.process("0::/\n", V2_MOUNT.format(root="/"))
    tree.put({"memory.current": "5", "memory.stat": "inactive_file 9"})
    assert tree.look().memory.working_set_bytes == 0


@pytest.mark.parametrize("name", sorted(V2_FILES))
@pytest.mark.parametrize(
    "text", ["", "\n\n", "max max", "-5", "9" * 5000, "x" * 200_000, "some total=\0", "1 0"]
)
def test_garbage_in_one_file_leaves_the_others_as_they_are(tree: Tree, name: str, text: str) -> None:
    """What can not be understood is not told; it takes nothing else with it."""
    tree.process("0::/\n", V2_MOUNT.format(root="/"))
    tree.put(V2_FILES | {name: text})
    reading = tree.look()
    group = name.partition(".")[0]
    for use, expected in zip(("memory", "cpu", "pids"), V2_READ, strict=True):
        if use != group:
            assert getattr(reading, use) == expected


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket path", "link loop"])
def test_another_kind_of_file_in_the_way_neither_blocks_nor_raises(tree: Tree, kind: str) -> None:
    """A container can put anything at its paths, a FIFO without a writer too."""
    tree.process("0::/\n", V2_MOUNT.format(root="/"))
    tree.put(V2_FILES)
    path = tree.cgroup_fs / "memory.max"
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link loop":
        path.symlink_to("memory.max")
    reading = tree.look()
    assert reading.memory.limit is None
    assert reading.memory.used_bytes == 3 * GIB


def test_a_link_at_dev_shm_is_not_followed(tree: Tree, tmp_path: Path) -> None:
    """An absolute link in the image would lead into the probe's own root."""
    tree.process("0::/\n", V2_MOUNT.format(root="/"))
    (tree.base / "root/dev/shm").rmdir()
    (tree.base / "root/dev/shm").symlink_to(tmp_path)
    assert tree.look().shm is None


@pytest.mark.parametrize("pid", [None, 0, -1, 43, 1 << 70])
def test_without_the_process_the_reading_is_empty(tree: Tree, pid: int | None) -> None:
    """No pid, or one that is not there, is no error."""
    tree.process("0::/\n", V2_MOUNT.format(root="/"))
    tree.put(V2_FILES)
    assert blank(ContainerSource(tree.proc).look(pid))


def reads_of_one_look(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many files one look reads."""
    count = 0
    read = files._read

    def counting(path: bytes) -> bytes:
        nonlocal count
        count += 1
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_read", counting)
        tree.look()
    return count


@pytest.mark.parametrize("version", [1, 2])
def test_a_process_that_vanishes_at_any_moment_gives_an_empty_reading(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """Half of a container must not pass for one: an ancestor's figures are not Triton's."""
    read = files._read
    tree.process(*(("0::/\n", V2_MOUNT.format(root="/")) if version == 2 else (V1_CGROUP, V1_MOUNTS)))
    tree.put(V2_FILES if version == 2 else V1_FILES)
    total = reads_of_one_look(tree, monkeypatch)
    assert total > 10
    for moment in range(total):
        kept = shutil.copytree(tree.base, tree.proc / "kept")
        left = moment

        def vanishing(path: bytes) -> bytes:
            nonlocal left
            if left == 0:
                shutil.rmtree(tree.base)
            left -= 1
            return read(path)

        monkeypatch.setattr(files, "_read", vanishing)
        assert blank(tree.look()), f"vanished before read {moment}"
        monkeypatch.setattr(files, "_read", read)
        kept.rename(tree.base)


@pytest.mark.parametrize(
    "code", [errno.ENODEV, errno.EIO, errno.ESRCH, errno.EACCES, errno.EPERM, errno.EMFILE]
)
def test_any_error_at_any_read_is_survived_and_a_refusal_is_told_once(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Only want of permission goes into ``denied``: the others are no matter of a security context."""
    read = files._read
    tree.process("0::/\n", V2_MOUNT.format(root="/"))
    tree.put(V2_FILES)
    total = reads_of_one_look(tree, monkeypatch)
    for failing in [*range(total), None]:
        seen = 0

        def refusing(path: bytes, failing: int | None = failing) -> bytes:
            nonlocal seen
            seen += 1
            if b"/root/" in path and failing in (seen - 1, None):
                raise OSError(code, os.strerror(code))
            return read(path)

        monkeypatch.setattr(files, "_read", refusing)
        denied = tree.look().denied
        assert denied in ((), ("cgroup",))
        if failing is None:
            assert (denied == ("cgroup",)) == (code in (errno.EACCES, errno.EPERM))


MOUNT_LINES = st.builds(
    lambda root, point, kind, options: (
        b"31 23 0:28 " + root + b" " + point + b" ro - " + kind + b" none " + options
    ),
    st.sampled_from([b"/", b"/..", b"/../..", b"/a", b"/a/b", b"\\000", b"a", b""]),
    st.sampled_from([b"/sys/fs/cgroup", b"/", b"/sys\\000", b"/dev/shm", b"", b"/\\777"]),
    st.sampled_from([b"cgroup", b"cgroup2", b"cgroupfs", b"tmpfs"]),
    st.sampled_from([b"rw,memory", b"rw", b"", b",,"]),
)
CGROUP_LINES = st.builds(
    lambda head, path: head + path,
    st.sampled_from([b"0::", b"4:memory:", b"4:cpu,cpuacct,:", b":", b"4:", b"x:memory:"]),
    st.sampled_from([b"/", b"/a/b/c", b"/..", b"/../x", b"/a/../..", b"//", b"", b"/\xff\n", b"/\0"]),
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=150,
    deadline=None,
)
@given(
    cgroup=st.lists(CGROUP_LINES | st.binary(max_size=30), max_size=4),
    mounted=st.lists(MOUNT_LINES | st.binary(max_size=60), max_size=4),
    contents=st.dictionaries(st.sampled_from(sorted(V2_FILES)), st.binary(max_size=40), max_size=10),
)
def test_no_content_of_any_file_makes_a_look_raise(
    tmp_path: Path, cgroup: list[bytes], mounted: list[bytes], contents: dict[str, bytes]
) -> None:
    """A whole look over nonsense still gives a reading that can be printed."""
    shutil.rmtree(tmp_path / str(PID), ignore_errors=True)
    tree = Tree(tmp_path)
    (tree.base / "cgroup").write_bytes(b"\n".join(cgroup))
    (tree.base / "mountinfo").write_bytes(b"\n".join(mounted))
    for name, content in contents.items():
        (tree.cgroup_fs / name).write_bytes(content)
    assert tree.look().observed
