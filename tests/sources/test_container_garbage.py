"""Every file of both versions of cgroups missing, empty, huge, garbled or no file: no crash, no wrong number."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probe.facts.container import ContainerReading, Limit
from probe.sources.container import files
from tests.sources.cgroup_trees import (
    V1_CGROUP,
    V1_FILES,
    V1_MOUNTS,
    V1_READ,
    V2_FILES,
    V2_MOUNT,
    V2_READ,
    Tree,
    tree,
)
from tests.worlds import START

__all__ = ["tree"]

KINDS = ("memory", "cpu", "pids")
KILLS = ("memory.oom_kills", "memory.oom_kills_path")
FIRST = {
    "memory/memory.limit_in_bytes": ("memory.limit",),
    "memory/memory.usage_in_bytes": ("memory.used_bytes", "memory.working_set_bytes"),
    "memory/memory.max_usage_in_bytes": ("memory.peak_bytes",),
    "memory/memory.stat": ("memory.working_set_bytes", "memory.shmem_bytes", "memory.active_file_bytes"),
    "memory/memory.oom_control": KILLS,
    "cpu,cpuacct/cpu.cfs_quota_us": ("cpu.limit",),
    "cpu,cpuacct/cpu.cfs_period_us": ("cpu.limit",),
    "cpu,cpuacct/cpu.stat": ("cpu.throttled_seconds", "cpu.periods", "cpu.throttled_periods"),
    "cpu,cpuacct/cpu.shares": ("cpu.weight",),
    "cpu,cpuacct/cpuacct.usage": ("cpu.used_seconds",),
    "pids/pids.max": ("pids.limit",),
    "pids/pids.current": ("pids.used",),
    "pids/pids.events": ("pids.refused",),
}
SECOND = {
    "memory.max": ("memory.limit",),
    "memory.current": ("memory.used_bytes", "memory.working_set_bytes"),
    "memory.peak": ("memory.peak_bytes",),
    "memory.stat": ("memory.working_set_bytes", "memory.shmem_bytes", "memory.active_file_bytes"),
    "memory.events": (*KILLS, "memory.oom_group_kills"),
    "memory.oom.group": ("memory.oom_group",),
    "memory.pressure": ("memory.stall_seconds",),
    "cpu.max": ("cpu.limit",),
    "cpu.stat": ("cpu.used_seconds", "cpu.throttled_seconds", "cpu.periods", "cpu.throttled_periods"),
    "cpu.weight": ("cpu.weight",),
    "cpu.pressure": ("cpu.stall_seconds",),
    "pids.max": ("pids.limit",),
    "pids.current": ("pids.used",),
    "pids.events": ("pids.refused",),
}
"""What rests on each file."""
ALL = [(1, name) for name in FIRST] + [(2, name) for name in SECOND]
MEBIBYTES_10 = 10 << 20


def of(version: int) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """The files of a healthy container of this version, and what rests on each."""
    return (V1_FILES, FIRST) if version == 1 else (V2_FILES, SECOND)


def contain(tree: Tree, version: int) -> None:
    """Put the process into a healthy container."""
    if version == 1:
        tree.process(V1_CGROUP, V1_MOUNTS)
    else:
        tree.process("0::/\n", V2_MOUNT.format(root="/"))
    tree.put(of(version)[0])


def figures(reading: ContainerReading) -> dict[str, Any]:
    """Every figure of a reading by its name; what was not read is None."""
    uses = (reading.memory, reading.cpu, reading.pids)
    return {
        f"{kind}.{name}": value if value != "" else None
        for kind, use in zip(KINDS, uses, strict=True)
        for name, value in msgspec.structs.asdict(use).items()
    }


def healthy(version: int) -> dict[str, Any]:
    """Every figure of the healthy container."""
    memory, cpu, pids = V1_READ if version == 1 else V2_READ
    return figures(ContainerReading(START, memory=memory, cpu=cpu, pids=pids))


def test_every_file_that_is_read_is_in_the_tables() -> None:
    """So that none is forgotten below; and a file of a healthy container has something that rests on it."""
    for version in (1, 2):
        contents, rests = of(version)
        assert contents.keys() == rests.keys()
        wanted = {name for names in rests.values() for name in names}
        assert wanted == {name for name, value in healthy(version).items() if value is not None}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\n \n\n", id="blank"),
        pytest.param(b"-5\n", id="negative"),
        pytest.param(b"%d\n" % 10**40, id="10**40"),
        pytest.param(b"%d\n" % (1 << 64), id="2**64"),
        pytest.param(b"1.5\n", id="fraction"),
        pytest.param(b"0x10\n", id="hexadecimal"),
        pytest.param(b"1_000\n", id="underscore"),
        pytest.param("٣\n".encode(), id="another script's digit"),
        pytest.param(b"\xff\xfe\x80\x00\x01", id="bytes"),
        pytest.param(b"\0" * 100, id="zeros"),
        pytest.param(b"9" * MEBIBYTES_10, id="10 MB of digits"),
        pytest.param(b"\n" * MEBIBYTES_10, id="10 MB of lines"),
        pytest.param(b"max max max\n", id="max too often"),
        pytest.param(b"12 34 56\n", id="too many numbers"),
        pytest.param(b"some total=\nfull total=5\n", id="half a pressure"),
        pytest.param(b"12\n34\n", id="two lines"),
    ],
)
@pytest.mark.parametrize(("version", "name"), ALL)
def test_garbage_in_a_file_is_no_number_and_takes_no_other_with_it(
    tree: Tree, version: int, name: str, content: bytes
) -> None:
    """What rests on it is not known, neither a zero nor "no limit"; all else is as it was."""
    contain(tree, version)
    (tree.cgroup_fs / name).write_bytes(content)
    unknown = dict.fromkeys(of(version)[1][name])
    assert figures(tree.look()) == healthy(version) | unknown


@pytest.mark.parametrize("number", ["", "-5", "5 kB", "5\0", "1e3", str(10**40), "max", "x" * 70_000])
@pytest.mark.parametrize(("version", "name"), ALL)
def test_a_file_in_its_own_shape_with_garbled_numbers_is_not_known(
    tree: Tree, version: int, name: str, number: str
) -> None:
    """Names in place, and behind them no number; "max" is one only where it means "no limit"."""
    contain(tree, version)
    text = of(version)[0][name]
    garbled = re.sub(r"(?<![\w.])\d+$|(?<=total=)\d+|^\d+|(?<=^\d{6} )\d+", number, text, flags=re.MULTILINE)
    assert garbled != text
    tree.put({name: garbled})
    unknown: dict[str, Any] = dict.fromkeys(of(version)[1][name])
    if garbled == "max" and name.endswith(".max"):
        unknown = {each: Limit(None, f"/sys/fs/cgroup/{name}") for each in unknown}
    assert figures(tree.look()) == healthy(version) | unknown


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "link loop", "dangling link"])
@pytest.mark.parametrize(("version", "name"), ALL)
def test_no_file_in_its_place_is_not_known(tree: Tree, version: int, name: str, kind: str) -> None:
    """It neither blocks nor raises, and whatever is still told is right."""
    contain(tree, version)
    obstruct(tree.cgroup_fs / name, kind)
    expected, shown = healthy(version), figures(tree.look())
    for each in of(version)[1][name]:
        assert shown[each] is None
    assert {each: value for each, value in shown.items() if value is not None}.items() <= expected.items()
    others = {each for each in expected if not each.startswith(of(version)[1][name][0].partition(".")[0])}
    assert {each: shown[each] for each in others} == {each: expected[each] for each in others}


def obstruct(path: Path, kind: str) -> None:
    """Put something else where the file was, or nothing."""
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link loop":
        path.symlink_to(path.name)
    elif kind == "dangling link":
        path.symlink_to("nowhere")


@pytest.mark.parametrize("cut", range(len("shmem 33554432") + 1))
def test_a_number_that_is_cut_off_is_none(tree: Tree, cut: int) -> None:
    """Of a file that is longer than what is read, the last line is no line."""
    contain(tree, 2)
    start = "inactive_file 1073741824\n"
    line = "shmem 33554432"
    padding = "x" * (files.MOST_BYTES - len(start) - cut - 1) + "\n"
    tree.put({"memory.stat": start + padding + line + "\n" + "y 1\n" * 9})
    memory = tree.look().memory
    assert memory.shmem_bytes is None
    assert memory.working_set_bytes == V2_READ[0].working_set_bytes


PLAIN = ["memory.current", "memory.peak", "pids.current"]
KEYED = {
    "memory.events": ("oom_kill", "memory.oom_kills"),
    "memory.stat": ("shmem", "memory.shmem_bytes"),
    "cpu.stat": ("nr_throttled", "cpu.throttled_periods"),
    "pids.events": ("max", "pids.refused"),
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(
    number=st.integers(0, 1 << 70),
    after=st.sampled_from(["", "\n", " ", " 1", "x", "\0", "\t", "\r\n", " max"]),
    file=st.sampled_from([*PLAIN, *KEYED]),
    before=st.sampled_from(["", "oom_killed 5\n", "x shmem 5\n", "nr_throttled_ 5\n", "a\nb\n"]),
)
def test_a_number_is_read_as_it_stands_or_not_at_all(
    tree: Tree, number: int, after: str, file: str, before: str
) -> None:
    """Up to 64 bits, with nothing but white space behind it."""
    contain(tree, 2)
    if file in PLAIN:
        text, figure = (
            f"{number}{after}",
            dict(zip(PLAIN, ("used_bytes", "peak_bytes", "used"), strict=True))[file],
        )
        shown = figures(tree_with(tree, file, text))[f"{file.partition('.')[0]}.{figure}"]
    else:
        name, figure = KEYED[file]
        shown = figures(tree_with(tree, file, f"{before}{name} {number}{after}"))[figure]
    assert shown == (number if number < 1 << 64 and not after.strip(" \n\r\t") else None)


def tree_with(tree: Tree, file: str, text: str) -> ContainerReading:
    """A look after this was written, as it is, into one file."""
    (tree.cgroup_fs / file).write_text(text)
    return tree.look()


@pytest.mark.parametrize(
    ("shares", "weight"),
    [("2", 1), ("1024", 39), ("262144", 10_000), ("102", 4), ("0", None), ("1", None), ("262145", None)],
)
def test_shares_of_version_1_are_told_as_a_weight(tree: Tree, shares: str, weight: int | None) -> None:
    """As container runtimes convert them: 2, which a pod without a request gets, is 1."""
    contain(tree, 1)
    tree.put({"cpu,cpuacct/cpu.shares": shares})
    assert tree.look().cpu.weight == weight


@pytest.mark.parametrize(("weight", "told"), [("1", 1), ("10000", 10_000), ("0", None), ("10001", None)])
def test_an_idle_cgroup_has_no_weight(tree: Tree, weight: str, told: int | None) -> None:
    """The kernel writes 0 while ``cpu.idle`` holds."""
    contain(tree, 2)
    tree.put({"cpu.weight": weight})
    assert tree.look().cpu.weight == told


@pytest.mark.parametrize(("text", "told"), [("0", False), ("1", True), ("2", None), ("yes", None)])
def test_whether_the_whole_container_would_be_killed_is_told(tree: Tree, text: str, told: object) -> None:
    """Zero is an answer too."""
    contain(tree, 2)
    tree.put({"memory.oom.group": text})
    assert tree.look().memory.oom_group is told


@pytest.mark.parametrize("quota", ["-2", "0", "-100000"])
def test_a_quota_that_no_kernel_gives_is_neither_a_limit_nor_none(tree: Tree, quota: str) -> None:
    """Only -1 says "no limit"."""
    contain(tree, 1)
    tree.put({"cpu,cpuacct/cpu.cfs_quota_us": quota})
    assert tree.look().cpu.limit is None


def test_cpu_is_accounted_where_its_controller_is_enabled(tree: Tree) -> None:
    """Every cgroup of version 2 has a ``cpu.stat``; periods are counted where the limit is."""
    tree.process("0::/init\n", V2_MOUNT.format(root="/"))
    tree.put({"cpu.stat": "usage_usec 5\n", "cpu.pressure": "some total=9\n"}, "init")
    tree.put(V2_FILES)
    assert tree.look().cpu == V2_READ[1]


def test_the_top_of_a_hierarchy_has_use_and_no_weight(tree: Tree) -> None:
    """Nothing is above it to be weighed against; its CPU time is known all the same."""
    contain(tree, 2)
    for name in ("cpu.weight", "cpu.max"):
        (tree.cgroup_fs / name).unlink()
    cpu = tree.look().cpu
    assert (cpu.weight, cpu.limit, cpu.used_seconds, cpu.stall_seconds) == (None, None, 61.0, 1.5)
