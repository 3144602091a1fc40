"""A tree of processes, as ``/proc`` accounts for it: memory, CPU, threads, descriptors."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path

import msgspec

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_KIBIBYTE = 1024
_PSS = re.compile(rb"^Pss:\s+(?P<size>\d+) kB$", re.MULTILINE)
_MAPPING = re.compile(rb"[0-9a-f]+-[0-9a-f]+ \S+ (?P<offset>[0-9a-f]+) \S+ (?P<inode>\d+)")


class Usage(msgspec.Struct, frozen=True):
    """What a tree uses at one moment.

    ``pss_bytes`` shares a page among all processes of the machine that map it, so it is less than what the
    tree would use alone; ``alone_bytes`` counts the pages of a file as often as the process of the tree that
    has the most of them in memory, whoever else maps them.  ``cpu_seconds`` includes children that ended.
    """

    processes: int
    threads: int
    descriptors: int
    pss_bytes: int
    alone_bytes: int
    cpu_seconds: float


def tree(root: int) -> tuple[int, ...]:
    """The process and its descendants that live now; empty where it is gone."""
    children: dict[int, list[int]] = defaultdict(list)
    for pid in (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()):
        if (parent := _parent(pid)) is not None:
            children[parent].append(pid)
    if _parent(root) is None:
        return ()
    found, waiting = [], [root]
    while waiting:
        found.append(waiting.pop())
        waiting += children[found[-1]]
    return tuple(found)


def cpu_seconds(root: int) -> float:
    """CPU time of the tree so far, with that of descendants that ended and were reaped; ticks of 10 ms."""
    return sum(_cpu_ticks(each) for each in tree(root)) / _TICKS_PER_SECOND


def usage(root: int) -> Usage:
    """Look at the whole tree once; a process that ends meanwhile counts as nothing."""
    pids = tree(root)
    return Usage(
        processes=len(pids),
        threads=sum(_entries(each, "task") for each in pids),
        descriptors=sum(_entries(each, "fd") for each in pids),
        pss_bytes=sum(_pss(each) for each in pids),
        alone_bytes=_alone(pids),
        cpu_seconds=sum(_cpu_ticks(each) for each in pids) / _TICKS_PER_SECOND,
    )


def _alone(pids: tuple[int, ...]) -> int:
    anonymous = 0
    files: dict[tuple[int, int], int] = {}
    for pid in pids:
        mapping: tuple[int, int] | None = None
        shared: dict[tuple[int, int], int] = defaultdict(int)
        for line in _read(pid, "smaps").splitlines():
            if found := _MAPPING.match(line):
                mapping = (int(found["inode"]), int(found["offset"], 16))
            elif line.startswith(b"Anonymous:"):
                anonymous += int(line.split()[1])
                if mapping is not None:
                    shared[mapping] -= int(line.split()[1])
            elif line.startswith(b"Rss:") and mapping is not None:
                shared[mapping] += int(line.split()[1])
        for each, size in shared.items():
            files[each] = max(files.get(each, 0), size)
    return (anonymous + sum(files.values())) * _KIBIBYTE


def _pss(pid: int) -> int:
    found = _PSS.search(_read(pid, "smaps_rollup"))
    return int(found["size"]) * _KIBIBYTE if found else 0


def _parent(pid: int) -> int | None:
    fields = _fields(pid)
    return int(fields[1]) if fields else None


def _cpu_ticks(pid: int) -> int:
    fields = _fields(pid)
    return sum(int(each) for each in fields[11:15])  # utime, stime, and those of reaped children


def _fields(pid: int) -> list[bytes]:
    # After the name, which may hold anything: state, parent...
    return _read(pid, "stat").rpartition(b") ")[2].split()


def _entries(pid: int, folder: str) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/{folder}").iterdir())
    except OSError:
        return 0


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
