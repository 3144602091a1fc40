"""What comes out of a model from poll to poll: does the ledger tell a queue from a stall, and whose failures?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.facts.models import ModelState, ModelStatistics
from probe.facts.triton import FailureReasons
from probe.ledgers.progress import Progress
from tests.worlds import World, at, entry, key, python_model, row, serving

M = python_model("m")
QUEUE = ((key("m"), 3),)
EMPTY = ((key("m"), 0),)


def up() -> World:
    """A Triton with one model, whose processes can not be seen."""
    return serving(M, server=None)


def told(seen: World) -> Progress:
    """What the ledger says of it."""
    return seen.record("m").progress


def polled(seen: World, waiting: int | None, reasons: FailureReasons | None = None) -> World:
    """Another poll, five seconds after the last; ``waiting`` None: no metrics."""
    pending = None if waiting is None else ((key("m"), waiting),)
    named = () if reasons is None else ((key("m"), reasons),)
    return seen.later(4).polls(pending=pending, failure_reasons=named)


# Waiting


def test_a_queue_before_counters_that_stand_still_is_counted_from_the_first_poll_that_saw_it() -> None:
    """One poll is a queue; from the second on nothing came out of it."""
    first = polled(polled(up(), 0), 3)
    assert told(first).waiting_since == first.book.models.statistics_at
    assert told(first).flat_seconds == 0.0
    second = polled(first, 4)
    assert told(second).flat_seconds == 5.0
    assert (told(second).waiting, told(polled(second, 2)).flat_seconds) == (4, 10.0)


@pytest.mark.parametrize(
    "after",
    [row("m", success=1), row("m", failure=1), row("m", executions=1)],
    ids=["success", "failure", "run"],
)
def test_whatever_comes_out_begins_anew(after: ModelStatistics) -> None:
    """With those that still wait."""
    flat = polled(polled(up(), 3), 3)
    moved = polled(flat.with_row(after), 2)
    assert (told(moved).flat_seconds, told(moved).waiting) == (0.0, 2)
    assert told(moved).waiting_since == told(moved).moved_at == moved.book.models.statistics_at
    empty = polled(flat.with_row(after), 0)
    assert told(empty).waiting_since is None


def test_requests_that_were_all_taken_up_wait_no_more() -> None:
    """What executes is not pending, and counts when it ends."""
    assert told(polled(polled(polled(up(), 3), 3), 0)).waiting_since is None


def test_an_unknown_queue_neither_raises_nor_clears() -> None:
    """The metrics were not answered; counters that move are an answer all the same."""
    flat = polled(polled(up(), 3), 3)
    assert told(polled(flat, None)) == told(flat)
    assert told(polled(up(), None)).waiting_since is None
    moved = polled(flat.with_row(row("m", success=1)), None)
    assert (told(moved).waiting_since, told(moved).waiting) == (None, 0)


def test_failures_for_an_unknown_reason_move_nothing_while_requests_wait() -> None:
    """They may have been turned away."""
    flat = polled(polled(up(), 3), 3)
    assert told(polled(flat.with_row(row("m", failure=2)), None)).flat_seconds == 5.0
    calm = polled(polled(up(), 0).with_row(row("m", failure=2)), None)
    assert told(calm).moved_at == calm.book.models.statistics_at


def test_requests_that_time_out_in_the_queue_do_not_come_out_of_the_model() -> None:
    """They are demand, even when none waits at the moment of a poll, and stay so when nobody asks any more."""
    seen = polled(up(), 0)
    seen = polled(seen.with_row(row("m", failure=2)), 0, FailureReasons(rejected=2))
    assert told(seen).waiting_since is None
    seen = polled(seen.with_row(row("m", failure=5)), 0, FailureReasons(rejected=5))
    assert told(seen).turned_away == 3
    seen = polled(seen.with_row(row("m", failure=6)), 0, FailureReasons(rejected=6))
    assert (told(seen).turned_away, told(seen).flat_seconds) == (4, 5.0)
    assert told(polled(seen, 0, FailureReasons(rejected=6))).flat_seconds == 10.0
    ended = polled(seen.with_row(row("m", failure=7)), 0, FailureReasons(rejected=6, other=1))
    assert told(ended).waiting_since is None
    assert told(ended).failures == 1
    gave_up = polled(seen.with_row(row("m", failure=7)), 0, FailureReasons(rejected=6, canceled=1))
    assert told(gave_up).waiting_since is None
    assert told(gave_up).failures == 0


def test_what_waits_at_a_load_that_was_replaced_is_a_ghost() -> None:
    """Triton's gauge of pending requests is one for both loads (seen in 24.10)."""
    old = polled(polled(up().with_row(row("m", success=9)).polls(), 5), 5)
    assert told(old).flat_seconds == 5.0
    new = polled(old.with_row(row("m", success=1)), 5)
    assert (told(new).ghosts, told(new).waiting) == (5, 0)
    assert told(polled(polled(new, 5), 5)).waiting_since is None
    queue = polled(polled(new, 7), 7)
    assert (told(queue).waiting, told(queue).flat_seconds) == (2, 5.0)
    assert told(polled(queue, 1)).ghosts == 1
    unknown = polled(queue.with_row(row("m", success=2)), None)
    assert (told(unknown).ghosts, told(unknown).waiting) == (5, 0)


def test_a_load_whose_counters_caught_up_is_told_by_their_times() -> None:
    """As many requests as before, and other nanoseconds: none of them is of the load that hung."""
    old = polled(polled(up().with_row(row("m", success=1)).polls(), 5), 5)
    new = polled(old.with_row(row("m", success=1, compute_ns=2_000_000)), 5)
    assert (told(new).ghosts, told(new).waiting_since) == (5, None)


def test_a_version_that_left_and_came_back_begins_anew() -> None:
    """Whatever it did before."""
    old = polled(polled(up(), 5), 5)
    left = old.without_model("m").polls()
    assert told(left) == Progress()
    back = polled(left.having(rows=old.rows), 5)
    assert (told(back).ghosts, told(back).waiting_since) == (5, None)


def test_the_first_poll_of_all_sees_a_queue_that_is_there() -> None:
    """A probe that comes late must not take a stall for the past of another load."""
    late = World(rows=(row("m", success=9),)).polls(pending=QUEUE)
    assert (told(late).waiting, told(late).ghosts, told(late).failures) == (3, 0, 0)
    assert told(late.polls(pending=QUEUE)).flat_seconds == 1.0


def test_a_queue_at_the_first_poll_of_a_first_load_is_no_ghost() -> None:
    """The index told of the model as it loaded; a client that waits for all of its answers sends no more."""
    loading = World(configs=(M,)).polls(statistics=()).asks(index=(entry("m", ModelState.LOADING),))
    seen = loading.with_row(row("m")).polls(pending=QUEUE)
    assert (told(seen).waiting, told(seen).ghosts) == (3, 0)


def test_the_slowest_window_is_remembered() -> None:
    """By the mean duration of the requests that ended in it."""
    seen = polled(up().with_row(row("m", success=2, success_ns=int(80e9))), 0)
    assert told(seen).slowest_seconds == 40.0
    assert told(polled(seen.with_row(row("m", success=9, success_ns=int(87e9))), 0)).slowest_seconds == 40.0
    assert (
        told(polled(seen.with_row(row("m", success=2, failure=1, success_ns=int(80e9))), 0)).slowest_seconds
        == 40.0
    )


def test_nothing_that_happens_costs_nothing() -> None:
    """A thousand idle models are folded at every poll."""
    seen = polled(up(), 0)
    assert told(polled(seen, 0)) is told(seen)


# Failing


def failing(*failures: int, reasons: bool = True) -> World:
    """A model that fails, with so many failures in all at each poll."""
    seen = polled(up(), 0)
    for each in failures:
        why = FailureReasons(other=each) if reasons else None
        seen = polled(seen.with_row(row("m", failure=each)), 0, why)
    return seen


def test_failures_are_counted_from_the_first_poll_with_some() -> None:
    """The polls that brought new ones count, and the last of them."""
    seen = failing(3, 3, 5)
    progress = told(seen)
    assert (progress.failures, progress.failing_looks, progress.failing_seconds) == (5, 2, 10.0)
    assert progress.failing_until == seen.book.models.statistics_at
    assert not progress.uncertain
    assert told(polled(seen, 0)).failures == 5
    assert told(failing(3, 5, reasons=False)).failures == 5, "releases before the label count as they are"
    assert told(polled(up(), 0)).failing_seconds == 0.0


def test_a_success_ends_it() -> None:
    """Even among failures."""
    seen = failing(3, 5)
    mended = polled(seen.with_row(row("m", success=1, failure=9)), 0)
    assert (told(mended).failures, told(mended).failing_since, told(mended).failing_looks) == (0, None, 0)


@pytest.mark.parametrize(
    ("why", "counted"),
    [
        (FailureReasons(rejected=4, canceled=3), 0),
        (FailureReasons(rejected=4, canceled=1, other=2), 2),
        (FailureReasons(other=7), 7),
        (None, 7),
    ],
)
def test_what_is_not_the_models_fault_does_not_count(why: FailureReasons | None, counted: int) -> None:
    """Full queues and clients that go away; before the first figure all of them may be new."""
    seen = polled(polled(up(), 0).with_row(row("m", failure=7)), 0, why)
    assert told(seen).failures == counted


def test_reasons_are_compared_with_those_of_the_poll_before() -> None:
    """They are totals of the load, and are forgotten once nobody asks for them."""
    seen = polled(up().with_row(row("m", failure=10)), 0, FailureReasons(rejected=10))
    assert told(seen).failures == 0
    seen = polled(seen.with_row(row("m", failure=12)), 0, FailureReasons(rejected=10, other=2))
    assert told(seen).failures == 2
    seen = polled(seen.with_row(row("m", success=1, failure=12)), 0)
    assert told(seen).reasons is None
    seen = polled(seen.with_row(row("m", success=1, failure=13)), 0, FailureReasons(rejected=10, other=3))
    assert told(seen).failures == 0, "without a figure of before, it may have been one of the ten"


def test_failures_without_metrics_are_counted_and_called_uncertain() -> None:
    """Until a success; nobody knows whose fault they are."""
    seen = polled(polled(up(), None).with_row(row("m", failure=4)), None)
    assert (told(seen).failures, told(seen).uncertain) == (4, True)
    assert told(polled(seen.with_row(row("m", failure=4, success=1)), None)).uncertain is False


# Whatever happens


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.integers(0, 3),
            st.none() | st.integers(0, 4),
            st.none() | st.builds(FailureReasons, *[st.integers(0, 9)] * 3),
        ),
        max_size=30,
    )
)
def test_a_stall_and_failures_end_with_a_success(
    polls: list[tuple[int, int, int | None, FailureReasons | None]],
) -> None:
    """Whatever the metrics say: what stands has no success in it, and its moments are in order."""
    seen, success, failure, last = up(), 0, 0, at(0)
    for more, worse, waiting, reasons in polls:
        success, failure = success + more, failure + worse
        seen = polled(seen.with_row(row("m", success=success, failure=failure)), waiting, reasons)
        observed = seen.book.models.statistics_at
        assert observed is not None
        if more:
            last = observed
        progress = told(seen)
        assert progress.waiting_since is None or last.mono <= progress.waiting_since.mono <= observed.mono
        assert progress.failing_since is None or last.mono < progress.failing_since.mono <= observed.mono
        assert progress.flat_seconds >= 0.0 <= progress.failing_seconds
        assert progress.failures <= failure
        assert (progress.failing_since is None) == (progress.failures == 0) == (progress.failing_looks == 0)
        assert progress.waiting >= 0 <= progress.ghosts
