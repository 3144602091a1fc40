"""Requests of others, told apart from canaries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from probe.facts.canaries import CanaryOutcome
from probe.ledgers.others import COUNTED_WITHIN, Others
from tests.worlds import World, at, ensemble, key, python_model, row, serving

PASSED, ERROR, TIMEOUT, WRONG, UNSENDABLE = CanaryOutcome
M = python_model("m")


def counted(world: World, success: int = 0, failure: int = 0, **poll: object) -> World:
    """Triton has counted so many in all, and is polled."""
    return world.with_row(row("m", success=success, failure=failure)).polls(**poll)


def figures(world: World, name: str = "m") -> tuple[int, int]:
    """The requests of others."""
    traffic = world.record(name).traffic
    return traffic.success, traffic.failure


def test_a_canary_that_passed_is_nobodys_request() -> None:
    """Neither its success nor its moment shows, whenever the poll comes."""
    world = serving(M)
    late = counted(world.sends("m").canary("m"), success=1)
    early = counted(world.sends("m"), success=1).canary("m")
    for each in (late, early):
        assert figures(each) == (0, 0)
        assert each.record("m").traffic.last_success_wall is None
        assert each.record("m").traffic.compute_seconds_per_inference is None
        assert each.record("m").others.busy_at == world.record("m").others.busy_at
        assert each.record("m").exercised_since is not None, "it proves placement all the same"
    assert figures(counted(late, success=3)) == (2, 0)


def test_the_failure_of_a_canary_is_nobodys() -> None:
    """Also where an answer was wrong, which Triton counts as a success."""
    world = serving(M)
    assert figures(counted(world.sends("m").canary("m", ERROR), failure=1)) == (0, 0)
    assert figures(counted(world.sends("m").canary("m", WRONG), success=1)) == (0, 0)
    assert figures(counted(world.sends("m").canary("m", PASSED), failure=1)) == (0, 1)


def test_what_triton_does_not_count_in_time_is_not_owed_any_more() -> None:
    """A request that was refused for its inputs is never counted, and takes nobody else's place."""
    world = serving(M).sends("m").canary("m", ERROR)
    late = world.later(COUNTED_WITHIN + 1).polls()
    assert late.record("m").others.owed == ()
    assert figures(counted(late, failure=1)) == (0, 1)


def test_a_canary_that_timed_out_is_owed_until_it_is_counted_or_another_passes() -> None:
    """It may end, well or badly, long after nobody waits for it."""
    world = serving(M).sends("m").canary("m", TIMEOUT).later(600).polls()
    assert figures(counted(world, success=1)) == (0, 0)
    assert figures(counted(world, failure=1)) == (0, 0)
    passed = counted(world.sends("m").canary("m"), success=1)
    assert figures(counted(passed, success=2)) == (1, 0)


def test_a_canary_left_in_the_queue_is_nobody_waiting() -> None:
    """What waits beyond it is."""
    world = serving(M).sends("m").canary("m", TIMEOUT)
    waiting = ((key("m"), 1),)
    left = world.polls(pending=waiting)
    assert left.record("m").pending == 0
    assert left.record("m").others.busy_at == world.record("m").others.busy_at
    more = world.polls(pending=((key("m"), 3),))
    assert more.record("m").pending == 2
    assert more.record("m").others.busy_at == world.now
    assert serving(M).polls(pending=waiting).record("m").pending == 1


def test_an_ensembles_canary_is_counted_on_each_of_its_steps() -> None:
    """A model that is two of its steps is counted twice; a failed ensemble counts two failures (2.51)."""
    configs = (M, python_model("n"), ensemble("e", "m", "n", "m"))
    touches = ((key("e"), 1), (key("m"), 2), (key("n"), 1), (key("gone"), 1))
    out = serving(*configs).sends("e", touches=touches)
    passed = out.canary("e").with_row(row("e", success=1), row("m", success=2), row("n", success=1)).polls()
    failed = (
        out.canary("e", ERROR).with_row(row("e", failure=2), row("m", success=1), row("n", failure=1)).polls()
    )
    for world in (passed, failed):
        assert [figures(world, name) for name in "emn"] == [(0, 0)] * 3
    assert figures(passed.with_row(row("m", success=3)).polls()) == (1, 0)


def test_a_reload_begins_anew() -> None:
    """What the former load owed it will never count."""
    world = serving(M, rows=(row("m", success=5),)).sends("m").canary("m", TIMEOUT)
    again = counted(world, success=1)
    assert again.record("m").others == Others(busy_at=again.record("m").ready_since)
    assert figures(again) == (6, 0)
    gone = world.without_model("m").polls()
    assert gone.record("m").others == Others()


def test_activity_is_seen_at_the_end_of_the_poll_that_shows_it() -> None:
    """Of a load that was just seen nothing is known before."""
    world = serving(M)
    record = world.record("m")
    assert record.others.busy_at == record.ready_since
    assert record.others.served_since is None
    later = world.later(60).polls()
    assert later.record("m").others.busy_at == record.ready_since
    busy = counted(later, success=1)
    assert busy.record("m").others.busy_at == later.now
    assert busy.record("m").others.served_since == later.record("m").statistics_at
    failed = counted(busy.later(5), success=1, failure=1)
    assert failed.record("m").others.served_since == busy.record("m").others.served_since
    assert failed.record("m").others.busy_at != busy.record("m").others.busy_at


def test_other_canaries_keep_what_they_owe() -> None:
    """An ensemble's that is out, while the step's own passes."""
    others = Others().sending(key("e"), 1, 1).ended(key("e"), TIMEOUT, at(0)).sending(key("m"), 1, 1)
    after = others.ended(key("m"), PASSED, at(1))
    assert [each.by for each in after.owed] == [key("e"), key("m")]
    assert after.waiting == 1


EVENTS = st.lists(
    st.sampled_from(("asked", "refused", "send", "pass", "fail", "time out", "poll")), max_size=40
)


@given(events=EVENTS)
def test_totals_are_those_of_others_whatever_happens_in_between(events: list[str]) -> None:
    """As soon as every canary came to its end and was counted; one that timed out is counted late here."""
    world, out = serving(M), False
    success = failure = others_success = others_failure = 0
    for event in events:
        if event == "asked":
            success, others_success = success + 1, others_success + 1
        elif event == "refused":
            failure, others_failure = failure + 1, others_failure + 1
        elif event == "send" and not out:
            world, out = world.sends("m"), True
        elif event == "pass" and out:
            success, out = success + 1, False
            world = world.canary("m")
            world = counted(world, success, failure)
        elif event == "fail" and out:
            failure, out = failure + 1, False
            world = world.canary("m", ERROR)
            world = counted(world, success, failure)
        elif event == "time out" and out:
            world, out = world.canary("m", TIMEOUT), False
            success += 1
            world = counted(world, success, failure)
        elif event == "poll":
            world = counted(world, success, failure)
    if out:
        world = counted(world.canary("m", TIMEOUT), success + 1, failure)
    world = counted(world, success + out, failure)
    assert sum(figures(world)) == others_success + others_failure
