"""What tests share: what to do where a tool is missing, and how to wait for a condition."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NoReturn

import pytest

MISSING = "missing: "
"""How the reason of such a skip begins; ``TRITON_PROBE_REQUIRE_ALL=1`` makes it a failure."""

PATIENCE = 60.0
"""Seconds after which what takes a moment counts as not happening, also on a machine that does much else."""


def missing(what: str) -> NoReturn:
    """Skip the running test because of a tool that could be installed; say which and how."""
    pytest.skip(MISSING + what)


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until it holds; fail the test where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"  # noqa: S101  (it speaks to a test)
        time.sleep(0.01)
