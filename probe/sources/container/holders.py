"""Who maps a file of ``/dev/shm``, or has it open?  Every process that can be seen here is asked.

A mapping names its file by device and inode in ``/proc/<pid>/maps``, an open file by the link in
``/proc/<pid>/fd`` (proc(5)).  Both ask for the right to trace the process.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator

import msgspec

from probe.sources.container.files import MOST_BYTES, Reader, whole
from probe.sources.container.shm import Listed

SECONDS = 0.5
"""For one search: a look at the container as a whole has two."""
MOST_MAPS_BYTES = 16 << 20
"""Of one process: a hundred thousand mappings, more than the kernel grants unless it is told to."""

_MOST_MOUNTS_BYTES = MOST_BYTES // 2
"""Of a longer list only the first whole lines are read, and the one that is missing may be the one that counts."""
_PIECE = 1 << 16
_MAPPED = re.compile(rb"^\S+ \S+ \S+ ([0-9a-f]{1,3}):([0-9a-f]{1,5}) ([0-9]{1,20}) ", re.MULTILINE)
_RESIDENT = b"RssShmem:"


class Answer(msgspec.Struct, frozen=True):
    """Of the names asked about: those that some process holds, those that none does, and the rest."""

    mapped: frozenset[str] = frozenset()
    unmapped: frozenset[str] = frozenset()
    undecided: frozenset[str] = frozenset()


class _UnsureError(Exception):
    """What a process holds can not be told."""


def search(proc: bytes, files: Iterable[Listed]) -> Answer:
    """Who holds these files; blocking, some ten µs for each small process.

    A process that may not be read counts where it can have the file: where its mounts show the file system,
    and pages of shared memory are resident in it.  What it then holds is not known, and neither is whether
    anybody holds those that nobody else does.
    """
    wanted = {(each.device, each.inode): each for each in files}
    names = frozenset(each.file.name for each in wanted.values())
    if not wanted:
        return Answer()
    found: set[str] = set()
    sure = True
    until = time.monotonic() + SECONDS
    pids = _pids(proc)
    for pid in pids:
        if found >= names or time.monotonic() > until:
            break
        try:
            found.update(_held(proc + b"/" + pid, wanted))
        except _UnsureError:
            sure = False
    # Where the first process of the namespace does not show, others may be hidden too (hidepid).
    complete = b"1" in pids and time.monotonic() <= until
    left = names - found
    if sure and complete:
        return Answer(frozenset(found), left)
    return Answer(frozenset(found), undecided=left)


def _pids(proc: bytes) -> list[bytes]:
    try:
        return [name for name in os.listdir(proc) if name.isdigit()]
    except OSError:
        return []


def _held(base: bytes, wanted: dict[tuple[int, int], Listed]) -> Iterator[str]:
    try:
        for major, minor, inode in _mappings(base + b"/maps"):
            held = wanted.get((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
            if held is not None:
                yield held.file.name
        yield from _open(base + b"/fd", wanted)
    except PermissionError as error:
        if _may_have(base, frozenset(device for device, _ in wanted)):
            raise _UnsureError from error
    except (FileNotFoundError, ProcessLookupError):
        return  # gone, or about to be: a process that ends holds nothing for long
    except OSError as error:  # as where we have too many files open ourselves
        raise _UnsureError from error


def _mappings(path: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        rest, total = b"", 0
        while piece := os.read(descriptor, _PIECE):
            total += len(piece)
            if total > MOST_MAPS_BYTES or len(rest) > _PIECE:  # no line is that long
                raise _UnsureError
            text = rest + piece
            end = text.rfind(b"\n") + 1
            rest = text[end:]
            yield from _MAPPED.findall(text, 0, end)
    finally:
        os.close(descriptor)


def _open(folder: bytes, wanted: dict[tuple[int, int], Listed]) -> Iterator[str]:
    # The link's text is compared first: to follow each may hang where a file system does.
    names = {each.raw for each in wanted.values()}
    try:
        numbers = os.listdir(folder)
    except PermissionError:
        # SYS_PTRACE alone shows mappings and no open files: a stub's region is mapped as soon as it is opened.
        return
    for number in numbers:
        path = folder + b"/" + number
        try:
            if os.readlink(path).rpartition(b"/")[2] not in names:
                continue
            seen = os.stat(path)
        except FileNotFoundError:  # closed since
            continue
        held = wanted.get((seen.st_dev, seen.st_ino))
        if held is not None:
            yield held.file.name


def _may_have(base: bytes, devices: frozenset[int]) -> bool:
    reader = Reader()
    mounts = reader.take(base + b"/mountinfo")
    if mounts and len(mounts) <= _MOST_MOUNTS_BYTES:
        shown = {fields[2] for line in mounts.split(b"\n") if len(fields := line.split(b" ", 3)) > 3}  # noqa: PLR2004
        if not shown & {b"%d:%d" % (os.major(each), os.minor(each)) for each in devices}:
            return False
    # As the pause container of a pod, which has the pod's /dev/shm and maps nothing of it.
    status = reader.take(base + b"/status") or b""
    resident = (line[len(_RESIDENT) :] for line in status.split(b"\n") if line.startswith(_RESIDENT))
    return whole(next(resident, b"").strip().removesuffix(b"kB")) != 0
