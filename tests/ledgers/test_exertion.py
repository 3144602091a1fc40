"""Is what tritonserver exerts laid to a model only while it alone executed, and only in windows that are covered?"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.facts.models import ModelState
from probe.facts.nvml import GpuBusy, NvmlState
from probe.ledgers.exertion import LONGEST_SPAN
from probe.ledgers.tallies import IDLE_SECONDS, Idle, Use
from tests.insiders import Story, inside, onnx
from tests.worlds import SERVER_PID, entry, key, server

SERVED = inside("m", "n")
"""A Triton that has served two models for a while."""


def uses(story: Story, name: str = "m") -> dict[str, Use]:
    """The GPUs that a model was seen to use."""
    return story.world.book.exertion.uses(key(name))


def idle(story: Story, name: str = "m") -> Idle | None:
    """What is known of its executions without a GPU."""
    return story.world.book.exertion.idle.get(key(name))


# A GPU


def test_a_gpu_that_is_busy_while_one_model_alone_executes_is_that_models() -> None:
    """With how long it was busy; another GPU, that was idle, is not."""
    story = SERVED.holds(b=0).goes(40, {"m": 0.5}, busy={"GPU-a": 40.0})
    assert list(uses(story)) == ["GPU-a"]
    use = uses(story)["GPU-a"]
    assert use.percent == pytest.approx(40.0)
    assert use.seconds == pytest.approx(use.windows * 5.0)
    assert use.last.mono - use.first.mono == pytest.approx(use.seconds)
    assert uses(story, "n") == {}
    assert idle(story) is None


def test_one_window_is_not_enough() -> None:
    """What runs and has not ended is counted nowhere yet: it may be another's work."""
    story = SERVED.goes(4, {"m": 0.5}, busy={"GPU-a": 40.0}).goes(10)
    assert story.world.book.exertion.used[key("m")]["GPU-a"].windows == 1
    assert uses(story) == {}
    assert list(uses(story.goes(5, {"m": 0.5}, busy={"GPU-a": 40.0}).goes(10))) == ["GPU-a"]


@pytest.mark.parametrize(
    ("runs", "busy"),
    [
        ({"m": 0.5}, 4.0),
        ({"m": 0.01}, 40.0),
        ({"m": 0.9}, 5.0),
        ({"m": 0.5, "n": 0.1}, 40.0),
        ({}, 40.0),
    ],
    ids=["hardly busy", "hardly executed", "busy for little of it", "two executed", "nobody executed"],
)
def test_a_busy_gpu_proves_nothing_else(runs: dict[str, float], busy: float) -> None:
    """Copies of inputs, a neighbour's rest, another's execution."""
    story = SERVED.goes(60, runs, busy={"GPU-a": busy})
    assert (uses(story), uses(story, "n")) == ({}, {})


def test_a_share_above_a_hundred_is_garbage_and_counts_as_all() -> None:
    """Drivers tell more than there is at times."""
    story = SERVED.goes(40, {"m": 0.5}, busy={"GPU-a": 250.0})
    assert uses(story)["GPU-a"].percent == pytest.approx(100.0)
    more = SERVED.goes(30, {"m": 0.5}, busy={"GPU-a": 40.0}).goes(30, {"m": 0.5}, busy={"GPU-a": 80.0})
    assert 55.0 < uses(more)["GPU-a"].percent < 65.0


def test_a_model_that_is_loading_may_be_who_keeps_it_busy() -> None:
    """An engine is built on the GPU."""
    story = SERVED
    for second in range(40):
        index = (entry("m", ModelState.READY), entry("x", ModelState.LOADING))
        world = story.world.asks(index=index) if second % 5 == 0 else story.world
        story = story.but(world).goes(1, {"m": 0.5}, busy={"GPU-a": 40.0})
    assert uses(story) == {}
    assert uses(SERVED.loads(onnx("x")).goes(9, {"m": 0.5}, busy={"GPU-a": 40.0})) == {}


def test_a_long_execution_takes_back_what_was_laid_to_others_meanwhile() -> None:
    """It shows only when it ends, and it ran all the time."""
    story = SERVED.goes(40, {"m": 0.5}, busy={"GPU-a": 40.0})
    assert uses(story)
    ended = story.rated(0.02).goes(1, {"n": 50.0}).goes(5)
    assert ended.world.record("n").exercised_since is not None
    assert uses(ended) == {}
    short = story.rated(0.5).goes(1, {"n": 4.0}).goes(5)
    assert uses(short)


def test_a_long_execution_of_its_own_is_told_of_no_window() -> None:
    """It may have used the GPU before the window, or after."""
    story = SERVED.rated(0.1)
    for _ in range(4):
        story = story.goes(9, busy={"GPU-a": 40.0}).goes(1, {"m": 10.0}, busy={"GPU-a": 40.0})
    assert uses(story) == {}


# The CPU


def test_an_idle_gpu_and_cpu_time_of_one_models_executions_prove_the_cpu() -> None:
    """Over several windows, with ten seconds of execution in sum."""
    story = SERVED.goes(60, {"m": 0.5}, cores=0.5)
    told = idle(story)
    assert told is not None
    assert told.proven
    assert told.seconds >= IDLE_SECONDS
    assert told.cpu_seconds == pytest.approx(told.seconds, rel=0.1)
    assert told.last.mono - told.first.mono == pytest.approx(5.0 * told.windows)
    assert uses(story) == {}


def test_a_few_seconds_prove_nothing() -> None:
    """Neither in many windows nor in one."""
    short = idle(SERVED.goes(18, {"m": 0.5}, cores=0.5).goes(10))
    assert short is not None
    assert not short.proven
    much = idle(SERVED.goes(4, {"m": 4.0}, cores=4.0).goes(10))
    assert much is not None
    assert much.seconds > IDLE_SECONDS
    assert much.windows < 3
    assert not much.proven


def test_a_busy_gpu_takes_back_what_was_concluded() -> None:
    """What is said must hold for all that it does."""
    story = SERVED.goes(60, {"m": 0.5}, cores=0.5)
    assert idle(story)
    used = story.goes(20, {"m": 0.5}, cores=0.5, busy={"GPU-a": 1.0})
    assert idle(used) is None
    others = story.goes(20, {"n": 0.5}, cores=0.5, busy={"GPU-a": 40.0})
    assert idle(others) == idle(story)


LESS: dict[str, Callable[[Story], Story]] = {
    "no CPU time": lambda story: story.goes(60, {"m": 0.5}, cores=0.1),
    "two execute": lambda story: story.goes(60, {"m": 0.5, "n": 0.5}, cores=1.0),
    "hardly executes": lambda story: story.goes(60, {"m": 0.05}, cores=0.5),
    "not told": lambda story: story.goes(60, {"m": 0.5}, cores=0.5, busy_by=None),
    "a stranger is busy": lambda story: story.goes(60, {"m": 0.5}, cores=0.5, busy_by=(GpuBusy(9, 50.0),)),
    "never looked": lambda story: story.goes(60, {"m": 0.5}, cores=0.5, looking=False),
    "another GPU is busy": lambda story: story.holds(b=0).goes(
        60, {"m": 0.5}, cores=0.5, busy={"GPU-b": 1.0}
    ),
    "another GPU has no list": lambda story: story.goes(60, {"m": 0.5}, cores=0.5, listless=True),
    "long executions": lambda story: story.rated(0.1).goes(120, {"m": 1.0}, cores=1.0),
}


@pytest.mark.parametrize("how", LESS)
def test_anything_less_proves_nothing(how: str) -> None:
    """Each alone would be a false word against a model."""
    story = LESS[how](SERVED)
    told = idle(story)
    assert told is None or not told.proven
    assert idle(story, "n") is None


def test_a_look_that_fails_leaves_a_gap() -> None:
    """Windows that touch it are not counted; later ones are."""
    whole = idle(SERVED.goes(60, {"m": 0.5}, cores=0.5))
    broken = SERVED.goes(25, {"m": 0.5}, cores=0.5)
    broken = broken.but(broken.world.looks(state=NvmlState.ERROR)).goes(35, {"m": 0.5}, cores=0.5)
    assert whole is not None
    told = idle(broken)
    assert told is not None
    assert told.windows < whole.windows


def test_looks_that_are_far_apart_tell_nothing() -> None:
    """The driver keeps its samples for some seconds only."""
    story = SERVED
    for _ in range(10):
        story = story.goes(int(LONGEST_SPAN) + 2, {"m": 0.5}, cores=0.5, looking=False)
        story = story.but(story.told().looks(*story.gpus({})))
    assert story.world.book.exertion.spans[-1].ended.mono < story.world.now.mono - 100
    assert idle(story) is None


def test_a_look_that_is_told_late_is_judged_by_when_it_was_made() -> None:
    """NVML may take seconds to answer; polls of later moments say nothing of it."""
    story = SERVED.goes(13, {"m": 0.5})
    late = story.told().looks(*story.gpus({"GPU-a": 40.0})).book
    began = late.exertion.spans[-1].ended
    world = msgspec.structs.replace(story.world, now=began.shifted(0.5)).polls()
    world = msgspec.structs.replace(world, now=began.shifted(1.0)).having(rows=story.told().rows).polls()
    world = world.with_row(story.goes(2, {"n": 0.5}).row("n")).polls()
    told = msgspec.structs.replace(world, now=began).looks(*story.gpus({"GPU-a": 40.0})).book.exertion
    assert told.used[key("m")]["GPU-a"].last == began


def test_without_processes_nothing_is_judged() -> None:
    """The CPU time is not known; neither where a scan is missing in the middle."""
    story = SERVED
    for _ in range(12):
        story = story.goes(5, {"m": 0.5}, cores=0.5, scanning=False)
    assert idle(story) is None
    assert idle(story.goes(20)) is None


def test_a_scan_of_the_same_moment_is_not_counted_twice() -> None:
    """Nor one that was overtaken."""
    before = SERVED.world.book
    again = SERVED.world.scans().book
    stale = again.with_processes(before.processes) if before.processes is not None else again
    assert stale.exertion.scans == again.exertion.scans
    assert len(again.exertion.scans) == len(before.exertion.scans) + 1


def test_a_load_begins_anew() -> None:
    """Another load may be another model; what is unloaded leaves nothing."""
    story = SERVED.goes(40, {"m": 0.5}, cores=0.5).goes(40, {"n": 0.5}, busy={"GPU-a": 40.0})
    assert idle(story)
    assert uses(story, "n")
    again = story.loads(onnx("m"), onnx("n")).goes(20)
    assert (idle(again), uses(again, "n")) == (None, {})
    gone = story.unloads("m").goes(20)
    assert idle(gone) is None
    assert uses(gone, "n")
    new = story.but(story.world.having(server=server(start=99)).scans())
    assert (new.world.book.exertion.idle, new.world.book.exertion.stretches) == ({}, ())
    assert len(new.world.book.exertion.scans) == 1


# Whatever happens

WINDOWS = st.lists(
    st.tuples(
        st.sampled_from([{"m": 0.5}, {"n": 0.5}, {"m": 0.5, "n": 0.5}, {}, {"m": 0.02}]),
        st.sampled_from([0.0, 0.5, 3.0]),
        st.sampled_from([0.0, 3.0, 60.0]),
        st.integers(1, 30),
    ),
    max_size=6,
)


@given(windows=WINDOWS)
def test_two_models_that_execute_in_the_same_windows_are_never_told_apart(
    windows: list[tuple[dict[str, float], float, float, int]],
) -> None:
    """Whatever the GPU and the CPU do, in whatever order: only what one did alone is told of it."""
    story = SERVED
    alone: set[str] = set()
    for runs, cores, percent, seconds in windows:
        alone |= set(runs) if len(runs) == 1 else set()
        story = story.goes(seconds, runs, cores=cores, busy={"GPU-a": percent} if percent else {})
    for name in ("m", "n"):
        if name not in alone:
            assert (uses(story, name), idle(story, name)) == ({}, None)
    together = SERVED.goes(60, {"m": 0.5, "n": 0.3}, cores=1.0, busy={"GPU-a": 50.0})
    assert together.world.book.exertion.used == {}


@given(windows=WINDOWS)
def test_the_cpu_is_proven_of_no_model_that_kept_a_gpu_busy_alone(
    windows: list[tuple[dict[str, float], float, float, int]],
) -> None:
    """In whatever order its windows came, once one of them was long enough to show it."""
    story = SERVED
    for runs, cores, percent, seconds in windows:
        story = story.goes(seconds, runs, cores=cores, busy={"GPU-a": percent} if percent else {})
    story = story.goes(30).goes(30, {"m": 0.5}, cores=1.0, busy={"GPU-a": 60.0}).goes(10)
    told = idle(story)
    assert told is None or not told.proven
    assert "GPU-a" in uses(story)


def test_a_pid_that_is_not_tritonservers_is_nobody() -> None:
    """Its stubs have processes of their own, and figures of their own."""
    other = SERVED.goes(60, {"m": 0.5}, busy_by=(GpuBusy(SERVER_PID + 1, 50.0),))
    assert uses(other) == {}
