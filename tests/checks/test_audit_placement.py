"""Does an audit name models that would run elsewhere than they are meant to, or be refused for it?"""

from __future__ import annotations

import pytest

from probe.checks.audit.placement import group_line
from probe.checks.audit.terms import Terms, instances, wish
from probe.facts.findings import Severity
from probe.facts.models import InstanceKind
from probe.facts.placement import Expected
from probe.facts.repository import (
    RepositoryModel,
    WrittenAccelerator,
    WrittenGroup,
    WrittenParameter,
    WrittenStep,
)
from probe.settings import ModelPlacement, PlacementSettings, Settings
from tests.repositories import (
    AUTO,
    CPU,
    GPU,
    MODEL,
    audited,
    group,
    model,
    only,
    rules,
    terms,
    version,
    without_file,
)


def device(value: str) -> tuple[WrittenParameter, ...]:
    """The model's own word."""
    return (WrittenParameter("triton_probe.device", value, 9),)


def gpus(listed: str) -> tuple[WrittenParameter, ...]:
    """The model's own list."""
    return (WrittenParameter("triton_probe.gpus", listed, 9),)


def on_gpus(name: str) -> Terms:
    """The probe's file names a GPU for this model, and no device."""
    entry = ModelPlacement(gpus=("GPU-1",))
    return Terms(Settings(placement=PlacementSettings(models={name: entry})))


def accelerators(*named: tuple[str, InstanceKind]) -> tuple[WrittenAccelerator, ...]:
    """At line 7."""
    return tuple(WrittenAccelerator(name, kind, 7) for name, kind in named)


@pytest.mark.parametrize(
    ("asked", "by", "expected", "words"),
    [
        (
            model("m", group(CPU), parameters=device("GPU")),
            terms("cpu"),
            Expected.GPU,
            "triton_probe.device: gpu",
        ),
        (model("m", parameters=device("nonsense")), terms("cpu"), Expected.CPU, "placement.default: cpu"),
        (model("m"), terms("cpu", {"m": "gpu"}), Expected.GPU, "placement.models.m.device: gpu"),
        (model("m"), terms("gpu", device_by="--device gpu"), Expected.GPU, "--device gpu"),
        (model("m", group(GPU), group(CPU)), terms(), Expected.GPU, "its KIND_GPU"),
        (model("m", group(CPU)), terms(), Expected.CPU, "its KIND_CPU"),
        (model("m", group(MODEL)), terms(), Expected.ANY, "nothing in its files"),
        (model("m", group(AUTO)), terms(), Expected.ANY, "nothing in its files"),
        (model("m"), terms(), Expected.ANY, "nothing in its files"),
        (model("m", group(CPU), backend="tensorrtllm"), terms(), Expected.GPU, "computes on GPUs"),
        (model("m", backend="openvino"), terms(), Expected.CPU, "runs on the CPU"),
        (
            model("m", backend="onnxruntime", accelerators=accelerators(("cuda", GPU))),
            terms(),
            Expected.GPU,
            "its gpu_execution_accelerator cuda",
        ),
        (model("m", accelerators=accelerators(("cuda", GPU))), terms(), Expected.ANY, "nothing in its files"),
        (
            model("m", group(CPU), backend="onnxruntime", accelerators=accelerators(("cuda", GPU))),
            terms(),
            Expected.CPU,
            "its KIND_CPU",
        ),
        (model("m", group(CPU), parameters=gpus("GPU-1,")), terms(), Expected.GPU, "triton_probe.gpus"),
        (model("m", parameters=gpus("0")), terms(), Expected.ANY, "nothing in its files"),
        (model("m", parameters=gpus("GPU-1")), terms("cpu"), Expected.CPU, "placement.default: cpu"),
        (model("m"), on_gpus("m"), Expected.GPU, "placement.models.m.gpus"),
        (model("m"), on_gpus("other"), Expected.ANY, "nothing in its files"),
        (model("m", ensemble=True, backend=""), terms("gpu"), Expected.ANY, "where its steps run"),
    ],
)
def test_what_is_wanted_is_told_in_the_daemons_order(
    asked: RepositoryModel, by: object, expected: Expected, words: str
) -> None:
    """Its own parameter, its entry of the configuration, the default; auto asks the files."""
    told = wish(asked, by)  # type: ignore[arg-type]

    assert told.expected is expected
    assert words in told.by


@pytest.mark.parametrize(
    ("asked", "by", "fix"),
    [
        (model(), terms("gpu"), "instance_group [ { count: 1 kind: KIND_GPU } ]"),
        (model(), terms("cpu"), "instance_group [ { count: 1 kind: KIND_CPU } ]"),
        (model(backend="onnxruntime"), terms("cpu"), "instance_group [ { count: 2 kind: KIND_CPU } ]"),
        (model(backend="onnxruntime"), terms("gpu"), "instance_group [ { count: 1 kind: KIND_GPU } ]"),
        (model(backend="vllm"), terms(), "instance_group [ { count: 1 kind: KIND_MODEL } ]"),
        (model(backend="tensorrtllm"), terms(), "instance_group [ { count: 1 kind: KIND_CPU } ]"),
        (
            model(backend="", platform="tensorrt_plan"),
            terms(),
            "instance_group [ { count: 1 kind: KIND_GPU } ]",
        ),
        (model(backend="openvino"), terms("gpu"), "instance_group [ { count: 1 kind: KIND_CPU } ]"),
        (model(), terms(), ""),
        (without_file(), terms("gpu"), ""),
    ],
)
def test_a_placement_that_nobody_wrote_is_implicit(asked: RepositoryModel, by: object, fix: str) -> None:
    """The line to write follows what is wanted and what the backend takes; unknown, it is not made up."""
    found = only("PlacementImplicit", asked, by=by)  # type: ignore[arg-type]

    assert found.severity is Severity.WARNING
    assert found.line is None
    assert found.fix == fix
    assert fix in found.remedy


def test_where_nothing_says_what_is_wanted_both_lines_are_named() -> None:
    """And how to say it; without a file, what to write into a new one."""
    unsure = only("PlacementImplicit", model())
    assert "KIND_GPU } ] or instance_group [ { count: 1 kind: KIND_CPU" in unsure.remedy
    assert "--device gpu" in unsure.remedy

    found = only("PlacementImplicit", without_file(), by=terms("gpu"))
    assert found.path == "models/m"
    assert "a new models/m/config.pbtxt" in found.remedy
    assert "without a word" in found.message


@pytest.mark.parametrize(
    "asked",
    [
        model(parameters=device("any")),
        model("m", group(AUTO), parameters=device("any")),
        model("m", group(GPU), group(CPU), parameters=device("any")),
        model("m", group(GPU)),
        model("m", group(CPU)),
        model("m", group(MODEL), backend="vllm"),
        model("m", group(CPU), backend="tensorrtllm"),
        model("m", group(CPU), backend="openvino"),
        model("m", ensemble=True, backend="", platform="ensemble", steps=(WrittenStep("m", None, 1),)),
        RepositoryModel("m", "models/m", "models/m/config.pbtxt", None),
    ],
)
def test_what_is_well_or_not_known_is_no_finding(asked: RepositoryModel) -> None:
    """Whatever has a kind that fits, any for policy, ensembles, and what could not be read."""
    assert rules(asked) == []


def test_kind_cpu_where_somebody_named_gpus_is_a_fallback() -> None:
    """As the daemon would say of it, once it is loaded."""
    assert rules(model("m", group(CPU), parameters=gpus("GPU-1"))) == ["CpuFallback"]
    assert only("PlacementImplicit", model(), by=on_gpus("m")).fix == group_line("KIND_GPU", "python")


def test_kind_cpu_where_a_gpu_is_wanted_is_a_fallback() -> None:
    """Named at the line of its kind, with as many instances as it has."""
    found = only("CpuFallback", model("m", group(CPU, 3), group(CPU)), by=terms("gpu"))

    assert found.severity is Severity.CRITICAL
    assert found.line == 4
    assert "instance_group [ { count: 4 kind: KIND_GPU } ]" in found.remedy


@pytest.mark.parametrize("backend", ["tensorrtllm", "vllm", "openvino"])
def test_kind_cpu_of_a_backend_that_does_not_go_by_it_is_no_fallback(backend: str) -> None:
    """TensorRT-LLM uses its GPUs all the same, and OpenVINO has no other kind."""
    assert rules(model("m", group(CPU), backend=backend), by=terms("gpu")) == []


@pytest.mark.parametrize(
    ("written", "says", "line"),
    [
        (group(AUTO, 2, kind_line=3), "names no kind, which is KIND_AUTO", 3),
        (group(AUTO, 2), "says KIND_AUTO", 4),
    ],
)
def test_kind_auto_falls_back_without_a_word(written: object, says: str, line: int) -> None:
    """Whether it is written or left out; the remedy keeps the count."""
    found = only("SilentFallback", model("m", written))  # type: ignore[arg-type]
    assert says in found.message
    assert found.line == line
    assert found.remedy.count("count: 2") == 2

    meant = only("SilentFallback", model("m", written), by=terms("gpu"))  # type: ignore[arg-type]
    assert meant.remedy == "Name the kind: instance_group [ { count: 2 kind: KIND_GPU } ]"
    assert "It is meant for a GPU (placement.default: gpu)" in meant.message


def test_kind_auto_with_gpus_does_not_fall_back() -> None:
    """Without them Triton resolves it to KIND_CPU, which takes no gpus: a load error (seen in 24.10)."""
    assert rules(model("m", group(AUTO, 1, 0))) == []


def test_groups_on_both_are_mixed() -> None:
    """With the number of instances that answer more slowly; a passive group answers nothing."""
    quiet = WrittenGroup("", CPU, 1, (), 8, 9, passive=True)
    assert rules(model("m", group(GPU), quiet)) == []
    one = only("PlacementMixed", model("m", group(GPU), group(CPU, 1, line=8, kind_line=9)))
    assert one.line == 9
    assert (
        "1 of its 2 instance groups are KIND_CPU and others KIND_GPU: 1 instance on the CPU answers"
        in one.message
    )
    assert (
        "3 instances on the CPU answer the same"
        in only("PlacementMixed", model("m", group(GPU), group(CPU, 3))).message
    )


@pytest.mark.parametrize(
    ("asked", "rule", "told"),
    [
        (model("m", group(GPU), backend="openvino"), "KindRefused", "KIND_CPU } ]"),
        (model("m", group(MODEL), backend="openvino"), "KindRefused", "KIND_CPU } ]"),
        (model("m", group(AUTO), backend="openvino"), "KindRefused", "KIND_CPU } ]"),
        (model("m", group(CPU), backend="tensorrt"), "KindRefused", "KIND_GPU } ]"),
        (model("m", group(CPU, 1, 0)), "GpusRefused", "Take gpus out"),
        (model("m", group(MODEL, 1, 0)), "GpusRefused", "Take gpus out"),
        (model("m", group(CPU, 1, 0), backend="tensorrtllm"), "GpusRefused", "gpu_device_ids"),
        (model("m", group(GPU, 1, 0, 1), backend="tensorrtllm"), "GpusIgnored", '"0,1"'),
        (model("m", group(GPU, 1, -1)), "GpuMissing", "from 0 on"),
    ],
)
def test_kinds_and_gpus_that_are_refused_are_told(asked: RepositoryModel, rule: str, told: str) -> None:
    """One finding each, with what to write."""
    (found,) = audited(asked)

    assert found.rule == rule
    assert told in found.remedy


def test_a_gpu_beyond_those_that_there_will_be_is_missing() -> None:
    """With --gpus alone; of KIND_AUTO it is refused as well, being resolved to KIND_CPU."""
    for kind in (GPU, AUTO):
        assert (
            "has 2 GPUs (--gpus)"
            in only("GpuMissing", model("m", group(kind, 1, 2)), by=terms(gpus=2)).message
        )
        assert rules(model("m", group(kind, 1, 2))) == []


@pytest.mark.parametrize(
    ("groups", "refused", "says"),
    [
        ((group(GPU),), True, "says KIND_GPU: vLLM"),
        ((group(AUTO),), True, "says KIND_AUTO, which becomes KIND_GPU"),
        ((), True, "no instance_group is written, which becomes KIND_GPU"),
        ((group(MODEL),), False, ""),
        ((group(CPU),), False, ""),
    ],
)
def test_vllm_over_several_gpus_wants_kind_model(
    groups: tuple[object, ...], says: str, *, refused: bool
) -> None:
    """Its own check of tensor and pipeline parallel sizes; alone on one GPU any kind will do."""
    spread = model("m", *groups, backend="vllm", versions=(version(1, "model.json", parallel=2),))  # type: ignore[arg-type]
    found = [each for each in audited(spread) if each.rule == "KindRefused"]

    assert bool(found) is refused
    if refused:
        assert says in found[0].message
        assert "KIND_MODEL" in found[0].remedy
    alone = model("m", *groups, backend="vllm")  # type: ignore[arg-type]
    assert "KindRefused" not in rules(alone)


@pytest.mark.parametrize(
    ("backend", "groups", "named", "expected", "told"),
    [
        ("onnxruntime", (group(CPU),), ("tensorrt", GPU), ["AcceleratorIgnored"], "no log says so"),
        ("onnxruntime", (group(CPU),), ("nonsense", GPU), ["AcceleratorIgnored"], "KIND_CPU"),
        ("onnxruntime", (group(GPU),), ("tensorrt", GPU), [], ""),
        ("onnxruntime", (group(GPU),), ("openvino", GPU), ["AcceleratorUnknown"], "knows no gpu"),
        ("onnxruntime", (group(CPU),), ("openvino", CPU), [], ""),
        ("onnxruntime", (group(GPU),), ("openvino", CPU), ["AcceleratorIgnored"], "what CUDA leaves over"),
        ("onnxruntime", (group(GPU),), ("tensorrt", CPU), ["AcceleratorUnknown"], "knows no cpu"),
        ("onnxruntime", (group(GPU), group(CPU)), ("openvino", CPU), ["PlacementMixed"], ""),
        ("tensorflow", (group(GPU),), ("gpu_io", GPU), [], ""),
        ("tensorflow", (group(GPU),), ("x", CPU), ["AcceleratorIgnored"], "is ignored: all"),
        (
            "python",
            (group(GPU),),
            ("tensorrt", GPU),
            ["AcceleratorIgnored"],
            "reads no execution_accelerators",
        ),
        ("somebodys", (group(GPU),), ("tensorrt", GPU), [], ""),
    ],
)
def test_accelerators_that_do_nothing_or_are_refused_are_told(
    backend: str, groups: tuple[object, ...], named: tuple[str, InstanceKind], expected: list[str], told: str
) -> None:
    """By what the backends' own source reads."""
    found = audited(model("m", *groups, backend=backend, accelerators=accelerators(named)))  # type: ignore[arg-type]

    assert [each.rule for each in found] == expected
    if told:
        assert told in found[0].message
        assert found[0].line == 7


@pytest.mark.parametrize(
    ("asked", "by", "count"),
    [
        (model(), terms(), 1),
        (model("m", group(GPU, 2, 0, 1)), terms(), 4),
        (model("m", group(GPU, 2)), terms(), 2),
        (model("m", group(GPU, 2)), terms(gpus=4), 8),
        (model("m", group(CPU, 2), group(MODEL, 3)), terms(gpus=4), 5),
        (model("m", group(CPU), backend="onnxruntime"), terms(), 2),
        (model(backend="onnxruntime"), terms("cpu"), 2),
        (model(backend="onnxruntime"), terms("gpu", gpus=3), 3),
        (model("m", group(CPU, -3)), terms(), 1),
        (model(ensemble=True), terms(), 0),
    ],
)
def test_instances_are_counted_as_triton_makes_them(asked: RepositoryModel, by: object, count: int) -> None:
    """One a count and a GPU; what the caller did not say is one GPU."""
    assert instances(asked, by) == count  # type: ignore[arg-type]
