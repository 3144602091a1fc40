"""The NVML double, seen through the real binding: what the readings' tests do not already show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from testbed.nvml.double import EVERY, GpuState, MigState, NvmlDouble, ProcessState, SampleState, Xid

GPU = GpuState(
    uuid="GPU-1",
    pci="00000000:3B:00.0",
    memory_total_bytes=100,
    memory_used_bytes=30,
    utilization=(40, 50),
    ecc=(1, 2),
    remapped=(3, 4, 1, 0),
    clocks=0x40,
    migs=[MigState(uuid="MIG-1", gpu_instance=5, compute_instance=6)],
)


class Told:
    """Runs a few lines of the binding in a process of its own; ``tell(…)`` is what comes back."""

    def __init__(self, folder: Path, release: int = 570) -> None:
        self.double = NvmlDouble(folder, release=release)

    def __call__(self, lines: str) -> Any:  # noqa: ANN401 - JSON
        """Run the lines; fails with their traceback."""
        result = self.ran(lines)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def ran(self, lines: str) -> subprocess.CompletedProcess[str]:
        """Run the lines, however they end."""
        program = f"import json\nfrom pynvml import *\ntell = lambda x: print(json.dumps(x))\n{lines}"
        environment = {**os.environ, **self.double.environment}
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
        )


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """Lend a double with one partitioned GPU."""
    told = Told(tmp_path)
    told.double.set(gpus=[GPU])
    return told


def test_every_number_of_a_gpu_comes_through_the_binding(told: Told) -> None:
    """Layouts and signatures are the binding's, so a wrong one shows."""
    told.double.set(gpus=[msgspec.structs.replace(GPU, migs=())])
    lines = """
nvmlInit()
h = nvmlDeviceGetHandleByUUID("GPU-1")
rates, pci = nvmlDeviceGetUtilizationRates(h), nvmlDeviceGetPciInfo(h)
memory = nvmlDeviceGetMemoryInfo(h, nvmlMemory_v2)
tell([rates.gpu, rates.memory, pci.bus, pci.busId, memory.total, memory.free, memory.used,
      nvmlDeviceGetTotalEccErrors(h, 1, 0), nvmlDeviceGetTotalEccErrors(h, 1, 1),
      nvmlDeviceGetRemappedRows(h), nvmlDeviceGetCurrentClocksEventReasons(h),
      nvmlSystemGetCudaDriverVersion_v2(), nvmlSystemGetNVMLVersion(), nvmlDeviceGetIndex(h)])
"""
    expected = [40, 50, 0x3B, "00000000:3B:00.0", 100, 70, 30, 1, 2, [3, 4, 1, 0], 0x40]
    assert told(lines) == [*expected, 12080, "12.570.86.15", 0]


def test_a_mig_device_knows_its_instances_and_its_parent(told: Told) -> None:
    """Found by index under its GPU; beyond the last one NOT_FOUND."""
    lines = """
nvmlInit()
h = nvmlDeviceGetHandleByIndex(0)
mig = nvmlDeviceGetMigDeviceHandleByIndex(h, 0)
try: nvmlDeviceGetMigDeviceHandleByIndex(h, 1)
except NVMLError_NotFound: beyond = True
parent = nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig)
tell([nvmlDeviceGetCount(), nvmlDeviceGetMigMode(h), nvmlDeviceGetUUID(mig), nvmlDeviceGetGpuInstanceId(mig),
      nvmlDeviceGetComputeInstanceId(mig), nvmlDeviceGetUUID(parent), beyond])
"""
    assert told(lines) == [1, [1, 1], "MIG-1", 5, 6, "GPU-1", True]


def test_a_lost_neighbour_fails_the_search_by_uuid(told: Told) -> None:
    """As in the driver, which is why the product never searches so."""
    told.double.set(gpus=[GpuState(uuid="GPU-0", returns={EVERY: 15}), GPU])
    lines = """
nvmlInit()
try: nvmlDeviceGetHandleByUUID("GPU-1")
except NVMLError_GpuIsLost: tell("lost")
"""
    assert told(lines) == "lost"


def test_a_handle_outlives_the_state_it_came_from(told: Told, tmp_path: Path) -> None:
    """A call sees the state of its own moment; a GPU that went is lost."""
    other = tmp_path / "other"
    other.mkdir()
    later = NvmlDouble(other)
    later.set(gpus=[GpuState(uuid="GPU-1", memory_used_bytes=77, processes=[ProcessState(8, None)])])
    lines = f"""
import os
nvmlInit()
h = nvmlDeviceGetHandleByIndex(0)
before = nvmlDeviceGetMemoryInfo(h).used
os.replace({str(other / "nvml-state")!r}, os.environ["NVML_DOUBLE_STATE"])
after = nvmlDeviceGetMemoryInfo(h).used, nvmlDeviceGetComputeRunningProcesses(h)[0].usedGpuMemory
os.unlink(os.environ["NVML_DOUBLE_STATE"])
try: nvmlDeviceGetMemoryInfo(h)
except NVMLError_GpuIsLost: tell([before, *after, nvmlDeviceGetCount()])
"""
    assert told(lines) == [30, 77, None, 0]


def test_nothing_works_before_the_initialisation(told: Told) -> None:
    """UNINITIALIZED, as from the driver's library."""
    lines = """
import pynvml
pynvml._LoadNvmlLibrary()
try: nvmlDeviceGetCount()
except NVMLError_Uninitialized: tell("uninitialised")
"""
    assert told(lines) == "uninitialised"


def test_an_xid_is_delivered_once_and_only_after_registration(told: Told, tmp_path: Path) -> None:
    """What happened before is not told, what happens while waiting is, then the wait times out."""
    later = tmp_path / "later"
    later.mkdir()
    future = NvmlDouble(later)
    old, fresh = Xid("GPU-1", 13, 1), [Xid("GPU-1", 79, 2), Xid("GPU-9", 48, 3), Xid("GPU-1", 31, 4)]
    told.double.set(gpus=[GPU], xids=[old])
    future.set(gpus=[GPU], xids=[old, *fresh])
    lines = f"""
import os
nvmlInit()
h = nvmlDeviceGetHandleByIndex(0)
events = nvmlEventSetCreate()
nvmlDeviceRegisterEvents(h, nvmlDeviceGetSupportedEventTypes(h) & nvmlEventTypeXidCriticalError, events)
def wait():
    try:
        data = nvmlEventSetWait_v2(events, 50)
        return [nvmlDeviceGetUUID(data.device), data.eventType, data.eventData]
    except NVMLError_Timeout:
        return None
first = wait()
os.replace({str(later / "nvml-state")!r}, os.environ["NVML_DOUBLE_STATE"])
got = [first, wait(), wait(), wait()]
nvmlEventSetFree(events)
tell(got)
"""
    assert told(lines) == [None, ["GPU-1", 8, 79], ["GPU-1", 8, 31], None]


def test_a_call_is_held_as_long_as_the_state_says(told: Told) -> None:
    """A function's own hang holds it and no other."""
    told.double.set(gpus=[GPU], hang={"nvmlDeviceGetCount_v2": 2.0})
    lines = """
import time
nvmlInit()
began = time.monotonic(); nvmlSystemGetDriverVersion(); quick = time.monotonic() - began
began = time.monotonic(); nvmlDeviceGetCount(); tell([quick < 1.9, time.monotonic() - began >= 2.0])
"""
    assert told(lines) == [True, True]


def test_samples_are_told_that_are_newer_than_asked_for(told: Told) -> None:
    """Each sample an entry; NOT_FOUND where there is none; a partitioned GPU has none to tell."""
    samples = [SampleState(7, 30, age=60.0), SampleState(7, 50), SampleState(8, 120)]
    told.double.set(gpus=[GpuState(uuid="GPU-0", samples=samples), GPU])
    lines = """
import time
nvmlInit()
h, partitioned = nvmlDeviceGetHandleByIndex(0), nvmlDeviceGetHandleByIndex(1)
nvmlDeviceGetCount()
def asked(handle, since):
    try: return [[each.pid, each.smUtil] for each in nvmlDeviceGetProcessUtilization(handle, since)]
    except NVMLError as error: return error.value
now = int(time.time() * 1e6)
tell([asked(h, 0), asked(h, now - 30_000_000), asked(h, now + 1_000_000), asked(partitioned, 0)])
"""
    assert told(lines) == [[[7, 30], [7, 50], [8, 120]], [[7, 50], [8, 120]], 6, 3]


def test_a_gpu_has_rows_to_remap_or_pages_to_retire(told: Told) -> None:
    """Ampere and later remap rows, older ones retire pages, and neither answers the other's question."""
    told.double.set(gpus=[GpuState(uuid="GPU-0"), GpuState(uuid="GPU-1", retired=True)])
    lines = """
nvmlInit()
def asked(function, index):
    try: return function(nvmlDeviceGetHandleByIndex(index))
    except NVMLError as error: return error.value
tell([asked(f, i) for f in (nvmlDeviceGetRemappedRows, nvmlDeviceGetRetiredPagesPendingStatus) for i in (0, 1)])
"""
    assert told(lines) == [[0, 0, 0, 0], 3, 3, 1]


def test_an_entry_names_the_instances_it_is_given(told: Told) -> None:
    """Its device's own, unless the state says others; the same of an Xid."""
    processes = [ProcessState(8, 1), ProcessState(9, 2, instance=(3, 4))]
    told.double.set(gpus=[GpuState(uuid="GPU-1", processes=processes)])
    lines = """
nvmlInit()
listed = nvmlDeviceGetComputeRunningProcesses(nvmlDeviceGetHandleByIndex(0))
tell([[each.pid, each.gpuInstanceId, each.computeInstanceId] for each in listed])
"""
    assert told(lines) == [[8, 0xFFFFFFFF, 0xFFFFFFFF], [9, 3, 4]]


def test_an_older_library_really_lacks_what_came_later(tmp_path: Path) -> None:
    """The binding's look-up of the symbol fails, as with that driver."""
    lines = """
import pynvml
pynvml._LoadNvmlLibrary()
names = ["nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses_v3",
         "nvmlDeviceGetCurrentClocksThrottleReasons", "nvmlDeviceGetCurrentClocksEventReasons",
         "nvmlDeviceGetRemappedRows", "nvmlEventSetWait_v2"]
tell([hasattr(pynvml.nvmlLib, name) for name in names])
"""
    assert Told(tmp_path, 440)(lines) == [False, False, True, False, False, False]
    assert Told(tmp_path, 470)(lines) == [True, False, True, False, True, True]
    assert Told(tmp_path, 570)(lines) == [True] * 6


def test_the_first_builds_of_535_list_what_the_binding_misreads(tmp_path: Path) -> None:
    """Entries of 32 bytes where it expects 24: garbage in the third version, sound in the second."""
    told = Told(tmp_path, 535)
    told.double.set(gpus=[GpuState(uuid="GPU-1", processes=[ProcessState(8, 1), ProcessState(9, 2)])])
    lines = """
nvmlInit()
h = nvmlDeviceGetHandleByIndex(0)
tell([[each.pid for each in function(h)] for function in
      (nvmlDeviceGetComputeRunningProcesses_v3, nvmlDeviceGetComputeRunningProcesses_v2)])
"""
    assert told(lines) == [[8, 0], [8, 9]]


@pytest.mark.parametrize("broken", ["nvmlShutdown()", "nvmlEventSetFree(events)"])
def test_what_a_wait_still_reads_may_not_be_freed(told: Told, broken: str) -> None:
    """The process dies of it: so that nobody who does it passes a test."""
    lines = f"""
import pynvml, threading, time
nvmlInit()
events = nvmlEventSetCreate()
threading.Thread(target=nvmlEventSetWait_v2, args=(events, 60000), daemon=True).start()
while not pynvml.nvmlLib.nvmlDoubleWaiting(): time.sleep(0.01)
{broken}
"""
    assert told.ran(lines).returncode == -6


def test_events_that_a_gpu_does_not_have_can_not_be_registered(told: Told) -> None:
    """Neither of a GPU without them, nor of a MIG device."""
    told.double.set(gpus=[msgspec.structs.replace(GPU, events=0)])
    lines = """
nvmlInit()
events = nvmlEventSetCreate()
h = nvmlDeviceGetHandleByIndex(0)
def asked(handle):
    try: return nvmlDeviceRegisterEvents(handle, 8, events)
    except NVMLError as error: return error.value
each = [h, nvmlDeviceGetMigDeviceHandleByIndex(h, 0)]
tell([[nvmlDeviceGetSupportedEventTypes(one), asked(one)] for one in each])
"""
    assert told(lines) == [[0, 3], [0, 3]]
