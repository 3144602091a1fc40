"""Does the CPU check tell a missing limit from one look, and throttling from a window of looks alone?"""

from __future__ import annotations

import pytest

from probe.checks.container.cpu import judge
from probe.facts.container import CpuUse, Limit
from tests.worlds import World, serving

FILE = "/sys/fs/cgroup/cpu.max"
TWO = Limit(2.0, FILE)


def throttled(
    limit: Limit | None = TWO, *, counted: bool = True, seconds: bool = True, passed: float = 19.0
) -> World:
    """Two looks between which the limit cut 80 of 100 periods short."""
    world = serving()
    for index in (0, 1):
        use = CpuUse(
            limit,
            used_seconds=10.0 + 39.0 * index if seconds else None,
            throttled_seconds=4.0 + 16.0 * index,
            periods=500 + 100 * index if counted else None,
            throttled_periods=400 + 80 * index if counted else None,
            weight=79,
            stall_seconds=1.0 + 5.0 * index if seconds else None,
        )
        world = world.contained(cpu=use).later(passed * (1 - index))
    return world


def test_throttling_is_told_with_limit_use_and_a_line() -> None:
    """How often, over how long, how much it used, from what to what the limit is to be raised."""
    claim = throttled().only("CpuThrottled", judge)
    assert claim.message == (
        "The CPU limit of 2 cores held Triton's container back in 80 of 100 periods (80%) within the last 20 s; it "
        "used 1.95 cores, and for 25% of the time some task waited for a CPU."
    )
    assert "from 2 to 4: resources: {limits: {cpu: 4}}" in claim.remedy
    assert "OMP_NUM_THREADS" in claim.remedy
    assert claim.evidence == {
        "limit_cores": 2.0,
        "limit_file": FILE,
        "used_cores": 1.95,
        "throttled_share": 0.8,
        "periods": 100,
        "throttled_periods": 80,
        "throttled_seconds": 16.0,
        "cpu_stall_share": 0.25,
        "window_seconds": 20.0,
    }


def test_what_can_not_be_read_is_left_out() -> None:
    """Neither cores nor stalls, and no limit: the periods are cut short all the same."""
    claim = throttled(None, seconds=False).only("CpuThrottled", judge)
    assert claim.message == (
        "The CPU limit held Triton's container back in 80 of 100 periods (80%) within the last 20 s."
    )
    assert claim.remedy.startswith("Raise resources.limits.cpu of Triton's container")
    assert {"limit_cores", "used_cores", "cpu_stall_share"}.isdisjoint(claim.evidence)


def test_without_periods_the_time_is_told() -> None:
    """16 s of 20, on two CPUs."""
    claim = throttled(counted=False).only("CpuThrottled", judge)
    assert "for 40% of the time within the last 20 s" in claim.message
    assert "periods" not in claim.evidence


@pytest.mark.parametrize("passed", [0.0, 10.0])
def test_one_look_or_too_short_a_time_tells_no_throttling(passed: float) -> None:
    """As doctor looks: whatever the counters stand at."""
    assert throttled(passed=passed).reasons(judge) == []


def test_no_limit_is_told_from_one_look() -> None:
    """It is worth knowing and nothing to mend; what was throttled before it was removed is over."""
    no_limit = CpuUse(Limit(None, FILE), weight=39)
    claim = serving().contained(cpu=no_limit).only("CpuUnlimited", judge)
    assert "it may take every core of the node." in claim.message
    assert "(its weight is 39 of 10000)" in claim.message
    assert "Nothing has to be done" in claim.remedy
    assert claim.evidence == {"limit_file": FILE, "cpu_weight": 39}
    assert throttled().contained(cpu=no_limit).reasons(judge) == ["CpuUnlimited"]


def test_what_it_uses_is_told_where_a_window_shows_it() -> None:
    """It is no figure for a limit: Triton may be idle.  Without a weight nothing is said of it."""
    world = serving().contained(cpu=CpuUse(Limit(None, FILE), used_seconds=0.0)).later(19)
    claim = world.contained(cpu=CpuUse(Limit(None, FILE), used_seconds=30.0)).only("CpuUnlimited", judge)
    assert "; it uses 1.50 cores now." in claim.message
    assert "limits: {cpu: …}" in claim.remedy
    assert claim.evidence == {"limit_file": FILE, "used_cores": 1.5}


def test_a_limit_that_does_not_throttle_or_can_not_be_read_is_no_finding() -> None:
    """Unreadable is not unlimited."""
    assert serving().reasons(judge) == []
    for limit in (None, TWO):
        assert serving().contained(cpu=CpuUse(limit)).reasons(judge) == []
    idle = CpuUse(TWO, periods=5, throttled_periods=0)
    assert serving().contained(cpu=idle).later(19).contained(cpu=idle).reasons(judge) == []


def test_of_a_triton_that_is_gone_nothing_is_said() -> None:
    """Its container went with it, or will be another's."""
    assert throttled().server_exits(signal=9).reasons(judge) == []
