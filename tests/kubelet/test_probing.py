"""Does the stand-in's prober ask and believe as the kubelet's own does?"""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.kubelet.probing import Kind, Life, ProbeWorker, Result, first_tick
from testbed.kubelet.specs import HttpGet, ProbeSpec

S, F, U = Result.SUCCESS, Result.FAILURE, Result.UNKNOWN
LIFE = Life(1, 0.0)
GET = HttpGet(8003, "/livez")


def worker(
    kind: Kind, *, success: int = 1, failure: int = 3, delay: int = 0, period: int = 10
) -> ProbeWorker:
    """A worker whose first tick is at 0."""
    probe = ProbeSpec(
        GET,
        success_threshold=success,
        failure_threshold=failure,
        initial_delay_seconds=delay,
        period_seconds=period,
    )
    return ProbeWorker(kind, probe, 0.0)


def play(one: ProbeWorker, *outcomes: Result | None, life: Life = LIFE) -> Result | None:
    """Answer its next questions so; what is believed then."""
    for each in outcomes:
        assert one.asks(one.due, life, started=one.kind is not Kind.STARTUP)
        one.answered(each)
    return one.result(life)


@pytest.mark.parametrize(("kind", "expected"), [(Kind.STARTUP, U), (Kind.LIVENESS, S), (Kind.READINESS, F)])
def test_what_is_believed_before_the_first_answer(kind: Kind, expected: Result) -> None:
    """A container is alive and not ready until somebody says otherwise; nothing is believed of one never seen."""
    one = worker(kind)
    assert one.result(LIFE) is None
    one.asks(0.0, LIFE, started=kind is not Kind.STARTUP)
    assert one.result(LIFE) is expected


@pytest.mark.parametrize(
    ("kind", "success", "failure", "answers", "expected"),
    [
        (Kind.READINESS, 1, 1, (S,), S),
        (Kind.READINESS, 1, 1, (S, F), F),
        (Kind.READINESS, 2, 1, (S,), F),
        (Kind.READINESS, 2, 1, (S, F, S), F),
        (Kind.READINESS, 2, 1, (S, S), S),
        (Kind.LIVENESS, 1, 3, (F, F), S),
        (Kind.LIVENESS, 1, 3, (F, F, S, F, F), S),
        (Kind.LIVENESS, 1, 3, (F, F, F), F),
        (Kind.LIVENESS, 1, 3, (F, None, F, None, F), F),
        (Kind.LIVENESS, 1, 1, (None, None), S),
        (Kind.STARTUP, 1, 3, (F, F, S), S),
        (Kind.STARTUP, 1, 3, (F, F, F), F),
    ],
)
def test_only_a_row_as_long_as_the_threshold_is_believed(
    kind: Kind, success: int, failure: int, answers: tuple[Result | None, ...], expected: Result
) -> None:
    """Answers below the threshold change nothing, and an error is thrown away: the row goes on past it."""
    assert play(worker(kind, success=success, failure=failure), *answers) is expected


@given(
    answers=st.lists(st.sampled_from((S, F, None)), max_size=30),
    success=st.integers(1, 4),
    failure=st.integers(1, 4),
)
def test_readiness_is_the_last_row_that_was_long_enough(
    answers: list[Result | None], success: int, failure: int
) -> None:
    """Whatever the answers: the belief is that of the last row of equal ones that reached its threshold."""
    believed, told = F, [each for each in answers if each is not None]
    for end in range(1, len(told) + 1):
        last = told[end - 1]
        need = success if last is S else failure
        if end >= need and all(each is last for each in told[end - need : end]):
            believed = last
    one = worker(Kind.READINESS, success=success, failure=failure)
    one.asks(one.due, LIFE, started=True)
    one.answered(None)
    assert play(one, *answers) is believed


@given(
    delay=st.integers(0, 60), period=st.integers(1, 30), started_at=st.floats(0, 100), takes=st.floats(0, 40)
)
def test_a_worker_asks_on_its_own_grid_and_not_before_the_delay(
    delay: int, period: int, started_at: float, takes: float
) -> None:
    """Ticks are counted from when the pod came; an answer that takes longer makes one tick late and loses others."""
    one, life = worker(Kind.LIVENESS, delay=delay, period=period, failure=1000), Life(1, started_at)
    asked: list[float] = []
    now = 0.0
    while len(asked) < 5:
        now = max(now, one.due)
        if one.asks(now, life if now >= started_at else None, started=True):
            asked.append(now)
            assert one.due == math.inf
            now += takes
            one.answered(S)
    assert all(each - started_at >= delay for each in asked)
    assert asked[0] % period == 0
    assert asked[0] - started_at < delay + 1 + period
    for before, after in itertools.pairwise(asked):
        on_grid = period * (before // period + 1)
        assert after == pytest.approx(max(on_grid, before + takes))


@pytest.mark.parametrize(
    ("kind", "started", "asks"),
    [
        (Kind.STARTUP, False, True),
        (Kind.STARTUP, True, False),
        (Kind.LIVENESS, False, False),
        (Kind.READINESS, False, False),
        (Kind.LIVENESS, True, True),
        (Kind.READINESS, True, True),
    ],
)
def test_startup_comes_before_the_other_two(kind: Kind, *, started: bool, asks: bool) -> None:
    """Until a container has started only its startup probe is asked, and that one never again."""
    assert worker(kind).asks(0.0, LIFE, started=started) is asks


def test_a_container_that_does_not_run_is_not_ready_and_is_not_asked() -> None:
    """What was believed of it while it ran is over at the next tick after its end."""
    one = worker(Kind.READINESS)
    assert play(one, S) is S
    over = Life(1, 0.0, finished_at=12.0)
    assert not one.asks(20.0, over, started=False)
    assert one.result(over) is F
    assert not one.asks(30.0, None, started=False)


def test_a_failed_liveness_probe_rests_until_there_is_another_run() -> None:
    """On hold: no question and no change, also where the container would answer again; the next run begins alive."""
    one = worker(Kind.LIVENESS, failure=2)
    assert play(one, F, F) is F
    assert not one.asks(one.due, LIFE, started=True)
    assert one.result(LIFE) is F
    second = Life(2, 40.0)
    assert one.asks(50.0, second, started=True)
    one.answered(F)
    assert one.result(second) is S, "the row that led to the restart is not counted again"


def test_a_row_goes_on_over_an_end_that_it_did_not_cause() -> None:
    """As in the kubelet: two failures, a crash, and one more failure are three."""
    one = worker(Kind.LIVENESS, failure=3)
    play(one, F, F)
    assert play(one, F, life=Life(2, 20.0)) is F


def test_a_trigger_asks_at_once_and_moves_the_grid() -> None:
    """The next question comes a period after it."""
    one = worker(Kind.READINESS, period=5)
    play(one, F)
    one.trigger()
    assert one.asks(7.0, LIFE, started=True)
    one.answered(F)
    assert one.due == 12.0


@pytest.mark.parametrize(("age", "expected"), [(3600.0, 100.0), (4.0, 102.5)])
def test_only_a_young_kubelet_spreads_the_first_questions(age: float, expected: float) -> None:
    """A random part of the period, where the kubelet itself has not run for a period."""
    assert first_tick(100.0, 5.0, kubelet_age=age, fraction=0.5) == expected
