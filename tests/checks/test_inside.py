"""Is a model inside tritonserver told by what was seen of it, and by nothing that may be another's?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.checks.placement import judge
from probe.checks.signs import Weight, signs_of
from probe.facts.models import DeviceMemory, InstanceKind
from probe.facts.nvml import NvmlState
from probe.facts.placement import EvidenceMode, Verdict
from probe.settings import Policy, Settings
from probe.settings.schema import PlacementSettings
from tests.insiders import CONTEXT, Story, inside, onnx
from tests.worlds import GIB, MIB, SERVER_PID, config, gpu, group, process, row, server, serving

GPU, CPU, MODEL = InstanceKind.GPU, InstanceKind.CPU, InstanceKind.MODEL
SERVED = inside("m", "n")
"""A Triton that has served two models for a while."""
WANT_GPU = Settings(placement=PlacementSettings(default=Policy.GPU))


def reasons(story: Story) -> list[str]:
    """What this check says of the one model that is judged."""
    return [each.reason for each in story.world.claims(judge) if each.subject.model == "m"]


def weights(story: Story, name: str = "m") -> list[tuple[str, int]]:
    """Its signs: the side and the weight of each."""
    signs = signs_of(story.world.seen, story.world.record(name))
    return [(each.side.value, int(each.weight)) for each in signs]


ON_CPU = SERVED.goes(60, {"m": 0.5}, cores=0.5)
"""It executed alone, and nothing but the CPU did anything."""
ON_GPU = SERVED.goes(60, {"m": 0.5}, cores=0.5, busy={"GPU-a": 40.0})


# Each by itself


@pytest.mark.parametrize(
    ("story", "verdict", "weight"),
    [
        (SERVED.counts("m", GPU=300).goes(10), Verdict.GPU, Weight.STRONG),
        (SERVED.counts("m", GPU=8, CPU=900).goes(10), Verdict.GPU, Weight.MEDIUM),
        (SERVED.counts("m", CPU=8, CPU_PINNED=7).goes(10, {"m": 0.1}), Verdict.UNKNOWN, Weight.WEAK),
        (SERVED.counts("m", CPU=900).goes(10), Verdict.UNKNOWN, Weight.WEAK),
        (SERVED.counts("m", CPU=900).goes(10, {"m": 0.1}), Verdict.CPU, Weight.MEDIUM),
        (SERVED.unloads("m").goes(20).loads(onnx("m")).holds(a=300).goes(20), Verdict.GPU, Weight.MEDIUM),
        (
            SERVED.unloads("m").goes(20).loads(onnx("m")).holds(a=300).goes(20, {"n": 0.1}),
            Verdict.UNKNOWN,
            Weight.WEAK,
        ),
        (
            SERVED.unloads("m").goes(20).loads(onnx("m"), onnx("x")).holds(a=300).goes(20),
            Verdict.UNKNOWN,
            Weight.WEAK,
        ),
        (
            SERVED.unloads("m").goes(20).loads(onnx("m")).goes(20, {"m": 0.01}),
            Verdict.UNKNOWN,
            Weight.WEAK,
        ),
        (ON_GPU, Verdict.GPU, Weight.MEDIUM),
        (ON_CPU, Verdict.CPU, Weight.STRONG),
    ],
    ids=[
        "GPU memory is reported",
        "a little GPU memory is reported",
        "a little host memory alone is reported",
        "host memory alone, and nothing executed",
        "host memory alone, and it executed",
        "memory grew across its load",
        "memory grew while another executed",
        "memory grew across two loads",
        "nothing grew, and it executed",
        "it kept a GPU busy",
        "it kept the CPU busy and no GPU",
    ],
)
def test_one_sign_decides_where_it_has_weight(story: Story, verdict: Verdict, weight: Weight) -> None:
    """The sentence that says it comes first, with figures."""
    ((_, found),) = weights(story)
    assert (story.verdict(), found) == (verdict, weight)
    (sign,) = signs_of(story.world.seen, story.world.record("m"))
    assert sign.why in story.placed().why


def test_nothing_seen_is_nothing_known() -> None:
    """Neither of an idle model whose load nobody saw, nor of one whose load grew nothing and that is idle."""
    assert weights(SERVED) == []
    assert SERVED.verdict() is Verdict.UNKNOWN
    assert "(backend onnxruntime), whose GPU memory all models share" in SERVED.why()
    idle = SERVED.unloads("m").goes(20).loads(onnx("m")).goes(20)
    assert idle.world.book.growth.grown
    assert weights(idle) == []
    named = serving(config("m", group("m_0", MODEL), backend="", platform="tensorrt_plan"))
    assert "(backend tensorrt_plan)" in Story(named).why()


# The words, the figures, the GPUs


def test_the_memory_that_is_reported_is_told_before_what_grew() -> None:
    """Both are in ``why``, with which of them the figure is."""
    story = SERVED.unloads("m").goes(20).counts("m", GPU=280).loads(onnx("m")).holds(a=300).goes(20)
    told = story.placed()
    assert (told.gpu_memory_bytes, told.gpus) == (280 * MIB, ("GPU-a",))
    assert "statistics report 280 MiB of GPU memory for it (CUDA device 0)" in told.why[0]
    assert told.why[1] == (
        "Across its load tritonserver's memory on GPU-a grew by 300 MiB, and no other model inside it was loaded, "
        "unloaded or executed meanwhile."
    )
    assert told.why[2] == "The memory that is told of it is what Triton's statistics report."
    grown = SERVED.unloads("m").goes(20).loads(onnx("m")).holds(a=300).goes(20).placed()
    assert (grown.gpu_memory_bytes, grown.gpus) == (300 * MIB, ("GPU-a",))
    assert grown.why[1] == "The memory that is told of it is by how much tritonserver's grew across its load."


def test_what_was_exerted_is_told_in_figures_and_without_a_size() -> None:
    """How long, in how many windows, on which GPU."""
    told = ON_GPU.placed()
    assert (told.gpus, told.gpu_memory_bytes) == (("GPU-a",), None)
    assert told.why[0] == (
        "While it alone of the models inside tritonserver executed, tritonserver kept GPU-a busy: 40 % in the mean "
        "of the driver's samples, in 11 windows of 55 s together."
    )
    assert ON_CPU.placed().why[0] == (
        "While it alone of the models inside tritonserver executed, 28.0 s in 12 windows, tritonserver kept no GPU "
        "busy at all, and took 28.1 s of CPU time."
    )
    assert ON_CPU.placed().gpus == ()


def test_an_idle_gpu_proves_nothing_where_triton_has_one_that_nvml_hides() -> None:
    """It may have been busy there; a GPU that was seen busy was busy all the same."""
    story = inside("m", server=server(minors=(0, 7))).goes(60, {"m": 0.5}, cores=0.5)
    assert (story.verdict(), weights(story)) == (Verdict.UNKNOWN, [("cpu", 1)])
    assert "28.1 s of CPU time. That proves nothing alone: Triton has /dev/nvidia7" in story.why()
    claim = story.world.only("PlacementUnknown", judge)
    assert "Give the probe's container every GPU of the pod" in claim.remedy
    used = inside("m", server=server(minors=(0, 7))).goes(60, {"m": 0.5}, busy={"GPU-a": 40.0})
    assert used.verdict() is Verdict.GPU


def test_words_say_why_growth_is_uncertain() -> None:
    """Company, others that executed, pools."""
    fresh = SERVED.unloads("m").goes(20)
    both = fresh.loads(onnx("m"), onnx("x")).holds(a=300).goes(20)
    assert "grew by 300 MiB; x/1 came or went at the same time" in both.why()
    beside = fresh.loads(onnx("m")).holds(a=300).goes(20, {"n": 0.1})
    assert "others inside it executed meanwhile and may have taken that" in beside.why()
    nothing = fresh.loads(onnx("m")).goes(20, {"m": 0.01})
    assert "grew by less than 16 MiB on every GPU; a small model, or one that was served" in nothing.why()
    pooled = fresh.loads(onnx("x")).holds(a=300).goes(20).unloads("x").goes(20)
    served = pooled.loads(onnx("m")).goes(20, {"m": 0.01})
    assert "(300 MiB of which models that were unloaded left behind)" in served.why()


@pytest.mark.parametrize(
    ("gpus", "devices", "named", "by_gpu"),
    [
        (("GPU-a",), (0,), ("GPU-a",), {"GPU-a": GIB}),
        (("GPU-a", "GPU-b"), (0, 1), ("GPU-a", "GPU-b"), {}),
        (("GPU-a", "GPU-b"), (1,), (), {}),
        (("GPU-a",), (0, 1), (), {}),
    ],
)
def test_ordinals_name_gpus_only_where_there_are_no_others(
    gpus: tuple[str, ...], devices: tuple[int, ...], named: tuple[str, ...], by_gpu: dict[str, int]
) -> None:
    """CUDA counts those that it sees, in an order of its own."""
    memory = tuple(DeviceMemory("GPU", device, GIB) for device in devices)
    ordinals = tuple(range(len(gpus)))
    model = config("m", group("m_0", GPU, 1, *ordinals), backend="onnxruntime")
    world = serving(model).with_row(row("m", memory=memory)).polls()
    looked = world.looks(*(gpu(each, {SERVER_PID: GIB}) for each in gpus), gpu("GPU-z", {}))
    told = Story(looked).placed()
    assert (told.verdict, told.gpus, told.gpu_memory_bytes) == (Verdict.GPU, named, len(devices) * GIB)
    assert told.memory_bytes_by_gpu == by_gpu
    assert ("CUDA devices 0, 1" if len(devices) > 1 else f"CUDA device {devices[0]}") in told.why[0]
    listless = world.looks(*(gpu(each, {SERVER_PID: GIB}) for each in gpus), gpu("GPU-z"))
    assert Story(listless.looks(gpu(processes={7: 1}))).placed().gpus == ()
    assert Story(world).placed().gpus == ()


def test_triton_may_tell_its_gpus_in_cudas_order() -> None:
    """``CUDA_VISIBLE_DEVICES`` with UUIDs in it."""
    named = server(visible=("GPU-b", "GPU-a"))
    memory = (DeviceMemory("GPU", 0, GIB), DeviceMemory("GPU", 0, GIB))
    world = serving(onnx("m"), server=named).with_row(row("m", memory=memory)).polls()
    told = Story(world.looks(gpu("GPU-a", {SERVER_PID: GIB}), gpu("GPU-b", {SERVER_PID: GIB}))).placed()
    assert (told.gpus, told.memory_bytes_by_gpu) == (("GPU-b",), {"GPU-b": 2 * GIB})
    more = world.with_row(row("m", memory=(DeviceMemory("GPU", 2, GIB),))).polls()
    told = Story(more.looks(gpu("GPU-a", {SERVER_PID: GIB}), gpu("GPU-b", {SERVER_PID: GIB}))).placed()
    assert (told.verdict, told.gpus, told.memory_bytes_by_gpu) == (Verdict.GPU, (), {})


def test_a_figure_that_wrapped_around_is_none() -> None:
    """More was freed than counted, and Triton's own type has no sign."""
    wrapped = (DeviceMemory("GPU", 0, 2**64 - 4096), DeviceMemory("CPU", 0, 0))
    assert weights(Story(serving(onnx("m")).with_row(row("m", memory=wrapped)).polls())) == []


# Together


def test_signs_that_agree_are_all_told() -> None:
    """Weak ones of the other side too."""
    story = SERVED.counts("m", CPU=8).goes(60, {"m": 0.5}, busy={"GPU-a": 40.0})
    assert (story.verdict(), weights(story)) == (Verdict.GPU, [("cpu", 1), ("gpu", 2)])
    assert "8 MiB of host memory" in story.why()


def test_signs_that_contradict_each_other_decide_nothing() -> None:
    """Both sentences are there for somebody who knows more."""
    story = SERVED.counts("m", GPU=300).goes(60, {"m": 0.5}, cores=0.5)
    told = story.placed()
    assert (told.verdict, told.gpus, told.gpu_memory_bytes) == (Verdict.UNKNOWN, (), None)
    assert told.why[0] == "What was seen of it contradicts itself."
    assert "report 300 MiB of GPU memory" in story.why()
    assert "kept no GPU busy at all" in story.why()
    assert reasons(story) == ["PlacementUnknown"]


def test_a_weak_sign_for_a_gpu_holds_up_less_than_proof() -> None:
    """Host memory that is reported is less than proof; an idle GPU is not."""
    loaded = SERVED.unloads("m").goes(20).counts("m", CPU=900).loads(onnx("m")).holds(a=300)
    reported = loaded.goes(20, {"m": 0.01, "n": 0.01})
    assert weights(reported) == [("cpu", 2), ("gpu", 1)]
    assert reported.verdict() is Verdict.UNKNOWN
    idle = reported.goes(60, {"m": 0.5}, cores=0.5)
    assert (idle.verdict(), weights(idle)) == (Verdict.CPU, [("cpu", 2), ("gpu", 1), ("cpu", 3)])


# KIND_CPU


def test_a_model_that_triton_resolved_to_the_cpu_runs_there_without_more() -> None:
    """Whatever tritonserver does meanwhile, unless Triton itself reports GPU memory for it."""
    story = inside("m", kind=CPU).goes(60, {"m": 0.5}, busy={"GPU-a": 40.0})
    assert story.verdict() is Verdict.CPU
    assert story.placed().why[0] == "Triton resolved all of its instances to KIND_CPU."
    assert story.counts("m", CPU=900).goes(10).verdict() is Verdict.CPU
    held = story.counts("m", GPU=300).goes(10).placed()
    assert (held.verdict, held.gpu_memory_bytes) == (Verdict.GPU, 300 * MIB)


def test_tensorrtllm_is_told_by_what_was_seen() -> None:
    """Its groups say KIND_CPU, and it takes GPUs."""
    llm = onnx("m", CPU, backend="tensorrtllm")
    served = Story(serving(llm)).goes(20)
    assert served.verdict() is Verdict.UNKNOWN
    assert served.goes(60, {"m": 0.5}, busy={"GPU-a": 40.0}).verdict() is Verdict.GPU


# GpuNotUsed


def test_a_gpu_model_that_computes_on_the_cpu_does_not_use_its_gpu() -> None:
    """With what was seen, and the cure for its backend."""
    claim = ON_CPU.world.only("GpuNotUsed", judge)
    assert reasons(ON_CPU) == ["GpuNotUsed"]
    assert "declared on a GPU and has executed requests, and it computes on the CPU" in claim.message
    assert "kept no GPU busy at all" in claim.message
    assert "stub" not in claim.message
    assert "placed on [CPUExecutionProvider]" in claim.remedy
    good = ON_CPU.world.book.evidence.good
    assert good is not None
    assert claim.observed == good.observed
    assert claim.evidence == {
        "executions": 280,
        "mode": "full",
        "execution_seconds": 28.0,
        "cpu_seconds": 28.1,
        "windows": 12,
    }


def test_host_memory_that_is_reported_and_executions_are_enough_for_it() -> None:
    """Triton's own word needs no NVML."""
    unseen = Story(serving(onnx("m"))).counts("m", CPU=900).goes(20, {"m": 0.5}, looking=False)
    claim = unseen.world.only("GpuNotUsed", judge)
    assert "900 MiB of host memory for it and none of a GPU" in claim.message
    assert claim.observed == unseen.world.record("m").statistics_at
    assert claim.evidence["execution_seconds"] is None
    assert claim.evidence["mode"] == "no_nvml"


@pytest.mark.parametrize(
    ("backend", "kind", "words"),
    [
        ("onnxruntime", GPU, ["gpu_execution_accelerator", "float16"]),
        ("pytorch", GPU, ["register such tensors as buffers"]),
        ("pytorch", MODEL, ["KIND_MODEL loads the model onto the device that its file names", "buffers"]),
        ("dali", GPU, ["log of the backend dali"]),
    ],
)
def test_the_cure_is_that_of_the_backend(backend: str, kind: InstanceKind, words: list[str]) -> None:
    """Each falls back in its own way."""
    served = serving(onnx("m", kind, backend), settings=WANT_GPU, server=server(minors=(0,)))
    story = Story(served).goes(20).goes(60, {"m": 0.5}, cores=0.5)
    remedy = story.world.only("GpuNotUsed", judge).remedy
    assert all(each in remedy for each in words)
    assert ("KIND_MODEL" in remedy) == (kind is MODEL)


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrtllm"])
def test_an_engine_for_a_gpu_is_on_no_cpu_whatever_the_cpu_does(backend: str) -> None:
    """It may do it in another process, for which tritonserver waits, or with memory that nobody counts."""
    served = Story(serving(onnx("m", backend=backend))).goes(20)
    for story in (served.goes(60, {"m": 0.5}, cores=0.5), served.counts("m", CPU=900).goes(20, {"m": 0.5})):
        assert (story.verdict(), reasons(story)) == (Verdict.UNKNOWN, ["PlacementUnknown"])
        assert f"Its backend ({backend}) computes on GPUs alone" in story.why()
    assert served.goes(60, {"m": 0.5}, busy={"GPU-a": 40.0}).verdict() is Verdict.GPU


@pytest.mark.parametrize("initial", [False, True])
def test_a_process_that_tritonserver_may_have_begun_may_compute_for_it(*, initial: bool) -> None:
    """A backend that keeps workers of its own spins on the CPU and waits for them."""
    theirs = process(77, name="worker")
    listing = gpu("GPU-a", {SERVER_PID: CONTEXT, 77: GIB}, {}, minor=0)
    world = ON_CPU.world.looks(listing).scans(existing=(SERVER_PID,), asked=(theirs,), initial=initial)
    story = ON_CPU.but(world.looks(listing))
    assert reasons(story) == ["PlacementUnknown"]
    assert "processes that it may have begun (pids 77)" in story.why()


def test_it_is_a_fault_only_where_a_gpu_is_meant() -> None:
    """Who wrote ``any`` does not miss it."""
    settings = Settings(placement=PlacementSettings(default=Policy.ANY))
    story = inside("m", settings=settings).goes(60, {"m": 0.5}, cores=0.5)
    assert (story.verdict(), reasons(story)) == (Verdict.CPU, [])


# PlacementUnknown


@pytest.mark.parametrize(
    ("backend", "option", "tracker"),
    [
        ("onnxruntime", "", "--backend-config=onnxruntime,triton-backend-memory-tracker=true"),
        ("tensorrt", "", "--backend-config=tensorrt,triton-backend-memory-tracker=true"),
        ("tensorrt", "--backend-config=tensorrt,triton-backend-memory-tracker=true", ""),
        ("pytorch", "", ""),
        ("tensorrtllm", "", ""),
    ],
)
def test_what_is_unknown_says_what_would_let_it_be_told(backend: str, option: str, tracker: str) -> None:
    """The tracker where the backend has one and it is off; requests or a load where NVML tells of processes."""
    process = server(*([option] if option else []))
    story = Story(serving(onnx("m", GPU, backend), server=process)).goes(20)
    remedy = story.world.only("PlacementUnknown", judge).remedy
    assert ("memory-tracker" in remedy) == bool(tracker)
    assert tracker in remedy
    assert "Send it requests for some ten seconds while the other models inside" in remedy
    blind = Story(serving(onnx("m", GPU, backend), server=None))
    assert "nvidia" in blind.world.only("PlacementUnknown", judge).remedy.casefold()


def test_in_membership_a_newer_driver_would_tell() -> None:
    """Older ones have no figures of a process in a namespace."""
    story = Story(serving(onnx("m")).looks(gpu(processes={SERVER_PID: None})))
    assert story.world.book.evidence.evidence.mode is EvidenceMode.MEMBERSHIP
    assert "driver from 570 on" in story.world.only("PlacementUnknown", judge).remedy


# Whatever happens

MODES: dict[str, Callable[[Story], Story]] = {
    "no_nvml": lambda story: story.but(
        story.world.looks(state=NvmlState.NO_LIBRARY).looks(state=NvmlState.NO_LIBRARY, patience=0.0)
    ),
    "no GPU": lambda story: story.but(story.world.looks()),
    "blind": lambda story: story.but(story.world.looks(gpu(processes={7: GIB}))),
    "no lists": lambda story: story.but(story.world.looks(gpu())),
    "membership": lambda story: story.but(story.world.looks(gpu(processes={SERVER_PID: None}))),
    "foreign": lambda story: story.but(
        story.world.looks(gpu(processes={4242: 1, SERVER_PID: GIB}))
        .scans(existing=(SERVER_PID,))
        .looks(gpu(processes={4242: 1, SERVER_PID: GIB}))
    ),
}


@pytest.mark.parametrize("how", MODES)
@pytest.mark.parametrize("before", [ON_CPU, ON_GPU], ids=["on the CPU", "on a GPU"])
def test_what_was_exerted_is_told_in_full_mode_alone(how: str, before: Story) -> None:
    """Also where it was seen before the lists could no longer be trusted."""
    story = MODES[how](before)
    assert story.world.book.evidence.evidence.mode is not EvidenceMode.FULL
    assert (story.verdict(), weights(story)) == (Verdict.UNKNOWN, [])
    assert reasons(story) == ["PlacementUnknown"]


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(sorted(MODES)),
            st.sampled_from([{"m": 0.5}, {"m": 0.5, "n": 0.5}]),
            st.integers(5, 20),
        ),
        max_size=4,
    ),
)
def test_no_story_outside_full_mode_says_cpu_by_what_was_exerted(
    steps: list[tuple[str, dict[str, float], int]],
) -> None:
    """However long it executes, and whatever the CPU does."""
    story = Story(serving(onnx("m"), onnx("n")))
    for how, runs, seconds in steps:
        for _ in range(seconds):
            story = MODES[how](story.goes(1, runs, cores=1.0, looking=False))
    assert story.verdict("m") is Verdict.UNKNOWN
    assert story.verdict("n") is Verdict.UNKNOWN


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["nothing", "loads", "unloads"]),
            st.dictionaries(st.sampled_from(["m", "n", "x"]), st.sampled_from([0.01, 0.5])),
            st.sets(st.sampled_from(["a", "b"])),
            st.integers(1, 25),
        ),
        max_size=6,
    ),
)
def test_contexts_alone_are_never_proof(steps: list[tuple[str, dict[str, float], set[str], int]]) -> None:
    """Contexts come and go on every GPU, models load and execute: without growth or activity none is on one."""
    story = SERVED
    for what, runs, contexts, seconds in steps:
        present = {each.key.name for each in story.world.configs}
        if what == "loads" and "x" not in present:
            story = story.loads(onnx("x"))
        elif what == "unloads" and "x" in present:
            story = story.unloads("x")
        memory = {f"GPU-{each}": CONTEXT + len(each) * MIB for each in contexts | {"a"}}
        present = {each.key.name for each in story.world.configs}
        shown = story.but(story.world).with_memory(memory)
        story = shown.goes(seconds, {name: each for name, each in runs.items() if name in present}, cores=0.1)
    for name in {each.key.name for each in story.world.book.models.records.values() if each.ready}:
        assert story.verdict(name) is not Verdict.GPU


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([0, 8, 300]),
            st.sampled_from([0.0, 0.5, 2.0]),
            st.sampled_from([0.0, 2.0, 50.0]),
            st.integers(1, 30),
        ),
        max_size=6,
    ),
)
def test_two_models_that_do_everything_together_are_never_told_apart(
    steps: list[tuple[int, float, float, int]],
) -> None:
    """Loaded in one moment, executing in the same windows: whatever is seen, it is seen of both."""
    story = SERVED.loads(onnx("x"), onnx("y"))
    for held, cores, percent, seconds in steps:
        busy = {"GPU-a": percent} if percent else {}
        story = story.holds(a=held).goes(seconds, {"x": 0.4, "y": 0.3}, cores=cores, busy=busy)
    story = story.goes(5, {"x": 0.4, "y": 0.3})
    assert story.verdict("x") is story.verdict("y") is Verdict.UNKNOWN
