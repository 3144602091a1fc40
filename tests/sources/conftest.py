"""Fixtures of the sources' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.nvml.double import NvmlDouble


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NvmlDouble:
    """Lend an NVML that every helper started from here finds."""
    double = NvmlDouble(tmp_path)
    for name, value in double.environment.items():
        monkeypatch.setenv(name, value)
    return double
