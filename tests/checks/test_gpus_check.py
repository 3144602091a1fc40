"""Does a GPU that can not be used fail the ready gate where it is ours, and only there?"""

from __future__ import annotations

from typing import Any

import pytest

from probe.checks.gpus import judge
from probe.facts.findings import Action, Claim, Severity
from probe.facts.gates import Gate
from probe.facts.models import InstanceKind
from probe.facts.nvml import Gpu, NvmlState
from probe.facts.recoveries import recovery
from tests.worlds import World, gpu, python_model, server, serving

ON_GPU = python_model("m", 1, InstanceKind.GPU, (0,))
HOUR = 3600.0


def beside(*gpus: Gpu, minors: tuple[int, ...] | None = (0,)) -> World:
    """A Triton with these device nodes beside these GPUs, and GPU-b on another node."""
    return serving(ON_GPU, server=server(minors=minors)).scans().looks(*gpus, gpu("GPU-b", minor=1))


def sick(uuid: str = "GPU-a", **more: Any) -> Gpu:  # noqa: ANN401
    """A GPU with node 0."""
    return gpu(uuid, **{"minor": 0, **more})


LOST, RESET = sick(error="GPU_IS_LOST"), sick(error="RESET_REQUIRED")


def fails(claim: Claim) -> set[Gate]:
    """The gates that a claim does not spare."""
    return set(Gate) - claim.spares


@pytest.mark.parametrize(
    ("shown", "reason", "said"),
    [
        (LOST, "GpuLost", "fell off the bus"),
        (RESET, "GpuResetRequired", "is reset"),
        (sick(recovery_action="gpu_reset"), "GpuResetRequired", "is reset"),
        (sick(recovery_action="node_reboot"), "GpuResetRequired", "the node is rebooted"),
        (sick(recovery_action="drain_and_reset"), "GpuResetRequired", "takes no new work"),
        (sick(recovery_action="bus_reset"), "GpuResetRequired", "its bus is reset"),
        (sick(recovery_action="system_reboot"), "GpuResetRequired", "the whole system is rebooted"),
        (sick(recovery_action="action_9"), "GpuResetRequired", "not known to this release (action_9)"),
    ],
)
def test_a_gpu_of_ours_that_can_not_be_used_is_critical(shown: Gpu, reason: str, said: str) -> None:
    """It names what is asked, says that a restart does not help, and is the node's business."""
    claim = beside(shown).only(reason, judge)
    assert said in claim.message
    assert "/dev/nvidia0" in claim.message
    assert (claim.severity, claim.spares) == (None, frozenset())
    assert claim.subject.gpu_uuid == "GPU-a"
    assert claim.action is Action.CHECK_NODE
    assert "node" in claim.remedy
    assert claim.evidence["whose"] == "ours"
    assert beside(shown).reasons(judge) == [reason]


@pytest.mark.parametrize("shown", [LOST, RESET, sick(recovery_action="gpu_reset")])
def test_a_gpu_that_is_surely_not_ours_is_worth_knowing_and_fails_nothing(shown: Gpu) -> None:
    """Triton has no node of it."""
    (claim,) = beside(shown, minors=(1,)).claims(judge)
    assert (claim.severity, fails(claim)) == (Severity.INFO, set())
    assert "no GPU of this Triton" in claim.message


@pytest.mark.parametrize("shown", [LOST, RESET, sick(recovery_action="gpu_reset")])
def test_a_gpu_that_may_be_ours_is_a_warning_and_fails_nothing(shown: Gpu) -> None:
    """Unless it is the only one."""
    (claim,) = beside(shown, minors=None).claims(judge)
    assert (claim.severity, fails(claim)) == (Severity.WARNING, set())
    assert "can not be told" in claim.message
    (only,) = serving(ON_GPU, server=server(minors=None)).looks(shown).claims(judge)
    assert (only.severity, only.spares) == (None, frozenset())


@pytest.mark.parametrize("action", ["drain_p2p", "recover_imex_domain"])
def test_trouble_between_gpus_leaves_work_on_one_alone(action: str) -> None:
    """It is a warning on ours, and fails nothing: a model that spans GPUs shows it by itself."""
    claim = beside(sick(recovery_action=action)).only("GpuResetRequired", judge)
    assert (claim.severity, fails(claim)) == (Severity.WARNING, set())
    assert "Work on this GPU alone goes on" in claim.message
    assert claim.remedy == recovery(action).remedy
    other = beside(sick(recovery_action=action), minors=(1,)).only("GpuResetRequired", judge)
    assert other.severity is Severity.INFO
    assert "goes on" not in other.message
    unknown = beside(sick(recovery_action=action), minors=None).only("GpuResetRequired", judge)
    assert unknown.severity is Severity.WARNING


def test_a_gpu_that_answers_and_asks_for_nothing_is_no_finding() -> None:
    """Nor one that errs in another way, or tells no recovery action."""
    for shown in (sick(recovery_action="none"), sick(), sick(error="TIMEOUT")):
        assert beside(shown).reasons(judge) == []
    assert World().reasons(judge) == []


def test_a_lost_gpu_asks_for_nothing_more() -> None:
    """One finding says it, since when, and whether it is listed at all."""
    world = beside(sick(recovery_action="gpu_reset")).looks(LOST)
    assert world.reasons(judge) == ["GpuLost"]
    assert "9 s ago" in world.later(8.0).only("GpuLost", judge).message
    assert "no longer lists it" in world.looks().only("GpuLost", judge).message
    assert world.looks().only("GpuLost", judge).evidence["listed"] is False


def test_what_is_wrong_with_a_gpu_stands_while_nvml_fails() -> None:
    """A GPU that dies takes NVML along; after an hour nobody knows any more."""
    for shown, reason in ((LOST, "GpuLost"), (RESET, "GpuResetRequired")):
        world = beside(shown).looks(state=NvmlState.HUNG, patience=0.0)
        silent = world.later(60.0).looks(state=NvmlState.HUNG, patience=0.0)
        assert silent.book.evidence.good is None
        assert silent.reasons(judge) == [reason]
        assert silent.later(HOUR).reasons(judge) == []


def test_it_ends_with_the_answer_that_says_so() -> None:
    """At once, and stays so."""
    for shown in (LOST, RESET, sick(recovery_action="gpu_reset")):
        assert beside(shown).looks(sick(recovery_action="none")).reasons(judge) == []


def test_a_mig_device_shares_the_fate_of_its_gpu() -> None:
    """Which says it for all of its parts; where it is not shown, each says it."""
    part = gpu("MIG-1", mig=True, parent="GPU-a", minor=0, error="GPU_IS_LOST")
    assert [each.subject.gpu_uuid for each in beside(LOST, part).claims(judge)] == ["GPU-a"]
    assert [each.subject.gpu_uuid for each in beside(sick(), part).claims(judge)] == ["MIG-1"]
    (alone,) = beside(part).claims(judge)
    assert alone.subject.gpu_uuid == "MIG-1"
    assert "/dev/nvidia0" not in alone.message


def test_a_nameless_gpu_is_called_so() -> None:
    """One that never answered has no name."""
    claim = beside(Gpu("index:3", error="GPU_IS_LOST")).only("GpuLost", judge)
    assert claim.message.startswith("The GPU fell off the bus")
