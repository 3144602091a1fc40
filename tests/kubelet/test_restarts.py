"""When does the stand-in start a container again, and how does it end one?"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.kubelet.restarts import BackOff, Cause, grace_seconds, restarts, retry_after
from testbed.kubelet.specs import ContainerSpec, HttpGet, PodSpec, ProbeSpec


def test_the_back_off_doubles_up_to_five_minutes() -> None:
    """The first restart waits for nothing, the next ones 10, 20, … 300 s from the end."""
    one, now, waits = BackOff(), 0.0, []
    for _ in range(8):
        waits.append(one.left(now, now))
        now += waits[-1]
        one.restarted(now, now)
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]


@given(lives=st.lists(st.floats(0, 3000), min_size=1, max_size=20))
def test_a_container_that_ran_for_ten_minutes_begins_anew(lives: list[float]) -> None:
    """Never more than 300 s; none after a run of more than 600 s; else no less than before."""
    one, now, before = BackOff(), 0.0, 0.0
    one.restarted(now, now)
    for each in lives:
        now += each
        left = one.left(now, now)
        assert left <= 300
        if each > 600:
            assert left == 0
            before = 0.0
        else:
            assert left >= before
            before = left
        now += left
        one.restarted(now, now - left)


@pytest.mark.parametrize(
    ("left", "fraction", "expected"),
    [(4.0, 0.0, 4.0), (4.0, 1.0, 6.0), (300.0, 0.0, 60.0), (60.0, 1.0, 90.0)],
)
def test_the_end_of_a_back_off_is_looked_for(left: float, fraction: float, expected: float) -> None:
    """At its end or after a minute, and half as late again at worst."""
    assert retry_after(left, fraction) == expected


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 1, False),
    ],
)
def test_the_restart_policy_decides(policy: str, code: int, *, expected: bool) -> None:
    """By the exit code alone."""
    assert restarts(policy, code) is expected


@pytest.mark.parametrize(
    ("pods", "own", "expected"), [(30, None, 30), (30, 5, 5), (30, 60, 60), (0, None, 2), (30, 1, 2)]
)
def test_a_probe_may_have_a_grace_of_its_own(pods: int, own: int | None, expected: int) -> None:
    """The failing probe's, else the pod's, and two seconds at least; another probe's is not looked at."""
    failing = ProbeSpec(HttpGet(1), termination_grace_period_seconds=own)
    other = ProbeSpec(HttpGet(1), termination_grace_period_seconds=17)
    container = ContainerSpec("c", liveness_probe=failing, startup_probe=other)
    pod = PodSpec((container,), termination_grace_period_seconds=pods)
    assert grace_seconds(pod, container, Cause.LIVENESS) == expected
    swapped = msgspec.structs.replace(container, liveness_probe=other, startup_probe=failing)
    assert grace_seconds(pod, swapped, Cause.STARTUP) == expected
