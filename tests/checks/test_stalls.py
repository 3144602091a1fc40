"""Is a model that nothing comes out of told from one that is only slow, and what is said of it?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.checks.stalls import PROVEN_SECONDS, judge
from probe.facts.canaries import CanaryOutcome
from probe.facts.findings import Action
from probe.facts.gates import Gate
from probe.facts.processes import ProcessState
from probe.facts.triton import FailureReasons
from probe.settings import Settings
from tests.worlds import World, key, python_model, row, server, serving, stub

M = python_model("m", 2)
USED = row("m", success=100)


def flat(seen: World, polls: int = 2, waiting: int | None = 3, every: float = 5.0) -> World:
    """So many polls, while this many wait and nothing comes out."""
    pending = None if waiting is None else ((key("m"), waiting),)
    for _ in range(polls):
        seen = seen.later(every - 1).polls(pending=pending)
    return seen


def used(**more: object) -> World:
    """A model that has answered requests, each in 2 ms."""
    return serving(M, **more).with_row(USED).polls(pending=())  # type: ignore[arg-type]


def reasons(seen: World) -> list[str]:
    """What this check says."""
    return seen.reasons(judge)


def test_a_queue_out_of_which_nothing_comes_is_a_stall_from_the_second_poll_on() -> None:
    """With what waits, since when, and how long it usually takes."""
    assert reasons(flat(used(), 1)) == []
    seen = flat(used(), 2)
    claim = seen.only("ModelStalled")
    assert "Nothing came out of it for 5.0 s while 3 requests wait in its queue" in claim.message
    assert "a request takes 0.002 s in the mean of this load" in claim.message
    assert "m_0_0 (pid 100) sleeping; m_0_1 (pid 101) sleeping" in claim.message
    assert claim.observed == seen.book.models.statistics_at
    assert claim.action is None, "the catalogue's: restart the container"
    assert claim.evidence == {
        "flat_seconds": 5.0,
        "pending": 3,
        "turned_away": 0,
        "success_total": 100,
        "failure_total": 0,
        "patience_seconds": 5.0,
        "stub_pids": "100 101",
        "cpu_cores": None,
    }
    assert "while 1 request waits in its queue" in flat(used(), waiting=1).only("ModelStalled").message
    assert flat(used(), waiting=0).reasons() == flat(used(), waiting=None).reasons() == []


def test_a_server_that_is_gone_has_no_stalled_models() -> None:
    """TritonDown says it."""
    assert reasons(flat(used()).server_exits()) == []


def test_a_model_that_left_is_not_stalled() -> None:
    """Its state is another check's."""
    assert reasons(flat(used()).without_model("m").polls()) == []


@pytest.mark.parametrize(
    ("model", "statistics", "polls"),
    [
        # The mean of this load is 45 s a request.
        (M, row("m", success=10, success_ns=int(450e9)), 27),
        # A sequence may keep its slot for 60 s.
        (python_model("m", 2, held_back_seconds=60.0), USED, 24),
    ],
)
def test_what_usually_takes_long_may_take_long(model: object, statistics: object, polls: int) -> None:
    """Three times the usual duration of a request, or twice what Triton itself may hold it back."""
    seen = serving(model).with_row(statistics).polls(pending=())  # type: ignore[arg-type]
    seen = seen.later(4).polls(pending=((key("m"), 3),))
    assert reasons(flat(seen, polls - 1)) == []
    assert reasons(flat(seen, polls + 1)) == ["ModelStalled"]


def test_a_request_that_once_took_long_may_take_as_long_again() -> None:
    """The mean says nothing of the longest."""
    slow = used().later(300).with_row(row("m", success=101, success_ns=int(200e9))).polls(pending=())
    assert reasons(flat(slow, 36)) == []
    assert reasons(flat(slow, 42)) == ["ModelStalled"]


def test_live_is_spared_until_looks_have_shown_it_for_long() -> None:
    """A claim goes on while Triton does not answer, and becomes no surer by it."""
    seen = flat(used(), 2)
    assert seen.only("ModelStalled").spares == {Gate.LIVE}
    silent = seen.later(600).polls(statistics=None)
    assert silent.only("ModelStalled").spares == {Gate.LIVE}
    assert flat(used(), 2 + int(PROVEN_SECONDS / 5)).only("ModelStalled").spares == frozenset()


def test_live_is_spared_where_other_models_may_hold_what_it_waits_for() -> None:
    """The rate limiter, and a model of which the configuration is not known."""
    limited = used(server=server("--rate-limit=execution_count"))
    assert flat(limited, 20).only("ModelStalled").spares == {Gate.LIVE}
    unread = World(server=server(), rows=(USED,)).scans().polls(pending=())
    assert flat(unread, 20).only("ModelStalled").spares == {Gate.LIVE}
    assert flat(used(server=None), 20).only("ModelStalled").spares == frozenset()


def busy(seen: World, ticks: int) -> World:
    """Two scans, ten seconds apart, between which the first stub used so many ticks."""
    seen = seen.with_stub(stub(100, "m_0_0", ticks=0), stub(101, "m_0_1", ticks=0)).later(20).scans()
    seen = seen.with_stub(stub(100, "m_0_0", ticks=ticks), stub(101, "m_0_1", ticks=0))
    return seen.later(9).scans()


def test_what_the_stubs_do_is_told() -> None:
    """A loop and a lock want different engineers."""
    loop = busy(flat(used()), 1000).only("ModelStalled")
    assert "m_0_0 (pid 100) computes, 1.00 cores; m_0_1 (pid 101) is idle, 0.00 cores." in loop.message
    assert loop.evidence["cpu_cores"] == 1.0
    assert "is in a loop" in loop.remedy
    lock = busy(flat(used()), 1).only("ModelStalled")
    assert "m_0_0 (pid 100) is idle, 0.00 cores" in lock.message
    assert "waits: for a lock" in lock.remedy
    unseen = flat(used(server=None)).only("ModelStalled")
    assert "pid" not in unseen.message
    assert unseen.evidence["stub_pids"] is None
    assert "py-spy" not in unseen.remedy


def test_a_first_request_may_compile_for_as_long_as_a_load() -> None:
    """After a restart it would be the first again; a stub that computes nothing does not compile."""
    fresh = flat(serving(M).polls(pending=()), 20)
    claim = fresh.only("ModelStalled")
    assert "it has answered nothing since it was loaded" in claim.message
    assert claim.spares == {Gate.LIVE}
    assert busy(fresh, 1000).only("ModelStalled").spares == {Gate.LIVE}
    assert busy(fresh, 1).only("ModelStalled").spares == frozenset()
    assert flat(fresh, 120).only("ModelStalled").spares == frozenset()


def test_where_models_can_be_loaded_the_remedy_says_how_a_load_helps() -> None:
    """It serves beside the one that hangs (seen in 24.10)."""
    explicit = flat(used(server=server("--model-control-mode=explicit"))).only("ModelStalled")
    assert "curl -X POST http://127.0.0.1:8000/v2/repository/models/m/load" in explicit.remedy
    assert "touch a file in the model's version folder" in explicit.remedy
    assert "/unload" not in explicit.remedy
    assert "/load" not in flat(used()).only("ModelStalled").remedy
    assert Action.RESTART_CONTAINER.value == "RESTART_CONTAINER"


def test_dead_and_stopped_stubs_say_it_themselves() -> None:
    """Unless an instance is left that could answer."""
    seen = flat(used()).exits(100, signal=9).believes(100)
    assert reasons(seen) == ["ModelStalled"]
    assert reasons(seen.exits(101, signal=9).believes(101)) == []
    stopped = [stub(pid, f"m_0_{pid - 100}", state=ProcessState.STOPPED) for pid in (100, 101)]
    assert reasons(flat(used()).with_stub(stopped[0]).scans()) == ["ModelStalled"]
    assert reasons(flat(used()).with_stub(*stopped).scans()) == []


def test_a_queue_that_times_out_is_a_stall_too() -> None:
    """Nothing waits at the moment of a poll, and every request is turned away."""
    seen = used()
    for rejected in (1, 2, 4, 7):
        why = ((key("m"), FailureReasons(rejected=rejected)),)
        seen = seen.with_row(row("m", success=100, failure=rejected)).later(4)
        seen = seen.polls(pending=((key("m"), 0),), failure_reasons=why)
    assert "6 requests timed out in its queue, 0 wait there" in seen.only("ModelStalled").message


# Canaries

TIMEOUT, PASSED, ERROR = CanaryOutcome.TIMEOUT, CanaryOutcome.PASSED, CanaryOutcome.ERROR


def test_a_canary_that_is_not_answered_while_nothing_comes_out_is_a_stall() -> None:
    """The one request that hangs is not pending."""
    seen = used().later(20).canary("m", TIMEOUT, seconds=10)
    assert reasons(seen) == []
    seen = seen.polls(pending=())
    claim = seen.only("ModelStalled")
    assert "for 10.0 s while the canary is not answered (10 s and more)" in claim.message
    assert reasons(seen.canary("m", ERROR).polls(pending=())) == []
    assert reasons(seen.canary("m", CanaryOutcome.UNSENDABLE).polls(pending=())) == []


def test_a_canary_in_a_queue_that_moves_is_no_stall() -> None:
    """Unless a later one was sent after the last movement."""
    seen = used().later(20).canary("m", TIMEOUT, seconds=10)
    seen = seen.with_row(row("m", success=101)).polls(pending=())
    assert reasons(seen) == []
    seen = seen.later(30).canary("m", TIMEOUT, seconds=10).polls(pending=())
    assert "for 10.0 s" in seen.only("ModelStalled").message
    again = seen.later(30).canary("m", TIMEOUT, seconds=10).polls(pending=())
    assert reasons(again) == ["ModelStalled"]


def test_a_canary_that_passed_after_the_last_poll_ends_a_stall() -> None:
    """Something comes out."""
    seen = flat(used())
    assert reasons(seen.canary("m", PASSED)) == []
    assert reasons(flat(used().canary("m", PASSED).later(5))) == ["ModelStalled"]


@given(
    polls=st.lists(st.tuples(st.integers(0, 2), st.none() | st.integers(0, 5)), max_size=40),
    seconds=st.floats(0.001, 100.0),
)
def test_a_model_that_answers_within_three_times_its_usual_time_is_never_stalled(
    polls: list[tuple[int, int | None]], seconds: float
) -> None:
    """Whatever waits behind it."""
    settings = Settings(interval=1.5)
    seen = serving(M, settings=settings).with_row(row("m", success=1, success_ns=int(seconds * 1e9))).polls()
    success = 1
    for more, waiting in polls:
        pending = None if waiting is None else ((key("m"), waiting),)
        success += 1 + more
        ended = row("m", success=success, success_ns=int(success * seconds * 1e9))
        seen = seen.with_row(ended).polls(pending=pending)
        assert reasons(seen) == []
        seen = seen.later(max(0.0, 2.9 * seconds - 1)).polls(pending=pending)
        assert reasons(seen) == []
