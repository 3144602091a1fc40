"""The kernel's word that a file or a folder changed (inotify(7)), by way of libc: Python has no binding."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Iterator

import msgspec

MODIFIED = 0x2
"""Written to, or, of a file in a cgroup, changed by the kernel."""
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATED = 0x100
DELETED = 0x200
DELETED_SELF = 0x400
OVERFLOWED = 0x4000
"""The queue was full, and what came after was dropped; such an event belongs to no watch (-1)."""
ENDED = 0x8000
"""The watch is no more: what was watched is gone, or its file system was unmounted."""

_HEAD = struct.Struct("=iIII")
_AT_ONCE = 64 * 1024
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # IN_NONBLOCK and IN_CLOEXEC are the same bits


class Event(msgspec.Struct, frozen=True):
    """What happened to which watch; ``name`` is the file, where a folder is watched."""

    watch: int
    mask: int
    name: bytes = b""


class Inotify:
    """One queue of events; ``descriptor`` becomes readable when there are some."""

    def __init__(self) -> None:
        """Raises OSError where the kernel gives no queue (EMFILE: ``fs.inotify.max_user_instances``)."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = self._libc.inotify_init1(_FLAGS)
        if self.descriptor < 0:
            raise _error()

    def add(self, path: bytes, mask: int) -> int:
        """Watch this file or folder; the number of the watch, the same for the same file.

        Raises OSError where it is not there or may not be read, or watches are used up
        (ENOSPC: ``fs.inotify.max_user_watches``).
        """
        watch: int = self._libc.inotify_add_watch(self.descriptor, path, mask)
        if watch < 0:
            raise _error(path)
        return watch

    def remove(self, watch: int) -> None:
        """Watch it no more; one that ended already is no error."""
        self._libc.inotify_rm_watch(self.descriptor, watch)

    def read(self) -> list[Event]:
        """What happened since the last read, oldest first, as much as fits into 64 KiB; does not wait."""
        with contextlib.suppress(BlockingIOError):
            return list(_events(os.read(self.descriptor, _AT_ONCE)))
        return []

    def close(self) -> None:
        """End every watch; twice is the same as once."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _events(data: bytes) -> Iterator[Event]:
    position = 0
    while position < len(data):
        watch, mask, _, length = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        yield Event(watch, mask, data[position : position + length].rstrip(b"\0"))
        position += length


def _error(path: bytes | None = None) -> OSError:
    number = ctypes.get_errno()
    return OSError(number or errno.EIO, os.strerror(number), path)
