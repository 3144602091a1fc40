"""Are rises told of whole windows only, and never across what began anew?"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from probe.ledgers.windows import APART, FORGOTTEN, SECONDS, Figures, Window
from tests.worlds import at


def after(*looks: tuple[float, Figures], source: object = "c") -> Window:
    """A window after looks at these seconds."""
    window = Window()
    for second, figures in looks:
        window = window.with_sample(source, at(second), figures)
    return window


def test_the_shortest_time_that_makes_a_window_is_told() -> None:
    """From the newest look that is long enough ago, so that what is over is soon forgotten."""
    window = after((0, (0.0, 0.0)), (5, (1.0, 0.0)), (10, (3.0, 0.0)), (15, (6.0, 2.0)), (20, (10.0, 3.0)))
    rise = window.rise
    assert rise is not None
    assert (rise.began, rise.ended, rise.seconds) == (at(5), at(20), 15.0)
    assert rise.figures == (9.0, 3.0)
    assert rise.share(1) == 0.2
    assert len(window.samples) == 4


def test_before_a_window_has_passed_nothing_is_told() -> None:
    """One look has no rate, and two looks a second apart have none that means anything."""
    assert Window().rise is None
    assert after((0, (1.0,))).rise is None
    assert after((0, (1.0,)), (14.9, (9.0,))).rise is None


def test_a_look_that_is_late_makes_a_longer_window() -> None:
    """The rise is of all the time between, whatever was missed."""
    rise = after((0, (0.0,)), (90, (45.0,))).rise
    assert rise is not None
    assert (rise.seconds, rise.share(0)) == (90.0, 0.5)


def test_a_share_is_never_above_one() -> None:
    """Clocks of the kernel and ours are read one after the other."""
    rise = after((0, (0.0,)), (15, (15.2,))).rise
    assert rise is not None
    assert rise.share(0) == 1.0


def test_what_falls_or_counts_something_else_begins_anew() -> None:
    """A new container under the same path counts from zero, another path or limit is another thing."""
    counted = ((0.0, (5.0, 1.0)), (20.0, (9.0, 2.0)))
    assert after(*counted).rise is not None
    assert after(*counted, (25, (8.9, 3.0))).rise is None
    assert after(*counted).with_sample("other", at(25), (10.0, 3.0)).rise is None


def test_a_figure_that_was_missing_between_is_no_rise_from_nothing() -> None:
    """Where one end is not known, the rise is not; and a fall is seen across the gap."""
    gap = after((0, (5.0, 1.0)), (20, (9.0, None)))
    assert gap.rise is not None
    assert gap.rise.figures == (4.0, None)
    assert gap.rise.share(1) is None
    assert gap.with_sample("c", at(25), (9.5, 0.5)).rise is None


def test_a_look_that_brought_nothing_changes_nothing_for_a_while() -> None:
    """Then what was read is too old to measure from."""
    window = after((0, (5.0, 1.0)), (20, (9.0, 2.0)))
    assert window.with_sample("", at(25), (None, None)) is window
    assert window.with_sample("", at(20 + FORGOTTEN), (None, None)) is window
    assert window.with_sample("", at(20.1 + FORGOTTEN), (None, None)) == Window()
    assert Window().with_sample("", at(0), (None,)) == Window()


def test_a_look_out_of_turn_is_passed_over() -> None:
    """An exit's own look may come back after a later one."""
    window = after((0, (5.0,)), (20, (9.0,)))
    assert window.with_sample("c", at(20), (10.0,)) is window
    assert window.with_sample("c", at(19), (1.0,)) is window


_FIGURE = st.none() | st.integers(0, 100).map(float)
_LOOK = st.tuples(
    st.floats(-1, 40) | st.floats(0, 0.5), st.sampled_from(("c", "d")), st.tuples(_FIGURE, _FIGURE)
)


@given(st.lists(_LOOK, max_size=120))
def test_whatever_comes_no_rise_is_negative_and_little_is_kept(
    looks: list[tuple[float, str, Figures]],
) -> None:
    """Samples are in order, apart, few, and of one source; a rise is of a whole window."""
    window, second = Window(), 0.0
    for passed, source, figures in looks:
        second += passed
        window = window.with_sample(source, at(second), figures)
        times = [each.observed.mono for each in window.samples]
        assert times == sorted(set(times))
        assert all(now - then >= APART for then, now in pairwise(times[:-1]))
        assert len(times) <= SECONDS / APART + 3
        rise = window.rise
        if rise is not None:
            assert rise.seconds >= SECONDS
            assert all(each is None or each >= 0 for each in rise.figures)


@given(st.lists(st.floats(0.1, 30), min_size=2, max_size=60), st.floats(0, 1))
def test_a_steady_rate_is_told_as_it_is(passed: list[float], rate: float) -> None:
    """At any pace of looks."""
    window, second = Window(), 0.0
    for each in passed:
        second += each
        window = window.with_sample("c", at(second), (rate * second,))
    rise = window.rise
    if rise is None:
        assert second - passed[0] < SECONDS + 1e-6
    else:
        share = rise.share(0)
        assert share is not None
        assert abs(share - rate) < 1e-6
