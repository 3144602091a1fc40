"""What a look says, of every state that NVML and a GPU can be in; the real binding, a library double."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from probe.facts.nvml import Gpu, GpuBusy, GpuProcess, NvmlState
from probe.sources.nvml.source import NvmlSource
from testbed.nvml.double import EVERY, FOREVER, GpuState, MigState, NvmlDouble, ProcessState, SampleState
from tests.sources.nvml_looks import only

COMPUTE_V3 = "nvmlDeviceGetComputeRunningProcesses_v3"
COMPUTE_V2 = "nvmlDeviceGetComputeRunningProcesses_v2"
MPS_V3 = "nvmlDeviceGetMPSComputeRunningProcesses_v3"
MPS_V2 = "nvmlDeviceGetMPSComputeRunningProcesses_v2"


@pytest.fixture
async def source() -> AsyncIterator[NvmlSource]:
    """Lend a source that waits patiently."""
    source = NvmlSource(deadline=60)
    yield source
    await source.close()


async def test_without_the_library_there_is_no_library(
    source: NvmlSource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A container into which the runtime injected nothing: code 12, no GPU, and no helper lost."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    if _has_library():
        pytest.skip("this machine has an NVML of its own")
    reading = await source.look()
    assert (reading.state, reading.code, reading.gpus) == (NvmlState.NO_LIBRARY, 12, ())
    assert reading.detail


async def test_without_the_binding_there_is_no_library() -> None:
    """A missing nvidia-ml-py reads as NO_LIBRARY, and the detail names the module."""
    helper = "import sys; sys.modules['pynvml'] = None; from probe.sources.nvml.helper import main; main()"
    source = NvmlSource(deadline=60, command=[sys.executable, "-c", helper])
    reading = await source.look()
    assert reading.state is NvmlState.NO_LIBRARY
    assert "pynvml" in reading.detail
    await source.close()


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (4, NvmlState.NO_PERMISSION),
        (9, NvmlState.NO_DRIVER),
        (12, NvmlState.NO_LIBRARY),
        (15, NvmlState.ERROR),
        (18, NvmlState.VERSION_MISMATCH),
        (999, NvmlState.UNKNOWN_ERROR),
        (12345, NvmlState.ERROR),
    ],
)
async def test_a_refusal_is_told_by_its_code_and_ends_when_nvml_recovers(
    source: NvmlSource, double: NvmlDouble, code: int, state: NvmlState
) -> None:
    """At initialisation; then the next look finds the GPUs."""
    gpu = GpuState(uuid="GPU-1")
    double.set(init_code=code, gpus=[gpu])
    refused = await source.look()
    assert (refused.state, refused.code, refused.gpus) == (state, code, ())
    double.set(gpus=[gpu])
    assert (await only(source)).uuid == "GPU-1"


@pytest.mark.parametrize(("code", "state"), [(15, NvmlState.ERROR), (999, NvmlState.UNKNOWN_ERROR)])
async def test_a_refusal_in_the_middle_of_life_is_told_and_ends_when_nvml_recovers(
    source: NvmlSource, double: NvmlDouble, code: int, state: NvmlState
) -> None:
    """The session is begun anew, and the GPUs are back."""
    gpu = GpuState(uuid="GPU-1")
    double.set(gpus=[gpu])
    assert (await only(source)).uuid == "GPU-1"
    double.set(returns={EVERY: code}, gpus=[gpu])
    refused = await source.look()
    assert (refused.state, refused.code, refused.gpus) == (state, code, ())
    double.set(gpus=[gpu])
    assert (await only(source)).uuid == "GPU-1"


async def test_a_healthy_gpu_is_told_whole(source: NvmlSource, double: NvmlDouble) -> None:
    """Identity, memory, recovery action, processes, health and the driver's version."""
    gpu = GpuState(
        uuid="GPU-1",
        name="NVIDIA H100 80GB HBM3",
        minor=3,
        memory_total_bytes=1000,
        memory_used_bytes=400,
        processes=[ProcessState(11, 300)],
        samples=[SampleState(11, 40)],
        ecc=(1, 2),
        remapped=(0, 1, 1, 0),
        clocks=4,
    )
    double.set(gpus=[gpu], driver="580.65.06")
    reading = await source.look()
    assert reading.driver_version == "580.65.06"
    assert reading.gpus == (
        Gpu(
            uuid="GPU-1",
            name="NVIDIA H100 80GB HBM3",
            minor=3,
            memory_total_bytes=1000,
            memory_used_bytes=400,
            recovery_action="none",
            processes=(GpuProcess(11, 300),),
            busy=(GpuBusy(11, 40.0),),
            ecc_uncorrected=1,
            ecc_uncorrected_ever=2,
            rows_pending=True,
            rows_failed=False,
            clock_reasons=("sw_power_cap",),
        ),
    )


async def test_a_driver_without_gpus_is_ok(source: NvmlSource, double: NvmlDouble) -> None:
    """No GPU is an answer, not a failure."""
    double.set()
    reading = await source.look()
    assert (reading.state, reading.gpus) == (NvmlState.OK, ())


async def test_one_lost_gpu_spares_the_other(source: NvmlSource, double: NvmlDouble) -> None:
    """A GPU that falls off the bus keeps its name from before, the other stays whole."""
    first = GpuState(uuid="GPU-1", processes=[ProcessState(11, 300)])
    double.set(gpus=[first, GpuState(uuid="GPU-2", name="Lost", minor=1)])
    assert len((await source.look()).gpus) == 2
    double.set(gpus=[first, GpuState(uuid="GPU-2", name="Lost", minor=1, returns={EVERY: 15})])
    reading = await source.look()
    assert reading.state is NvmlState.OK
    assert reading.gpus[0].processes == (GpuProcess(11, 300),)
    assert reading.gpus[0].error is None
    assert reading.gpus[1] == Gpu(uuid="GPU-2", name="Lost", minor=1, error="GPU_IS_LOST")


async def test_a_gpu_lost_before_the_first_look_is_told_by_its_index(
    source: NvmlSource, double: NvmlDouble
) -> None:
    """Nothing about it is known but that it is there, and lost."""
    double.set(gpus=[GpuState(uuid="GPU-1", returns={EVERY: 15})])
    assert await only(source) == Gpu(uuid="index:0", error="GPU_IS_LOST")


async def test_a_gpu_that_is_lost_is_asked_nothing_more(source: NvmlSource, double: NvmlDouble) -> None:
    """Each further call would sit out the driver's timeouts, one after the other."""
    hang = {"nvmlDeviceGetMemoryInfo": FOREVER, COMPUTE_V3: FOREVER}
    double.set(gpus=[GpuState(uuid="GPU-1", returns={"nvmlDeviceGetName": 15}, hang=hang)])
    assert await only(source) == Gpu(uuid="GPU-1", error="GPU_IS_LOST")


async def test_a_broken_session_is_begun_anew(source: NvmlSource, double: NvmlDouble) -> None:
    """After the driver was loaded again, one look fails and the next has the GPUs."""
    double.set(gpus=[GpuState(uuid="GPU-1")])
    await only(source)
    double.set(gpus=[GpuState(uuid="GPU-1")], epoch=1)
    assert (await source.look()).state is NvmlState.UNKNOWN_ERROR
    assert (await only(source)).uuid == "GPU-1"


async def test_a_remembered_gpu_that_answers_elsewhere_is_told_once(
    source: NvmlSource, double: NvmlDouble
) -> None:
    """When indices shift, no uuid appears twice."""
    double.set(gpus=[GpuState(uuid="GPU-1"), GpuState(uuid="GPU-2")])
    await source.look()
    double.set(gpus=[GpuState(uuid="GPU-0", returns={EVERY: 15}), GpuState(uuid="GPU-1")])
    reading = await source.look()
    assert [gpu.uuid for gpu in reading.gpus] == ["GPU-1"]


@pytest.mark.parametrize(
    ("code", "state", "count"), [(4, NvmlState.NO_PERMISSION, 0), (999, NvmlState.UNKNOWN_ERROR, 0)]
)
async def test_no_gpu_that_can_be_opened_is_a_refusal(
    source: NvmlSource, double: NvmlDouble, code: int, state: NvmlState, count: int
) -> None:
    """When access to every GPU fails with a code about access, NVML is said to refuse."""
    double.set(gpus=[GpuState(uuid=f"GPU-{n}", returns={EVERY: code}) for n in range(2)])
    reading = await source.look()
    assert (reading.state, reading.code, len(reading.gpus)) == (state, code, count)


async def test_a_gpu_of_someone_else_is_not_told(source: NvmlSource, double: NvmlDouble) -> None:
    """NVML counts devices that this container may not open."""
    double.set(gpus=[GpuState(uuid="GPU-1"), GpuState(uuid="GPU-2", returns={EVERY: 4})])
    assert (await only(source)).uuid == "GPU-1"


async def test_a_gpu_that_was_ours_and_refuses_now_is_told(source: NvmlSource, double: NvmlDouble) -> None:
    """Access that went away is a failure of that GPU."""
    double.set(gpus=[GpuState(uuid="GPU-1"), GpuState(uuid="GPU-2")])
    await source.look()
    double.set(gpus=[GpuState(uuid="GPU-1"), GpuState(uuid="GPU-2", returns={EVERY: 4})])
    assert [gpu.error for gpu in (await source.look()).gpus] == [None, "NO_PERMISSION"]


@pytest.mark.parametrize(
    ("value", "word"), [(0, "none"), (1, "gpu_reset"), (7, "system_reboot"), (42, "action_42"), (None, None)]
)
async def test_the_recovery_action_is_told_in_words(
    source: NvmlSource, double: NvmlDouble, value: int | None, word: str | None
) -> None:
    """Field 230, or None where the driver does not have it, which is no failure."""
    double.set(gpus=[GpuState(uuid="GPU-1", recovery=value)])
    gpu = await only(source)
    assert (gpu.recovery_action, gpu.error) == (word, None)


async def test_what_a_gpu_does_not_have_is_absent_and_no_failure(
    source: NvmlSource, double: NvmlDouble
) -> None:
    """NOT_SUPPORTED for memory, as on an integrated GPU."""
    double.set(gpus=[GpuState(uuid="GPU-1", returns={"nvmlDeviceGetMemoryInfo": 3, MPS_V3: 3})])
    gpu = await only(source)
    assert (gpu.memory_total_bytes, gpu.memory_used_bytes, gpu.error) == (None, None, None)
    assert gpu.processes == ()


async def test_a_failing_call_is_the_gpus_error_and_the_rest_stays(
    source: NvmlSource, double: NvmlDouble
) -> None:
    """Codes that no header knows are told by their number."""
    double.set(gpus=[GpuState(uuid="GPU-1", returns={"nvmlDeviceGetMemoryInfo": 4711})])
    gpu = await only(source)
    assert (gpu.memory_used_bytes, gpu.error, gpu.processes) == (None, "CODE_4711", ())


async def test_a_needed_reset_outweighs_other_failures(source: NvmlSource, double: NvmlDouble) -> None:
    """Of several failures, the one that names the remedy is told."""
    returns = {"nvmlDeviceGetMemoryInfo": 999, "nvmlDeviceGetFieldValues": 16}
    double.set(gpus=[GpuState(uuid="GPU-1", returns=returns)])
    assert (await only(source)).error == "RESET_REQUIRED"


async def test_memory_that_the_driver_does_not_say_stays_unknown(
    source: NvmlSource, double: NvmlDouble
) -> None:
    """None is kept apart from 0, and both from a number."""
    processes = [ProcessState(1, None), ProcessState(2, 0), ProcessState(3, 5 << 40)]
    double.set(gpus=[GpuState(uuid="GPU-1", processes=processes)])
    told = (GpuProcess(1, None), GpuProcess(2, 0), GpuProcess(3, 5 << 40))
    assert (await only(source)).processes == told


async def test_a_process_is_told_once_with_its_most_memory(source: NvmlSource, double: NvmlDouble) -> None:
    """Drivers list a process once a client, and MPS clients in a list of their own."""
    processes = [
        ProcessState(1, 5),
        ProcessState(1, 7),
        ProcessState(2, None),
        ProcessState(2, 3, mps=True),
        ProcessState(3, 1, mps=True),
    ]
    double.set(gpus=[GpuState(uuid="GPU-1", processes=processes)])
    assert (await only(source)).processes == (GpuProcess(1, 7), GpuProcess(2, 3), GpuProcess(3, 1))


async def test_the_drivers_longest_list_comes_through(source: NvmlSource, double: NvmlDouble) -> None:
    """950 processes on each of sixteen GPUs, all busy, by the longest pids that there are."""
    pids = range(4_000_000_000, 4_000_000_950)
    processes = [ProcessState(pid, pid << 30) for pid in pids]
    samples = [SampleState(pid, percent) for pid in pids for percent in (10, 11, 11)]
    # From now on samples are asked for, however long the look takes that is to bring them.
    double.set(gpus=[GpuState(uuid=f"GPU-{n}") for n in range(16)])
    assert [gpu.busy for gpu in (await source.look()).gpus] == [()] * 16
    double.set(gpus=[GpuState(uuid=f"GPU-{n}", processes=processes, samples=samples) for n in range(16)])
    reading = await source.look()
    assert [len(gpu.processes or ()) for gpu in reading.gpus] == [950] * 16
    assert [len(gpu.busy or ()) for gpu in reading.gpus] == [950] * 16


@pytest.mark.parametrize(("races", "told"), [(1, (GpuProcess(1, 5),)), (4, None)])
async def test_a_list_that_grows_meanwhile_is_asked_for_once_more(
    source: NvmlSource, double: NvmlDouble, races: int, told: tuple[GpuProcess, ...] | None
) -> None:
    """One race goes unnoticed; a list that outgrows every array is unknown, and still no failure."""
    double.set(gpus=[GpuState(uuid="GPU-1", processes=[ProcessState(1, 5)])], race=races)
    gpu = await only(source)
    assert (gpu.processes, gpu.error) == (told, None)


async def test_an_older_driver_is_asked_the_older_way(source: NvmlSource, double: NvmlDouble) -> None:
    """Without the third version of the list, the second tells the same."""
    double.set(
        gpus=[GpuState(uuid="GPU-1", processes=[ProcessState(1, 5), ProcessState(2, 6, mps=True)])],
        returns={COMPUTE_V3: 13, MPS_V3: 13},
    )
    assert (await only(source)).processes == (GpuProcess(1, 5), GpuProcess(2, 6))


@pytest.mark.parametrize(
    ("returns", "error"),
    [
        ({COMPUTE_V3: 13, COMPUTE_V2: 13}, None),
        ({COMPUTE_V3: 3}, None),
        ({COMPUTE_V3: 4}, "NO_PERMISSION"),
        ({MPS_V3: 999}, "UNKNOWN"),
    ],
)
async def test_half_a_list_is_no_list(
    source: NvmlSource, double: NvmlDouble, returns: dict[str, int], error: str | None
) -> None:
    """Where one of the lists can not be had, an absent pid would prove nothing: processes is None."""
    processes = [ProcessState(1, 5), ProcessState(2, 6, mps=True)]
    double.set(gpus=[GpuState(uuid="GPU-1", processes=processes, returns=returns)])
    gpu = await only(source)
    assert (gpu.processes, gpu.error) == (None, error)


async def test_a_driver_without_mps_lists_has_the_compute_list(
    source: NvmlSource, double: NvmlDouble
) -> None:
    """No MPS function at all means no MPS clients."""
    gpu = GpuState(uuid="GPU-1", processes=[ProcessState(1, 5)], returns={MPS_V3: 13, MPS_V2: 13})
    double.set(gpus=[gpu])
    assert (await only(source)).processes == (GpuProcess(1, 5),)


async def test_mig_devices_stand_beside_their_gpu(source: NvmlSource, double: NvmlDouble) -> None:
    """Each with its own memory and processes; the parent's list is not asked for."""
    migs = [
        MigState(
            uuid="MIG-1", name="MIG 1g", memory_total_bytes=10, processes=[ProcessState(1, 5)], gpu_instance=1
        ),
        MigState(uuid="MIG-2", memory_total_bytes=20, processes=[ProcessState(1, 7)], gpu_instance=2),
    ]
    double.set(gpus=[GpuState(uuid="GPU-1", minor=2, migs=migs, returns={}), GpuState(uuid="GPU-2")])
    gpus = (await source.look()).gpus
    assert [(gpu.uuid, gpu.mig, gpu.minor) for gpu in gpus] == [
        ("GPU-1", False, 2),
        ("MIG-1", True, 2),
        ("MIG-2", True, 2),
        ("GPU-2", False, 0),
    ]
    assert [gpu.processes for gpu in gpus] == [None, (GpuProcess(1, 5),), (GpuProcess(1, 7),), ()]
    assert [gpu.memory_total_bytes for gpu in gpus[1:3]] == [10, 20]
    assert {gpu.error for gpu in gpus} == {None}


async def test_a_name_that_is_no_text_costs_only_the_name(source: NvmlSource, double: NvmlDouble) -> None:
    """The binding fails to decode it, and the GPU's error says so."""
    double.set(gpus=[GpuState(uuid="GPU-1", name="PLACEHOLDER")])
    _replace_in_file(Path(os.environ["NVML_DOUBLE_STATE"]), b"PLACEHOLDER", b"\xff\xfe\xff\xfe")
    gpu = await only(source)
    assert (gpu.name, gpu.error, gpu.processes) == ("", "UnicodeDecodeError", ())


async def test_a_library_that_prints_disturbs_no_answer(source: NvmlSource, double: NvmlDouble) -> None:
    """Its words go nowhere; the answers have a way of their own."""
    double.set(gpus=[GpuState(uuid="GPU-1")], prints='{"id": 1, "gpus": []}')
    assert (await only(source)).uuid == "GPU-1"


async def test_the_real_library_without_a_driver_says_no_driver(
    real_library: Path, source: NvmlSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NVIDIA's own library, as Debian packages it, on a machine that has no driver."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(real_library))
    reading = await source.look()
    assert (reading.state, reading.code, reading.gpus) == (NvmlState.NO_DRIVER, 9, ())


@pytest.fixture
def real_library() -> Path:
    """Lend the folder of NVIDIA's library, which the set-up took out of Debian's package."""
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has a driver")
    folder = Path(__file__).resolve().parents[2] / ".cache" / "tools" / "nvidia"
    if not (folder / "libnvidia-ml.so.1").exists():
        pytest.skip("NVIDIA's library could not be had from Debian")
    return folder


def _has_library() -> bool:
    program = "import ctypes; ctypes.CDLL('libnvidia-ml.so.1')"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def _replace_in_file(path: Path, old: bytes, new: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(old, new))
