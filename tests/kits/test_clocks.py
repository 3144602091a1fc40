"""The two clocks, read together."""

from __future__ import annotations

import time

from probe.kits.clocks import now


def test_now_is_the_monotonic_and_the_wall_clock() -> None:
    """Durations from the one, dates from the other."""
    before = time.monotonic(), time.time()
    found = now()
    assert before[0] <= found.mono <= time.monotonic()
    assert before[1] <= found.wall <= time.time()
