"""Is only steady growth called so?"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.ledgers.trends import APART, FEWEST, KEPT, Trend
from tests.worlds import at


def after(values: Iterable[float | None], every: float = APART) -> Trend:
    """A trend after looks at this distance."""
    trend = Trend()
    for index, value in enumerate(values):
        trend = trend.with_sample("c", at(index * every), value)
    return trend


def test_what_grows_at_one_pace_is_told_with_it() -> None:
    """A hundred bytes in ten seconds."""
    assert after(range(0, 100 * FEWEST, 100)).per_second == pytest.approx(10.0)


@pytest.mark.parametrize(
    "values",
    [
        [],
        list(range(FEWEST - 1)),
        [5] * FEWEST,
        [0, 1, 2, 3, 3, 4, 5],
        [0, 1, 2, 3, 2, 3, 4],
        [9, 8, 7, 6, 5, 4, 3],
        [0, 100, 200, 300, 301, 302, 303],
        [0, 1, 2, 3, 103, 203, 303],
    ],
)
def test_what_rests_falls_or_changes_its_pace_is_not_steady(values: list[float]) -> None:
    """A load that just ended, and one that just began, say nothing of what comes."""
    assert after(values).per_second is None


def test_looks_close_together_count_once() -> None:
    """Those that exits cause lengthen nothing."""
    assert after(range(70), every=1.0).samples == after(range(0, 70, 10)).samples


def test_a_missing_figure_changes_nothing_and_another_source_begins_anew() -> None:
    """Of another container nothing is known."""
    trend = after(range(FEWEST))
    assert trend.with_sample("c", at(500), None) is trend
    assert trend.with_sample("d", at(500), 7).samples == ((at(500).mono, 7),)


@given(st.lists(st.none() | st.floats(0, 1e15), max_size=60), st.floats(0.1, 100))
def test_a_pace_is_always_positive_and_little_is_kept(values: list[float | None], every: float) -> None:
    """Whatever the figures do."""
    trend = after(values, every)
    assert len(trend.samples) <= KEPT
    assert trend.per_second is None or trend.per_second > 0
