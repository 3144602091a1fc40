"""The one edit: a line added to a configuration, and everything else in the file as it was, byte for byte."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from typing import Any

import msgspec
from google.protobuf import text_format

from probe.sources.repository.configs import ConfigError, read
from probe.sources.repository.files import FileError, read_file, reason
from probe.sources.triton.protos import configurations


class Edit(msgspec.Struct, frozen=True):
    """A file before and after; nothing is written yet."""

    path: str
    before: bytes
    after: bytes


class FixError(Exception):
    """A file that can not be edited, or not safely; the text says why, and the file is as it was."""


def propose(path: str, line: str) -> Edit:
    """The file with this ``instance_group`` line at its end.  Raises FixError.

    It must then say the same as before and that group besides, by Triton's own schema.
    """
    try:
        before = read_file(path)
        after = _appended(before, line)
        _, old, strange = read(before)
        _, new, strange_after = read(after)
    except (FileError, ConfigError) as error:
        raise FixError(str(error)) from None
    wanted = _copy(old)
    text_format.Merge(line, wanted)
    if new != wanted or old.instance_group or strange != strange_after:
        raise FixError("would not read the same with the line added, so it was left as it was")
    return Edit(path, before, after)


def write(edit: Edit) -> None:
    """Put the new file in the old one's place at once, or not at all.  Raises FixError.

    A link stays, and what it leads to is replaced; mode, owner and group stay too.
    """
    target = os.path.realpath(edit.path)
    folder, name = os.path.split(target)
    temporary = ""
    try:
        if read_file(target) != edit.before:
            raise FixError("was changed by somebody else meanwhile, so it was left as it was")
        found = os.stat(target)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
            if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, found.st_uid, found.st_gid)
            file.write(edit.after)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, target)
    except (FileError, OSError) as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        words = reason(error) if isinstance(error, OSError) else str(error)
        raise FixError(f"can not be written: {words}") from None


def _appended(before: bytes, line: str) -> bytes:
    """Behind the last line, with the file's own line ends; a last line without one stays one without."""
    end = b"\r\n" if b"\r\n" in before else b"\n"
    added = line.encode()
    if not before or before.endswith(b"\n"):
        return before + added + end
    return before + end + added


def _copy(message: Any) -> Any:  # noqa: ANN401  (generated code has no types)
    copied = configurations.ModelConfig()
    copied.CopyFrom(message)
    return copied
