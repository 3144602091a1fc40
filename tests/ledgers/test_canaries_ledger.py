"""Canaries over time."""

from __future__ import annotations

from probe.facts.canaries import CanaryOutcome, CanaryResult
from probe.facts.models import ModelConfig
from probe.ledgers.book import Book
from probe.ledgers.canaries import NO_TALLY, TALLIES_AT_MOST, CanariesLedger
from tests.worlds import World, at, ensemble, key, python_model, row, server, serving, stub

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


def test_counters_go_on_over_loads_and_epochs() -> None:
    """All that were sent count, with their time; what could not be sent does not."""
    ledger = after(PASSED, ERROR, UNSENDABLE, TIMEOUT, WRONG)
    tally = ledger.tallies["m"]
    assert (sum(tally.durations.counts), tally.failures) == (4, 3)
    assert ledger.only(frozenset()).tallies == ledger.tallies
    assert ledger.forgotten() == CanariesLedger(tallies=ledger.tallies)
    assert after(UNSENDABLE).tallies == {}


def test_counters_of_names_that_come_and_go_are_bounded() -> None:
    """The latest are kept."""
    many = CanariesLedger(tallies={f"m{number}": NO_TALLY for number in range(TALLIES_AT_MOST)})
    more = many.with_result(CanaryResult(key("new"), at(0), at(1), PASSED))
    assert len(more.tallies) == TALLIES_AT_MOST
    assert "new" in more.tallies
    assert "m0" not in more.tallies


def test_what_taught_nothing_is_remembered_until_one_does() -> None:
    """So that the same model is not tried at once again."""
    ledger = CanariesLedger().postponing(key("m"), at(3))
    assert ledger.postponed == {key("m"): at(3)}
    assert ledger.of(key("m")) is None
    assert ledger.with_result(CanaryResult(key("m"), at(4), at(5), PASSED)).postponed == {}
    assert ledger.only(frozenset()).postponed == {}
    assert ledger.only(frozenset((key("m"),))) is ledger


M = python_model("m")


def failing(*configs: ModelConfig, success: int = 0) -> World:
    """A Triton whose model has just failed a canary."""
    rows = tuple(row(each.key.name) for each in configs[1:])
    return serving(*configs, rows=(row("m", success=success), *rows)).sends("m").canary("m", ERROR)


def canaries(world: World) -> set[str]:
    """The models of which a canary is remembered."""
    return {each.name for each in world.book.canaries.records}


def test_a_reload_forgets_the_canaries_of_the_load_before() -> None:
    """By its counters, by its stubs where none was ever counted, or because it left."""
    world = failing(M, python_model("n"), success=5).canary("n")
    assert canaries(world.polls().scans().asks()) == {"m", "n"}
    assert canaries(world.with_row(row("m", success=1)).polls()) == {"n"}
    assert canaries(world.with_stub(stub(300, "m_0_0")).scans()) == {"n"}
    gone = world.without_model("m").polls()
    assert canaries(gone) == {"n"}
    left = world.book.with_models(world.book.models.without(key("m"), world.now))
    assert {each.name for each in left.canaries.records} == {"n"}


def test_a_canary_that_was_out_over_a_reload_says_nothing_of_the_new_load() -> None:
    """Whatever became of it."""
    world = serving(M, rows=(row("m", success=5),)).sends("m").with_row(row("m", success=1)).polls()
    assert canaries(world.canary("m", ERROR, seconds=3.0)) == set()


def test_a_model_that_left_is_not_postponed() -> None:
    """When it comes back, it is another load."""
    world = serving(M)
    postponed = world.having(book=world.book.without_canary(key("m"), world.now))
    assert postponed.polls().book.canaries.postponed == {key("m"): world.now}
    assert postponed.without_model("m").polls().book.canaries.postponed == {}


def test_a_new_epoch_forgets_all_canaries_and_keeps_counting() -> None:
    """They were another server's."""
    world = failing(M).having(server=server(pid=6)).scans()
    assert world.book.canaries.records == {}
    assert world.book.canaries.tallies["m"].failures == 1


def test_a_canary_of_which_nothing_was_learned_owes_nothing_for_long() -> None:
    """It may have been counted all the same."""
    world = serving(M, ensemble("e", "m")).sends("m")
    lost = world.having(book=world.book.without_canary(key("m"), world.now))
    assert lost.with_row(row("m", success=1)).polls().record("m").traffic.success == 0
    assert lost.later(5).polls().record("m").others.owed == ()
