"""Is tritonserver's own part of a look told, and nothing that may be another's?"""

from __future__ import annotations

from typing import Any

import pytest

from probe.facts.nvml import Gpu, NvmlReading, NvmlState
from probe.facts.placement import EvidenceMode
from probe.ledgers.footprints import Footprint, footprint
from tests.worlds import GIB, SERVER_PID, START, gpu

FULL = EvidenceMode.FULL


def look(*gpus: Gpu, state: NvmlState = NvmlState.OK) -> NvmlReading:
    """One look."""
    return NvmlReading(START, state, gpus=gpus)


def shown(*gpus: Gpu) -> Footprint:
    """What is told of tritonserver where lists can be trusted."""
    told = footprint(look(*gpus), FULL, SERVER_PID)
    assert told is not None
    return told


def test_its_memory_and_busy_time_are_told_by_gpu() -> None:
    """Of each GPU whose list has its pid; twice in a list is the same process."""
    twice = gpu("GPU-a", {SERVER_PID: GIB, 7: 3 * GIB}, {SERVER_PID: 40.0, 7: 10.0})
    twice = Gpu(twice.uuid, processes=(*(twice.processes or ()), *(twice.processes or ())), busy=twice.busy)
    told = shown(twice, gpu("GPU-b", {7: GIB}, {7: 90.0}), gpu("GPU-c", {SERVER_PID: None}, {}))
    assert told.memory == {"GPU-a": GIB}
    assert told.busy == {"GPU-a": 40.0, "GPU-c": 0.0}
    assert told.whole


@pytest.mark.parametrize("mode", [each for each in EvidenceMode if each is not FULL])
def test_it_is_told_in_full_mode_alone(mode: EvidenceMode) -> None:
    """In ``membership`` the busy time under its pid may be another tenant's."""
    assert footprint(look(gpu(processes={SERVER_PID: GIB})), mode, SERVER_PID) is None


def test_a_failed_look_and_an_unknown_process_tell_nothing() -> None:
    """There is nothing to compare the next one with."""
    reading = look(gpu(processes={SERVER_PID: GIB}))
    assert footprint(reading, FULL, None) is None
    assert footprint(look(state=NvmlState.HUNG), FULL, SERVER_PID) is None


@pytest.mark.parametrize(
    ("gpus", "busy", "whole"),
    [
        ((gpu(processes={SERVER_PID: GIB}, busy={}),), {"GPU-a": 0.0}, True),
        ((gpu(processes={SERVER_PID: GIB}),), {}, False),
        ((gpu(processes={SERVER_PID: GIB}, busy={}), gpu("GPU-b")), {"GPU-a": 0.0}, False),
        ((gpu(processes={SERVER_PID: GIB}, busy={}), gpu("GPU-b", {})), {"GPU-a": 0.0}, True),
        ((gpu(processes={7: GIB}, busy={7: 50.0}),), {}, False),
        ((gpu(processes={SERVER_PID: GIB, 7: GIB}, busy={7: 50.0}),), {"GPU-a": 0.0}, True),
        ((gpu(processes={SERVER_PID: GIB}, busy={4242: 50.0}),), {}, False),
        ((gpu(processes={SERVER_PID: GIB}, busy={4242: 0.0}),), {"GPU-a": 0.0}, True),
        ((gpu(processes={SERVER_PID: GIB}, busy={4242: 50.0, SERVER_PID: 9.0}),), {"GPU-a": 9.0}, True),
        ((gpu(processes={7: GIB}, busy={SERVER_PID: 50.0}),), {}, False),
    ],
    ids=[
        "idle",
        "not told",
        "a GPU without a list",
        "a GPU that it is not on",
        "on no GPU",
        "a neighbour is busy",
        "a stranger is busy, who may be itself",
        "a stranger is idle",
        "both are",
        "a stranger with its pid",
    ],
)
def test_an_idle_gpu_is_one_where_nobody_unlisted_was_busy(
    gpus: tuple[Gpu, ...], busy: dict[str, float], *, whole: bool
) -> None:
    """A driver that does not translate pids shows tritonserver by another number."""
    told = shown(*gpus)
    assert (told.busy, told.whole) == (busy, whole)


def test_a_divided_gpu_is_told_by_its_parts() -> None:
    """Its own list is that of all of them, or can not be had."""
    part: dict[str, Any] = {"mig": True, "parent": "GPU-a"}
    told = shown(gpu("GPU-a", {SERVER_PID: 2 * GIB}, {}), gpu("MIG-1", {SERVER_PID: GIB}, {}, **part))
    assert told == Footprint(START, START, {"MIG-1": GIB}, {"MIG-1": 0.0}, whole=True)
    assert shown(gpu("GPU-a"), gpu("MIG-1", {SERVER_PID: GIB}, {}, **part)).whole
    assert not shown(gpu("GPU-a"), gpu("MIG-1", {SERVER_PID: GIB}, **part)).whole
