"""Is a spike told from what is usual, and loading from serving, in a fixed space?"""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from probe.ledgers.levels import SLOT_LOOKS, SLOT_SECONDS, SPIKES_FROM, Level, Slot, Tops, risen
from tests.worlds import at

FIGURES = st.floats(0, 1e12, allow_nan=False)


def minutes(*figures: float, busy: bool = True, level: Level | None = None) -> Level:
    """A level after slots with these highest figures."""
    known = level or Level()
    for each in figures:
        known = known.serving(each).closed(busy=busy)
    return known


def steady(figures: Iterable[float]) -> float | None:
    """What slots of these figures come up to."""
    return minutes(*figures).steady(busy=True)


def test_nothing_seen_is_nothing_told() -> None:
    """No made-up zero."""
    assert Level().highest is None
    assert Level().steady(busy=True) is None
    assert Tops().steady is None
    assert Level().closed(busy=True) == Level()


def test_the_open_slot_counts_at_once() -> None:
    """A load run of less than a minute has its figure."""
    assert Level().serving(3.0).serving(2.0).steady(busy=True) == 3.0


@given(st.floats(0, 10), st.floats(1000, 1e9), st.integers(0, 40), st.integers(1, 2))
def test_a_spike_of_two_minutes_is_set_aside_once_there_are_enough(
    usual: float, spike: float, where: int, long: int
) -> None:
    """Wherever it lies; the highest of all still has it."""
    figures = [usual] * 41
    figures[where : where + long] = [spike] * len(figures[where : where + long])
    assert steady(figures) == usual
    assert minutes(*figures).highest == spike


def test_what_lasts_for_three_minutes_is_no_spike() -> None:
    """It counts whatever came before."""
    assert steady([1.0] * 100 + [9.0] * 3) == 9.0


def test_in_a_short_time_nothing_is_set_aside() -> None:
    """A minute of load after some of little is what there is to go by."""
    assert steady([1.0] * (SPIKES_FROM - 2) + [9.0]) == 9.0
    assert steady([1.0] * (SPIKES_FROM - 1) + [9.0]) == 1.0


def test_a_night_without_requests_does_not_make_a_spike_of_a_load_run() -> None:
    """Slots with requests are counted by themselves."""
    level = minutes(9.0, busy=True, level=minutes(*([1.0] * 500), busy=False))
    assert level.steady(busy=False) == 9.0


def test_a_spike_of_an_idle_minute_is_set_aside_while_its_slot_is_open() -> None:
    """The open slot is taken for what it is so far."""
    level = minutes(*([1.0] * 50), busy=False).serving(9.0)
    assert level.steady(busy=False) == 1.0
    assert level.steady(busy=True) == 9.0


def test_loading_is_kept_by_itself() -> None:
    """Its highest stays, and serving knows nothing of it."""
    level = minutes(1.0, 2.0).loading(8.0).loading(7.0)
    assert level.load == 8.0
    assert level.steady(busy=True) == 2.0
    assert level.highest == 8.0


@given(st.lists(st.tuples(st.booleans(), FIGURES), max_size=60))
def test_no_figure_is_above_the_highest_and_none_is_lost(told: list[tuple[bool, float]]) -> None:
    """The highest is that of all figures, and what serving comes up to is one of its own."""
    level = Level()
    for loading, figure in told:
        level = risen(level, figure, loading=loading).closed(busy=True)
    assert level.highest == max((figure for _, figure in told), default=None)
    served = [figure for loading, figure in told if not loading]
    steady = level.steady(busy=True)
    assert steady in served if served else steady is None


@given(st.lists(FIGURES, min_size=1, max_size=60))
def test_a_level_takes_the_same_space_for_ever(figures: list[float]) -> None:
    """Three figures of each kind."""
    assert len(minutes(*figures).busy.highest) <= 3


def test_a_look_without_the_figure_changes_nothing() -> None:
    """A missing sample."""
    level = minutes(1.0)
    assert risen(level, None, loading=True) is level


def test_a_slot_ends_after_its_time_with_enough_looks() -> None:
    """Neither alone will do; one look with requests makes it a busy one."""
    slot = Slot(at(0).mono)
    for _ in range(SLOT_LOOKS - 1):
        slot = slot.with_look(busy=False)
    assert not slot.over(at(SLOT_SECONDS))
    slot = slot.with_look(busy=True)
    assert not slot.over(at(SLOT_SECONDS - 1))
    assert slot.over(at(SLOT_SECONDS))
    assert slot.busy
