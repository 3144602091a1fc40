"""Golden files: bytes that a reader relies on, regenerated with ``pytest --update-golden``, never by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "golden"
Golden = Callable[[str, bytes], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that rewrites the golden files from what the code says now."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare bytes with the golden file of this name."""

    def compare(name: str, found: bytes) -> None:
        path = FOLDER / name
        if request.config.getoption("--update-golden", default=False):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(found)
        expected = path.read_bytes() if path.exists() else b""
        assert found.decode() == expected.decode(), (
            f"{path} differs: pytest --update-golden, then read the diff"
        )

    return compare
