"""The files that a model's warmup names, read where Triton reads them, as far as the probe can."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence


def warmup_file(folders: Sequence[str], name: str, most: int) -> bytes:
    """The file of a warmup; at most so many bytes and one more.  Raises OSError, ValueError."""
    parts = name.split("/")
    if not name or name.startswith("/") or ".." in parts or "\0" in name:
        raise ValueError("its name leads out of the model's warmup folder")
    if not folders:
        raise ValueError("tritonserver's command line, which names the model repository, is not seen")
    failures = []
    for folder in folders:
        try:
            return _regular(f"{folder}/{name}", most)
        except OSError as error:
            failures.append(f"{error.filename}: {error.strerror}")
    raise ValueError("; ".join(failures))


def _regular(path: str, most: int) -> bytes:
    # Opened without waiting: what is no file may have nobody at its other end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a regular file")
        with open(descriptor, "rb", closefd=False) as opened:
            return opened.read(most + 1)
    finally:
        os.close(descriptor)
