"""Memory pressure on a GPU: above the setting, with who holds it as far as that is known."""

from __future__ import annotations

from typing import Any

import pytest

from probe.checks.gpu_memory import judge
from probe.facts.findings import Severity
from probe.facts.models import InstanceKind
from probe.facts.nvml import Gpu, NvmlState
from probe.settings import GpuSettings, Settings
from tests.worlds import GIB, SERVER_PID, World, gpu, python_model, server, serving, stub

A = python_model("a", 2, InstanceKind.GPU, (0,))
TOTAL = 100 * GIB


def full(used: int | None, processes: dict[int, int | None] | None = None, **more: Any) -> Gpu:  # noqa: ANN401
    """A GPU of 100 GiB with so much in use."""
    told: dict[str, Any] = {"minor": 0, "memory_total_bytes": TOTAL, "memory_used_bytes": used, **more}
    return gpu("GPU-a", processes, **told)


def beside(*gpus: Gpu, minors: tuple[int, ...] | None = (0,), settings: Settings = Settings()) -> World:  # noqa: B008
    """A Triton with a model of two stubs beside these GPUs."""
    return serving(A, server=server(minors=minors), settings=settings).scans().looks(*gpus)


@pytest.mark.parametrize(
    ("used", "told"), [(0, 0), (90 * GIB, 0), (95 * GIB, 0), (95 * GIB + 1, 1), (TOTAL, 1)]
)
def test_pressure_begins_above_the_setting(used: int, told: int) -> None:
    """A framework that reserves 0.9 in advance is not in trouble."""
    assert len(beside(full(used)).claims(judge)) == told


def test_the_setting_is_the_user_s() -> None:
    """``gpu.memory_pressure`` is a part of the whole."""
    lower = Settings(gpu=GpuSettings(memory_pressure=0.5))
    claim = beside(full(51 * GIB), settings=lower).only("GpuMemoryPressure", judge)
    assert "51.0% of the memory" in claim.message
    assert "above gpu.memory_pressure (50%)" in claim.message


def test_who_holds_it_is_told_by_model_and_the_rest_is_others() -> None:
    """What tritonserver itself holds is that of all models inside it."""
    listed: dict[int, int | None] = {SERVER_PID: 10 * GIB, 100: 20 * GIB, 101: 5 * GIB, 7: 50 * GIB}
    world = beside(full(96 * GIB, listed)).scans(existing=listed).looks(full(96 * GIB, listed))
    claim = world.only("GpuMemoryPressure", judge)
    assert "Of this Triton's: 25.0 GiB by a/1, 10.0 GiB by tritonserver; by others" in claim.message
    assert "or the driver itself: 61.0 GiB." in claim.message
    assert claim.evidence["ours_bytes"] == 35 * GIB
    assert claim.evidence["held_by_a/1"] == 25 * GIB


def test_an_instance_whose_model_is_not_known_goes_by_its_own_name() -> None:
    """A stub of a load that has not ended yet."""
    world = serving(A, server=server(minors=(0,))).with_stub(stub(300, "b_0_0", "b")).scans()
    claim = world.looks(full(96 * GIB, {300: GIB})).only("GpuMemoryPressure", judge)
    assert "1.0 GiB by b_0_0" in claim.message


@pytest.mark.parametrize("listed", [None, {}, {7: 90 * GIB}, {100: None}], ids=str)
def test_where_lists_tell_nothing_nobody_is_accused(listed: dict[int, int | None] | None) -> None:
    """The figure of the device stands by itself."""
    claim = beside(full(96 * GIB, listed)).only("GpuMemoryPressure", judge)
    assert claim.message.endswith("Who holds it can not be told here.")
    assert claim.evidence["ours_bytes"] is None


def test_where_triton_can_not_be_seen_nobody_is_accused_either() -> None:
    """There is no pid to compare."""
    world = serving(A, server=None, gpu_memory_used=(("GPU-a", GIB),)).looks(full(96 * GIB, {5: GIB}))
    assert "can not be told" in world.only("GpuMemoryPressure", judge).message


@pytest.mark.parametrize("more", [{"memory_total_bytes": None}, {"memory_total_bytes": 0}])
def test_without_a_whole_there_is_no_part(more: dict[str, Any]) -> None:
    """Some GPUs share the machine's memory and have no figure of their own."""
    assert beside(full(GIB, **more)).claims(judge) == ()
    assert beside(full(None)).claims(judge) == ()


def test_the_parts_of_a_gpu_each_have_their_own_memory() -> None:
    """The sum over all tenants' parts says nothing of ours."""
    part = gpu("MIG-1", mig=True, parent="GPU-a", minor=0, memory_total_bytes=10 * GIB, memory_used_bytes=GIB)
    assert beside(full(99 * GIB), part).claims(judge) == ()
    crowded = gpu(
        "MIG-1", mig=True, parent="GPU-a", minor=0, memory_total_bytes=10 * GIB, memory_used_bytes=10 * GIB
    )
    (claim,) = beside(full(GIB), crowded).claims(judge)
    assert claim.subject.gpu_uuid == "MIG-1"


def test_only_a_gpu_that_may_be_ours_is_of_interest() -> None:
    """As information where that can not be told."""
    other = gpu("GPU-b", minor=1)
    assert beside(full(99 * GIB), other, minors=(1,)).claims(judge) == ()
    (claim,) = beside(full(99 * GIB), other, minors=None).claims(judge)
    assert claim.severity is Severity.INFO


def test_a_look_that_failed_clears_nothing_at_once() -> None:
    """The last good one stands for its time."""
    world = beside(full(99 * GIB)).looks(state=NvmlState.ERROR)
    assert world.reasons(judge) == ["GpuMemoryPressure"]
