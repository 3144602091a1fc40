"""How many of a model's instances are where they are meant to be, and what is told beside the verdict?"""

from __future__ import annotations

import pytest

from probe.checks.placement import judge
from probe.checks.verdicts import placement_of
from probe.facts.models import InstanceGroup, InstanceKind
from probe.facts.nvml import Gpu
from probe.facts.placement import Placement, Verdict
from probe.ledgers.exercise import TURNS
from probe.settings import Policy, Settings
from probe.settings.schema import ModelPlacement, PlacementSettings
from tests.worlds import (
    GIB,
    SERVER_PID,
    START,
    World,
    config,
    gpu,
    group,
    process,
    python_model,
    row,
    server,
    serving,
    stub,
)

CPU, GPU = InstanceKind.CPU, InstanceKind.GPU
ON_GPU, ON_CPU = python_model("m", 2, GPU, (0,)), python_model("m", 2)


def placed(seen: World) -> Placement:
    """The verdict on the model m."""
    return placement_of(seen.seen, seen.record("m"))


def reasons(seen: World) -> list[str]:
    """What the check says."""
    return seen.reasons(judge)


# Mixed groups and min_instances

MIXED = config("m", group("m_0", CPU, 1), group("m_1", GPU, 2, 0))
BACKED = server(minors=(0,))


def at_least(count: int, device: Policy | None = Policy.GPU) -> Settings:
    """So many of the model's instances must be on a GPU."""
    entry = ModelPlacement(device=device, min_instances=count)
    return Settings(placement=PlacementSettings(models={"m": entry}))


def listing(*stubs: int) -> Gpu:
    """The one GPU, with tritonserver and these stubs on it."""
    return gpu(processes={SERVER_PID: GIB, **dict.fromkeys(stubs, GIB)}, minor=0)


def executing(seen: World, executions: int) -> World:
    """The model executed so many batches since its stubs were polled."""
    return seen.polls().with_row(row("m", success=executions, last=START.wall - 1000)).polls()


def test_without_a_limit_a_mixed_model_is_content_with_what_it_declares() -> None:
    """Two on the GPU, one on the CPU: mixed, and no fault."""
    seen = executing(serving(MIXED, server=BACKED), 3 * TURNS).looks(listing(101, 102))
    assert placed(seen).verdict is Verdict.MIXED
    assert reasons(seen) == []
    one = executing(serving(MIXED, server=BACKED), 3 * TURNS).looks(listing(101))
    assert reasons(one) == []


def test_a_mixed_model_of_which_a_gpu_is_hidden_is_only_known_to_use_one() -> None:
    """The others may be on the one that is not shown."""
    seen = serving(MIXED, server=server(minors=(0, 1))).looks(listing(101))
    assert placed(seen).verdict is Verdict.GPU
    assert "Where the others are can not be told: Triton has /dev/nvidia1" in placed(seen).why[1]


def test_a_request_to_a_mixed_model_may_have_gone_to_its_cpu_instance() -> None:
    """Absent from the GPU it is only once each of its stubs had its turn."""
    first = executing(serving(MIXED, server=BACKED), 1).looks(listing())
    assert placed(first).verdict is Verdict.UNKNOWN
    assert "or not enough for each of them to have had its turn" in placed(first).why[0]
    later = executing(serving(MIXED, server=BACKED), 3 * TURNS).looks(listing())
    assert reasons(later) == ["GpuNotUsed"]
    passive = config("m", group("m_0", CPU), InstanceGroup("m_1", GPU, 1, (0,), passive=True))
    assert reasons(executing(serving(passive, server=BACKED), 3 * TURNS).looks(listing())) == [
        "PlacementUnknown"
    ]


@pytest.mark.parametrize(
    ("least", "settings", "claimed"),
    [
        (2, at_least(2), False),
        (3, at_least(3), True),
        (3, at_least(3, None), True),
        (3, at_least(3, Policy.CPU), False),
    ],
)
def test_fewer_instances_declared_on_a_gpu_than_are_meant_to_be_is_a_fallback(
    least: int, settings: Settings, *, claimed: bool
) -> None:
    """With the numbers; Triton's own word, which needs no list."""
    seen = serving(MIXED, server=BACKED, settings=settings)
    assert ("CpuFallback" in reasons(seen)) == claimed
    if claimed:
        claim = seen.only("CpuFallback")
        assert (
            f"2 of its 3 instances are declared on a GPU, and at least {least} are meant to be"
            in claim.message
        )
        assert "placement.models.m.min_instances" in claim.message
        assert "instance_group [ { count: 3 kind: KIND_GPU } ]" in claim.remedy
        assert (claim.evidence["instances_declared_on_gpu"], claim.evidence["min_instances"]) == (2, 3)
        assert reasons(seen.looks(listing(100, 101, 102))) == []


def test_a_cpu_model_with_a_limit_is_one_finding() -> None:
    """The fallback itself; where its own code may use a GPU unseen, none."""
    assert reasons(serving(ON_CPU, settings=at_least(2))) == ["CpuFallback"]
    assert reasons(serving(ON_CPU, server=BACKED, settings=at_least(2))) == ["PlacementUnknown"]


@pytest.mark.parametrize(
    ("executions", "stubs", "options", "claimed"),
    [
        (3 * TURNS, (101,), (), True),
        (3 * TURNS, (101, 102), (), False),
        (3 * TURNS - 1, (101,), (), False),
        (3 * TURNS, (101,), ("--rate-limit=execution_count",), False),
    ],
)
def test_fewer_found_on_a_gpu_than_are_meant_to_be_is_one_not_used(
    executions: int, stubs: tuple[int, ...], options: tuple[str, ...], *, claimed: bool
) -> None:
    """After each of them had its turn; a stub that is missing is another finding."""
    triton = server(*options, minors=(0,))
    seen = executing(serving(MIXED, server=triton, settings=at_least(2)), executions).looks(listing(*stubs))
    assert reasons(seen) == (["GpuNotUsed"] if claimed else [])
    if claimed:
        claim = seen.only("GpuNotUsed")
        assert (
            "1 of its 3 stub processes are on a GPU after all have executed requests, and at least 2"
            in claim.message
        )
        assert (claim.evidence["stubs_on_gpu"], claim.evidence["min_instances"]) == (1, 2)
        assert "GpuNotUsed" not in reasons(seen.without_stub(102).scans().looks(listing(101)))


def test_fewer_are_not_known_to_be_on_a_gpu_where_one_may_have_left_its_stub() -> None:
    """A process that no stub is known to have begun."""
    seen = executing(serving(MIXED, server=BACKED, settings=at_least(2)), 3 * TURNS)
    daemon = process(300, parent=1)
    seen = seen.looks(listing(101, 300)).scans(asked=(daemon,)).looks(listing(101, 300))
    assert reasons(seen) == []
    assert reasons(seen.scans().looks(listing(101))) == ["GpuNotUsed"]


def test_fewer_are_not_known_to_be_on_a_gpu_where_one_is_hidden() -> None:
    """The others may be on that one."""
    hidden = serving(MIXED, server=server(minors=(0, 1)), settings=at_least(2))
    assert reasons(executing(hidden, 3 * TURNS).looks(listing(101))) == []


# What is told beside the verdict


def test_two_cpu_instances_of_onnxruntime_are_the_fallbacks_fingerprint() -> None:
    """Triton makes them where it finds no usable GPU and nobody wrote a count."""
    onnx = config("m", group("m", CPU, 2), backend="onnxruntime")
    seen = serving(onnx, server=BACKED)
    assert "two CPU instances are what it makes of onnxruntime then" in seen.only("CpuFallback").message
    assert any("Two CPU instances are what Triton makes" in each for each in placed(seen).why)
    for other in (
        config("m", group("m", CPU, 1), backend="onnxruntime"),
        config("m", group("m", CPU, 2), backend="python"),
        config("m", group("m_0", CPU, 2), backend="onnxruntime"),
    ):
        assert not any("Two CPU instances" in each for each in placed(serving(other, server=BACKED)).why)


def test_a_group_without_a_kind_looks_like_one_for_the_cpu() -> None:
    """Said where the pod has a GPU; one that carries the model's name looks like none at all."""
    assert any("written without a kind" in each for each in placed(serving(ON_CPU, server=BACKED)).why)
    assert not any("written without a kind" in each for each in placed(serving(ON_CPU)).why)
    implicit = serving(config("m", group("m", CPU), backend="x"))
    assert "carries the model's own name looks the same" in implicit.only("PlacementImplicit").message


def test_tensorrtllm_with_stubs_of_its_own_does_not_fall_back_by_its_kind() -> None:
    """It says KIND_CPU and means a GPU: absent from it, it does not use it."""
    llm = config("m", group("m_0", CPU), backend="tensorrtllm")
    seen = serving(llm, server=BACKED).with_stub(stub(50, "m_0_0", runtime="/b/tensorrtllm")).scans()
    assert reasons(executing(seen, 5).looks(listing())) == ["GpuNotUsed"]


def test_a_model_whose_processes_are_not_there_is_unknown() -> None:
    """They may just be starting."""
    seen = serving(ON_GPU, server=BACKED).having(stubs=()).scans().looks(listing())
    assert placed(seen).why[0] == "It has no process here at this moment."
    assert "Wait for the model's processes" in seen.only("PlacementUnknown").remedy


@pytest.mark.parametrize(
    ("gpus", "remedy"),
    [
        ((gpu(processes={SERVER_PID: GIB}, minor=0),), "NVIDIA_VISIBLE_DEVICES=all and"),
        ((gpu(processes={SERVER_PID: GIB}, minor=0), gpu("GPU-b", minor=1)), "MIG devices that Triton has"),
        (
            (gpu(processes={SERVER_PID: GIB}, minor=0), gpu("GPU-b", {SERVER_PID: GIB}, minor=1)),
            "Send the model a request",
        ),
    ],
)
def test_the_remedy_of_an_unknown_place_goes_by_its_cause(gpus: tuple[Gpu, ...], remedy: str) -> None:
    """A GPU that is hidden, a list that is missing, a model that did nothing yet."""
    seen = serving(ON_GPU, server=server(minors=(0, 1))).looks(*gpus)
    assert remedy in seen.only("PlacementUnknown").remedy


def test_a_model_inside_tritonserver_that_can_not_be_told_is_to_be_asked() -> None:
    """Where the lists prove all that they can."""
    seen = serving(config("m", group("m_0", GPU, 1, 0), backend="x"), server=BACKED)
    assert "Send it requests for some ten seconds" in seen.looks(listing()).only("PlacementUnknown").remedy
