"""Who is said to use a GPU: MIG instances, samples of how busy it was, drivers and bindings of any age."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from probe.facts.nvml import Gpu, GpuBusy, GpuProcess, NvmlState
from probe.sources.nvml.source import NvmlSource
from testbed.nvml.double import FOREVER, GpuState, MigState, NvmlDouble, ProcessState, SampleState
from tests.sources.nvml_looks import helper_after, only

UTILIZATION = "nvmlDeviceGetProcessUtilization"
PROCESSES = [ProcessState(11, 300), ProcessState(12, 5, mps=True), ProcessState(13, None)]
TOLD = (GpuProcess(11, 300), GpuProcess(13, None), GpuProcess(12, 5))

OldDriver = Callable[[int], NvmlDouble]


@pytest.fixture
async def source() -> AsyncIterator[NvmlSource]:
    """Lend a source that waits patiently."""
    source = NvmlSource(deadline=60)
    yield source
    await source.close()


@pytest.fixture
def old_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OldDriver:
    """Lend the library of the driver of a release, with one GPU and some processes on it."""

    def older(release: int) -> NvmlDouble:
        double = NvmlDouble(tmp_path, release=release)
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        gpu = GpuState(
            uuid="GPU-1", processes=PROCESSES, samples=[SampleState(11, 40)], clocks=4, recovery=None
        )
        double.set(gpus=[gpu], driver=f"{release}.1")
        return double

    return older


async def test_a_mig_device_tells_its_parent_and_its_instances(
    source: NvmlSource, double: NvmlDouble
) -> None:
    """The GPU itself has neither, and says nothing of who is busy; nor does the device."""
    mig = MigState(uuid="MIG-1", gpu_instance=5, compute_instance=0)
    double.set(gpus=[GpuState(uuid="GPU-1", migs=[mig], samples=[SampleState(11, 40)])])
    gpu, device = (await source.look()).gpus
    assert (gpu.parent, gpu.gpu_instance, gpu.compute_instance, gpu.busy) == (None, None, None, None)
    assert (device.parent, device.gpu_instance, device.compute_instance) == ("GPU-1", 5, 0)
    assert (device.busy, device.error) == (None, None)


async def test_entries_of_another_instance_are_not_this_devices(
    source: NvmlSource, double: NvmlDouble
) -> None:
    """Neither another GPU instance's nor another compute instance's; what names none is its own."""
    processes = [
        ProcessState(11, 1),
        ProcessState(12, 2, instance=(6, 0)),
        ProcessState(13, 3, instance=(5, 1)),
        ProcessState(14, 4, instance=(0xFFFFFFFF, 0xFFFFFFFF)),
        ProcessState(11, 9, instance=(6, 0), mps=True),
        ProcessState(14, 5, mps=True),
    ]
    mig = MigState(uuid="MIG-1", gpu_instance=5, compute_instance=0, processes=processes)
    double.set(gpus=[GpuState(uuid="GPU-1", migs=[mig])])
    _, device = (await source.look()).gpus
    assert device.processes == (GpuProcess(11, 1), GpuProcess(14, 5))


async def test_a_device_that_does_not_know_its_instances_keeps_every_entry(
    source: NvmlSource, double: NvmlDouble
) -> None:
    """To drop what may be its own would prove an absence that is none."""
    mig = MigState(
        uuid="MIG-1",
        gpu_instance=5,
        processes=[ProcessState(11, 1), ProcessState(12, 2, instance=(6, 0))],
        returns={"nvmlDeviceGetGpuInstanceId": 3, "nvmlDeviceGetComputeInstanceId": 13},
    )
    double.set(gpus=[GpuState(uuid="GPU-1", migs=[mig])])
    _, device = (await source.look()).gpus
    assert (device.gpu_instance, device.compute_instance, device.error) == (None, None, None)
    assert device.processes == (GpuProcess(11, 1), GpuProcess(12, 2))


async def test_a_process_on_several_instances_holds_the_memory_of_all(
    source: NvmlSource, double: NvmlDouble
) -> None:
    """Once for each instance with the most that is said there; duplicates do not add up."""
    processes = [
        ProcessState(11, 10, instance=(1, 0)),
        ProcessState(11, 10, instance=(1, 0)),
        ProcessState(11, 7, instance=(2, 0)),
        ProcessState(11, None, instance=(3, 0)),
        ProcessState(12, None, instance=(1, 0)),
        ProcessState(12, None, instance=(2, 0)),
    ]
    double.set(gpus=[GpuState(uuid="GPU-1", processes=processes)])
    assert (await only(source)).processes == (GpuProcess(11, 17), GpuProcess(12, None))


async def test_who_was_busy_is_the_mean_of_the_new_samples(source: NvmlSource, double: NvmlDouble) -> None:
    """Of one pid all since the look before, each no more than a whole GPU; pid 0 is padding."""
    double.set(gpus=[GpuState(uuid="GPU-1", samples=[SampleState(11, 99, age=600.0)])])
    assert (await only(source)).busy == ()  # the driver's ring still has it from long before
    samples = [SampleState(11, 20), SampleState(11, 60), SampleState(12, 4096), SampleState(0, 50)]
    double.set(gpus=[GpuState(uuid="GPU-1", samples=samples)])
    assert (await only(source)).busy == (GpuBusy(11, 40.0), GpuBusy(12, 100.0))
    assert (await only(source)).busy == ()  # told once


async def test_a_sample_of_the_future_hides_none_to_come(source: NvmlSource, double: NvmlDouble) -> None:
    """A stamp that makes no sense is left out, and does not become the mark to ask from."""
    double.set(gpus=[GpuState(uuid="GPU-1", samples=[SampleState(11, 20, age=-3600.0), SampleState(12, 30)])])
    assert (await only(source)).busy == (GpuBusy(12, 30.0),)
    double.set(gpus=[GpuState(uuid="GPU-1", samples=[SampleState(13, 40)])])
    assert (await only(source)).busy == (GpuBusy(13, 40.0),)


async def test_a_clock_that_is_set_back_hides_no_samples(double: NvmlDouble) -> None:
    """The mark from before lies in the future then: the last second is asked for, as at first."""
    lines = """
import time
from probe.sources.nvml import lists
real, ahead = time.time, [3600.0]
lists.time = type("Clock", (), {"time": staticmethod(lambda: real() + (ahead.pop() if ahead else 0.0))})
"""
    source = NvmlSource(deadline=60, command=helper_after(lines))
    double.set(gpus=[GpuState(uuid="GPU-1")])
    assert (await only(source)).busy == ()
    double.set(gpus=[GpuState(uuid="GPU-1", samples=[SampleState(11, 40)])])
    assert (await only(source)).busy == (GpuBusy(11, 40.0),)
    await source.close()


@pytest.mark.parametrize("code", [3, 4, 13, 999])
async def test_a_driver_that_does_not_tell_who_was_busy_leaves_it_unknown(
    source: NvmlSource, double: NvmlDouble, code: int
) -> None:
    """Unknown and not idle, and the GPU has no error for it."""
    double.set(gpus=[GpuState(uuid="GPU-1", samples=[SampleState(11, 40)], returns={UTILIZATION: code})])
    gpu = await only(source)
    assert (gpu.busy, gpu.error) == (None, None)


async def test_a_gpu_lost_between_two_questions_is_lost(source: NvmlSource, double: NvmlDouble) -> None:
    """Whichever question finds out, an optional one too."""
    double.set(gpus=[GpuState(uuid="GPU-1", returns={UTILIZATION: 15})])
    gpu = await only(source)
    assert (gpu.busy, gpu.error) == (None, "GPU_IS_LOST")


async def test_a_question_that_a_gpu_does_not_know_rests_until_the_next_session(
    source: NvmlSource, double: NvmlDouble
) -> None:
    """Asked once and no more; after the driver was loaded again it is asked again."""
    double.set(gpus=[GpuState(uuid="GPU-1", returns={UTILIZATION: 3})])
    assert (await only(source)).busy is None
    samples = [SampleState(11, 40)]
    double.set(gpus=[GpuState(uuid="GPU-1", samples=samples, hang={UTILIZATION: FOREVER})])
    assert (await only(source)).busy is None
    double.set(gpus=[GpuState(uuid="GPU-1", samples=samples)], epoch=1)
    assert (await source.look()).state is NvmlState.UNKNOWN_ERROR
    assert (await only(source)).busy == (GpuBusy(11, 40.0),)


async def test_another_gpu_at_the_same_index_inherits_nothing(source: NvmlSource, double: NvmlDouble) -> None:
    """What the one before could not answer, this one may."""
    double.set(gpus=[GpuState(uuid="GPU-1", returns={UTILIZATION: 3})])
    assert (await only(source)).busy is None
    double.set(gpus=[GpuState(uuid="GPU-2", samples=[SampleState(11, 40)], minor=7)])
    await only(source)
    assert await only(source) == Gpu(
        uuid="GPU-2",
        name="NVIDIA Double",
        minor=7,
        memory_total_bytes=80 << 30,
        memory_used_bytes=0,
        recovery_action="none",
        processes=(),
        busy=(),
        ecc_uncorrected=0,
        ecc_uncorrected_ever=0,
        rows_pending=False,
        rows_failed=False,
        clock_reasons=(),
    )


@pytest.mark.parametrize("release", [470, 535, 570])
async def test_a_driver_of_any_age_lists_its_processes(
    source: NvmlSource, old_driver: OldDriver, release: int
) -> None:
    """470 lacks the newest functions, and the first builds of 535 have one whose entries are misread."""
    old_driver(release)
    gpu = await only(source)
    assert (gpu.processes, gpu.error) == (TOLD, None)
    assert gpu.busy == (GpuBusy(11, 40.0),)
    assert gpu.clock_reasons == ("sw_power_cap",)


async def test_a_driver_from_before_all_lists_is_no_proof_of_absence(
    source: NvmlSource, old_driver: OldDriver
) -> None:
    """440 tells identity and memory; processes stay unknown, and nothing is an error."""
    old_driver(440)
    gpu = await only(source)
    assert (gpu.processes, gpu.error) == (None, None)
    assert (gpu.memory_used_bytes, gpu.rows_pending, gpu.rows_failed) == (0, None, None)


NAMES_SINCE = {
    "one of 2021": ["_v3", "EventReasons", "ConfCompute", "DetailList"],
    "one before MIG": [
        "_v3",
        "RunningProcesses_v2",
        "Mig",
        "Instance",
        "EventReasons",
        "Remapped",
        "SetWait_v2",
    ],
    "one that knows nearly nothing": ["RunningProcesses", "Mig", "Utilization", "Clocks", "Ecc", "Fie", "Ev"],
}


@pytest.mark.parametrize("since", NAMES_SINCE.values(), ids=NAMES_SINCE.keys())
async def test_an_older_binding_costs_what_it_can_not_ask_and_no_more(
    double: NvmlDouble, since: list[str]
) -> None:
    """A function that the binding lacks is a question that is not answered; the look goes on."""
    lines = f"import pynvml\nfor n in dir(pynvml):\n if any(o in n for o in {since}): delattr(pynvml, n)"
    source = NvmlSource(deadline=60, command=helper_after(lines))
    double.set(gpus=[GpuState(uuid="GPU-1", processes=PROCESSES, clocks=4)])
    gpu = await only(source)
    assert (gpu.uuid, gpu.memory_used_bytes, gpu.error) == ("GPU-1", 0, None)
    listed = "_v3" in since and "RunningProcesses_v2" not in since
    assert gpu.processes == (TOLD if listed else None)
    assert gpu.clock_reasons == (None if "Clocks" in since else ("sw_power_cap",))
    await source.close()


async def test_a_binding_that_finds_another_driver_than_it_expects_falls_back(double: NvmlDouble) -> None:
    """Its NVMLLibraryMismatchError is no NVMLError, and means that the older function is to be asked."""
    lines = """
import pynvml
def mismatch(handle):
    raise pynvml.NVMLLibraryMismatchError("Unversioned function called and the pyNVML version does not match")
pynvml.nvmlDeviceGetComputeRunningProcesses_v3 = mismatch
"""
    source = NvmlSource(deadline=60, command=helper_after(lines))
    double.set(gpus=[GpuState(uuid="GPU-1", processes=PROCESSES)])
    assert (await only(source)).processes == TOLD
    await source.close()
