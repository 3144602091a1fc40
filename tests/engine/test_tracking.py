"""How each source does."""

from __future__ import annotations

from probe.engine.tracking import Track
from probe.facts.status import SourceStatus
from tests.worlds import at


def test_a_source_that_was_never_asked_is_unknown() -> None:
    """Nothing is made up."""
    track = Track(at(0))
    assert track.status(at(9)) == SourceStatus(None, None, None, None)
    assert track.tally().last_success_wall is None
    assert track.stale_seconds(at(9)) == 9


def test_a_look_that_brought_what_it_was_for_is_a_success() -> None:
    """Its age counts from there, and its error is gone."""
    track = Track(at(0)).looked(at(2), 0.3, ok=False, delivered=False, error="no answer")
    track = track.looked(at(5), 0.004, ok=True, delivered=True, error=None)
    assert track.status(at(8)) == SourceStatus(ok=True, age_seconds=3.0, error=None, duration_seconds=0.004)
    assert track.tally().last_success_wall == at(5).wall
    assert sum(track.tally().durations.counts) == 2
    assert track.stale_seconds(at(8)) == 3


def test_a_definite_no_is_delivered_without_being_a_success() -> None:
    """There is nothing here: that does not grow stale, and is not ok."""
    track = Track(at(0)).looked(at(5), 0.1, ok=False, delivered=True, error="refused")
    assert track.status(at(6)) == SourceStatus(
        ok=False, age_seconds=None, error="refused", duration_seconds=0.1
    )
    assert track.stale_seconds(at(6)) == 1


def test_a_look_that_failed_leaves_the_last_success_standing() -> None:
    """Its age goes on."""
    track = Track(at(0)).looked(at(1), 0.1, ok=True, delivered=True, error=None)
    track = track.looked(at(9), 2.0, ok=False, delivered=False, error="hangs")
    assert track.status(at(9)).age_seconds == 8
    assert track.stale_seconds(at(9)) == 8
