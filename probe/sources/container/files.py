"""Small files of a kernel that may refuse, vanish or answer nonsense: bounded reading, plain parsing."""

from __future__ import annotations

import os

MOST_BYTES = 64 * 1024
"""No file that is looked at here is longer on a healthy machine; of one that is, the first whole lines are read."""

_MOST_DIGITS = 20  # those of 2**64: longer is garbage, and costs int() dearly
_MOST = (1 << 64) - 1
_LEAST = -1 << 63
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # a FIFO in the way must not block


class Reader:
    """Reads files of one look and remembers whether permission was refused."""

    def __init__(self) -> None:
        """Nothing has been refused yet."""
        self.refused = False

    def read(self, path: bytes) -> bytes:
        """The file, or the whole lines of its first 64 KiB; raises OSError as the kernel does."""
        try:
            return _read(path)
        except PermissionError:
            self.refused = True
            raise

    def take(self, path: bytes) -> bytes | None:
        """As ``read``, and None where the file can not be read for whatever reason."""
        try:
            return self.read(path)
        except OSError:
            return None


def opened(path: bytes) -> int:
    """A descriptor to read the file by, whatever it is; raises OSError as the kernel does."""
    # A path with a null byte would be a ValueError, which no caller expects.
    return os.open(path.replace(b"\0", b"?"), _FLAGS)


def _read(path: bytes) -> bytes:
    descriptor = opened(path)
    try:
        text = os.read(descriptor, MOST_BYTES)
        if not text:
            return text
        # The files of /proc come in pieces of about a page: only an empty piece is the end.
        while len(text) < MOST_BYTES and (more := os.read(descriptor, MOST_BYTES - len(text))):
            text += more
        # Half a number would pass for a whole one.
        return text if len(text) < MOST_BYTES else text[: text.rfind(b"\n") + 1]
    finally:
        os.close(descriptor)


def whole(text: bytes | None) -> int | None:
    """The non-negative number of 64 bits that is all of the text, or None."""
    if text is None:
        return None
    text = text.strip()
    number = int(text) if text.isdigit() and len(text) <= _MOST_DIGITS else None
    return number if number is not None and number <= _MOST else None


def signed(text: bytes | None) -> int | None:
    """As ``whole``, with a minus sign allowed, down to what 64 bits hold."""
    text = (text or b"").strip()
    if not text.startswith(b"-"):
        return whole(text)
    number = whole(text[1:]) if text[1:2].isdigit() else None  # no white space behind the sign
    return -number if number is not None and -number >= _LEAST else None


def entry(text: bytes | None, name: bytes) -> int | None:
    """The number behind ``name`` in a file of ``name number`` lines (``memory.stat``), or None."""
    if text is None:
        return None
    before = b"\n" + name + b" "
    if text.startswith(before[1:]):
        start = len(before) - 1
    elif (found := text.find(before)) >= 0:
        start = found + len(before)
    else:
        return None
    end = text.find(b"\n", start)
    return whole(text[start : end if end >= 0 else None])


def stalled_microseconds(text: bytes | None) -> int | None:
    """The ``total`` of the ``some`` line of a pressure file (Linux, ``accounting/psi.rst``), or None."""
    for line in (text or b"").split(b"\n"):
        if line.startswith(b"some "):
            return whole(line.rpartition(b"total=")[2])
    return None


def readable(text: bytes) -> str:
    """A path as text that every surface can print, whatever bytes it is made of."""
    return text.decode("utf-8", "backslashreplace")
