"""The ledger of GPUs: Xids by GPU and code, and each GPU from look to look."""

from __future__ import annotations

from typing import Any

import pytest

from probe.facts.models import InstanceKind
from probe.facts.nvml import Gpu, NvmlState, Xid
from probe.ledgers.gpu_records import GpuRecord
from probe.ledgers.gpus import XidRecord
from tests.worlds import GIB, SERVER_PID, World, gpu, python_model, server, serving

ON_GPU = python_model("m", 2, InstanceKind.GPU, (0,))
HOUR = 3600.0


def fine(uuid: str = "GPU-a", **more: Any) -> Gpu:  # noqa: ANN401
    """A GPU that answers and asks for nothing."""
    return gpu(uuid, {}, **{"recovery_action": "none", **more})


def record(world: World, uuid: str = "GPU-a") -> GpuRecord:
    """What is known of a GPU."""
    return world.book.gpus.records[uuid]


def xid(world: World, code: int, uuid: str = "GPU-a") -> XidRecord:
    """What is known of an Xid."""
    return world.book.gpus.of(uuid)[code]


# Xids


def test_xids_are_counted_by_gpu_and_code() -> None:
    """Each with when it came first and last; another GPU has its own."""
    world = World().xid(31).later(5.0).xid(31).xid(79, "GPU-b")
    told = world.book.gpus.of("GPU-a")
    assert told.keys() == {31}
    assert told[31].count == 2
    assert told[31].last.mono - told[31].first.mono == 6.0  # a word of the world takes a second
    assert world.book.gpus.of("GPU-b")[79].count == 1
    assert world.book.gpus.of("GPU-c") == {}


def test_an_xid_of_a_mig_instance_belongs_to_the_device_that_it_is() -> None:
    """By its GPU instance, whose memory compute instances share; its own compute instance comes first."""
    parts = [
        fine("MIG-1", mig=True, parent="GPU-a", gpu_instance=1, compute_instance=0),
        fine("MIG-2", mig=True, parent="GPU-a", gpu_instance=1, compute_instance=1),
        fine("MIG-3", mig=True, parent="GPU-a", gpu_instance=2, compute_instance=0),
    ]
    world = World().looks(gpu(), *parts).xid(95, "GPU-a", 1, 1).xid(95, "GPU-a", 2).xid(31, "GPU-a", 1, 9)
    assert {uuid: set(codes) for uuid, codes in world.book.gpus.xids.items()} == {
        "MIG-1": {31},
        "MIG-2": {95},
        "MIG-3": {95},
    }
    known = world.book.gpus.before(Xid(world.now, "GPU-a", 95, 1, 1))
    assert known is world.book.gpus.of("MIG-2")[95]
    assert world.book.gpus.before(Xid(world.now, "GPU-a", 95)) is None
    assert not xid(world, 95, "MIG-2").elsewhere


def test_an_xid_of_a_mig_instance_that_is_not_shown_here_is_elsewhere() -> None:
    """It stays with the GPU, marked."""
    part = fine("MIG-1", mig=True, parent="GPU-a", gpu_instance=1)
    world = World().looks(gpu(), part).xid(95, "GPU-a", 7, 0).xid(94)
    assert xid(world, 95).elsewhere
    assert not xid(world, 94).elsewhere
    assert xid(World().xid(95, "GPU-a", 7, 0), 95).elsewhere


def test_an_xid_remembers_who_was_on_the_gpu_when_it_came() -> None:
    """A tenant that it ended is gone with the next look."""
    crowded = gpu(processes={100: GIB, 7: GIB})
    world = serving(ON_GPU).looks(crowded).scans(existing=(7, 100)).looks(crowded).xid(95)
    assert (xid(world, 95).own, xid(world, 95).shared) == (True, True)
    later = world.looks(gpu(processes={100: GIB}, memory_used_bytes=GIB))
    assert xid(later, 95).shared is True
    assert xid(later.xid(95), 95).shared is False
    assert (xid(World().xid(95), 95).own, xid(World().xid(95), 95).shared) == (None, None)


# Looks


def test_a_failed_look_tells_nothing_of_any_gpu() -> None:
    """What was known stays, with its own moment."""
    world = World().looks(fine(error="GPU_IS_LOST"))
    after = world.looks(state=NvmlState.HUNG)
    assert after.book.gpus == world.book.gpus


def test_a_gpu_is_lost_until_it_answers_again() -> None:
    """Since when stays; an error that says something else is no answer."""
    world = World().looks(fine())
    assert record(world).lost_since is None
    lost = world.looks(fine(error="GPU_IS_LOST")).looks(fine(error="GPU_IS_LOST"))
    since = record(lost).lost_since
    assert since == world.now
    assert record(lost.looks(fine(error="TIMEOUT"))).lost_since == since
    assert record(lost.looks(fine(error="TIMEOUT"))).renewed is None
    back = lost.looks(fine())
    assert record(back).lost_since is None
    assert record(back).renewed == lost.now


def test_a_gpu_that_asks_for_a_recovery_has_recovered_when_it_asks_for_none() -> None:
    """Since when begins anew with another action."""
    first = World().looks(fine(recovery_action="gpu_reset"))
    second = first.looks(fine(recovery_action="node_reboot"))
    assert record(first).needs == "gpu_reset"
    assert record(second).needs == "node_reboot"
    assert record(second.looks(fine(recovery_action="node_reboot"))).needs_since == first.now
    healed = second.looks(fine())
    assert (record(healed).needs, record(healed).needs_since) == (None, None)
    assert record(healed).renewed == second.now
    assert record(first).renewed is None


def test_the_error_reset_required_asks_for_a_reset_unless_an_action_says_more() -> None:
    """Without a field for the action, an answer without the error is all that can tell that it is over."""
    plain = World().looks(gpu(error="RESET_REQUIRED"))
    assert record(plain).needs == "reset_required"
    assert record(plain.looks(gpu())).needs is None
    assert record(World().looks(fine(error="RESET_REQUIRED"))).needs == "reset_required"
    reboot = World().looks(gpu(error="RESET_REQUIRED", recovery_action="node_reboot"))
    assert record(reboot).needs == "node_reboot"
    assert record(reboot.looks(gpu(error="RESET_REQUIRED"))).needs == "node_reboot"


@pytest.mark.parametrize("error", [None, "TIMEOUT", "GPU_IS_LOST"])
def test_an_action_that_is_not_told_in_one_look_is_as_it_was(error: str | None) -> None:
    """A missing sample neither raises nor clears."""
    world = World().looks(gpu(recovery_action="gpu_reset")).looks(gpu(error=error))
    assert record(world).needs == "gpu_reset"
    assert record(world).gpu.recovery_action == "gpu_reset"
    assert record(World().looks(gpu(error=error))).needs is None


def test_an_erring_gpu_may_still_tell_its_action() -> None:
    """Whatever the other calls failed with."""
    world = World().looks(gpu(error="TIMEOUT", recovery_action="gpu_reset"))
    assert record(world).needs == "gpu_reset"
    assert record(world.looks(gpu(error="TIMEOUT", recovery_action="none"))).needs is None


def test_a_lost_gpu_that_answers_with_a_reset_due_has_not_recovered() -> None:
    """It is reachable again, and no more."""
    world = World().looks(fine(error="GPU_IS_LOST")).looks(fine(error="RESET_REQUIRED"))
    assert (record(world).lost_since, record(world).needs) == (None, "reset_required")
    assert record(world).renewed is None


def test_another_driver_has_told_nothing_yet() -> None:
    """Nothing that the old one said holds, and what happened is over."""
    world = World().looks(gpu(recovery_action="gpu_reset", ecc_uncorrected=3)).xid(95)
    after = world.looks(gpu(ecc_uncorrected=3), driver_version="580.1")
    assert record(after).needs is None
    assert record(after).renewed == world.now
    assert record(after).ecc_new == 0
    assert after.book.gpus.renewed_since("GPU-a", xid(after, 95).last)
    unnamed = world.looks(gpu(recovery_action="gpu_reset"), driver_version=None)
    assert record(unnamed).needs == "gpu_reset"


def test_an_erring_look_leaves_what_it_did_not_get_to_as_it_was() -> None:
    """What a GPU that answers does not have, it does not have."""
    told: dict[str, Any] = {"clock_reasons": ("hw_thermal",), "rows_pending": True, "memory_used_bytes": GIB}
    world = World().looks(fine(**told))
    erring = record(world.looks(gpu(error="TIMEOUT")))
    assert (erring.gpu.clock_reasons, erring.gpu.rows_pending) == (("hw_thermal",), True)
    assert erring.gpu.memory_used_bytes == GIB
    assert erring.answered == record(world).told
    plain = record(world.looks(fine()))
    assert (plain.gpu.clock_reasons, plain.gpu.rows_pending, plain.gpu.memory_used_bytes) == (
        None,
        None,
        None,
    )


# Memory errors


def test_memory_errors_from_before_are_no_new_ones() -> None:
    """Counted is what came since the GPU was first seen."""
    world = World().looks(fine(ecc_uncorrected=7)).looks(fine(ecc_uncorrected=7))
    assert (record(world).ecc_new, record(world).ecc_rose) == (0, None)
    risen = world.looks(fine(ecc_uncorrected=9))
    assert (record(risen).ecc_new, record(risen).ecc_rose) == (2, world.now)
    assert record(risen.looks(fine(ecc_uncorrected=9))).ecc_rose == world.now
    assert record(risen.looks(fine())).ecc_new == 2


def test_memory_errors_that_are_counted_anew_tell_of_a_reset() -> None:
    """What came before it is over."""
    world = World().looks(fine(ecc_uncorrected=7)).looks(fine(ecc_uncorrected=9)).xid(95)
    reset = world.looks(fine(ecc_uncorrected=1))
    assert (record(reset).ecc_new, record(reset).ecc_rose) == (0, None)
    assert reset.book.gpus.renewed_since("GPU-a", xid(reset, 95).last)
    assert not reset.book.gpus.renewed_since("GPU-b", xid(reset, 95).last)


def test_memory_errors_that_are_told_late_are_no_rise() -> None:
    """The first figure is the base, whenever it comes."""
    world = World().looks(fine()).looks(fine(ecc_uncorrected=4))
    assert (record(world).ecc_new, record(world).ecc_rose) == (0, None)


# GPUs that are no longer listed


def test_a_gpu_that_is_no_longer_listed_is_forgotten_after_an_hour() -> None:
    """It was taken from this container, or partitioned anew."""
    world = World().looks(fine(), fine("GPU-b")).looks(fine("GPU-b"))
    assert record(world).gone_since is not None
    assert record(world.looks(fine(), fine("GPU-b"))).gone_since is None
    later = world.later(HOUR).looks(fine("GPU-b"))
    assert set(later.book.gpus.records) == {"GPU-b"}


def test_a_lost_gpu_is_not_forgotten_when_it_is_no_longer_listed() -> None:
    """That is what the driver does with it when it begins anew."""
    world = World().looks(fine(error="GPU_IS_LOST")).looks().later(2 * HOUR).looks()
    assert record(world).lost_since is not None
    assert record(world).told == world.now.shifted(-1.0)


@pytest.mark.parametrize("after", [(), (gpu(error="TIMEOUT"),)], ids=["missing", "erring"])
def test_a_gpu_that_no_longer_answers_after_xid_79_is_lost(after: tuple[Gpu, ...]) -> None:
    """NVML calls lost only what it still holds."""
    quiet = World().looks(fine()).looks(*after)
    assert record(quiet).lost_since is None
    told = World().looks(fine()).xid(79)
    assert record(told.looks(*after)).lost_since == xid(told, 79).last
    assert record(told.looks(fine()).looks(*after)).lost_since is None


def test_a_gpu_that_never_answered_is_lost_by_xid_79() -> None:
    """Whenever it came."""
    world = World().xid(79).looks(gpu(error="TIMEOUT"))
    assert record(world).lost_since is not None


# MIG


def test_a_mig_device_is_part_of_its_gpu() -> None:
    """What holds of the whole is asked of the whole, as far as it is shown."""
    part, orphan = fine("MIG-1", mig=True, parent="GPU-a"), fine("MIG-9", mig=True, parent="GPU-z")
    ledger = World().looks(fine(), part, orphan).book.gpus
    assert [each.gpu.uuid for each in ledger.parts("GPU-a")] == ["MIG-1"]
    assert ledger.whole("MIG-1") is ledger.records["GPU-a"]
    assert ledger.whole("GPU-a") is ledger.records["GPU-a"]
    assert ledger.whole("MIG-9") is ledger.records["MIG-9"]
    assert ledger.whole("GPU-x") is None


# Who is on it


def test_a_process_of_ours_in_a_list_makes_it_ours_for_the_epoch() -> None:
    """Also when it has ended since; the next tritonserver must show for itself."""
    gpus = gpu(processes={100: GIB}), gpu("GPU-b", {7: GIB})
    world = serving(ON_GPU).looks(*gpus).scans(existing=(7, 100)).looks(*gpus)
    assert record(world).ours
    assert not record(world, "GPU-b").ours
    gone = world.looks(gpu(processes={}), gpu("GPU-b", {101: GIB}))
    assert record(gone).ours
    assert record(gone).own is False
    assert record(gone, "GPU-b").ours


def test_a_new_epoch_keeps_the_gpu_and_not_who_was_on_it() -> None:
    """A lost GPU is lost to the next tritonserver too, which must show for itself what it uses."""
    world = serving(ON_GPU).looks(gpu(processes={100: GIB})).scans().looks(gpu(error="GPU_IS_LOST")).xid(79)
    assert record(world).ours
    restarted = world.server_exits(signal=9).having(server=server(pid=77), stubs=()).scans()
    assert restarted.book.server.epoch == world.book.server.epoch + 1
    after = record(restarted)
    assert after.lost_since == record(world).lost_since
    assert (after.ours, after.own, after.shared, after.pids) == (False, None, None, None)
    assert restarted.book.gpus.xids == world.book.gpus.xids


@pytest.mark.parametrize(
    ("processes", "used", "initial", "shared"),
    [
        ({100: GIB, 7: GIB}, None, False, True),
        ({100: GIB}, None, False, None),
        ({100: GIB}, 2 * GIB, False, False),
        ({100: GIB}, 2 * GIB + 1, False, True),
        ({100: GIB, 101: None}, 2 * GIB, False, None),
        ({100: GIB}, 5 * GIB, True, False),
        ({100: GIB, 7: None}, 5 * GIB, True, True),
        ({7: GIB}, 2 * GIB, False, True),
        ({}, 0, False, None),
        ({}, 0, True, None),
        (None, 0, True, None),
    ],
)
def test_whether_others_are_on_a_gpu_is_told_by_lists_and_by_memory(
    processes: dict[int, int | None] | None, used: int | None, *, initial: bool, shared: bool | None
) -> None:
    """A pod's lists hide other tenants' processes but not their memory; those of the host hide nobody."""
    world = serving(ON_GPU).scans(initial=initial).looks(gpu(processes=processes, memory_used_bytes=used))
    assert record(world).shared is shared


def test_where_lists_hold_another_namespace_s_pids_nobody_is_told_from_another() -> None:
    """Neither who is ours nor whether there are others."""
    stranger = gpu(processes={100: GIB, 7: GIB})
    first = serving(ON_GPU).looks(gpu(processes={100: GIB}))
    assert record(first).ours
    world = first.looks(stranger).scans().looks(stranger)
    assert world.book.evidence.evidence.mode.value == "foreign_pids"
    after = record(world)
    assert (after.ours, after.own, after.shared, after.pids) == (False, None, None, None)


def test_the_server_itself_on_a_gpu_makes_it_ours() -> None:
    """Every model that runs inside it is behind that pid."""
    assert record(serving(ON_GPU).looks(gpu(processes={SERVER_PID: GIB}))).ours


@pytest.mark.parametrize("error", ["GPU_IS_LOST", "RESET_REQUIRED"])
def test_a_gpu_that_goes_by_its_index_is_nothing_once_it_has_a_name(error: str) -> None:
    """Lost before it was ever asked, and well again: what is kept for a lost GPU would be kept for ever."""
    nameless = Gpu("index:0", error=error)
    world = World().looks(nameless)
    assert record(world, "index:0").gpu.error == error
    assert world.looks(state=NvmlState.HUNG).book.gpus.records.keys() == {"index:0"}
    assert world.looks(fine()).book.gpus.records.keys() == {"GPU-a"}


def test_a_lost_gpu_keeps_its_name_over_a_helper_begun_anew() -> None:
    """The new helper knows its index alone; the one GPU that is missing is the one that has no name."""
    lost = Gpu("index:0", error="GPU_IS_LOST")
    world = World().looks(fine(minor=0), fine("GPU-b", minor=1))
    for _ in range(2):
        world = world.looks(lost, fine("GPU-b", minor=1))
        assert world.book.gpus.records.keys() == {"GPU-a", "GPU-b"}
        assert record(world).lost_since is not None
        assert (record(world).gpu.name, record(world).gpu.minor) == ("NVIDIA H200", 0)
        last = world.book.evidence.last
        assert last is not None
        assert [each.uuid for each in last.gpus] == ["GPU-a", "GPU-b"]
    assert record(world.looks(fine(minor=0), fine("GPU-b", minor=1))).lost_since is None


def test_of_several_missing_gpus_nobody_knows_which_one_has_no_name() -> None:
    """Nor of several without a name; nor is a part the one, or what was taken away before."""
    lost = Gpu("index:0", error="GPU_IS_LOST")
    two = World().looks(fine(), fine("GPU-b"))
    assert "index:0" in two.looks(lost).book.gpus.records
    assert "index:0" in two.looks(lost, Gpu("index:1", error="GPU_IS_LOST")).book.gpus.records
    assert "index:0" in two.looks(fine()).looks(fine(), lost).book.gpus.records
    part = fine("MIG-1", mig=True, parent="GPU-a", gpu_instance=1)
    assert "index:0" in World().looks(fine(), part).looks(fine(), lost).book.gpus.records
