"""Files and folders as they are found: whole, of a bearable size, or a reason in words."""

from __future__ import annotations

import os
import stat
from pathlib import Path

LARGEST_BYTES = 1 << 20
"""The largest of 600 public config.pbtxt has 13 kB; what has a million is something else."""
_MOST_ENTRIES = 10_000
"""Below one version folder; sizes beyond are not counted, and a floor is all that they are for."""
_MOST_SOURCES = 200

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


class FileError(Exception):
    """A file or folder that can not be read; the text is one sentence of what was found and expected."""


def read_file(path: str) -> bytes:
    """All bytes of a regular file.  Raises FileError; never waits for a pipe's other end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise FileError(f"can not be read: {reason(error)}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            what = _KINDS.get(stat.S_IFMT(found.st_mode), "something")
            raise FileError(f"found {what}, expected a file")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise FileError(f"can not be read: {reason(error)}") from None
    finally:
        os.close(descriptor)
    if len(data) > LARGEST_BYTES:
        raise FileError(
            f"found a file of more than {LARGEST_BYTES >> 20} MiB, expected a model's configuration"
        )
    return data


def folders_in(path: str) -> list[str]:
    """The names of a folder's folders, links to such too, as Triton lists them.  Raises FileError."""
    try:
        with os.scandir(path) as entries:
            return sorted(each.name for each in entries if _is_folder(each))
    except OSError as error:
        raise FileError(f"can not be listed: {reason(error)}") from None


def files_in(path: str) -> list[str]:
    """The names of what else lies in a folder; none where it can not be listed."""
    try:
        with os.scandir(path) as entries:
            return sorted(each.name for each in entries if not _is_folder(each))
    except OSError:
        return []


def size_below(path: str) -> int:
    """Bytes of the files below a folder, links followed; a floor where there are very many."""
    total = seen = 0
    for folder, _, names in os.walk(path):
        for name in names:
            seen += 1
            if seen > _MOST_ENTRIES:
                return total
            try:
                total += Path(folder, name).stat().st_size
            except OSError:
                continue
    return total


def sources_below(path: str) -> list[bytes]:
    """The Python files below a folder, those that can be read."""
    found: list[bytes] = []
    for folder, _, names in os.walk(path):
        for name in names:
            if name.endswith(".py") and len(found) < _MOST_SOURCES:
                try:
                    found.append(read_file(f"{folder}/{name}"))
                except FileError:
                    continue
    return found


def reason(error: OSError) -> str:
    """The kernel's own words."""
    return (error.strerror or str(error)).lower()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
