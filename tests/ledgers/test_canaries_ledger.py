"""Canaries over time."""

from __future__ import annotations

from probe.facts.canaries import CanaryOutcome, CanaryResult
from probe.ledgers.book import Book
from probe.ledgers.canaries import CanariesLedger
from tests.worlds import at, key

PASSED, ERROR, TIMEOUT, WRONG, UNSENDABLE = CanaryOutcome


def after(*outcomes: CanaryOutcome) -> CanariesLedger:
    """A ledger after canaries of one model, a second long, ten seconds apart."""
    book = Book()
    for number, outcome in enumerate(outcomes):
        book = book.with_canary(CanaryResult(key("m"), at(number * 10), at(number * 10 + 1), outcome))
    return book.canaries


def test_failures_count_until_one_passes() -> None:
    """Two in a row are what fails a gate; a passed one begins anew."""
    record = after(ERROR, WRONG).of(key("m"))
    assert record is not None
    assert (record.failed_in_a_row, record.passed_at, record.last.seconds) == (2, None, 1.0)
    record = after(ERROR, WRONG, PASSED).of(key("m"))
    assert record is not None
    assert (record.failed_in_a_row, record.passed_at) == (0, at(21))
    record = after(PASSED, ERROR).of(key("m"))
    assert record is not None
    assert (record.failed_in_a_row, record.passed_at) == (1, at(1))


def test_a_canary_that_was_never_sent_is_no_failure() -> None:
    """It says nothing of the model."""
    record = after(UNSENDABLE).of(key("m"))
    assert record is not None
    assert (record.failed_in_a_row, record.unanswered_since) == (0, None)


def test_silence_is_counted_from_the_first_unanswered_canary() -> None:
    """Any answer, also an error, ends it: something executes."""
    record = after(PASSED, TIMEOUT, TIMEOUT).of(key("m"))
    assert record is not None
    assert record.unanswered_since == at(10)
    record = after(TIMEOUT, ERROR).of(key("m"))
    assert record is not None
    assert record.unanswered_since is None
    record = after(TIMEOUT, UNSENDABLE).of(key("m"))
    assert record is not None
    assert record.unanswered_since == at(0)


def test_a_version_that_left_is_forgotten() -> None:
    """Its canaries say nothing of the next load."""
    ledger = after(ERROR)
    assert ledger.only(frozenset((key("m"),))) is ledger
    assert ledger.only(frozenset((key("other"),))).of(key("m")) is None
