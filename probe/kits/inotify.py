"""The kernel's word that a file or a folder changed: inotify(7), which Python's library leaves out."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Self

MODIFY, CREATE, DELETE = 0x2, 0x100, 0x200
MOVED_FROM, MOVED_TO, CLOSE_WRITE = 0x40, 0x80, 0x8
UNMOUNT, OVERFLOW, IGNORED = 0x2000, 0x4000, 0x8000
"""Told unasked: the file system is gone; events were lost (watch -1); the watch has ended."""
ONLY_FOLDER, NO_FOLLOW = 0x0100_0000, 0x0200_0000
"""Flags of :meth:`Inotify.add`: refuse what is no folder; do not follow a link at the path's end."""

_HEADER = struct.Struct("iIII")
_READ_AT_ONCE = 1 << 16
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC

Event = tuple[int, int, bytes]
"""Which watch, what happened (a mask), and to which name in it (empty for the watched thing itself)."""


class Inotify:
    """One queue of events; a descriptor that is readable when there are some."""

    def __init__(self, descriptor: int) -> None:
        """Use :meth:`open`."""
        self._descriptor = descriptor

    @classmethod
    def open(cls) -> Self:
        """An empty queue.  Raises OSError where the kernel grants none (too many of this user's)."""
        return cls(_called(_LIBC.inotify_init1(_FLAGS)))

    def add(self, path: bytes, mask: int) -> int:
        """Watch this path for these events, and say which watch it is.  Raises OSError as the kernel does."""
        return _called(_LIBC.inotify_add_watch(self._descriptor, path, mask))

    def remove(self, watch: int) -> None:
        """End this watch; one that has ended already is no error."""
        _LIBC.inotify_rm_watch(self._descriptor, watch)

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._descriptor

    def read(self) -> list[Event]:
        """The events that wait, some thousands at most; empty where there are none.  Never blocks."""
        try:
            told = os.read(self._descriptor, _READ_AT_ONCE)
        except BlockingIOError:
            return []
        found: list[Event] = []
        at = 0
        while at + _HEADER.size <= len(told):
            watch, mask, _, length = _HEADER.unpack_from(told, at)
            at += _HEADER.size
            found.append((watch, mask, told[at : at + length].rstrip(b"\0")))
            at += length
        return found

    def close(self) -> None:
        """End every watch; twice is the same as once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
    return libc


def _called(answer: int) -> int:
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return answer


_LIBC = _libc()
