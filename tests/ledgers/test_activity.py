"""How busy stubs are, from one scan to the next."""

from __future__ import annotations

from probe.facts.processes import ProcessId, ProcessReading
from probe.ledgers.activity import Activity
from tests.worlds import at, process, stub


def scanned(before: Activity, seconds: float, ticks: int, *, below: int | None = None) -> Activity:
    """A scan at this moment that finds one stub with so many ticks, and one below it."""
    found = stub(100, "m_0_0", ticks=ticks)
    if below is not None:
        found = type(found)(found.process, found.arguments, (process(101, parent=100, ticks=below),), None)
    return before.with_scan(ProcessReading(at(seconds), None, (found,)))


WHO = ProcessId(100, 1000)


def test_two_scans_tell_how_many_cores_a_stub_keeps_busy() -> None:
    """With the processes below it."""
    first = scanned(Activity(), 0, 10)
    assert first.of(WHO, at(0)) is None
    assert scanned(first, 2, 210).of(WHO, at(0)) == 1.0
    assert scanned(scanned(Activity(), 0, 10, below=5), 2, 60, below=155).of(WHO, at(0)) == 1.0


def test_what_was_before_the_moment_in_question_is_not_told() -> None:
    """A stub that computed then may hang now."""
    seen = scanned(scanned(Activity(), 0, 10), 2, 210)
    assert seen.of(WHO, at(0.5)) is None
    assert scanned(seen, 4, 210).of(WHO, at(0.5)) == 0.0


def test_scans_that_follow_each_other_closely_are_one() -> None:
    """A tick is a hundredth of a second."""
    first = scanned(Activity(), 0, 10)
    assert scanned(first, 0.5, 60) is first


def test_what_can_not_be_compared_is_not_known() -> None:
    """A new stub, one whose child ended, and a scan of the past."""
    first = scanned(Activity(), 5, 10, below=500)
    assert scanned(first, 7, 60).of(WHO, at(0)) is None
    assert scanned(first, 3, 60).of(WHO, at(0)) is None
    other = first.with_scan(ProcessReading(at(8), None, (stub(200, "n_0_0"),)))
    assert other.cores == {}
