"""Memory errors and slowed clocks: told of GPUs that are ours or may be, as long as NVML tells, and no gate fails."""

from __future__ import annotations

from typing import Any

import pytest

from probe.checks.gpu_condition import judge
from probe.facts.catalogue import CATALOGUE
from probe.facts.findings import Severity
from probe.facts.nvml import Gpu, NvmlState
from tests.worlds import World, gpu, server, serving

DAY = 86_400.0


def beside(*gpus: Gpu, minors: tuple[int, ...] | None = (0,)) -> World:
    """A Triton with these device nodes beside these GPUs, and GPU-b on another node."""
    return serving(server=server(minors=minors)).looks(*gpus, gpu("GPU-b", minor=1))


def first(**told: Any) -> Gpu:  # noqa: ANN401
    """GPU-a on node 0."""
    return gpu(minor=0, **told)


HOT = first(clock_reasons=("sw_power_cap", "hw_thermal"))


def test_new_uncorrected_errors_are_told_with_their_figure() -> None:
    """Those from before the probe began are no news."""
    world = beside(first(ecc_uncorrected=7, ecc_uncorrected_ever=9))
    assert world.reasons(judge) == []
    risen = world.looks(first(ecc_uncorrected=8, ecc_uncorrected_ever=10), gpu("GPU-b", minor=1))
    claim = risen.only("GpuEcc", judge)
    assert (
        "It had 1 uncorrected memory error since the probe first saw it, the last 1 s ago." in claim.message
    )
    assert (claim.evidence["new_errors"], claim.evidence["errors_since_driver_loaded"]) == (1, 8)
    assert claim.evidence["errors_ever"] == 10
    assert "Xids 48, 94 and 95" in claim.remedy
    more = risen.looks(first(ecc_uncorrected=12), gpu("GPU-b", minor=1))
    assert "It had 5 uncorrected memory errors" in more.only("GpuEcc", judge).message


def test_new_errors_are_shown_for_a_day_or_until_the_gpu_was_reset() -> None:
    """By then a ticket is filed; a reset counts anew."""
    world = beside(first(ecc_uncorrected=0)).looks(first(ecc_uncorrected=3), gpu("GPU-b", minor=1))
    assert world.later(DAY - 1.0).reasons(judge) == ["GpuEcc"]
    assert world.later(DAY).reasons(judge) == []
    assert world.looks(first(ecc_uncorrected=0), gpu("GPU-b", minor=1)).reasons(judge) == []


def test_a_failed_remapping_is_a_case_for_replacement_and_a_pending_one_can_wait() -> None:
    """The message tells the two apart, and says both."""
    failed = beside(first(rows_failed=True)).only("GpuEcc", judge)
    assert "no spare is left" in failed.message
    assert "replaced" in failed.remedy
    pending = beside(first(rows_pending=True)).only("GpuEcc", judge)
    assert "further work is not affected" in pending.message
    assert "not urgent" in pending.remedy
    both = beside(first(rows_failed=True, rows_pending=True)).only("GpuEcc", judge)
    assert "no spare is left" in both.message
    assert "not affected" in both.message
    assert beside(first(rows_failed=False, rows_pending=False)).reasons(judge) == []


@pytest.mark.parametrize(
    ("reasons", "said"),
    [
        (("hw_thermal",), "too hot, and its hardware slows it down"),
        (("sw_thermal",), "too hot, and the driver slows it down"),
        (("hw_power_brake", "hw_slowdown"), "power supply brakes it"),
        (("hw_slowdown",), "its hardware slows it down, for heat or for power"),
        (
            ("gpu_idle", "sw_thermal", "hw_thermal"),
            "the driver slows it down; it is too hot, and its hardware",
        ),
        (("sw_power_cap",), None),
        (("gpu_idle",), None),
        (("applications_clocks_setting", "sync_boost", "display_clock_setting"), None),
        ((), None),
        (None, None),
    ],
)
def test_only_heat_and_the_power_brake_are_throttling(
    reasons: tuple[str, ...] | None, said: str | None
) -> None:
    """A GPU at its power cap, or idle, works as it is meant to."""
    world = beside(first(clock_reasons=reasons))
    if said is None:
        assert world.reasons(judge) == []
        return
    claim = world.only("GpuThrottled", judge)
    assert said in claim.message
    assert ("for heat or for power" in claim.message) == (reasons == ("hw_slowdown",))
    assert ("power supplies" in claim.remedy) == (reasons is not None and "hw_slowdown" in reasons)


@pytest.mark.parametrize(
    ("minors", "expected"), [((0,), [None]), (None, [Severity.INFO]), ((1,), []), ((), [])]
)
def test_only_of_gpus_that_may_be_ours_is_anything_told(
    minors: tuple[int, ...] | None, expected: list[Severity | None]
) -> None:
    """Of one that may be ours as information, of another's nothing."""
    assert [each.severity for each in beside(HOT, minors=minors).claims(judge)] == expected


def test_what_nvml_told_is_forgotten_with_its_last_good_look() -> None:
    """A missing look changes nothing until then."""
    world = beside(HOT).looks(state=NvmlState.HUNG)
    assert world.reasons(judge) == ["GpuThrottled"]
    assert world.later(60.0).looks(state=NvmlState.HUNG).reasons(judge) == []
    assert World().reasons(judge) == []


def test_a_gpu_that_errs_keeps_what_it_told_for_a_minute() -> None:
    """One that fell off the bus, is gone, or never answered has nothing to tell."""
    other = gpu("GPU-b", minor=1)
    erring = beside(HOT).looks(first(error="TIMEOUT"), other)
    assert erring.reasons(judge) == ["GpuThrottled"]
    assert erring.later(60.0).looks(first(error="TIMEOUT"), other).reasons(judge) == []
    assert beside(HOT).looks(first(error="GPU_IS_LOST"), other).reasons(judge) == []
    assert beside(HOT).looks(other).reasons(judge) == []
    assert beside(first(error="TIMEOUT", clock_reasons=("hw_thermal",))).reasons(judge) == []


def test_none_of_it_fails_a_gate() -> None:
    """It is a ticket, and no outage."""
    assert CATALOGUE["GpuEcc"].fails == CATALOGUE["GpuThrottled"].fails == ()
