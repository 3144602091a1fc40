"""Where the engine publishes and surfaces read."""

from __future__ import annotations

import msgspec

from probe.checks.observation import Observation
from probe.engine.board import Board
from probe.engine.publishing import Publisher
from probe.ledgers.book import Book
from probe.settings import Settings
from tests.worlds import at

FIRST = Publisher(Settings(), "1", at(0)).snapshot(Observation(at(0), Settings(), Book()), {})


def test_a_reader_keeps_the_snapshot_that_it_holds() -> None:
    """Publishing replaces the reference and changes nothing that was read."""
    board = Board(FIRST, stalled_after=10)
    held = board.latest
    board.publish(msgspec.structs.replace(FIRST, taken=at(5)))
    assert held is FIRST
    assert board.latest.taken == at(5)


def test_the_loop_is_as_old_as_its_last_beat_and_stalls_beyond_the_limit() -> None:
    """A clock read on another thread a moment earlier makes no negative age."""
    board = Board(FIRST, stalled_after=10)
    assert board.loop_age(at(3).mono) == 3
    board.beat(at(4).mono)
    assert board.loop_age(at(3.9).mono) == 0
    assert not board.stalled(at(14).mono)
    assert board.stalled(at(14.1).mono)
