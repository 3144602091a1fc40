"""Does an Xid fail the ready gate where it is the hardware's and concerns us, and end when it is over?"""

from __future__ import annotations

from typing import Any

import pytest

from probe.checks.xids import judge
from probe.facts.findings import Action, Claim, Severity
from probe.facts.gates import Gate
from probe.facts.models import InstanceKind
from probe.facts.nvml import Gpu, NvmlState
from tests.worlds import GIB, World, gpu, python_model, server, serving

ON_GPU = python_model("m", 2, InstanceKind.GPU, (0,))
MINUTES = 60.0
ALONE = {100: GIB, 101: GIB}


def shown(processes: dict[int, int | None] | None = None, **more: Any) -> Gpu:  # noqa: ANN401
    """GPU-a with our stubs alone unless given; it tells a recovery action unless that is None."""
    told = {"minor": 0, "recovery_action": "none", "memory_used_bytes": 2 * GIB, **more}
    return gpu("GPU-a", processes if processes is not None else dict(ALONE), **told)


def beside(seen: Gpu | None = None, *, minors: tuple[int, ...] | None = (0,)) -> World:
    """A Triton with these device nodes beside GPU-a, and GPU-b on another node."""
    world = serving(ON_GPU, server=server(minors=minors)).scans()
    return world.looks(seen or shown(), gpu("GPU-b", {}, minor=1, recovery_action="none"))


def fails(claim: Claim) -> set[Gate]:
    """The gates that the catalogue and this claim leave it to fail."""
    return {Gate.READY} - claim.spares


def graded(world: World) -> tuple[Severity | None, bool]:
    """How grave the one claim is, and whether it fails ready."""
    (claim,) = world.claims(judge)
    return claim.severity, fails(claim) == {Gate.READY}


CRITICAL, WARNING, INFO = (Severity.CRITICAL, True), (Severity.WARNING, False), (Severity.INFO, False)


@pytest.mark.parametrize(
    ("code", "grade", "action"),
    [
        (31, WARNING, Action.NONE),
        (109, WARNING, Action.NONE),
        (43, INFO, Action.NONE),
        (45, WARNING, Action.CHECK_NODE),
        (4711, WARNING, Action.CHECK_NODE),
        (95, CRITICAL, Action.CHECK_NODE),
        (79, CRITICAL, Action.CHECK_NODE),
        (54, CRITICAL, Action.CHECK_NODE),
        (136, CRITICAL, Action.CHECK_NODE),
    ],
)
def test_the_class_grades_an_xid_on_a_gpu_that_is_ours_alone(
    code: int, grade: tuple[Severity, bool], action: Action
) -> None:
    """Only the hardware's fail ready."""
    world = beside().xid(code)
    assert graded(world) == grade
    (claim,) = world.claims(judge)
    assert f"Xid {code}" in claim.message
    assert claim.action is action
    assert claim.event_at == world.now.shifted(-1.0)
    assert Gate.LIVE in claim.spares


def test_a_message_says_what_the_code_means_how_often_and_how_long_ago() -> None:
    """And which others came."""
    world = beside().xid(43).xid(95).later(3.0).xid(95).xid(31).later(8.0)
    (claim,) = world.claims(judge)
    assert claim.message.startswith(
        "The driver reported Xid 95 (an uncorrectable memory error was not contained) 2 times, the last 10 s ago, "
        "and Xid 31, 43."
    )
    assert claim.evidence["class"] == "reset"
    assert claim.evidence["count"] == 2
    assert claim.evidence["other_xids"] == "31, 43"
    (plain,) = beside().xid(136).claims(judge)
    assert plain.message.startswith("The driver reported Xid 136, the last 1 s ago. ")


@pytest.mark.parametrize("code", [31, 95, 79, 4711, 43])
def test_no_xid_on_a_gpu_that_is_not_ours_fails_a_gate(code: int) -> None:
    """Of the hardware's it is worth knowing; the others are nobody's business here."""
    other = serving(ON_GPU, server=server(minors=(0,))).looks(gpu(minor=0), gpu("GPU-b", minor=1))
    claims = other.xid(code, "GPU-b").claims(judge)
    assert [(each.severity, fails(each)) for each in claims] == (
        [(Severity.INFO, set())] if code in (95, 79) else []
    )
    assert all("no GPU of this Triton" in each.message for each in claims)


@pytest.mark.parametrize(("code", "grade"), [(31, WARNING), (95, WARNING), (43, INFO)])
def test_an_xid_on_a_gpu_that_may_be_ours_fails_nothing(code: int, grade: tuple[Severity, bool]) -> None:
    """Whose it is can not be told, and the message says so."""
    unknown = serving(ON_GPU, server=server(minors=None)).looks(gpu(minor=0), gpu("GPU-b", minor=1))
    world = unknown.xid(code)
    assert graded(world) == grade
    assert "can not be told" in world.only("GpuXid", judge).message


def test_an_xid_on_a_gpu_that_nvml_never_showed_is_told_all_the_same() -> None:
    """Nothing is known of it."""
    assert graded(serving(ON_GPU, server=server(minors=None)).xid(95)) == WARNING
    assert World().xid(31).reasons(judge) == ["GpuXid"]


# Shared GPUs


@pytest.mark.parametrize(
    "seen",
    [shown({**ALONE, 7: GIB}), shown(memory_used_bytes=9 * GIB), shown(memory_used_bytes=None)],
    ids=["listed", "by its memory", "unknown"],
)
def test_another_tenant_s_xid_fails_nothing_without_evidence_of_our_own(seen: Gpu) -> None:
    """The driver names no process; what breaks of ours makes it ours."""
    world = serving(ON_GPU, server=server(minors=(0,))).scans().looks(seen).xid(95)
    assert graded(world) == WARNING
    assert "nothing of this Triton broke" in world.only("GpuXid", judge).message
    broken = world.exits("m_0_1", signal=6)
    assert graded(broken) == CRITICAL
    assert "the stub m_0_1 ended 1 s later" in broken.only("GpuXid", judge).message
    asked = world.looks(shown(recovery_action="gpu_reset"))
    assert graded(asked) == CRITICAL
    assert "NVML asks of the GPU that it is reset" in asked.only("GpuXid", judge).message
    lost = world.looks(gpu(minor=0, error="GPU_IS_LOST"))
    assert graded(lost) == CRITICAL


def test_what_broke_before_the_report_is_told_so() -> None:
    """The driver may report an Xid after the program is gone."""
    world = beside(shown({**ALONE, 7: GIB})).exits("m_0_1", signal=6).xid(95)
    assert "the stub m_0_1 ended 1 s before" in world.only("GpuXid", judge).message


def test_the_message_of_an_application_s_xid_says_whose_it_may_be() -> None:
    """As far as the lists show."""
    alone = beside().xid(31).only("GpuXid", judge)
    assert "Nobody but this Triton" in alone.message
    unknown = beside(shown(memory_used_bytes=9 * GIB)).xid(31).only("GpuXid", judge)
    assert "does not say whose work it was" in unknown.message
    two = serving(ON_GPU, server=server(minors=(0, 1))).scans()
    idle = two.looks(gpu(minor=0, processes=ALONE), gpu("GPU-b", {}, minor=1)).xid(31, "GPU-b")
    assert "No process of this Triton was on the GPU" in idle.only("GpuXid", judge).message


# When it is over


@pytest.mark.parametrize("code", [31, 43, 45, 4711])
def test_what_is_not_the_hardware_s_is_shown_for_ten_minutes_after_the_last(code: int) -> None:
    """Each new one begins that anew."""
    world = beside().xid(code)
    assert world.later(9 * MINUTES).reasons(judge) == ["GpuXid"]
    assert world.later(10 * MINUTES).reasons(judge) == []
    assert world.later(9 * MINUTES).xid(code).later(9 * MINUTES).reasons(judge) == ["GpuXid"]


def test_a_driver_that_asks_for_nothing_a_minute_later_takes_the_gravity_away() -> None:
    """NVIDIA's own word is that the GPU can be used; the finding goes after the same ten minutes."""
    world = beside().xid(95)
    assert graded(world.later(50.0).looks(shown())) == CRITICAL
    settled = world.later(59.0).looks(shown())
    assert graded(settled) == WARNING
    assert "needs no recovery" in settled.only("GpuXid", judge).message
    assert settled.later(8.9 * MINUTES).reasons(judge) == ["GpuXid"]
    assert settled.later(9 * MINUTES).reasons(judge) == []


def test_what_the_driver_asks_for_keeps_it_standing_until_it_is_done() -> None:
    """For days; then it is over at once."""
    world = beside().xid(95).looks(shown(recovery_action="gpu_reset"))
    days = world.later(3 * 86400.0).looks(shown(recovery_action="gpu_reset"))
    assert graded(days) == CRITICAL
    assert days.looks(shown()).reasons(judge) == []
    assert graded(days.looks(shown()).xid(95)) == CRITICAL


def test_trouble_between_gpus_is_no_reason_to_fail_a_gate() -> None:
    """The driver's word outranks the class."""
    assert graded(beside().xid(95).looks(shown(recovery_action="drain_p2p"))) == WARNING


def test_an_older_driver_can_not_say_that_the_gpu_is_well() -> None:
    """An hour, whatever is seen meanwhile."""
    old = shown(recovery_action=None)
    world = beside(old).xid(95).later(58 * MINUTES).looks(old)
    assert graded(world) == CRITICAL
    assert world.later(2 * MINUTES).reasons(judge) == []


def test_an_older_driver_s_reset_shows_by_its_count_of_errors_or_by_its_release() -> None:
    """The one begins at nothing, the other is another one."""
    old = {"recovery_action": None}
    world = beside(shown(ecc_uncorrected=2, **old)).xid(95)
    assert graded(world.looks(shown(ecc_uncorrected=2, **old))) == CRITICAL
    assert world.looks(shown(ecc_uncorrected=0, **old)).reasons(judge) == []
    assert world.looks(shown(**old), driver_version="580.1").reasons(judge) == []


def test_a_lost_gpu_that_answers_again_has_recovered() -> None:
    """Until then the Xid stands, at least for an hour."""
    world = beside().xid(79).looks(gpu(minor=0, error="GPU_IS_LOST"))
    assert "NVML calls the GPU lost" in world.only("GpuXid", judge).message
    assert graded(world.later(50 * MINUTES).looks(gpu(minor=0, error="GPU_IS_LOST"))) == CRITICAL
    assert world.looks(shown()).reasons(judge) == []


def test_an_nvml_that_fails_neither_raises_nor_clears() -> None:
    """Before it told that nothing is asked, an hour; what it had asked for stands as long as it may be believed."""
    fresh = beside().xid(95).later(1.0).looks(state=NvmlState.HUNG, patience=0.0)
    assert graded(fresh.later(58 * MINUTES)) == CRITICAL
    assert fresh.later(60 * MINUTES).reasons(judge) == []
    asked = beside().xid(95).later(50 * MINUTES).looks(shown(recovery_action="gpu_reset"))
    assert graded(asked.later(59 * MINUTES)) == CRITICAL
    assert asked.later(61 * MINUTES).reasons(judge) == []


def test_it_is_kept_over_the_epoch_of_a_tritonserver() -> None:
    """The next one gets the same GPU."""
    world = beside().xid(95).server_exits(signal=15)
    again = world.having(server=server(pid=77, minors=(0,)), stubs=()).scans()
    assert again.book.server.epoch == world.book.server.epoch + 1
    assert graded(again) == CRITICAL


def test_what_broke_around_an_xid_that_is_over_says_nothing_of_a_later_one() -> None:
    """The driver asked for nothing after the first; the second is another tenant's again."""
    among = shown({**ALONE, 7: GIB})
    hurt = beside(among).xid(95).exits("m_0_1", signal=6)
    assert graded(hurt) == CRITICAL
    assert graded(hurt.later(30.0).xid(95)) == CRITICAL
    settled = hurt.scans().looks(among).later(2 * MINUTES).looks(among)
    assert graded(settled) == WARNING
    assert graded(settled.later(30 * MINUTES).looks(among).xid(95)) == WARNING


def test_where_the_driver_can_not_say_that_it_is_over_a_later_one_does_not_lessen_it() -> None:
    """An older driver tells no recovery action."""
    among = shown({**ALONE, 7: GIB}, recovery_action=None)
    hurt = beside(among).xid(95).exits("m_0_1", signal=6).scans().looks(among)
    assert graded(hurt.later(30 * MINUTES).looks(among).xid(95)) == CRITICAL


# MIG


def test_an_xid_of_a_part_that_is_not_ours_fails_nothing() -> None:
    """Neither of a part that is not shown here, nor of another's."""
    whole = gpu(minor=0, recovery_action="none")
    mine = gpu("MIG-1", dict(ALONE), mig=True, parent="GPU-a", gpu_instance=1, memory_used_bytes=2 * GIB)
    world = serving(ON_GPU, server=server(minors=(0,))).scans().looks(whole, mine)
    other = world.xid(95, "GPU-a", 5)
    assert graded(other) == INFO
    assert "MIG instance that was not given" in other.only("GpuXid", judge).message
    assert world.xid(31, "GPU-a", 5).reasons(judge) == []
    own = world.xid(95, "GPU-a", 1)
    assert graded(own) == CRITICAL
    assert own.only("GpuXid", judge).subject.gpu_uuid == "MIG-1"
    settled = own.later(60.0).looks(whole, mine)
    assert graded(settled) == WARNING
    # Of the whole GPU: nobody can tell whether others are on it.
    assert graded(world.xid(95)) == WARNING
