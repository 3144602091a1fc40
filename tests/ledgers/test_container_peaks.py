"""Is the container's highest use known: between looks, over loads, over containers that come and go?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.facts.container import ContainerReading, CpuUse, MemoryUse, OomCounts, ShmUse
from probe.ledgers.container_peaks import ContainerPeaks
from tests.worlds import GIB, MIB, at

PATH = "/kubepods/pod1/triton"


def look(
    seconds: float,
    working_set: int | None = None,
    *,
    cache: int = 0,
    peak: int | None = None,
    cpu: float | None = None,
    throttled: float | None = None,
    kills: int | None = None,
    shm: int | None = None,
    path: str = PATH,
) -> ContainerReading:
    """A look at the container at this second."""
    used = None if working_set is None else working_set + cache
    return ContainerReading(
        at(seconds),
        path=path,
        memory=MemoryUse(None, used, working_set, peak, kills),
        cpu=CpuUse(used_seconds=cpu, throttled_seconds=throttled),
        shm=None if shm is None else ShmUse(GIB, shm),
    )


def after(*looks: ContainerReading, loading: bool = False, busy: bool = True) -> ContainerPeaks:
    """The peaks after these looks."""
    peaks = ContainerPeaks()
    for each in looks:
        peaks = peaks.with_look(each, loading=loading, busy=busy)
    return peaks


def test_the_highest_working_set_and_use_of_shm_are_kept() -> None:
    """Whatever came after."""
    peaks = after(look(0, 100, shm=5), look(5, 300, shm=9), look(10, 200, shm=7))
    assert (peaks.memory.highest, peaks.shm.highest, peaks.life_bytes) == (300, 9, 300)


def test_a_look_at_nothing_changes_nothing() -> None:
    """No process, no permission: no figure, and no count that begins anew."""
    peaks = after(look(0, 100, kills=2))
    assert peaks.with_look(ContainerReading(at(5)), loading=False, busy=False) is peaks


def test_what_could_not_be_read_is_none() -> None:
    """Nothing is made of it."""
    peaks = after(look(0, cpu=1.0), look(5, cpu=2.0))
    assert (peaks.memory.highest, peaks.shm.highest, peaks.life_bytes) == (None, None, None)
    assert peaks.earlier_bytes is None


def test_memory_that_was_taken_between_two_looks_is_known_by_the_kernels_peak() -> None:
    """A load takes it for a moment; file cache that lay beside it is not counted."""
    peaks = after(
        look(0, 100 * MIB, cache=50 * MIB, peak=150 * MIB), look(5, 110 * MIB, cache=60 * MIB, peak=GIB)
    )
    assert peaks.memory.highest == GIB - 60 * MIB


def test_a_file_that_was_read_between_two_looks_is_no_memory_that_was_needed() -> None:
    """The peak rose by the cache that is there now."""
    peaks = after(
        look(0, 100 * MIB, peak=100 * MIB), look(5, 110 * MIB, cache=10 * GIB, peak=10 * GIB + 110 * MIB)
    )
    assert peaks.memory.highest == 110 * MIB


@pytest.mark.parametrize(
    "before",
    [
        look(0, 100, peak=None),
        look(0, None, peak=50),
        look(0, 100, peak=5000),
    ],
    ids=["no peak", "no working set", "no rise"],
)
def test_a_peak_that_can_not_be_laid_between_two_looks_is_not_counted(before: ContainerReading) -> None:
    """The working set that was read stands."""
    assert after(before, look(5, 200, peak=5000)).memory.highest == 200


def test_a_working_set_without_a_peak_is_taken_as_it_is() -> None:
    """Linux before 5.19 has none in version 2."""
    peaks = after(look(0, 100), look(5, 200))
    assert (peaks.memory.highest, peaks.witness_bytes, peaks.earlier_bytes) == (200, None, None)


def test_what_was_before_the_first_look_is_bounded_by_the_kernels_peak() -> None:
    """Less the file cache of now."""
    peaks = after(look(0, 100, cache=50, peak=900))
    assert (peaks.earlier_bytes, peaks.memory.highest, peaks.witness_bytes) == (850, 100, 900)


def test_cores_are_the_rate_between_two_looks() -> None:
    """Ten seconds of CPU in five."""
    peaks = after(look(0, 1, cpu=100.0), look(5, 1, cpu=110.0), look(10, 1, cpu=111.0))
    assert peaks.cores.highest == pytest.approx(2.0)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=20))
def test_a_count_that_falls_is_no_negative_rate(used: list[float]) -> None:
    """Another container under the same path."""
    peaks = after(*(look(5 * index, 1, cpu=each) for index, each in enumerate(used)))
    assert (peaks.cores.highest or 0.0) >= 0.0


@pytest.mark.parametrize("path", [PATH, "/kubepods/pod1/other"])
def test_a_container_that_is_made_anew_goes_on_from_its_own_counts(path: str) -> None:
    """Its kills are added, its CPU time is no rate, and the highest of all stays."""
    peaks = after(
        look(0, 500, peak=500, cpu=100.0, kills=1),
        look(5, 600, peak=600, cpu=101.0, kills=1),
        look(10, 50, peak=50, cpu=0.5, kills=0, path=path),
        look(15, 60, peak=60, cpu=1.0, kills=2, path=path),
    )
    assert (peaks.memory.highest, peaks.oom_kills) == (600, 3)
    assert peaks.cores.highest == pytest.approx(0.2)


def test_a_look_out_of_turn_gives_no_rate_and_is_no_sample() -> None:
    """An exit has the container read a moment after another look; its kills and its memory count."""
    peaks = after(
        look(0, 100, cpu=0.0, kills=0), look(0.1, 300, cpu=1.0, kills=1), look(5, 100, cpu=5.0, kills=1)
    )
    assert (peaks.memory.highest, peaks.oom_kills, peaks.looks) == (300, 1, 1)
    assert peaks.cores.highest == pytest.approx(1.0)


def test_a_look_out_of_turn_that_could_not_read_the_kills_forgets_none() -> None:
    """They are not counted twice."""
    peaks = after(look(0, 100, kills=2), look(0.1, 100), look(5, 100, kills=3))
    assert peaks.oom_kills == 3


def test_a_count_that_could_not_be_read_is_no_kill() -> None:
    """Nor are those that it hid."""
    assert after(look(0, 100), look(5, 100, kills=3), look(10, 100), look(15, 100, kills=4)).oom_kills == 0


def test_a_kill_that_the_kernel_told_is_counted_once() -> None:
    """By the event, and not by the next look again."""
    peaks = after(look(0, 100, kills=1))
    peaks = peaks.with_oom(OomCounts(at(1), "x", 3)).with_oom(OomCounts(at(2), "x", 3))
    assert peaks.oom_kills == 3
    assert peaks.with_look(look(5, 100, kills=3), loading=False, busy=True).oom_kills == 3


def test_a_kill_of_which_no_look_is_known_is_not_counted() -> None:
    """There is nothing to compare it with; the first look counts it."""
    assert ContainerPeaks().with_oom(OomCounts(at(1), "x", 3)) == ContainerPeaks()
    unread = after(look(0, 100))
    assert unread.with_oom(OomCounts(at(1), "x", 3)) is unread


def test_only_serving_is_watched_and_counted() -> None:
    """A look while a model loads fills no slot."""
    peaks = after(look(0, 100, cpu=0.0), look(5, 900, cpu=20.0), loading=True)
    assert (peaks.looks, peaks.watched_seconds, peaks.minutes) == (0, 0.0, (0, 0))
    assert (peaks.memory.load, peaks.cores.load) == (900, 4.0)


def test_minutes_are_counted_and_closed() -> None:
    """With requests and without, the open one too."""
    peaks = ContainerPeaks()
    for second in range(0, 200, 5):
        peaks = peaks.with_look(look(second, 100, cpu=float(second)), loading=False, busy=second < 50)
    assert peaks.minutes == (4, 1)
    assert (peaks.slots, peaks.busy_slots) == (3, 1)
    assert peaks.watched_seconds == 195.0
    assert (peaks.memory.busy.slots, peaks.memory.idle.slots, peaks.cores.busy.slots) == (1, 2, 1)
    assert not peaks.busy


def test_a_long_silence_is_not_watched() -> None:
    """A minute of it at most."""
    assert after(look(0, 100), look(3600, 100)).watched_seconds == 60.0


def test_throttling_counts_looks_and_not_while_models_load() -> None:
    """A twentieth of the time is the least."""
    served = (look(5 * each, 1, throttled=each * 0.3) for each in range(3))
    peaks = after(*served, look(15, 1, throttled=0.6), look(20, 1))
    assert (peaks.throttled_looks, peaks.rated_looks) == (2, 3)
    assert after(look(0, 1, throttled=0.0), look(5, 1, throttled=4.0), loading=True).throttled_looks == 0


def test_begun_anew_only_the_life_of_the_container_is_known() -> None:
    """Its counts go on from where they are."""
    peaks = after(look(0, 900, kills=4, cpu=0.0), look(5, 800, kills=4, cpu=1.0)).begun_anew()
    assert (peaks.memory.highest, peaks.life_bytes, peaks.oom_kills) == (None, 900, 0)
    peaks = peaks.with_look(look(10, 100, kills=4, cpu=6.0), loading=False, busy=True)
    assert (peaks.memory.highest, peaks.life_bytes, peaks.oom_kills) == (100, 900, 0)
    assert peaks.cores.highest == pytest.approx(1.0)


@given(
    st.lists(
        st.tuples(st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.integers(0, 1 << 40)), max_size=30
    )
)
def test_no_figure_is_below_a_working_set_or_above_the_kernels_peak(told: list[tuple[int, int, int]]) -> None:
    """Where the kernel's peak is what it says: never below what is in use."""
    peaks, top = ContainerPeaks(), 0
    for index, (working_set, cache, more) in enumerate(told):
        top = max(top, working_set + cache, more)
        peaks = peaks.with_look(look(5 * index, working_set, cache=cache, peak=top), loading=False, busy=True)
    assert (peaks.memory.highest or 0) >= max((each for each, _, _ in told), default=0)
    assert (peaks.memory.highest or 0) <= top
