"""What a test does where a tool is missing: skip, and fail where everything must be there."""

from __future__ import annotations

from typing import NoReturn

import pytest

MISSING = "missing: "
"""How the reason of such a skip begins; ``TRITON_PROBE_REQUIRE_ALL=1`` makes it a failure."""


def missing(what: str) -> NoReturn:
    """Skip the running test because of a tool that could be installed; say which and how."""
    pytest.skip(MISSING + what)
