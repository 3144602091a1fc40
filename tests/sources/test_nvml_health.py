"""How a GPU is said to be: errors of its memory, rows and pages that wait, and what slows its clocks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from probe.sources.nvml.source import NvmlSource
from testbed.nvml.double import FOREVER, GpuState, MigState, NvmlDouble, Xid
from tests.sources.nvml_looks import Heard, helper_after, look_until_told, only, until

ECC = "nvmlDeviceGetTotalEccErrors"
ROWS = "nvmlDeviceGetRemappedRows"
PAGES = "nvmlDeviceGetRetiredPagesPendingStatus"
REASONS, OLD_REASONS = "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"


@pytest.fixture
async def source() -> AsyncIterator[NvmlSource]:
    """Lend a source that waits patiently."""
    source = NvmlSource(deadline=60)
    yield source
    await source.close()


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (0, ()),
        (1, ("idle",)),
        (0x20 | 0x40 | 0x80, ("sw_thermal", "hw_thermal", "hw_power_brake")),
        (
            0x1 | 0x2 | 0x4 | 0x8 | 0x10,
            ("idle", "applications_clocks", "sw_power_cap", "hw_slowdown", "sync_boost"),
        ),
        (0x100 | 0x200 | 0x400 | 0x800, ("display_clocks", "board_limit", "reliability", "bit_11")),
        (1 << 63, ("bit_63",)),
    ],
)
async def test_what_slows_the_clocks_is_told_in_words(
    source: NvmlSource, double: NvmlDouble, mask: int, words: tuple[str, ...]
) -> None:
    """Each bit by its name, one that no header knows by its number, none as none."""
    double.set(gpus=[GpuState(uuid="GPU-1", clocks=mask)])
    assert (await only(source)).clock_reasons == words


@pytest.mark.parametrize(
    ("returns", "words"),
    [
        ({REASONS: 13}, ("hw_thermal",)),
        ({REASONS: 3, OLD_REASONS: 3}, None),
        ({REASONS: 999, OLD_REASONS: 4}, None),
    ],
)
async def test_the_clocks_are_asked_by_both_names(
    source: NvmlSource, double: NvmlDouble, returns: dict[str, int], words: tuple[str, ...] | None
) -> None:
    """A driver that has one is asked by it; one that has none leaves it unknown, without an error."""
    double.set(gpus=[GpuState(uuid="GPU-1", clocks=0x40, returns=returns)])
    for _ in range(2):
        gpu = await only(source)
        assert (gpu.clock_reasons, gpu.error) == (words, None)


async def test_errors_of_the_memory_are_told_as_far_as_they_are_known(
    source: NvmlSource, double: NvmlDouble
) -> None:
    """A GPU without ECC has no count, and not the count 0."""
    double.set(gpus=[GpuState(uuid="GPU-1", returns={ECC: 3})])
    gpu = await only(source)
    assert (gpu.ecc_uncorrected, gpu.ecc_uncorrected_ever, gpu.error) == (None, None, None)
    assert (gpu.rows_pending, gpu.rows_failed) == (False, False)


@pytest.mark.parametrize("pending", [True, False])
async def test_before_ampere_pages_wait_instead_of_rows(
    source: NvmlSource, double: NvmlDouble, *, pending: bool
) -> None:
    """That a remapping failed is nothing that such a GPU could say."""
    double.set(gpus=[GpuState(uuid="GPU-1", retired=pending)])
    gpu = await only(source)
    assert (gpu.rows_pending, gpu.rows_failed, gpu.error) == (pending, None, None)


async def test_a_partitioned_gpu_counts_errors_and_does_not_tell_of_rows(
    source: NvmlSource, double: NvmlDouble
) -> None:
    """Its devices tell neither: they are the GPU's."""
    double.set(gpus=[GpuState(uuid="GPU-1", ecc=(3, 4), clocks=8, migs=[MigState(uuid="MIG-1")])])
    gpu, mig = (await source.look()).gpus
    assert (gpu.ecc_uncorrected, gpu.ecc_uncorrected_ever, gpu.rows_pending) == (3, 4, None)
    assert (mig.ecc_uncorrected, mig.rows_pending, mig.clock_reasons) == (None, None, None)
    assert {gpu.error, mig.error} == {None}


async def test_memory_errors_are_asked_for_seldom_and_after_an_xid_at_once(
    source: NvmlSource, double: NvmlDouble
) -> None:
    """What was answered a moment ago stands, also where asking would hang; an Xid on that GPU ends that."""
    heard = Heard(source)
    double.set(gpus=[GpuState(uuid="GPU-1", ecc=(1, 2))])
    await look_until_told(source)
    double.set(gpus=[GpuState(uuid="GPU-1", hang={ECC: FOREVER, ROWS: FOREVER})])
    assert (await only(source)).ecc_uncorrected == 1
    double.set(gpus=[GpuState(uuid="GPU-1", ecc=(5, 6), remapped=(0, 1, 0, 1))], xids=[Xid("GPU-1", 64, 1)])
    await until(lambda: heard.xids)
    gpu = await only(source)
    assert (gpu.ecc_uncorrected, gpu.ecc_uncorrected_ever, gpu.rows_failed) == (5, 6, True)


async def test_memory_errors_are_asked_for_again_after_a_while(double: NvmlDouble) -> None:
    """The answer grows old."""
    shorter = "from probe.sources.nvml import gpu\ngpu.SLOW_SECONDS = 0.0"
    source = NvmlSource(deadline=60, command=helper_after(shorter))
    double.set(gpus=[GpuState(uuid="GPU-1", ecc=(1, 2))])
    assert (await only(source)).ecc_uncorrected == 1
    double.set(gpus=[GpuState(uuid="GPU-1", ecc=(3, 4))])
    assert (await only(source)).ecc_uncorrected == 3
    await source.close()


async def test_a_question_that_a_gpu_does_not_know_is_asked_again_after_a_while(double: NvmlDouble) -> None:
    """A feature may be switched on: it is not asked for at each look, and not forgotten for good."""
    shorter = "from probe.sources.nvml import gpu, questions\ngpu.SLOW_SECONDS = 0.0\nquestions.ABSENT_SECONDS = 0.0"
    source = NvmlSource(deadline=60, command=helper_after(shorter))
    double.set(gpus=[GpuState(uuid="GPU-1", returns={ECC: 3})])
    assert (await only(source)).ecc_uncorrected is None
    double.set(gpus=[GpuState(uuid="GPU-1", ecc=(3, 4))])
    assert (await only(source)).ecc_uncorrected == 3
    await source.close()


async def test_answers_that_a_failing_gpu_did_not_give_are_asked_for_again(
    source: NvmlSource, double: NvmlDouble
) -> None:
    """A GPU that was lost for a moment has its counts with the next look."""
    double.set(gpus=[GpuState(uuid="GPU-1", ecc=(3, 4), returns={ECC: 15})])
    gpu = await only(source)
    assert (gpu.ecc_uncorrected, gpu.error) == (None, "GPU_IS_LOST")
    double.set(gpus=[GpuState(uuid="GPU-1", ecc=(3, 4), retired=True, returns={PAGES: 16})])
    gpu = await only(source)
    assert (gpu.ecc_uncorrected, gpu.rows_pending, gpu.error) == (3, None, "RESET_REQUIRED")
    double.set(gpus=[GpuState(uuid="GPU-1", ecc=(3, 4), retired=True)])
    gpu = await only(source)
    assert (gpu.ecc_uncorrected, gpu.rows_pending, gpu.error) == (3, True, None)
