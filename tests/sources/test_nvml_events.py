"""Xids come at once, whatever else the driver does; and no wait for them ends a look, or a session badly."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from probe.facts.nvml import NvmlState
from probe.kits.clocks import now
from probe.sources.nvml.helper import HELD
from probe.sources.nvml.source import NvmlSource
from testbed.nvml.double import EVERY, FOREVER, GpuState, MigState, NvmlDouble, ProcessState, Xid
from tests.sources.nvml_looks import Heard, helper_after, helpers, look_until, look_until_told, until

GPU = GpuState(uuid="GPU-1")
WAIT = "nvmlEventSetWait_v2"
SHORTER = "from probe.sources.nvml import events, session\n"


@pytest.fixture
async def source(double: NvmlDouble) -> AsyncIterator[NvmlSource]:
    """Lend a source that waits patiently, of a machine with one GPU."""
    double.set(gpus=[GPU])
    source = NvmlSource(deadline=60)
    yield source
    await source.close()


@pytest.fixture
def heard(source: NvmlSource) -> Heard:
    """Listen to it."""
    return Heard(source)


async def test_an_xid_comes_while_nobody_looks(source: NvmlSource, double: NvmlDouble, heard: Heard) -> None:
    """With its code, its GPU and the moment of its coming; each once, in the order they happened."""
    double.set(gpus=[GPU], xids=[Xid("GPU-1", 13, 1)])
    await look_until_told(source)
    assert heard.xids == []  # from before the registration
    before = now()
    double.set(gpus=[GPU], xids=[Xid("GPU-1", 13, 1), Xid("GPU-1", 79, 2), Xid("GPU-1", 48, 3)])
    await until(lambda: len(heard.xids) == 2)
    assert heard.codes == [79, 48]
    assert {each.uuid for each in heard.xids} == {"GPU-1"}
    assert {(each.gpu_instance, each.compute_instance) for each in heard.xids} == {(None, None)}
    assert before.mono <= heard.xids[0].observed.mono <= now().mono


async def test_xids_go_on_while_a_look_hangs(double: NvmlDouble) -> None:
    """A GPU that hangs its questions is the very one whose Xid matters."""
    source = NvmlSource(deadline=0.3)
    heard = Heard(source)
    double.set(gpus=[GPU])
    await look_until_told(source)
    hang = {"nvmlDeviceGetMemoryInfo": FOREVER, "nvmlDeviceGetUUID": FOREVER}
    double.set(gpus=[GpuState(uuid="GPU-1", hang=hang)])
    assert (await source.look()).state is NvmlState.HUNG
    double.set(gpus=[GpuState(uuid="GPU-1", hang=hang)], xids=[Xid("GPU-1", 119, 1)])
    await until(lambda: heard.codes == [119])
    assert (await source.look()).state is NvmlState.HUNG
    assert len(helpers()) == 1
    await source.close()


async def test_looks_go_on_while_the_wait_for_xids_hangs(double: NvmlDouble) -> None:
    """They answer as ever; that no Xid will be told is known after a while."""
    shorter = f"{SHORTER}events.WAIT_SECONDS = 0.1\nevents._OVERDUE_SECONDS = 1.0"
    source = NvmlSource(deadline=60, command=helper_after(shorter))
    double.set(gpus=[GPU])
    await look_until_told(source)
    pid = source.pid
    double.set(gpus=[GPU], hang={WAIT: FOREVER})
    silent = await look_until(source, lambda reading: reading.xids_told is False)
    assert (silent.state, [gpu.error for gpu in silent.gpus]) == (NvmlState.OK, [None])
    double.set(gpus=[GPU])
    await look_until_told(source)
    assert source.pid == pid
    await source.close()


async def test_looks_go_on_while_registering_hangs(double: NvmlDouble) -> None:
    """The first look has its answer; whether Xids are told is not known yet."""
    double.set(gpus=[GPU], hang={"nvmlDeviceRegisterEvents": FOREVER})
    source = NvmlSource(deadline=60)
    heard = Heard(source)
    for _ in range(2):
        reading = await source.look()
        assert (reading.state, reading.xids_told) == (NvmlState.OK, None)
    double.set(gpus=[GPU])
    await look_until_told(source)
    double.set(gpus=[GPU], xids=[Xid("GPU-1", 31, 1)])
    await until(lambda: heard.codes == [31])
    await source.close()


async def test_a_wait_that_errs_is_told_and_tried_again(double: NvmlDouble) -> None:
    """Looks are as ever; once the wait works again, so do Xids, those of the meantime too."""
    source = NvmlSource(deadline=60, command=helper_after(f"{SHORTER}events._PAUSE_SECONDS = 0.1"))
    heard = Heard(source)
    double.set(gpus=[GPU])
    await look_until_told(source)
    double.set(gpus=[GPU], returns={WAIT: 15}, xids=[Xid("GPU-1", 31, 1)])
    silent = await look_until(source, lambda reading: reading.xids_told is False)
    assert (silent.state, [gpu.error for gpu in silent.gpus]) == (NvmlState.OK, [None])
    double.set(gpus=[GPU], xids=[Xid("GPU-1", 31, 1)])
    await look_until_told(source)
    await until(lambda: heard.codes == [31])
    await source.close()


@pytest.mark.parametrize(("error", "told", "spacing"), [("TIMEOUT", True, 0.5), ("UNKNOWN", False, 5.0)])
async def test_a_wait_that_comes_back_at_once_does_not_spin(
    double: NvmlDouble, tmp_path: Path, *, error: str, told: bool, spacing: float
) -> None:
    """As interrupted waits do, and waits in a broken driver."""
    count = tmp_path / "waits"
    counting = f"""
import pynvml
def wait(events, milliseconds):
    with open({str(count)!r}, "ab") as file: file.write(b".")
    raise pynvml.NVMLError(pynvml.NVML_ERROR_{error})
pynvml.nvmlEventSetWait_v2 = wait
"""
    source = NvmlSource(deadline=60, command=helper_after(counting))
    double.set(gpus=[GPU])
    began = time.monotonic()
    await look_until(
        source,
        lambda reading: reading.xids_told is told and time.monotonic() > began + 1 and count.exists(),
    )
    assert 1 <= count.stat().st_size <= 1 + (time.monotonic() - began) / spacing
    await source.close()


@pytest.mark.parametrize(
    "gpu",
    [
        GpuState(uuid="GPU-1", events=0),
        GpuState(uuid="GPU-1", returns={"nvmlDeviceRegisterEvents": 3}),
        GpuState(uuid="GPU-1", returns={"nvmlDeviceGetSupportedEventTypes": 13}),
        GpuState(uuid="GPU-1", migs=[MigState(uuid="MIG-1")], returns={"nvmlDeviceRegisterEvents": 4}),
    ],
    ids=["no Xids", "refused", "no such function", "partitioned"],
)
async def test_a_gpu_that_tells_of_no_xids_is_no_error(
    source: NvmlSource, double: NvmlDouble, gpu: GpuState
) -> None:
    """As in WSL, or without the privilege that a partitioned GPU asks for."""
    double.set(gpus=[gpu])
    reading = await look_until(source, lambda reading: reading.xids_told is not None)
    assert reading.xids_told is False
    assert {each.error for each in reading.gpus} == {None}


@pytest.mark.parametrize("lacking", ["SetCreate", "SetWait_v2"])
async def test_a_binding_that_can_not_wait_for_events_is_no_error(double: NvmlDouble, lacking: str) -> None:
    """Nor is a driver that can not; looks are as ever."""
    double.set(gpus=[GPU])
    lines = f"import pynvml\ndel pynvml.nvmlEvent{lacking}"
    source = NvmlSource(deadline=60, command=helper_after(lines))
    reading = await look_until(source, lambda reading: reading.xids_told is False)
    assert reading.state is NvmlState.OK
    assert source.pid is not None
    helper = psutil.Process(source.pid)
    await until(lambda: helper.num_threads() == 1)  # nothing is left to wait for
    await source.close()


async def test_an_old_driver_tells_of_no_xids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """440 has no function to wait with."""
    double = NvmlDouble(tmp_path, release=440)
    for name, value in double.environment.items():
        monkeypatch.setenv(name, value)
    double.set(gpus=[GPU])
    source = NvmlSource(deadline=60)
    reading = await look_until(source, lambda reading: reading.xids_told is False)
    assert reading.state is NvmlState.OK
    await source.close()


async def test_without_gpus_nobody_can_say_whether_xids_are_told(
    source: NvmlSource, double: NvmlDouble
) -> None:
    """Not known, rather than not told."""
    double.set()
    assert [(await source.look()).xids_told for _ in range(3)] == [None] * 3


async def test_a_gpu_that_came_after_the_registration_is_not_told_of(
    source: NvmlSource, double: NvmlDouble
) -> None:
    """Of the others Xids still come, but it would be false to say so of all."""
    await look_until_told(source)
    double.set(gpus=[GPU, GpuState(uuid="GPU-2", minor=1)])
    assert (await source.look()).xids_told is False


@pytest.mark.parametrize("others", [[GPU], []], ids=["beside another", "alone"])
async def test_a_gpu_that_came_back_is_registered_by_a_new_session(
    double: NvmlDouble, others: list[GpuState]
) -> None:
    """Lost when it was to be registered, and sound since: after a while its Xids are told as well."""
    shorter = f"{SHORTER}events.WAIT_SECONDS = 0.1\nsession._RENEW_SECONDS = 0.5"
    source = NvmlSource(deadline=60, command=helper_after(shorter))
    heard = Heard(source)
    lost = GpuState(uuid="GPU-2", minor=1, returns={"nvmlDeviceRegisterEvents": 15})
    double.set(gpus=[*others, lost])
    await look_until(source, lambda reading: reading.xids_told is False)
    gpus = [*others, GpuState(uuid="GPU-2", minor=1)]
    double.set(gpus=gpus)
    await look_until_told(source)
    double.set(gpus=gpus, xids=[Xid("GPU-2", 48, 1)])
    await until(lambda: heard.codes == [48])
    await source.close()


async def test_a_gpu_without_events_costs_no_new_sessions(double: NvmlDouble, tmp_path: Path) -> None:
    """That it refused is for good; nor does a GPU of someone else."""
    log = tmp_path / "sessions"
    shorter = f"""{SHORTER}events.WAIT_SECONDS = 0.1
session._RENEW_SECONDS = 0.0
import pynvml
begin = pynvml.nvmlInitWithFlags
def counted(flags):
    with open({str(log)!r}, "ab") as file: file.write(b".")
    return begin(flags)
pynvml.nvmlInitWithFlags = counted
"""
    source = NvmlSource(deadline=60, command=helper_after(shorter))
    deaf = GpuState(uuid="GPU-2", minor=1, events=0)
    double.set(gpus=[GPU, deaf, GpuState(uuid="GPU-3", returns={EVERY: 4})])
    await look_until(source, lambda reading: reading.xids_told is False)
    for _ in range(5):
        assert [gpu.error for gpu in (await source.look()).gpus] == [None, None]
    assert log.read_bytes() == b"."
    await source.close()


async def test_a_lost_gpu_takes_no_xids_from_its_neighbour(
    source: NvmlSource, double: NvmlDouble, heard: Heard
) -> None:
    """Registered without it; its own loss is told as its error."""
    lost = GpuState(uuid="GPU-0", returns={EVERY: 15})
    double.set(gpus=[lost, GPU])
    reading = await look_until_told(source)
    assert [gpu.error for gpu in reading.gpus] == ["GPU_IS_LOST", None]
    double.set(gpus=[lost, GPU], xids=[Xid("GPU-1", 48, 1)])
    await until(lambda: [(each.uuid, each.code) for each in heard.xids] == [("GPU-1", 48)])


async def test_an_xid_of_a_mig_device_names_its_instances(
    source: NvmlSource, double: NvmlDouble, heard: Heard
) -> None:
    """The GPU is the whole one."""
    gpu = GpuState(uuid="GPU-1", migs=[MigState(uuid="MIG-1", gpu_instance=5)])
    double.set(gpus=[gpu])
    await look_until_told(source)
    double.set(gpus=[gpu], xids=[Xid("GPU-1", 94, 1, instance=(5, 0))])
    await until(lambda: heard.xids)
    (xid,) = heard.xids
    assert (xid.uuid, xid.code, xid.gpu_instance, xid.compute_instance) == ("GPU-1", 94, 5, 0)


async def test_a_new_session_waits_for_xids_anew(
    source: NvmlSource, double: NvmlDouble, heard: Heard
) -> None:
    """After the driver was loaded again, in the same helper, which dies of nothing that it freed."""
    await look_until_told(source)
    assert source.pid is not None
    helper = psutil.Process(source.pid)
    files = min(helper.num_fds() for _ in range(20))
    for epoch in (1, 2):
        double.set(gpus=[GPU], epoch=epoch)
        assert (await source.look()).state is NvmlState.UNKNOWN_ERROR
        await look_until_told(source)
        double.set(gpus=[GPU], epoch=epoch, xids=[Xid("GPU-1", epoch, epoch)])
        await until(lambda epoch=epoch: heard.codes[-1:] == [epoch])  # type: ignore[misc]
    assert heard.codes == [1, 2]
    assert source.pid == helper.pid
    # And lets go of the old one; that the double reads its state is one more for a moment.
    await until(lambda: helper.num_fds() == files)


async def test_a_broken_session_that_a_wait_holds_costs_the_helper(double: NvmlDouble) -> None:
    """What the wait still reads is not freed under it: the helper ends, and the next one has the GPUs."""
    shorter = f"{SHORTER}events.WAIT_SECONDS = 0.2"
    source = NvmlSource(deadline=60, command=helper_after(shorter))
    heard = Heard(source)
    double.set(gpus=[GPU])
    await look_until_told(source)
    pid = source.pid
    double.set(gpus=[GPU], hang={WAIT: FOREVER}, epoch=1)
    assert (await source.look()).state is NvmlState.UNKNOWN_ERROR
    reading = await look_until(source, lambda reading: reading.state is NvmlState.ERROR)
    assert f"exit status {HELD}" in reading.detail
    double.set(gpus=[GPU], epoch=1)
    await look_until_told(source)
    assert source.pid != pid
    double.set(gpus=[GPU], epoch=1, xids=[Xid("GPU-1", 31, 1)])
    await until(lambda: heard.codes == [31])
    await source.close()


async def test_a_session_in_which_only_a_gpu_fails_is_not_left_under_a_wait(double: NvmlDouble) -> None:
    """The other GPU answers as ever by the old one, and once the wait comes back a new one is begun."""
    shorter = f"{SHORTER}events.WAIT_SECONDS = events._PAUSE_SECONDS = 0.1\nsession._RENEW_SECONDS = 0.2"
    source = NvmlSource(deadline=60, command=helper_after(shorter))
    heard = Heard(source)
    failing = GpuState(uuid="GPU-2", minor=1, returns={"nvmlDeviceGetMemoryInfo": 999})
    double.set(gpus=[GPU, failing], hang={WAIT: FOREVER})
    await look_until(source, lambda reading: reading.xids_told is False)  # asked to leave
    pid = source.pid
    for _ in range(5):
        reading = await source.look()
        assert [gpu.error for gpu in reading.gpus] == [None, "UNKNOWN"]
    double.set(gpus=[GPU, failing])
    await look_until_told(source)
    double.set(gpus=[GPU], xids=[Xid("GPU-1", 31, 1)])
    await until(lambda: heard.codes == [31])
    assert source.pid == pid
    await source.close()


async def test_a_session_whose_wait_was_left_late_is_begun_anew_though_all_gpus_are_well(
    double: NvmlDouble,
) -> None:
    """The wait came back only when the GPU had recovered: nobody waits any more, and that must not last."""
    shorter = f"{SHORTER}events.WAIT_SECONDS = events._PAUSE_SECONDS = 0.1\nsession._RENEW_SECONDS = 0.2"
    source = NvmlSource(deadline=60, command=helper_after(shorter))
    heard = Heard(source)
    failing = GpuState(uuid="GPU-2", minor=1, returns={"nvmlDeviceGetMemoryInfo": 999})
    double.set(gpus=[GPU, failing], hang={WAIT: FOREVER})
    await look_until(source, lambda reading: reading.xids_told is False)  # asked to leave
    well = [GPU, GpuState(uuid="GPU-2", minor=1)]
    double.set(gpus=well, hang={WAIT: FOREVER})
    assert [gpu.error for gpu in (await source.look()).gpus] == [None, None]
    double.set(gpus=well)
    await look_until_told(source)
    double.set(gpus=well, xids=[Xid("GPU-2", 31, 1)])
    await until(lambda: heard.codes == [31])
    await source.close()


@pytest.mark.parametrize("broken", ["nvmlEventSetWait_v2", "nvmlEventSetCreate"])
async def test_what_broke_the_wait_alone_is_mended_by_a_new_session(double: NvmlDouble, broken: str) -> None:
    """Looks go on as if nothing were wrong; a first session that can not wait must not be the last."""
    breaking = f"""{SHORTER}
events.WAIT_SECONDS = events._PAUSE_SECONDS = 0.1
events._OVERDUE_SECONDS = session._RENEW_SECONDS = 0.5
import pynvml
begin, right, sessions = pynvml.nvmlInitWithFlags, pynvml.{broken}, []
def counted(flags):
    sessions.append(flags)
    return begin(flags)
def fails_at_first(*arguments):
    if len(sessions) == 1:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)
    return right(*arguments)
pynvml.nvmlInitWithFlags, pynvml.{broken} = counted, fails_at_first
"""
    source = NvmlSource(deadline=60, command=helper_after(breaking))
    double.set(gpus=[GPU])
    silent = await look_until(source, lambda reading: reading.xids_told is False)
    assert [gpu.error for gpu in silent.gpus] == [None]
    pid = source.pid
    await look_until_told(source)
    assert source.pid == pid
    await source.close()


async def test_the_next_helper_waits_for_xids_too(
    source: NvmlSource, double: NvmlDouble, heard: Heard
) -> None:
    """One that was killed is followed by one that registers with its first look."""
    await look_until_told(source)
    assert source.pid is not None
    os.kill(source.pid, signal.SIGKILL)
    await look_until(source, lambda reading: reading.state is NvmlState.ERROR)
    await look_until_told(source)
    double.set(gpus=[GPU], xids=[Xid("GPU-1", 31, 1)])
    await until(lambda: heard.codes == [31])


async def test_long_answers_and_many_xids_do_not_mix(
    source: NvmlSource, double: NvmlDouble, heard: Heard
) -> None:
    """Two threads write, and each line comes out whole."""
    gpus = [
        GpuState(uuid=f"GPU-{n}", processes=[ProcessState(pid, pid << 30) for pid in range(1, 951)])
        for n in range(8)
    ]
    double.set(gpus=gpus)
    await look_until_told(source)
    double.set(gpus=gpus, xids=[Xid(f"GPU-{n % 8}", n, n) for n in range(1, 2001)])
    while len(heard.xids) < 2000:
        reading = await source.look()
        assert [len(gpu.processes or ()) for gpu in reading.gpus] == [950] * 8
    assert heard.codes == list(range(1, 2001))


async def test_a_listener_that_fails_costs_neither_the_look_nor_the_next_xid(
    source: NvmlSource, double: NvmlDouble
) -> None:
    """What it raises goes where the loop's errors go."""
    codes: list[int] = []
    errors: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: errors.append(str(told["exception"])))

    def listen(xid: object) -> None:
        codes.append(getattr(xid, "code", 0))
        raise ValueError("deaf")

    source.listen(listen)
    await look_until_told(source)
    double.set(gpus=[GPU], xids=[Xid("GPU-1", 13, 1), Xid("GPU-1", 31, 2)])
    await until(lambda: codes == [13, 31])
    assert errors == ["deaf", "deaf"]
    assert (await source.look()).state is NvmlState.OK


async def test_xids_without_a_listener_go_nowhere(source: NvmlSource, double: NvmlDouble) -> None:
    """And disturb no look."""
    await look_until_told(source)
    double.set(gpus=[GPU], xids=[Xid("GPU-1", 13, 1)])
    for _ in range(3):
        assert (await source.look()).state is NvmlState.OK


async def test_closing_waits_for_no_event(source: NvmlSource) -> None:
    """The helper ends at once although a thread of it waits."""
    await look_until_told(source)
    assert source.pid is not None
    helper = psutil.Process(source.pid)
    assert helper.num_threads() == 2
    await source.close()
    await until(lambda: not helper.is_running())
