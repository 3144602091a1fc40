"""Is a model that became slower told from one that got other batches, whatever its own speed is?"""

from __future__ import annotations

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from probe.facts.models import ModelStatistics
from probe.ledgers.pace import FLOOR_SECONDS, KEPT, LEARNING, SLOW, WINDOW, Pace
from tests.worlds import at, row

NS = 1e9
EMPTY = row("m")


class Run(msgspec.Struct, frozen=True):
    """The counters of a model and what the ledger made of them."""

    pace: Pace = Pace()
    counters: ModelStatistics = EMPTY
    polls: int = 0

    def polls_after(self, executions: int, batch: int, seconds: float, *, failures: int = 0) -> Run:
        """A poll, five seconds later, after so many executions of so many requests of so many seconds."""
        was, requests = self.counters, executions * batch
        now = msgspec.structs.replace(
            was,
            success=was.success + requests,
            failure=was.failure + failures,
            inferences=was.inferences + requests,
            executions=was.executions + executions,
            compute_infer_count=was.compute_infer_count + requests,
            compute_infer_ns=was.compute_infer_ns + int(requests * seconds * NS),
            batch_infer_ns=was.batch_infer_ns + int(executions * seconds * NS),
        )
        return Run(self.pace.after(was, now, at(self.polls * 5.0)), now, self.polls + 1)

    def over(self, polls: int, executions: int, batch: int, seconds: float) -> Run:
        """So many polls like that."""
        run = self
        for _ in range(polls):
            run = run.polls_after(executions, batch, seconds)
        return run


def learned(seconds: float = 0.02, batch: int = 1) -> Run:
    """A model that has shown what is usual."""
    return Run().over(LEARNING, WINDOW, batch, seconds)


def test_nothing_is_compared_before_enough_was_seen() -> None:
    """First executions compile and warm up."""
    assert Run().over(LEARNING - 1, WINDOW, 1, 0.02).pace.usual is None
    usual = learned().pace.usual
    assert usual is not None
    assert (usual.per_request, usual.per_inference) == (0.02, 0.02)


def test_few_inferences_wait_for_more() -> None:
    """A window is as long as it takes."""
    run = Run().over(WINDOW - 1, 1, 1, 0.02)
    assert run.pace.latest is None
    assert run.over(1, 1, 1, 0.02).pace.latest is not None
    idle = run.pace.after(run.counters, run.counters, at(0))
    assert idle is run.pace


def test_ten_times_slower_is_slow_from_its_first_window_to_its_last() -> None:
    """Until it is fast again."""
    slow = learned().over(13, WINDOW, 1, 0.2)
    assert slow.pace.slow_seconds == 60.0
    assert slow.pace.usual == learned().pace.usual, "nothing is learned meanwhile"
    assert slow.over(1, WINDOW, 1, 0.07).pace.slow_since is not None, "slow below the bound until it is swift"
    fast = slow.over(1, WINDOW, 1, 0.02)
    assert (fast.pace.slow_since, fast.pace.slow_seconds) == (None, 0.0)


def test_windows_with_failures_are_left_out() -> None:
    """Their time is in one of the two sums only."""
    run = learned().polls_after(WINDOW, 1, 0.2, failures=1)
    assert run.pace.slow_since is None
    assert run.over(1, WINDOW, 1, 0.2).pace.slow_since is not None


def test_a_model_of_microseconds_is_not_slow_for_being_interrupted() -> None:
    """Below the floor nothing counts."""
    assert learned(10e-6).over(20, WINDOW, 1, 500e-6).pace.slow_since is None
    assert learned(10e-6).over(20, WINDOW, 1, 2e-3).pace.slow_since is not None


def test_what_is_kept_is_of_the_whole_load_and_bounded() -> None:
    """A decline over many windows does not become the usual: the first figures weigh as much as the last."""
    run = learned().over(600, WINDOW, 1, 0.02)
    for poll in range(300):
        run = run.polls_after(WINDOW, 1, 0.02 * (1 + poll / 60))
        assert len(run.pace.kept) <= KEPT
    assert run.pace.slow_since is not None
    assert run.pace.stride > 1


@given(seconds=st.floats(1e-6, 10.0), batches=st.lists(st.integers(1, 64), min_size=1, max_size=60))
def test_a_model_of_constant_speed_is_never_slow_whatever_its_batches(
    seconds: float, batches: list[int]
) -> None:
    """An execution takes as long for one request as for many, or so much longer: neither is slower computing."""
    flat = linear = learned(seconds)
    for batch in batches:
        flat = flat.over(1, WINDOW, batch, seconds)
        linear = linear.over(1, WINDOW, batch, seconds * batch)
        assert flat.pace.slow_since is None
        assert linear.pace.slow_since is None


@given(seconds=st.floats(1e-3, 1.0), batch=st.integers(1, 64), times=st.floats(SLOW + 1, 100.0))
def test_every_model_that_becomes_so_much_slower_is_slow(seconds: float, batch: int, times: float) -> None:
    """At any batch size."""
    assume(seconds / batch * times > seconds / batch + 2 * FLOOR_SECONDS)
    slow = learned(seconds, batch).over(13, WINDOW, batch, seconds * times)
    assert slow.pace.slow_seconds == 60.0


@given(
    scale=st.floats(1.0, 1000.0),
    factors=st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.5, 5.0, 12.0]), max_size=30),
)
def test_only_the_ratio_matters_above_the_floor(scale: float, factors: list[float]) -> None:
    """A model of a second is judged like one of ten milliseconds."""
    one, other = learned(0.01), learned(0.01 * scale)
    for factor in factors:
        one = one.over(1, WINDOW, 1, 0.01 * factor)
        other = other.over(1, WINDOW, 1, 0.01 * scale * factor)
        assert one.pace.slow_since == other.pace.slow_since
