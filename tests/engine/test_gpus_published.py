"""GPUs as they are published: their health, their Xids in the counters, and what they do to the gates."""

from __future__ import annotations

from probe.engine.publishing import Publisher
from probe.facts.gates import Gate
from probe.facts.models import InstanceKind
from probe.facts.nvml import NvmlState
from probe.facts.status import Snapshot
from probe.settings import Settings
from tests.worlds import GIB, START, World, gpu, python_model, server, serving

ON_GPU = python_model("m", 1, InstanceKind.GPU, (0,))


def published(world: World) -> Snapshot:
    """The first snapshot of this moment."""
    return Publisher(Settings(), "1.2.3", START).snapshot(world.seen, {})


def well(world: World) -> dict[str, bool | None]:
    """What is said of each GPU's health, judged as the publisher does it."""
    status = published(world).status
    return {each.uuid: each.ok for each in status.gpus}


def test_a_gpu_is_well_where_the_driver_would_say_otherwise() -> None:
    """By its recovery action or by Xids; an answer alone is no health, and an error of another kind no sickness."""
    told = (gpu("GPU-a", recovery_action="none"), gpu("GPU-b"), gpu("GPU-c", error="TIMEOUT"))
    assert well(serving(ON_GPU).looks(*told)) == {"GPU-a": True, "GPU-b": None, "GPU-c": None}
    assert well(serving(ON_GPU).looks(*told, xids_told=True)) == {"GPU-a": True, "GPU-b": True, "GPU-c": None}
    assert well(serving(ON_GPU).looks(*told, xids_told=False))["GPU-b"] is None


def test_a_gpu_is_unwell_with_a_critical_finding_and_where_it_can_not_be_used() -> None:
    """The latter whosever it is; an Xid of a program leaves it well."""
    ours = serving(ON_GPU, server=server(minors=(0,)))
    lost = gpu("GPU-b", minor=1, error="GPU_IS_LOST")
    assert well(ours.looks(gpu(minor=0, recovery_action="none"), lost)) == {"GPU-a": True, "GPU-b": False}
    fine = ours.looks(gpu(processes={100: GIB}, minor=0, recovery_action="none", memory_used_bytes=GIB))
    assert well(fine.xid(31)) == {"GPU-a": True}
    assert well(fine.xid(95)) == {"GPU-a": False}


def test_a_part_of_a_gpu_is_as_well_as_the_whole() -> None:
    """Its recovery action is that of the whole."""
    part = gpu("MIG-1", mig=True, parent="GPU-a")
    world = serving(ON_GPU)
    assert well(world.looks(gpu(recovery_action="none"), part)) == {"GPU-a": True, "MIG-1": True}
    assert well(world.looks(gpu(recovery_action="gpu_reset"), part)) == {"GPU-a": False, "MIG-1": False}
    assert well(world.looks(part)) == {"MIG-1": None}


def test_an_xid_of_the_hardware_fails_ready_at_once_and_the_delay_is_taken() -> None:
    """From the driver's report to the gate; live stays open for as long as it may last."""
    ours = serving(ON_GPU, server=server(minors=(0,))).looks(
        gpu(processes={100: GIB}, minor=0, recovery_action="none", memory_used_bytes=GIB)
    )
    publisher = Publisher(Settings(), "1.2.3", START)
    assert publisher.snapshot(ours.seen, {}).status.gates[Gate.READY].ok
    hit = publisher.snapshot(ours.xid(95).seen, {})
    assert not hit.status.gates[Gate.READY].ok
    assert hit.tallies.delays["GpuXid"].total == 1.0
    assert hit.tallies.xids == {("GPU-a", "95"): 1}
    hour = publisher.snapshot(ours.xid(95).later(3500.0).seen, {})
    assert hour.status.gates[Gate.LIVE].ok
    (found,) = (each for each in hour.status.findings if each.reason == "GpuXid")
    assert (found.gates, found.pending) == ((Gate.READY,), ())


def test_a_lost_gpu_keeps_ready_closed_over_a_restart_and_a_dead_nvml() -> None:
    """The next tritonserver gets the same GPU; a look that fails tells nothing of it."""
    lost = gpu(minor=0, error="GPU_IS_LOST")
    world = serving(ON_GPU, server=server(minors=(0,))).looks(lost)
    publisher = Publisher(Settings(), "1.2.3", START)
    first = publisher.snapshot(world.seen, {})
    assert not first.status.gates[Gate.READY].ok
    silent = world.later(60.0).looks(state=NvmlState.HUNG)
    assert not publisher.snapshot(silent.seen, {}).status.gates[Gate.READY].ok
    restarted = (
        silent.server_exits(signal=9).having(server=server(pid=77, minors=(0,))).scans().polls().asks()
    )
    told = publisher.snapshot(restarted.scans().seen, {}).status
    assert told.triton.epoch == first.status.triton.epoch + 1
    (found,) = (each for each in told.findings if each.reason == "GpuLost")
    assert found.gates == (Gate.READY,)
