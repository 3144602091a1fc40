"""Is it known what a model executed since all of its stubs began?"""

from __future__ import annotations

from probe.facts.canaries import CanaryOutcome
from probe.facts.instants import Instant
from probe.facts.models import InstanceKind
from probe.ledgers.exercise import TURNS, Exercise
from tests.worlds import START, World, key, python_model, row, serving, stub

MODEL = python_model("m", 2, InstanceKind.GPU, (0,))


def exercise(seen: World) -> Exercise | None:
    """What is known of the stubs that serve now."""
    return seen.book.exercise.of(key("m"), seen.alive("m"))


def since(seen: World) -> Instant | None:
    """When they were first seen to have executed something."""
    known = exercise(seen)
    return known.since if known is not None else None


def executing(seen: World, executions: int, *, last: float = START.wall - 1000, failure: int = 0) -> World:
    """The model executed so many batches in all, the last at this time; a poll tells."""
    return seen.with_row(row("m", success=executions, failure=failure, last=last)).polls()


def test_what_is_counted_after_the_stubs_were_polled_together_is_theirs() -> None:
    """From the end of the poll that shows it."""
    seen = executing(serving(MODEL), 0)
    assert since(seen) is None
    now = seen.now
    seen = executing(seen, 3)
    assert since(seen) == now
    known = exercise(executing(seen, 5))
    assert known is not None
    assert (known.executions, known.since, known.each_since) == (5, now, None)


def test_each_had_its_turn_after_so_many_executions() -> None:
    """Triton gives them out in turn."""
    seen = executing(executing(serving(MODEL), 0), 2 * TURNS - 1)
    known = exercise(seen)
    assert known is not None
    assert known.each_since is None
    now = seen.now
    known = exercise(executing(executing(seen, 2 * TURNS), 3 * TURNS))
    assert known is not None
    assert known.each_since == now


def test_a_first_look_knows_it_by_the_time_of_the_last_inference() -> None:
    """By more than the second by which a start may be wrong, and only where nothing failed."""
    began = stub(100, "m_0_0").process.started_at
    for last, failure, known in ((0.5, 0, False), (2.0, 0, True), (2.0, 1, False)):
        rows = (row("m", success=3, failure=failure, last=began + last),)
        assert (since(serving(MODEL, rows=rows).polls()) is not None) == known
    assert since(serving(MODEL, rows=(row("m"),)).polls()) is None


def test_a_stub_that_was_started_again_had_no_occasion_yet() -> None:
    """What the others executed before is theirs; what a poll counts that began before it was seen, perhaps too."""
    seen = executing(executing(serving(MODEL), 0), 4)
    assert since(seen) is not None
    late = stub(300, "m_0_0", start=int(200 * 1e6))
    seen = seen.without_stub(100).with_stub(late).scans()
    assert exercise(seen) is None
    seen = executing(seen, 6)
    assert since(seen) is None
    assert since(executing(seen, 7)) is not None


def test_answers_to_an_inquiry_count_nothing_twice() -> None:
    """The figures are those of the last poll."""
    seen = executing(executing(serving(MODEL), 0), 4)
    before = exercise(seen)
    assert exercise(seen.asks()) == before
    younger = stub(300, "m_0_0")
    unseen = serving(MODEL).having(stubs=(younger,)).scans().asks()
    assert exercise(unseen) is None


def test_what_is_known_stays_while_the_same_stubs_serve() -> None:
    """An inquiry after a scan that named them changes nothing."""
    seen = executing(executing(serving(MODEL), 0), 4)
    assert since(seen.scans().asks().scans().polls()) == since(seen)


def test_counters_that_go_back_are_another_load() -> None:
    """Its stubs are found by the next scan; until then nothing is theirs."""
    seen = executing(executing(serving(MODEL), 0), 4)
    assert since(executing(seen, 1)) is None


def test_a_canary_exercises_a_model_like_any_request() -> None:
    """It takes the same way, though it is nobody's traffic."""
    seen = executing(serving(MODEL), 0).sends("m")
    seen = executing(seen, 1).canary("m", CanaryOutcome.PASSED)
    assert seen.record("m").traffic.success == 0
    assert since(seen) is not None


def test_without_stubs_or_a_model_nothing_is_kept() -> None:
    """A model that left, and one whose processes can not be seen."""
    seen = executing(executing(serving(MODEL), 0), 4)
    assert seen.without_model("m").polls().book.exercise.records == {}
    assert executing(serving(MODEL, server=None), 4).book.exercise.records == {}
    assert seen.server_exits().book.exercise.records != {}


def test_what_an_ending_load_executed_is_not_what_its_successor_did() -> None:
    """The old load serves while the new one's stubs begin; its last poll is no poll of theirs."""
    for answered in (True, False):
        seen = executing(executing(serving(MODEL), 0), 4)
        heirs = (stub(300, "m_0_0", start=100), stub(301, "m_0_1", start=101))
        seen = seen.with_stub(*heirs).scans()
        if answered:
            # The old ones end between a poll and the inquiry that follows it.
            seen = executing(seen, 9, last=START.wall)
            seen = seen.exits(100, code=0).exits(101, code=0).asks()
        else:
            # They end while a poll is under way.
            seen = seen.exits(100, code=0).exits(101, code=0).with_row(row("m", success=9, last=START.wall))
            seen = seen.polls()
        assert len(seen.alive("m")) == 2
        assert exercise(seen) is not None
        assert since(seen) is None
        assert since(executing(seen, 0)) is None
        assert since(executing(executing(seen, 0), 1)) is not None


def test_stubs_that_are_found_late_are_known_by_the_second_poll_of_them() -> None:
    """The first scan may have failed; a second poll with the same stubs began after any other load's ended."""
    rows = (row("m", success=3, last=START.wall),)
    late = World(server=serving(MODEL).server, rows=rows, configs=(MODEL,)).polls().asks()
    seen = late.having(stubs=serving(MODEL).stubs).scans().polls()
    assert since(seen) is None
    assert since(seen.polls()) is not None


def test_requests_that_only_fail_are_no_occasion() -> None:
    """Their inputs may have been refused before anything was computed."""
    seen = executing(serving(MODEL), 0)
    seen = seen.with_row(row("m", failure=3 * TURNS, executions=3 * TURNS)).polls()
    assert since(seen) is None
    seen = seen.with_row(row("m", success=1, failure=3 * TURNS, executions=3 * TURNS + 1)).polls()
    known = exercise(seen)
    assert known is not None
    assert known.since is not None
    assert known.each_since is None
