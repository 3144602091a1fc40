"""Fixtures of the surfaces: golden files, and a served board."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from probe.engine.board import Board
from probe.surfaces.http import HttpServer
from tests.goldens import golden
from tests.surfaces.snapshots import EVERYTHING, Served

__all__ = ["golden"]


@pytest.fixture
def served() -> Iterator[Served]:
    """A server on a free port of the loopback, over a board that the test may change."""
    board = Board(EVERYTHING, stalled_after=1e9)
    server = HttpServer(board, "127.0.0.1:0")
    server.start()
    yield Served(board, server)
    server.stop()
