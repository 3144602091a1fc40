"""Is a model found where it runs, and is nothing concluded from what can not be seen?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.checks.outside import gpu_use
from probe.checks.placement import judge
from probe.checks.verdicts import placement_of
from probe.facts.models import DeviceMemory, InstanceKind, ModelState
from probe.facts.nvml import Gpu, NvmlState
from probe.facts.placement import Placement, Verdict
from probe.facts.processes import Process, ProcessState
from probe.facts.triton import Failure
from probe.settings import Policy, Settings
from probe.settings.schema import ModelPlacement, PlacementSettings
from tests.worlds import (
    GIB,
    SERVER_PID,
    START,
    World,
    config,
    ensemble,
    entry,
    gpu,
    group,
    key,
    process,
    python_model,
    row,
    server,
    serving,
    stub,
    worker,
)

CPU, GPU, MODEL = InstanceKind.CPU, InstanceKind.GPU, InstanceKind.MODEL
ON_GPU = python_model("m", 2, GPU, (0,))
ON_CPU = python_model("m", 2)
ANCHOR = {SERVER_PID: GIB}
"""Triton itself is on the list, so that absence from it proves something."""
WANT_GPU = Settings(placement=PlacementSettings(default=Policy.GPU))


def placed(seen: World, name: str = "m") -> Placement:
    """The verdict on this model."""
    return placement_of(seen.seen, seen.record(name))


def reasons(seen: World) -> list[str]:
    """What this check says."""
    return seen.reasons(judge)


def used(seen: World, success: int = 5) -> World:
    """The model executed requests, after its stubs began, and a poll told."""
    return seen.with_row(row("m", success=success, last=START.wall)).polls()


# Found on a GPU


def test_a_model_whose_stubs_are_listed_runs_on_the_gpus_that_list_them() -> None:
    """With the memory of all of them; a figure that is missing is not a zero."""
    seen = serving(ON_GPU).looks(gpu(processes={100: GIB}), gpu("GPU-b", {101: 2 * GIB}))
    told = placed(seen)
    assert told.verdict is Verdict.GPU
    assert told.gpus == ("GPU-a", "GPU-b")
    assert told.gpu_memory_bytes == 3 * GIB
    assert told.memory_bytes_by_gpu == {"GPU-a": GIB, "GPU-b": 2 * GIB}
    assert told.why[0] == "2 of 2 stub processes are in NVML's list of GPU-a, GPU-b with 3072 MiB."
    assert told.why[-1] == "Expected: auto: an explicit KIND_GPU group."
    assert (told.declared, told.explicit) == ("gpu", True)
    assert reasons(seen) == []


def test_membership_without_memory_is_enough() -> None:
    """Outside the first namespace old drivers give no figure."""
    seen = serving(ON_GPU).looks(gpu(processes={100: None, 101: 0}))
    assert placed(seen).verdict is Verdict.GPU
    assert placed(seen).gpu_memory_bytes is None
    assert "list of GPU-a." in placed(seen).why[0]


def test_the_memory_of_a_worker_is_its_models() -> None:
    """VLLM's engine core holds it, below the stub."""
    llm = config("m", group("m_0", MODEL), backend="vllm")
    world = serving(llm).with_stub(stub(50, "m_0_0", workers=(60,), runtime="/b/vllm")).scans()
    seen = world.looks(gpu(processes={60: 5 * GIB}))
    assert (placed(seen).verdict, placed(seen).gpu_memory_bytes) == (Verdict.GPU, 5 * GIB)


@pytest.mark.parametrize(
    ("model", "verdict"),
    [
        (config("m", group("m_0", CPU), group("m_1", GPU, 1, 0)), Verdict.MIXED),
        (config("m", group("m_0", CPU), group("m_1", MODEL)), Verdict.GPU),
        (config("m", group("m_0", GPU, 1, 0), group("m_1", GPU, 1, 1)), Verdict.GPU),
        (ON_CPU, Verdict.GPU),
    ],
)
def test_some_of_the_stubs_on_a_gpu_is_mixed_only_where_it_is_declared_so(
    model: object, verdict: Verdict
) -> None:
    """One stub of several may simply not have begun yet."""
    seen = serving(model).looks(gpu(processes={100: GIB, **ANCHOR}))  # type: ignore[arg-type]
    assert placed(seen).verdict is verdict


def test_a_cpu_model_that_uses_a_gpu_is_found_there() -> None:
    """KIND is only a word for a python model."""
    seen = serving(ON_CPU).looks(gpu(processes={100: GIB}))
    assert placed(seen).verdict is Verdict.GPU
    assert reasons(seen) == []


def test_use_is_summed_for_each_gpu_and_unknown_stays_unknown() -> None:
    """None where no figure is given, nothing where nobody is listed."""
    seen = serving(ON_GPU).looks(gpu(processes={1: 5, 2: None, 3: 7}), gpu("GPU-b", {2: None}), gpu("GPU-c"))
    reading = seen.book.evidence.good
    assert gpu_use(reading, (1, 2)) == {"GPU-a": 5, "GPU-b": None}
    assert gpu_use(reading, (9,)) == {}
    assert gpu_use(None, (1,)) == {}


# GpuNotUsed


def test_a_gpu_model_that_was_exercised_and_is_on_no_list_does_not_use_its_gpu() -> None:
    """Absence from a list that shows Triton itself, after it executed something."""
    seen = used(serving(ON_GPU)).looks(gpu(processes=ANCHOR))
    claim = seen.only("GpuNotUsed")
    assert placed(seen).verdict is Verdict.CPU
    assert "none of its 2 stub processes is on any GPU" in claim.message
    assert claim.observed == seen.now.shifted(-1)
    assert claim.evidence == {"executions": 5, "mode": "full", "stub_pids": "100 101"}
    assert reasons(seen) == ["GpuNotUsed"]


def test_a_model_of_which_nobody_wrote_where_it_runs_may_need_no_gpu() -> None:
    """Triton gives a GPU to every such python model, to one that only prepares data for others too."""
    made = config("m", group("m", GPU, 1, 0))
    remedy = used(serving(made)).looks(gpu(processes=ANCHOR)).only("GpuNotUsed").remedy
    line = "/models/m/config.pbtxt: instance_group [ { count: 1 kind: KIND_CPU } ]"
    assert f"Where it needs no GPU, write that down in {line}" in remedy
    written = used(serving(ON_GPU)).looks(gpu(processes=ANCHOR)).only("GpuNotUsed").remedy
    assert "KIND_CPU" not in written


def test_only_a_look_after_it_was_exercised_proves_anything() -> None:
    """A framework takes the GPU with its first use."""
    idle = serving(ON_GPU).looks(gpu(processes=ANCHOR))
    assert reasons(idle) == ["PlacementUnknown"]
    assert "has executed nothing" in placed(idle).why[0]
    assert "Send the model a request" in idle.only("PlacementUnknown").remedy
    assert reasons(used(idle)) == ["PlacementUnknown"]
    assert reasons(used(idle).looks(gpu(processes=ANCHOR))) == ["GpuNotUsed"]


def test_a_look_that_was_under_way_while_the_model_took_its_gpu_proves_nothing() -> None:
    """Its lists may be from before; the next look's are not."""
    seen = serving(ON_GPU).looks(gpu(processes=ANCHOR))
    asked = seen.now
    seen = used(seen.later(3.0)).looks(gpu(processes=ANCHOR), asked=asked)
    assert reasons(seen) == ["PlacementUnknown"]
    assert reasons(seen.looks(gpu(processes=ANCHOR), asked=seen.now)) == ["GpuNotUsed"]


def test_executions_of_an_earlier_load_prove_nothing_of_this_one() -> None:
    """The counters went back: nothing was executed since."""
    seen = used(serving(ON_GPU)).with_row(row("m")).polls().looks(gpu(processes=ANCHOR))
    assert reasons(seen) == ["PlacementUnknown"]


def test_a_stub_that_began_after_the_last_execution_had_no_occasion() -> None:
    """Started again, it takes its GPU with the next request."""
    late = stub(300, "m_0_0", start=int(200 * 1e6))
    seen = used(serving(ON_GPU)).without_stub(100).with_stub(late).scans().looks(gpu(processes=ANCHOR))
    assert reasons(seen) == ["PlacementUnknown"]


def test_without_a_stub_nothing_is_proven() -> None:
    """There is nobody who could be on the list."""
    seen = used(serving(ON_GPU).having(stubs=())).looks(gpu(processes=ANCHOR))
    bare = World(server=server(), rows=(row("m", success=3),), configs=(ON_GPU,)).scans().polls().asks()
    assert "GpuNotUsed" not in reasons(bare.looks(gpu(processes=ANCHOR)))
    assert "GpuNotUsed" not in reasons(seen.having(stubs=()).scans().looks(gpu(processes=ANCHOR)))


@pytest.mark.parametrize(
    ("model", "settings", "claimed"),
    [
        (ON_GPU, Settings(), True),
        (ON_GPU, WANT_GPU, True),
        (ON_GPU, Settings(placement=PlacementSettings(default=Policy.CPU)), False),
        (ON_GPU, Settings(placement=PlacementSettings(default=Policy.ANY)), False),
        (python_model("m", 1, MODEL), WANT_GPU, True),
        (python_model("m", 1, MODEL), Settings(), False),
    ],
)
def test_it_is_a_fault_only_where_a_gpu_is_meant_and_declared(
    model: object, settings: Settings, *, claimed: bool
) -> None:
    """Who wrote ``cpu`` or ``any`` does not miss it."""
    seen = used(serving(model, settings=settings, server=server(minors=(0,))))  # type: ignore[arg-type]
    assert ("GpuNotUsed" in reasons(seen.looks(gpu(processes=ANCHOR, minor=0)))) == claimed


# Processes of which it is not known whose they are


def looked(seen: World, *processes: Process, initial: bool = False) -> World:
    """NVML lists these beside tritonserver, and a scan between two looks has found them."""
    lists = {each.id.pid: GIB for each in processes}
    seen = seen.looks(gpu(processes={**ANCHOR, **lists})).scans(asked=processes, initial=initial)
    return seen.looks(gpu(processes={**ANCHOR, **lists}))


def test_a_worker_that_others_adopted_is_still_its_models() -> None:
    """The process between it and the stub ended; no tree leads to it any more."""
    ours = worker(60, parent=101)
    seen = serving(ON_GPU).with_worker(101, ours).scans()
    seen = looked(used(seen.adopted(60).scans()), ours)
    assert placed(seen).verdict is Verdict.GPU
    assert placed(seen).gpu_memory_bytes == GIB
    assert reasons(seen) == []


@pytest.mark.parametrize(
    ("found", "initial", "may_be"),
    [
        ({"parent": 1}, False, True),
        ({"parent": SERVER_PID}, True, True),
        ({"parent": 1}, True, False),
        ({"parent": 1, "start": 1}, False, False),
        ({"parent": 1, "name": "tritonserver"}, False, False),
        ({"parent": 1, "state": ProcessState.ZOMBIE}, False, False),
    ],
    ids=["daemon", "adopted by tritonserver", "a tenant", "older", "another Triton", "ended"],
)
def test_a_process_that_nobody_is_known_to_have_begun_may_be_the_models(
    found: dict[str, object], *, initial: bool, may_be: bool
) -> None:
    """A daemon that left its stub's tree before any scan; who can not be one proves as before."""
    seen = looked(used(serving(ON_GPU)), process(77, **{"name": "engine", **found}), initial=initial)  # type: ignore[arg-type]
    assert reasons(seen) == (["PlacementUnknown"] if may_be else ["GpuNotUsed"])
    if may_be:
        assert "engine (pid 77)" in placed(seen).why[0]
        assert "ps -ef --forest" in seen.only("PlacementUnknown").remedy


def test_before_anything_was_seen_nothing_strays() -> None:
    """Nor where a process is listed that exists and is closed to us."""
    assert World().seen.strays == {}
    seen = looked(used(serving(ON_GPU)), process(77, parent=1))
    assert seen.scans(existing=(77,)).seen.strays == {77: ""}


def test_a_stub_of_another_triton_is_not_ours() -> None:
    """It is below that one."""
    others = (process(77, parent=1, name="tritonserver"), process(78, parent=77))
    assert reasons(looked(used(serving(ON_GPU)), *others)) == ["GpuNotUsed"]


@pytest.mark.parametrize(("initial", "may_be"), [(False, True), (True, False)])
def test_what_the_last_scan_was_not_asked_of_may_be_a_young_worker(*, initial: bool, may_be: bool) -> None:
    """Until the next scan has found it below the stub; on the host, it is sooner another tenant's."""
    seen = looked(used(serving(ON_GPU)))
    assert reasons(seen) == ["GpuNotUsed"]
    seen = seen.scans(initial=initial).with_worker(100, worker(60)).looks(gpu(processes={**ANCHOR, 60: GIB}))
    assert reasons(seen) == (["PlacementUnknown"] if may_be else ["GpuNotUsed"])
    assert ("not looked up yet (pid 60)" in placed(seen).why[0]) == may_be
    assert reasons(seen.scans(initial=initial)) == []
    ended = seen.without_worker(60).scans(initial=initial)
    assert reasons(ended) == ["GpuNotUsed"]


# Modes that prove nothing

BLIND = {
    "no look": lambda seen: seen,
    "no_nvml": lambda seen: seen.looks(state=NvmlState.NO_LIBRARY),
    "no GPU": lambda seen: seen.looks(),
    "no lists": lambda seen: seen.looks(gpu()),
    "empty lists": lambda seen: seen.looks(gpu(processes={})),
    "others only": lambda seen: seen.looks(gpu(processes={7: GIB})),
    "foreign": lambda seen: (
        seen.looks(gpu(processes={4242: 1, SERVER_PID: 1}))
        .scans()
        .looks(gpu(processes={4242: 1, SERVER_PID: 1}))
    ),
    "lost": lambda seen: (
        seen.looks(gpu(processes=ANCHOR))
        .looks(state=NvmlState.ERROR)
        .looks(state=NvmlState.ERROR, patience=0.0)
    ),
}


@pytest.mark.parametrize("how", BLIND)
@pytest.mark.parametrize("model", [ON_GPU, python_model("m", 1, MODEL)], ids=["gpu", "model"])
def test_where_lists_prove_nothing_no_finding_says_not_on_the_gpu(how: str, model: object) -> None:
    """Unknown, with the reason why; never cpu because NVML is missing."""
    seen = BLIND[how](used(serving(model, settings=WANT_GPU)))  # type: ignore[arg-type]
    assert not seen.book.evidence.evidence.lists_prove_absence
    assert placed(seen).verdict is Verdict.UNKNOWN
    assert reasons(seen) == ["PlacementUnknown"]
    claim = seen.only("PlacementUnknown")
    assert seen.book.evidence.evidence.why in claim.message
    assert claim.evidence["mode"] == seen.book.evidence.evidence.mode.value
    cure = "NVIDIA_VISIBLE_DEVICES" if claim.evidence["mode"] == "no_nvml" else "shareProcessNamespace"
    assert cure in claim.remedy


def test_a_gpu_without_a_list_beside_one_with_a_list_proves_nothing() -> None:
    """It may be on that one."""
    seen = used(serving(ON_GPU)).looks(gpu(processes=ANCHOR), gpu("GPU-b"))
    assert reasons(seen) == ["PlacementUnknown"]
    assert placed(seen).why[0] == "NVML gives no process list of GPU-b."


@given(
    lists=st.lists(
        st.none() | st.dictionaries(st.sampled_from([100, 101, SERVER_PID, 4242]), st.none() | st.just(GIB)),
        max_size=3,
    ),
    looks=st.integers(1, 3),
    executed=st.booleans(),
)
def test_absence_needs_a_list_of_every_gpu_that_shows_one_of_ours(
    lists: list[dict[int, int | None] | None], looks: int, *, executed: bool
) -> None:
    """Whatever NVML lists: ``cpu`` is concluded of a GPU model only from proof."""
    gpus: list[Gpu] = [gpu(f"GPU-{index}", each) for index, each in enumerate(lists)]
    seen = serving(ON_GPU)
    seen = used(seen) if executed else seen
    for _ in range(looks):
        seen = seen.scans(existing=(100, 101, SERVER_PID)).looks(*gpus)
    listed = {pid for each in lists for pid in each or ()}
    verdict = placed(seen).verdict
    trusted = bool(listed & {100, 101, SERVER_PID}) and 4242 not in listed
    if trusted and listed & {100, 101}:
        assert verdict is Verdict.GPU
    elif trusted and executed and None not in lists and SERVER_PID in listed:
        assert verdict is Verdict.CPU
        assert reasons(seen) == ["GpuNotUsed"]
    else:
        assert verdict is Verdict.UNKNOWN
        assert reasons(seen) == ["PlacementUnknown"]


# CPU


@pytest.mark.parametrize("how", BLIND)
def test_a_model_that_triton_resolved_to_the_cpu_runs_there_where_there_is_no_gpu(how: str) -> None:
    """That is Triton's own word and needs no list."""
    seen = BLIND[how](serving(ON_CPU))
    assert placed(seen).verdict is Verdict.CPU
    assert reasons(seen) == []


def test_an_explicit_cpu_model_beside_a_gpu_may_use_it_unseen() -> None:
    """Its own code decides, and where lists prove nothing that can not be told."""
    seen = serving(ON_CPU, server=server(minors=(0,)))
    assert reasons(seen) == ["PlacementUnknown"]
    assert "its own code may use a GPU" in placed(seen).why[0]
    shown = seen.looks(gpu(processes=ANCHOR, minor=0))
    assert placed(shown).verdict is Verdict.CPU
    assert "NVML lists none of its processes" in placed(shown).why[0]


def test_tensorrtllm_uses_gpus_whatever_its_kind_says() -> None:
    """Inside tritonserver, whose memory all models share."""
    seen = serving(config("m", group("m_0", CPU), backend="tensorrtllm"), server=server(minors=(0,)))
    assert placed(seen).verdict is Verdict.UNKNOWN
    assert reasons(seen) == ["PlacementUnknown"]


# CpuFallback


@pytest.mark.parametrize("backend", ["python", "onnxruntime"])
def test_a_model_meant_for_a_gpu_and_resolved_to_the_cpu_fell_back(backend: str) -> None:
    """At once, without any list: no instance_group, and Triton saw no usable GPU."""
    made = config("m", group("m", CPU, 2), backend=backend)
    seen = serving(made, server=server(minors=(0,)))
    claim = seen.only("CpuFallback")
    assert "no instance_group, and Triton saw no usable GPU" in claim.message
    assert "auto: no instance_group, and this pod has a GPU" in claim.message
    assert (
        "Add to /models/m/config.pbtxt the line: instance_group [ { count: 2 kind: KIND_GPU } ]"
        in claim.remedy
    )
    assert claim.observed == seen.record("m").config_at
    assert claim.evidence == {
        "declared": "cpu",
        "explicit": False,
        "expected_by": "auto: no instance_group, and this pod has a GPU",
        "instances": 2,
        "backend": backend,
        "pod_has_gpu": True,
    }
    assert reasons(seen) == ["CpuFallback", "PlacementImplicit"]
    without = serving(made)
    assert reasons(without) == ["PlacementImplicit"]


def test_a_cpu_group_where_policy_wants_a_gpu_is_a_fallback_that_somebody_wrote() -> None:
    """The line is there and has to be changed."""
    seen = serving(ON_CPU, settings=WANT_GPU)
    claim = seen.only("CpuFallback")
    assert "its instance_group says KIND_CPU" in claim.message
    assert "Change the instance_group in /models/m/config.pbtxt" in claim.remedy
    assert "placement.default: gpu" in claim.message
    assert claim.evidence["pod_has_gpu"] is False


def test_a_cpu_model_that_is_found_on_a_gpu_did_not_fall_back() -> None:
    """Its code took the GPU all the same."""
    seen = serving(ON_CPU, settings=WANT_GPU).looks(gpu(processes={100: GIB}))
    assert reasons(seen) == []


def test_the_file_to_mend_is_found_by_a_stub_or_by_the_servers_options() -> None:
    """The repository that the model was really loaded from, where a stub tells it."""
    elsewhere = stub(100, "m_0_0", path="/more/m/1/model.py")
    seen = serving(ON_CPU, settings=WANT_GPU).with_stub(elsewhere).scans()
    assert "/more/m/config.pbtxt" in seen.only("CpuFallback").remedy
    onnx = config("m", group("m_0", CPU), backend="onnxruntime")
    assert "/models/m/config.pbtxt" in serving(onnx, settings=WANT_GPU).only("CpuFallback").remedy
    unseen = serving(onnx, settings=WANT_GPU, server=None)
    assert "<model repository>/m/config.pbtxt" in unseen.only("CpuFallback").remedy
    backend = config("m", group("m_0", CPU), backend="x")
    foreign = serving(backend, settings=WANT_GPU).with_stub(
        stub(9, "m_0_0", path="/b/x/model.py", runtime="/b/x")
    )
    assert "/models/m/config.pbtxt" in foreign.scans().only("CpuFallback").remedy


# Models inside tritonserver


def test_memory_that_triton_reports_for_a_model_proves_its_gpu() -> None:
    """``memory_usage``: only GPU rows count."""
    memory = (DeviceMemory("GPU", 0, GIB), DeviceMemory("GPU", 1, GIB), DeviceMemory("CPU", 0, 7))
    seen = serving(config("m", group("m_0", GPU, 1, 0), backend="onnxruntime"))
    told = placed(seen.with_row(row("m", memory=memory)).polls())
    assert (told.verdict, told.gpu_memory_bytes, told.gpus) == (Verdict.GPU, 2 * GIB, ())
    assert "statistics report 2048 MiB" in told.why[0]
    nothing = placed(seen.with_row(row("m", memory=memory[2:])).polls())
    assert nothing.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("kind", [GPU, MODEL])
def test_a_model_inside_tritonserver_can_not_be_told_apart(kind: InstanceKind) -> None:
    """All share one pid; a context of tritonserver proves nothing of one model."""
    seen = used(serving(config("m", group("m_0", kind), backend="onnxruntime"))).looks(gpu(processes=ANCHOR))
    assert placed(seen).verdict is Verdict.UNKNOWN
    assert "(backend onnxruntime), whose GPU memory all models share" in placed(seen).why[0]
    assert reasons(seen) == ["PlacementUnknown"]
    named = serving(config("m", group("m_0", kind), backend="", platform="tensorrt_plan"))
    assert "(backend tensorrt_plan)" in placed(named).why[0]


def test_a_cpu_model_inside_tritonserver_runs_on_the_cpu() -> None:
    """Triton's own word."""
    assert placed(serving(config("m", group("m_0", CPU), backend="onnxruntime"))).verdict is Verdict.CPU


# Not yet, and ensembles


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(), "any"),
        (WANT_GPU, "gpu"),
        (Settings(placement=PlacementSettings(models={"m": ModelPlacement(device=Policy.CPU)})), "cpu"),
        (Settings(placement=PlacementSettings(models={"m": ModelPlacement()})), "any"),
    ],
)
def test_before_its_configuration_is_read_a_model_is_unknown(settings: Settings, expected: str) -> None:
    """Nothing is claimed; what is wanted is told as far as the file says."""
    seen = World(server=server(), rows=(row("m"),), settings=settings).scans().polls()
    told = placed(seen)
    assert (told.verdict, told.expected.value, told.declared) == (Verdict.UNKNOWN, expected, None)
    assert told.explicit is None
    assert reasons(seen) == []


def test_only_ready_models_of_a_triton_that_answers_are_judged() -> None:
    """What is not loaded runs nowhere."""
    seen = serving(python_model("m", 1, GPU))
    assert reasons(seen) == ["PlacementUnknown"]
    assert reasons(seen.without_model("m").polls().asks(index=(entry("m", ModelState.LOADING),))) == []
    assert reasons(seen.server_exits()) == []
    assert reasons(World().scans().fails(Failure.REFUSED)) == []


C1, C2 = config("c1", group("c1_0", CPU), backend="x"), config("c2", group("c2_0", CPU), backend="x")
G = python_model("g", 1, GPU)


@pytest.mark.parametrize(
    ("steps", "verdict"),
    [
        (("c1",), "cpu"),
        (("c1", "c2", "c1"), "cpu"),
        (("g",), "gpu"),
        (("c1", "g"), "mixed"),
        (("c1", "gone"), "unknown"),
        ((), "unknown"),
        (("inner",), "mixed"),
        (("e",), "unknown"),
        ((key("c1", "1"),), "cpu"),
        ((key("c1", "2"),), "unknown"),
    ],
)
def test_an_ensemble_runs_where_its_steps_run(steps: tuple[str, ...], verdict: str) -> None:
    """All of them; one that is unknown makes it so, and a cycle ends."""
    seen = serving(C1, C2, G, ensemble("inner", "c1", "g"), ensemble("e", *steps))
    told = placed(seen.looks(gpu(processes={100: GIB})), "e")
    assert told.verdict.value == verdict
    assert (told.declared, told.explicit, told.expected.value) == ("ensemble", None, "any")
    assert told.why[0].startswith("It runs where its steps run:")


def test_a_long_chain_of_ensembles_is_not_followed_for_ever() -> None:
    """Garbage; Triton refuses cycles, not depth."""
    chain = [ensemble(f"e{index:02}", f"e{index + 1:02}") for index in range(30)]
    seen = serving(C1, *chain, ensemble("e30", "c1"))
    assert placed(seen, "e20").verdict is Verdict.CPU
    assert placed(seen, "e00").verdict is Verdict.UNKNOWN
