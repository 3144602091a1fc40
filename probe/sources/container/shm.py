"""The file system at Triton's ``/dev/shm``, where its stubs exchange tensors: how full it is, and with what."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from probe.facts.container import ShmFile, ShmUse
from probe.sources.container.cgroups import device_at
from probe.sources.container.files import readable

POINT = b"/dev/shm"
MOST_FILES = 4096
"""Entries that are listed: a stat of each costs about 2 µs at every look."""

# O_NOFOLLOW: a link in the container's image would be followed in the probe's own root.
_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 512
"""What ``st_blocks`` counts in, whatever the file system (stat(2))."""


class Listed(msgspec.Struct, frozen=True):
    """A regular file in the folder, its name as it is written there, and what the kernel knows it by."""

    file: ShmFile
    raw: bytes
    device: int
    inode: int


def reached(base: bytes, mountinfo: bytes, own: Path) -> int:
    """A descriptor of ``/dev/shm`` of the process at ``base``, its ``/proc/<pid>``; the caller closes it.

    It is reached through the process's root or, where that is refused, as our own, if that is provably the
    process's as well: containers of a pod share one (CRI runtimes mount the sandbox's into each), which the
    device number in the process's ``mountinfo`` tells without any privilege.

    Raises OSError where there is none (PermissionError without the right to trace the process).
    """
    try:
        return os.open(base + b"/root" + POINT, _FLAGS)
    except PermissionError:
        descriptor = _shared(mountinfo, own)
        if descriptor is None:
            raise
        return descriptor


def _shared(mountinfo: bytes, own: Path) -> int | None:
    device = device_at(mountinfo, POINT)
    try:
        descriptor = os.open(own, _FLAGS)
    except OSError:
        return None
    number = os.fstat(descriptor).st_dev
    if device == (os.major(number), os.minor(number)):
        return descriptor
    os.close(descriptor)
    return None


def is_tmpfs(mountinfo: bytes) -> bool:
    """Whether the process's ``/dev/shm`` surely is one, so that its files have one number everywhere."""
    return _file_system(mountinfo)[0] == b"tmpfs"


def shared_beyond(proc: bytes, base: bytes, mountinfo: bytes) -> bool:
    """Whether processes that can not be seen from here may use the process's ``/dev/shm`` too.

    So it is where it may be the machine's: in the machine's first IPC namespace (``--ipc=host`` brings the
    machine's ``/dev/shm`` with it), or where it is a tmpfs that nobody gave a size (a ``hostPath``, or docker's
    ``-v /dev/shm:/dev/shm``; what a runtime or the kubelet makes for a pod has one).  Not so where we are in the
    machine's first pid namespace; both namespaces have fixed numbers (Linux, ``proc_ns.h``).
    """
    if _link(proc + b"/self/ns/pid") == b"pid:[4026531836]":
        return False
    # The kernel shows a size other than its default, half of the machine's memory (shmem_show_options).
    kind, options = _file_system(mountinfo)
    if kind == b"tmpfs" and not any(each.startswith(b"size=") for each in options):
        return True
    # Who may not be traced is looked at through our own folder: then our own namespace tells.
    return (_link(base + b"/ns/ipc") or _link(proc + b"/self/ns/ipc")) == b"ipc:[4026531839]"


def _file_system(mountinfo: bytes) -> tuple[bytes, list[bytes]]:
    """The kind of what is mounted at ``/dev/shm`` and its own options; empty where that is no mount."""
    found: tuple[bytes, list[bytes]] = b"", []
    for line in mountinfo.split(b"\n"):
        before, _, after = line.partition(b" - ")
        if before.split(b" ", 5)[4:5] == [POINT]:  # the last one is on top
            kind, _, rest = after.partition(b" ")
            found = kind, rest.rpartition(b" ")[2].split(b",")
    return found


def _link(path: bytes) -> bytes | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def use_of(descriptor: int) -> ShmUse | None:
    """Size, use and files of this folder; None where it has no size.  Raises OSError as the kernel does."""
    seen = os.fstatvfs(descriptor)
    if seen.f_blocks == 0:  # a tmpfs without a limit has no size that could be used up
        return None
    return ShmUse(
        size_bytes=seen.f_blocks * seen.f_frsize,
        used_bytes=(seen.f_blocks - seen.f_bfree) * seen.f_frsize,
        inodes_free=seen.f_favail if seen.f_files else None,
        inodes_total=seen.f_files or None,
    )


def listing(descriptor: int) -> tuple[tuple[Listed, ...], bool] | None:
    """The regular files at the top of this folder, and whether there are too many to list all.

    None where it can not be listed.  Links are not followed; a file under two names holds its bytes once.
    """
    try:
        # A descriptor for paths alone, as the folder was opened with, shows no entries.
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
    except OSError:
        return None
    try:
        with os.scandir(folder) as entries:
            return _listed(entries)
    except OSError:
        return None
    finally:
        os.close(folder)


def _listed(entries: Iterator[os.DirEntry[str]]) -> tuple[tuple[Listed, ...], bool]:
    found: list[Listed] = []
    known: set[int] = set()
    for number, entry in enumerate(entries):
        if number >= MOST_FILES:
            return tuple(found), True
        try:
            if not entry.is_file(follow_symlinks=False):
                continue
            seen = entry.stat(follow_symlinks=False)
        except OSError:  # gone since
            continue
        held = 0 if seen.st_ino in known else seen.st_blocks * _BLOCK
        known.add(seen.st_ino)
        raw = os.fsencode(entry.name)
        found.append(Listed(ShmFile(readable(raw), held, seen.st_mtime), raw, seen.st_dev, seen.st_ino))
    return tuple(found), False
