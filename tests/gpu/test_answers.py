"""What the driver answers to the probe's own NVML source, and to what the source does not ask yet."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

import pynvml
import pytest

from probe.facts.nvml import NvmlReading, NvmlState
from probe.sources.nvml.source import NvmlSource
from tests.gpu.conftest import Tell

RECOVERY_ACTION = 230


async def look() -> NvmlReading:
    """Two looks by a helper of its own: what is told since the last look is told in the second."""
    source = NvmlSource()
    try:
        await source.look()
        await asyncio.sleep(1)
        return await source.look()
    finally:
        await source.close()


async def test_the_source_reads_every_gpu(gpu: str, driver: str, tell: Tell) -> None:
    """A good reading with the driver's release, and each GPU with a name, its memory and a list."""
    reading = await look()
    assert reading.state is NvmlState.OK, reading.detail
    assert reading.driver_version == driver
    tell("events of Xids are told", reading.xids_told)
    for each in reading.gpus:
        tell("a GPU", each)
    first = next(each for each in reading.gpus if each.uuid == gpu)
    assert first.name
    assert first.minor is not None
    assert first.error is None
    assert first.processes is not None or any(each.parent == gpu or each.mig for each in reading.gpus)
    total, used = first.memory_total_bytes, first.memory_used_bytes
    if total is not None and used is not None:  # GPUs without memory of their own tell none
        assert 0 <= used <= total


@pytest.fixture
def handle(gpu: str) -> Any:  # noqa: ANN401 - the binding is untyped
    """The first GPU, in a session of NVML."""
    pynvml.nvmlInit()
    yield pynvml.nvmlDeviceGetHandleByIndex(0)
    pynvml.nvmlShutdown()


Question = Callable[[Any], object]

QUESTIONS: dict[str, Question] = {
    "field 230, recovery action": lambda handle: (
        (field := pynvml.nvmlDeviceGetFieldValues(handle, [RECOVERY_ACTION])[0]).nvmlReturn,
        field.value.uiVal,
    ),
    "uncorrected ECC errors, volatile": lambda handle: pynvml.nvmlDeviceGetTotalEccErrors(handle, 1, 0),
    "uncorrected ECC errors, aggregate": lambda handle: pynvml.nvmlDeviceGetTotalEccErrors(handle, 1, 1),
    "remapped rows": pynvml.nvmlDeviceGetRemappedRows,
    "retired pages pending": pynvml.nvmlDeviceGetRetiredPagesPendingStatus,
    "clock event reasons": lambda handle: hex(pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)),
    "supported event types": lambda handle: hex(pynvml.nvmlDeviceGetSupportedEventTypes(handle)),
    "MIG mode": pynvml.nvmlDeviceGetMigMode,
    "memory, version 2": lambda handle: str(pynvml.nvmlDeviceGetMemoryInfo(handle, pynvml.nvmlMemory_v2)),
    "samples of processes": lambda handle: [
        (each.pid, each.timeStamp, each.smUtil)
        for each in pynvml.nvmlDeviceGetProcessUtilization(handle, int((time.time() - 2) * 1e6))
    ],
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_driver_answers_or_says_that_it_has_no_such_thing(
    handle: Any,  # noqa: ANN401
    question: str,
    tell: Tell,
) -> None:
    """An answer, or one of the codes that mean "not here": never one of a broken driver."""
    code, answer = _asked(QUESTIONS[question], handle)
    tell(question, f"code {code}" if code else answer)
    assert code in {
        0,
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_NOT_FOUND,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    }


def _asked(question: Question, handle: Any) -> tuple[int, object]:  # noqa: ANN401
    try:
        return 0, question(handle)
    except pynvml.NVMLError as error:
        return int(error.value), None


def test_events_of_xids_can_be_waited_for(handle: Any, tell: Tell) -> None:  # noqa: ANN401
    """Registration needs no privilege outside of MIG, and a quiet second is a timeout."""
    supported = pynvml.nvmlDeviceGetSupportedEventTypes(handle)
    events = pynvml.nvmlEventSetCreate()
    try:
        pynvml.nvmlDeviceRegisterEvents(handle, supported & pynvml.nvmlEventTypeXidCriticalError, events)
        with pytest.raises(pynvml.NVMLError) as quiet:
            pynvml.nvmlEventSetWait_v2(events, 1000)
        assert quiet.value.value == pynvml.NVML_ERROR_TIMEOUT
    finally:
        pynvml.nvmlEventSetFree(events)
    tell("effective uid that could register", os.geteuid())
