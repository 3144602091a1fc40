"""Real processes for sources to look at."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces and other users")


@contextlib.contextmanager
def child(*command: str) -> Iterator[int]:
    """The pid of a process that has said ``ready``; it lives until its input is closed, or to the end."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as made:
        try:
            assert made.stdout is not None
            assert made.stdout.readline() == "ready\n"
            yield made.pid
        finally:
            made.kill()
