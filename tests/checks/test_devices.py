"""Is a model on the GPUs that it may be on, and on as many as it is declared for?"""

from __future__ import annotations

import pytest

from probe.checks.devices import judge
from probe.checks.outside import BARE_CONTEXT_BYTES, Use, main_of
from probe.facts.models import InstanceKind, ModelConfig
from probe.facts.nvml import Gpu
from probe.ledgers.exercise import TURNS
from probe.settings import Policy, Settings
from probe.settings.schema import ModelPlacement, PlacementSettings
from tests.worlds import (
    GIB,
    MIB,
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

CPU, GPU, MODEL = InstanceKind.CPU, InstanceKind.GPU, InstanceKind.MODEL
ONE, TWO = python_model("m", 1, GPU, (0,)), python_model("m", 1, GPU, (0, 1))
TRITON = server(minors=(0, 1))
Lists = dict[int, int | None]


def only(*uuids: str) -> Settings:
    """The model m may run on these GPUs alone."""
    return Settings(placement=PlacementSettings(models={"m": ModelPlacement(gpus=uuids)}))


def world(model: ModelConfig, settings: Settings = Settings(), **more: object) -> World:  # noqa: B008  (frozen)
    """A Triton with two GPUs that serves this model."""
    return serving(model, settings=settings, **{"server": TRITON, **more})  # type: ignore[arg-type]


def shown(first: Lists, second: Lists, *, figures: bool = True) -> tuple[Gpu, Gpu]:
    """Two GPUs with these processes beside tritonserver; without ``figures`` no memory is told of anyone."""
    lists = ({SERVER_PID: GIB, **first}, {SERVER_PID: GIB, **second})
    told = [{pid: used if figures else None for pid, used in each.items()} for each in lists]
    return gpu("GPU-a", told[0], minor=0), gpu("GPU-b", told[1], minor=1)


def used(seen: World, executions: int = 5) -> World:
    """The model executed so many batches after its stubs began, and polls told."""
    return seen.polls().with_row(row("m", success=executions, last=START.wall - 1000)).polls()


# WrongGpu


def test_a_model_with_its_memory_on_a_gpu_that_is_not_allowed_is_on_the_wrong_one() -> None:
    """The allowed, the found, who allows, and which processes."""
    claim = world(ONE, only("GPU-b")).looks(*shown({100: GIB}, {})).only("WrongGpu", judge)
    assert "1 of the 1 processes that the model has on a GPU run on GPU-a" in claim.message
    assert "may run on GPU-b alone (placement.models.m.gpus)" in claim.message
    assert claim.evidence == {
        "allowed": "GPU-b",
        "allowed_by": "placement.models.m.gpus",
        "found": "GPU-a",
        "pids": "100",
        "mode": "full",
    }
    assert "args['model_instance_device_id']" in claim.remedy
    assert claim.subject.model == "m"


@pytest.mark.parametrize(
    ("first", "second", "figures", "wrong"),
    [
        ({100: GIB}, {}, True, True),
        ({}, {100: GIB}, True, False),
        ({100: 400 * MIB}, {100: 2 * GIB}, True, False),
        ({100: 2 * GIB}, {100: 400 * MIB}, True, True),
        ({100: 2 * GIB}, {100: 0}, True, False),
        ({100: None}, {}, False, True),
        ({100: None}, {100: None}, False, False),
        ({}, {}, True, False),
    ],
    ids=[
        "wrong",
        "right",
        "bare context beside",
        "most of it",
        "a figure missing",
        "membership",
        "membership of both",
        "nowhere",
    ],
)
def test_the_gpu_with_most_of_a_process_decides_and_without_figures_any_that_is_allowed(
    first: Lists, second: Lists, *, figures: bool, wrong: bool
) -> None:
    """A framework opens a bare context on GPU 0 beside the one that it works with."""
    seen = used(world(ONE, only("GPU-b"))).looks(*shown(first, second, figures=figures))
    assert seen.reasons(judge) == (["WrongGpu"] if wrong else [])


@pytest.mark.parametrize(
    ("held", "executed", "wrong"),
    [
        (BARE_CONTEXT_BYTES, False, False),
        (BARE_CONTEXT_BYTES + 1, False, True),
        (BARE_CONTEXT_BYTES, True, True),
    ],
)
def test_a_bare_context_says_nothing_before_the_first_use(held: int, *, executed: bool, wrong: bool) -> None:
    """The model may take another GPU with its first request."""
    seen = world(ONE, only("GPU-b"))
    seen = used(seen) if executed else seen
    assert ("WrongGpu" in seen.looks(*shown({100: held}, {})).reasons(judge)) == wrong


def test_a_stub_with_a_bare_context_above_workers_with_more_is_where_they_are() -> None:
    """VLLM's stub asks GPU 0 what it can do; its workers do the work."""
    llm = config("m", group("m_0", MODEL), backend="vllm")
    seen = world(llm, only("GPU-b")).with_stub(stub(50, "m_0_0", workers=(60, 61), runtime="/b/vllm")).scans()
    seen = used(seen)
    assert seen.looks(*shown({50: 400 * MIB}, {60: 5 * GIB})).reasons(judge) == []
    claim = seen.looks(*shown({50: 400 * MIB, 61: 5 * GIB}, {60: 5 * GIB})).only("WrongGpu", judge)
    assert claim.evidence["pids"] == "61"
    assert "1 of the 2 processes" in claim.message


@pytest.mark.parametrize("held", [None, 500 * MIB], ids=["no figure", "little"])
def test_a_bare_context_beside_a_process_where_it_may_be_is_nothing_wrong(held: int | None) -> None:
    """Without figures, and for a model that needs little, the stub's bare context looks like the work itself."""
    llm = config("m", group("m_0", MODEL), backend="vllm")
    seen = world(llm, only("GPU-b")).with_stub(stub(50, "m_0_0", workers=(60, 61), runtime="/b/vllm")).scans()
    seen = used(seen)
    bare = None if held is None else 400 * MIB
    figures = held is not None
    assert seen.looks(*shown({50: bare}, {60: held}, figures=figures)).reasons(judge) == []
    assert seen.looks(*shown({50: bare, 60: held}, {}, figures=figures)).reasons(judge) == ["WrongGpu"]
    assert seen.looks(*shown({50: bare}, {60: None})).reasons(judge) == []


def test_a_mig_device_of_an_allowed_gpu_is_allowed() -> None:
    """And another one than the named MIG device is not."""
    migs = [
        gpu(f"MIG-{index}", {SERVER_PID: GIB, **held}, minor=0, mig=True, parent="GPU-a")
        for index, held in enumerate(({100: GIB}, {}))
    ]
    for uuid, wrong in (("GPU-a", False), ("gpu-A", False), ("MIG-0", False), ("MIG-1", True)):
        seen = world(ONE, only(uuid), server=server(minors=(0,))).looks(gpu("GPU-a", minor=0), *migs)
        assert ("WrongGpu" in seen.reasons(judge)) == wrong


def test_the_remedy_is_a_line_where_the_ordinal_is_known() -> None:
    """By Triton's own environment; where the named GPU is not here at all, that is said."""
    triton = server(minors=(0, 1), visible=("GPU-b", "GPU-a"))
    seen = world(ONE, only("GPU-b"), server=triton).looks(*shown({100: GIB}, {}))
    line = "Write in /models/m/config.pbtxt: instance_group [ { count: 1 kind: KIND_GPU gpus: [ 0 ] } ]"
    assert line in seen.only("WrongGpu", judge).remedy
    elsewhere = world(ONE, only("GPU-z")).looks(*shown({100: GIB}, {}))
    assert "correct placement.models.m.gpus" in elsewhere.only("WrongGpu", judge).remedy


def test_a_group_names_a_gpu_where_tritons_environment_lists_uuids() -> None:
    """GPU 1 of ["GPU-b", "GPU-a"] is GPU-a, and never the GPU of minor 1."""
    triton = server(minors=(0, 1), visible=("GPU-b", "GPU-a"))
    second = python_model("m", 1, GPU, (1,))
    assert world(second, server=triton).looks(*shown({100: GIB}, {})).reasons(judge) == []
    claim = world(second, server=triton).looks(*shown({}, {100: GIB})).only("WrongGpu", judge)
    assert "its instance_group's gpus [1]" in claim.message
    assert world(second).looks(*shown({}, {100: GIB})).reasons(judge) == []


# PlacementSkewed


def test_a_model_declared_over_two_gpus_with_all_its_memory_on_one_is_skewed() -> None:
    """Its code says 'cuda', which is GPU 0 for every instance."""
    claim = world(TWO).looks(*shown({100: GIB, 101: GIB}, {})).only("PlacementSkewed", judge)
    assert "declared over 2 GPUs, and its 2 stub processes are on 1: GPU-a" in claim.message
    assert "args['model_instance_device_id']" in claim.remedy
    assert claim.evidence == {
        "declared_ordinals": "0,1",
        "found": "GPU-a",
        "stubs": 2,
        "stubs_on_none": 0,
        "mode": "full",
    }


@pytest.mark.parametrize(
    ("first", "second", "figures", "skewed"),
    [
        ({100: GIB}, {101: GIB}, True, False),
        ({100: 2 * GIB, 101: 2 * GIB}, {101: GIB}, True, True),
        ({100: 2 * GIB, 101: 2 * GIB}, {101: None}, True, False),
        ({100: GIB}, {}, True, True),
        ({}, {}, True, False),
        ({100: 1, 101: 1}, {}, False, True),
        ({100: 1, 101: 1}, {101: 1}, False, False),
    ],
    ids=[
        "spread",
        "bare context",
        "a figure missing",
        "one on none",
        "all on none",
        "membership",
        "membership of both",
    ],
)
def test_where_each_process_has_the_most_decides_and_without_figures_where_it_is_at_all(
    first: Lists, second: Lists, *, figures: bool, skewed: bool
) -> None:
    """A stub that is on no GPU after its turn is on fewer too; of one that is on none, more is told elsewhere."""
    seen = used(world(TWO), 2 * TURNS).looks(*shown(first, second, figures=figures))
    assert seen.reasons(judge) == (["PlacementSkewed"] if skewed else [])


def test_a_stub_on_no_gpu_is_missed_once_it_had_its_turn_and_nothing_listed_may_be_its_own() -> None:
    """Before its turn it has taken none; a daemon that lost its parent may be what works for it."""
    seen, lists = used(world(TWO), 2 * TURNS), shown({100: GIB}, {})
    claim = seen.looks(*lists).only("PlacementSkewed", judge)
    assert "its 2 stub processes are on 1: GPU-a, and 1 of them on none." in claim.message
    assert claim.evidence["stubs_on_none"] == 1
    assert used(world(TWO), 2 * TURNS - 1).looks(*lists).reasons(judge) == []
    with_daemon = shown({100: GIB, 300: GIB}, {})
    daemon = process(300, name="python", parent=1)
    strayed = seen.looks(*with_daemon).scans(asked=(daemon,)).looks(*with_daemon)
    assert strayed.seen.strays == {300: "python"}
    assert strayed.reasons(judge) == []


@pytest.mark.parametrize(
    ("held", "executions", "options", "sequences", "skewed"),
    [
        (400 * MIB, 0, (), False, False),
        (400 * MIB, 2 * TURNS - 1, (), False, False),
        (400 * MIB, 2 * TURNS, (), False, True),
        (400 * MIB, 2 * TURNS, ("--rate-limit=off",), False, True),
        (400 * MIB, 2 * TURNS, ("--rate-limit=execution_count",), False, False),
        (400 * MIB, 2 * TURNS, (), True, False),
        (700 * MIB, 0, (), False, True),
    ],
)
def test_a_bare_context_counts_once_each_stub_had_its_turn(
    held: int, executions: int, options: tuple[str, ...], *, sequences: bool, skewed: bool
) -> None:
    """Which is never known where Triton binds requests to instances."""
    model = python_model("m", 1, GPU, (0, 1), sequences=sequences)
    seen = world(model, server=server(*options, minors=(0, 1)))
    seen = used(seen, executions) if executions else seen
    seen = seen.looks(*shown({100: held, 101: held}, {}))
    assert seen.reasons(judge) == (["PlacementSkewed"] if skewed else [])


def test_only_stubs_of_groups_over_several_gpus_count_and_all_of_them_must_be_there() -> None:
    """One GPU can not be missed; a CPU group's stub is nowhere; a dead one may have been the other."""
    both: Lists = {100: GIB, 101: GIB}
    assert world(python_model("m", 2, GPU, (0,))).looks(*shown(both, {})).reasons(judge) == []
    mixed = config("m", group("m_0", GPU, 1, 0, 1), group("m_1", CPU))
    assert world(mixed).looks(*shown(both, {})).reasons(judge) == ["PlacementSkewed"]
    assert world(TWO).without_stub(101).scans().looks(*shown({100: GIB}, {})).reasons(judge) == []


# Neither


def test_nothing_is_claimed_of_what_is_not_there() -> None:
    """No Triton, no configuration, no look, no stub, a model that is ignored."""
    seen = world(TWO, only("GPU-b")).looks(*shown({100: GIB, 101: GIB}, {}))
    assert seen.reasons(judge) == ["WrongGpu", "PlacementSkewed"]
    assert seen.server_exits().reasons(judge) == []
    assert world(TWO, only("GPU-b")).reasons(judge) == []
    unread = World(server=TRITON, rows=(row("m"),), settings=only("GPU-b")).scans().polls()
    assert unread.looks(*shown({}, {})).reasons(judge) == []
    onnx = config("m", group("m_0", GPU, 1, 0, 1), backend="onnxruntime")
    assert world(onnx, only("GPU-b")).looks(*shown({}, {})).reasons(judge) == []


def test_who_wrote_any_does_not_care_for_what_the_groups_say() -> None:
    """Unless GPUs are named for the model beside it."""
    triton = server(minors=(0, 1), visible=("GPU-b", "GPU-a"))
    anywhere = Settings(placement=PlacementSettings(default=Policy.ANY))
    named = ModelPlacement(device=Policy.ANY, gpus=("GPU-a",))
    second, lists = python_model("m", 1, GPU, (1,)), shown({}, {100: GIB})
    assert world(second, server=triton).looks(*lists).reasons(judge) == ["WrongGpu"]
    assert world(second, anywhere, server=triton).looks(*lists).reasons(judge) == []
    policy = Settings(placement=PlacementSettings(models={"m": named}))
    assert world(second, policy, server=triton).looks(*lists).reasons(judge) == ["WrongGpu"]
    both = shown({100: GIB, 101: GIB}, {})
    assert world(TWO).looks(*both).reasons(judge) == ["PlacementSkewed"]
    assert world(TWO, anywhere).looks(*both).reasons(judge) == []


def test_where_a_gpu_is_hidden_all_that_is_seen_may_be_a_bare_context() -> None:
    """The process may hold more on the GPU that NVML does not show."""
    seen = world(TWO, only("GPU-b"), server=server(minors=(0, 1, 2)))
    assert seen.looks(*shown({100: GIB, 101: GIB}, {})).reasons(judge) == []


def test_the_main_gpu_is_open_where_a_figure_is_missing() -> None:
    """Unless there is but one GPU."""
    assert main_of({"a": None}) == "a"
    assert main_of({"a": 1, "b": 2}) == "b"
    assert main_of({"a": 1, "b": None}) is None
    assert Use({1: {"a": 1, "b": None}}).main is None
    assert Use({1: {"a": 1}, 2: {"b": GIB}}).main == frozenset("b")
    assert Use({1: {"a": 1, "b": None}}).memory == {"a": 1}
