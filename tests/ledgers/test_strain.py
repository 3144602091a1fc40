"""What the ledger of strain makes of looks at a container: how full, how throttled, what was refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.facts.container import ContainerReading, CpuUse, Limit, MemoryUse, PidsUse
from probe.ledgers.strain import PERIODS, REFUSED_FOR, StrainLedger
from probe.ledgers.windows import FORGOTTEN
from tests.worlds import at, python_model, server, serving

LIMIT = Limit(1000.0, "/c/limit")
CORES = Limit(2.0, "/c/cpu.max")


def memory(
    second: float, used: int | None, limit: Limit | None = LIMIT, active: int | None = None
) -> ContainerReading:
    """A look that shows this working set."""
    return ContainerReading(
        at(second), path="/c", memory=MemoryUse(limit, working_set_bytes=used, active_file_bytes=active)
    )


def cpu(second: float, limit: Limit | None = CORES, path: str = "/c", **counters: float) -> ContainerReading:
    """A look that shows these counters."""
    return ContainerReading(at(second), path=path, cpu=CpuUse(limit, **counters))  # type: ignore[arg-type]


def pids(second: float, refused: int | None, path: str = "/c") -> ContainerReading:
    """A look that shows so many refused forks."""
    return ContainerReading(at(second), path=path, pids=PidsUse(LIMIT, 5, refused))


def after(*readings: ContainerReading) -> StrainLedger:
    """A ledger after these looks."""
    ledger = StrainLedger()
    for each in readings:
        ledger = ledger.with_reading(each)
    return ledger


def near(ledger: StrainLedger) -> bool:
    """Whether memory is near its limit."""
    return ledger.memory is not None and ledger.memory.since is not None


def throttled(ledger: StrainLedger) -> bool:
    """Whether the CPU limit holds it back much."""
    return ledger.throttling is not None and ledger.throttling.since is not None


# How full


@pytest.mark.parametrize(
    ("used", "expected"), [(899, False), (900, True), (1000, True), (2000, True), (0, False)]
)
def test_one_look_tells_that_memory_is_near_its_limit(used: int, expected: bool) -> None:  # noqa: FBT001
    """From nine tenths on."""
    assert near(after(memory(0, used))) is expected


def test_what_is_near_stays_so_until_it_is_clearly_below() -> None:
    """Use that swings around nine tenths is one finding; ``since`` is when it came."""
    ledger = after(memory(0, 900), memory(5, 870), memory(10, 850))
    assert ledger.memory is not None
    assert (ledger.memory.since, ledger.memory.observed) == (at(0), at(10))
    assert not near(ledger.with_reading(memory(15, 849)))
    assert not near(after(memory(0, 849), memory(5, 870)))


def test_another_limit_is_another_question() -> None:
    """A limit that was raised in place asks for nine tenths of the new one."""
    ledger = after(memory(0, 900), memory(5, 900, Limit(1050.0, "/c/limit")))
    assert not near(ledger)
    assert ledger.with_reading(memory(10, 900, Limit(None, "/c/limit"))).memory is None
    assert near(after(memory(0, 7, Limit(0.0, "/c/limit"))))


def test_file_cache_is_no_pressure() -> None:
    """Neither what the working set leaves out nor what was used lately: the kernel drops both first."""
    ledger = after(memory(0, 980, active=700))
    assert ledger.memory is not None
    assert (ledger.memory.used, near(ledger)) == (280, False)
    ledger = after(memory(0, 5, active=9))
    assert ledger.memory is not None
    assert ledger.memory.used == 0


def test_a_missing_figure_neither_raises_nor_clears() -> None:
    """For a minute; then it is not known any more."""
    ledger = after(memory(0, 950))
    for missing in (memory(5, None), memory(5, 10, None), ContainerReading(at(5))):
        assert ledger.with_reading(missing).memory == ledger.memory
    assert ledger.with_reading(memory(FORGOTTEN + 1, None)).memory is None
    assert StrainLedger().with_reading(memory(0, None)).memory is None


# Throttled


def test_throttling_is_told_of_a_window_and_not_of_a_look() -> None:
    """However much the first looks show: what was counted before is of another time."""
    first = cpu(0, periods=10_000, throttled_periods=9_000, used_seconds=1000.0, stall_seconds=4.0)
    ledger = after(first)
    assert (ledger.throttling, ledger.cores, ledger.cpu_stall, ledger.held_back) == (None, None, None, None)
    ledger = ledger.with_reading(
        cpu(15, periods=10_150, throttled_periods=9_075, used_seconds=1029.7, stall_seconds=7.0)
    )
    told = ledger.throttling
    assert told is not None
    assert (told.share, told.periods, told.throttled, told.since) == (0.5, 150, 75, at(15))
    assert ledger.cores == pytest.approx(1.98)
    assert ledger.cpu_stall == pytest.approx(0.2)
    assert ledger.held_back is None


@pytest.mark.parametrize(
    ("periods", "cut", "expected"),
    [
        (100, 24, False),
        (100, 25, True),
        (PERIODS - 1, PERIODS - 1, False),
        (PERIODS, PERIODS, True),
        (0, 0, False),
    ],
)
def test_a_quarter_of_enough_periods_is_much(periods: int, cut: int, expected: bool) -> None:  # noqa: FBT001
    """A container that hardly ran was hardly held back."""
    ledger = after(
        cpu(0, periods=5, throttled_periods=5), cpu(15, periods=5 + periods, throttled_periods=5 + cut)
    )
    assert throttled(ledger) is expected


def test_throttling_that_lessens_is_let_go_of_at_a_lower_share() -> None:
    """Fifteen in a hundred, not just below a quarter."""
    ledger = after(
        cpu(0, periods=0, throttled_periods=0),
        cpu(20, periods=100, throttled_periods=50),
        cpu(40, periods=200, throttled_periods=65),
    )
    assert ledger.throttling is not None
    assert ledger.throttling.since == at(20)
    assert not throttled(ledger.with_reading(cpu(60, periods=300, throttled_periods=79)))


def test_a_reset_another_limit_or_another_cgroup_tells_no_rate() -> None:
    """A new container's counters, and a limit that was changed in place, begin anew."""
    ledger = after(cpu(0, periods=0, throttled_periods=0), cpu(15, periods=100, throttled_periods=90))
    assert throttled(ledger)
    assert ledger.with_reading(cpu(30, periods=5, throttled_periods=5)).throttling is None
    assert (
        ledger.with_reading(cpu(30, Limit(4.0, "/c/cpu.max"), periods=200, throttled_periods=190)).throttling
        is None
    )
    assert ledger.with_reading(cpu(30, path="/d", periods=200, throttled_periods=190)).throttling is None
    assert throttled(ledger.with_reading(cpu(30, periods=200, throttled_periods=190)))


def test_a_look_without_cpu_figures_changes_nothing_for_a_minute() -> None:
    """Neither raised nor cleared; then forgotten."""
    ledger = after(cpu(0, periods=0, throttled_periods=0), cpu(15, periods=100, throttled_periods=90))
    assert ledger.with_reading(cpu(20, None)).throttling == ledger.throttling
    assert ledger.with_reading(cpu(16 + FORGOTTEN, None)).throttling is None


def test_periods_that_can_not_be_read_leave_what_is_known_for_a_minute() -> None:
    """While other counters of the CPU go on."""
    ledger = after(
        cpu(0, used_seconds=0.0, periods=0, throttled_periods=0),
        cpu(15, used_seconds=15.0, periods=100, throttled_periods=90),
    )
    assert throttled(ledger.with_reading(cpu(30, used_seconds=30.0)))
    assert ledger.with_reading(cpu(76, used_seconds=76.0)).throttling is None
    assert after(cpu(0, used_seconds=0.0), cpu(15, used_seconds=9.0)).throttling is None


@pytest.mark.parametrize(
    ("cores", "seconds", "share"), [(2.0, 15.0, 0.5), (0.5, 7.5, 0.5), (1.0, 90.0, 1.0), (4.0, 0.0, 0.0)]
)
def test_without_periods_the_throttled_time_is_laid_against_the_limit(
    cores: float, seconds: float, share: float
) -> None:
    """It is a sum over CPUs, so that it is divided by as many as the limit allows."""
    limit = Limit(cores, "/c/cpu.max")
    told = after(
        cpu(0, limit, throttled_seconds=3.0), cpu(15, limit, throttled_seconds=3.0 + seconds)
    ).throttling
    assert told is not None
    assert told.share == pytest.approx(share)
    assert (told.periods, told.throttled) == (None, None)
    assert (told.since is not None) == (share >= 0.25)


def test_without_periods_and_without_a_limit_nothing_is_told() -> None:
    """There is nothing to lay the time against."""
    for limit in (None, Limit(None, "/c/cpu.max")):
        assert (
            after(cpu(0, limit, throttled_seconds=3.0), cpu(15, limit, throttled_seconds=30.0)).throttling
            is None
        )


# Stalled


def stalls(second: float, seconds: float | None, limit: Limit | None = None) -> ContainerReading:
    """A look that shows so many seconds of stalls for memory."""
    return ContainerReading(at(second), path="/c", memory=MemoryUse(limit, stall_seconds=seconds))


def test_a_tenth_of_the_time_in_stalls_is_much_and_a_twentieth_is_not() -> None:
    """It is told of a window, with or without a limit, and let go of at half of what raises it."""
    ledger = after(stalls(0, 100.0))
    assert ledger.stall is None
    ledger = ledger.with_reading(stalls(20, 102.0))
    assert ledger.stall is not None
    assert ledger.stall.share == pytest.approx(0.1)
    assert ledger.stall.since == at(20)
    ledger = ledger.with_reading(stalls(40, 103.2))
    assert ledger.stall is not None
    assert ledger.stall.since == at(20)
    ledger = ledger.with_reading(stalls(60, 104.0))
    assert ledger.stall is not None
    assert ledger.stall.since is None
    assert ledger.with_reading(stalls(70, 1.0)).stall is None


# Refused


def test_a_refused_fork_is_told_for_some_minutes() -> None:
    """From the look that showed the count rise; what was counted before the first look is of no known time."""
    ledger = after(pids(0, 7))
    assert ledger.refused_lately(at(1)) is None
    ledger = ledger.with_reading(pids(5, 9)).with_reading(pids(10, 9)).with_reading(pids(15, 12))
    told = ledger.refused_lately(at(20))
    assert told is not None
    assert (told.count, told.lately, told.at) == (12, 5, at(15))
    assert ledger.refused_lately(at(15 + REFUSED_FOR)) is not None
    assert ledger.refused_lately(at(16 + REFUSED_FOR)) is None
    again = ledger.with_reading(pids(16 + REFUSED_FOR, 13)).refused_lately(at(16 + REFUSED_FOR))
    assert again is not None
    assert again.lately == 1


def test_another_container_s_count_is_no_refusal() -> None:
    """A path that changed, or a count that fell, begins anew; a missing one changes nothing."""
    ledger = after(pids(0, 7))
    assert ledger.with_reading(pids(5, 9, "/d")).refused_lately(at(6)) is None
    assert ledger.with_reading(pids(5, 2)).refused_lately(at(6)) is None
    missing = ledger.with_reading(pids(5, None))
    assert missing.refusals == ledger.refusals
    assert missing.with_reading(pids(10, 8)).refused_lately(at(11)) is not None


# Whose container


def test_a_new_tritonserver_begins_with_nothing() -> None:
    """Its container may be another one."""
    seen = serving(python_model("m")).contained(pids=PidsUse(LIMIT, 95, 3))
    assert seen.book.strain != StrainLedger()
    assert seen.having(server=server(pid=6)).scans().book.strain == StrainLedger()


# Whatever comes

_COUNT = st.none() | st.integers(0, 1 << 62)
_SECONDS = st.none() | st.floats(0, 1e12)
_LIMIT = st.none() | st.builds(Limit, st.none() | st.floats(0, 1e20), st.sampled_from(("/a", "/b")))
_READING = st.builds(
    ContainerReading,
    observed=st.just(at(0)),
    path=st.sampled_from(("", "/c", "/d")),
    memory=st.builds(
        MemoryUse, limit=_LIMIT, working_set_bytes=_COUNT, active_file_bytes=_COUNT, stall_seconds=_SECONDS
    ),
    cpu=st.builds(
        CpuUse,
        limit=_LIMIT,
        used_seconds=_SECONDS,
        throttled_seconds=_SECONDS,
        periods=_COUNT,
        throttled_periods=_COUNT,
        stall_seconds=_SECONDS,
    ),
    pids=st.builds(PidsUse, limit=_LIMIT, used=_COUNT, refused=_COUNT),
)


@given(st.lists(st.tuples(st.floats(0, 40), _READING), max_size=40))
def test_no_story_gives_a_share_that_can_not_be(looks: list[tuple[float, ContainerReading]]) -> None:
    """Shares of time and of periods lie between nothing and all; nothing is negative; little is kept."""
    ledger, second = StrainLedger(), 0.0
    for passed, reading in looks:
        second += passed
        ledger = ledger.with_reading(msgspec.structs.replace(reading, observed=at(second)))
        for told in (ledger.throttling, ledger.stall):
            assert told is None or 0.0 <= told.share <= 1.0
        assert ledger.cores is None or ledger.cores >= 0
        assert ledger.cpu_stall is None or 0 <= ledger.cpu_stall <= 1
        for fill in (ledger.memory, ledger.pids):
            assert fill is None or (fill.share >= 0 and fill.limit.value is not None)
        refusals = ledger.refused_lately(at(second))
        assert refusals is None or refusals.lately > 0


@given(st.lists(st.tuples(st.floats(1, 30), st.integers(0, 1)), min_size=1, max_size=60))
def test_a_container_that_is_never_throttled_is_never_called_so(steps: list[tuple[float, int]]) -> None:
    """Through any number of new containers, each of which counts from zero."""
    ledger, second, periods = StrainLedger(), 0.0, 0
    for passed, renewed in steps:
        second += passed
        periods = 0 if renewed else periods + int(passed * 10)
        ledger = ledger.with_reading(cpu(second, periods=periods, throttled_periods=0, throttled_seconds=0.0))
        assert not throttled(ledger)
