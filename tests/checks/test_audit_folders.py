"""Does an audit name what Triton would not load, could not tell apart, or has no room for?"""

from __future__ import annotations

from typing import Any

import pytest

from probe.checks.audit.backends import backend_of
from probe.checks.audit.roster import findings
from probe.checks.audit.terms import Terms, loaded
from probe.facts.audits import RULES
from probe.facts.findings import Severity
from probe.facts.repository import (
    Deployment,
    RepositoryModel,
    RepositoryReading,
    UnknownName,
    VersionFolder,
    VersionPolicy,
    WrittenParameter,
    WrittenStep,
)
from probe.settings import ModelsSettings, Settings
from tests.repositories import (
    AUTO,
    CPU,
    GPU,
    audited,
    group,
    model,
    only,
    rules,
    terms,
    version,
    without_file,
)

ON_CPU = group(CPU)
TO_M = (WrittenStep("m", None, 1),)


@pytest.mark.parametrize(
    ("asked", "backend"),
    [
        (model(backend="mine"), "mine"),
        (model(backend="", platform="onnxruntime_onnx"), "onnxruntime"),
        (model(backend="", platform="somebodys"), ""),
        (model(backend="", default_file="model.plan"), "tensorrt"),
        (model(backend="", default_file="other.py"), ""),
        (without_file("m", version(1, "model.onnx", "model.py")), "onnxruntime"),
        (without_file("m", version(2, "model.py"), version(10, "model.pt")), "pytorch"),
        (without_file("m.identity", version(1, "x")), "identity"),
        (without_file("m", version(1, "x")), ""),
        (model(backend="", versions=()), ""),
    ],
)
def test_the_backend_is_completed_as_triton_completes_it(asked: RepositoryModel, backend: str) -> None:
    """By platform, file name, the first version's files in their order, or the model's own name."""
    assert backend_of(asked) == backend


def test_names_that_differ_from_their_folders_are_refused() -> None:
    """A name that is not written is the folder's."""
    found = only("NameMismatch", model("m", ON_CPU, name="other", name_line=2))
    assert (found.line, found.severity) == (2, Severity.CRITICAL)
    assert rules(model("m", ON_CPU, name="m")) == []
    assert rules(model("m", ON_CPU, name="other", lone=True)) == []


def test_a_folder_without_anything_of_a_model_is_one_finding() -> None:
    """Not three that follow from it."""
    empty = RepositoryModel("docs", "models/docs")
    assert rules(empty) == ["NotAModel"]


def test_a_platform_that_triton_does_not_know_is_refused() -> None:
    """Many take a backend's name for one. Beside a backend no platform matters (seen in 24.10)."""
    found = only("BackendUnknown", model("m", ON_CPU, backend="", platform="python", versions=()))

    assert found.severity is Severity.CRITICAL
    assert "Its platform is 'python'" in found.message
    assert 'backend: "python"' in found.remedy
    assert rules(model("m", ON_CPU, platform="somebodys")) == []
    assert rules(model("m", ON_CPU, backend="", platform="torch_aoti")) == []


def test_nothing_is_missing_from_a_folder_that_can_not_be_listed() -> None:
    """It may hold everything; what its file says is judged all the same."""
    closed = model("m", ON_CPU, name="other", versions=(), listed=False)
    step = WrittenStep("m", 3, 1)
    chain = model("chain", backend="", ensemble=True, steps=(step,))

    assert rules(closed, chain) == []
    assert rules(RepositoryModel("m", "models/m", listed=False)) == []
    assert rules(closed, model("n", ON_CPU, versions=())) == ["VersionMissing"]
    assert loaded(closed) == 1


def test_a_model_of_no_known_backend_is_refused() -> None:
    """Where neither its configuration nor its files tell."""
    assert rules(model("m", ON_CPU, backend="", versions=(version(1, "x"),))) == ["BackendUnknown"]
    assert rules(model("m", ON_CPU, backend="", versions=())) == ["VersionMissing"]


@pytest.mark.parametrize(
    ("versions", "policy", "expected", "told"),
    [
        ((), VersionPolicy(), ["VersionMissing"], "and it has none"),
        (
            (version(1),),
            VersionPolicy(None, (3,), 5),
            ["VersionMissing"],
            "of 1 its version_policy keeps none",
        ),
        ((version(1),), VersionPolicy(None, (1, 3), 5), ["VersionMissing"], "asks for version 3"),
        ((version(1), version(2)), VersionPolicy(), [], ""),
        (
            (version(1), version(2)),
            VersionPolicy(None, None, 5),
            ["VersionsLoadedTogether"],
            "2 versions (2, 1) are loaded at once, each with 1 instance: 2 in all",
        ),
        (
            (version(1), version(2), version(3)),
            VersionPolicy(2, None, 5),
            ["VersionsLoadedTogether"],
            "(3, 2)",
        ),
    ],
)
def test_versions_that_are_not_there_or_too_many_are_told(
    versions: tuple[VersionFolder, ...], policy: VersionPolicy, expected: list[str], told: str
) -> None:
    """By what the version policy keeps of the folders."""
    found = audited(model("m", ON_CPU, versions=versions, policy=policy))

    assert [each.rule for each in found] == expected
    if told:
        assert told in found[0].message


def test_a_version_beside_others_that_is_missing_is_a_warning() -> None:
    """Triton loads the others."""
    one = model("m", ON_CPU, policy=VersionPolicy(None, (1, 3), 5))
    assert only("VersionMissing", one).severity is Severity.WARNING
    assert only("VersionMissing", model("m", ON_CPU, versions=())).severity is Severity.CRITICAL


def test_configurations_without_any_model_are_one_finding() -> None:
    """A tree of sources whose weights come later; a single model without a version is told by itself."""
    bare = [model(each, ON_CPU, versions=()) for each in "abcde"]
    (found,) = audited(*bare)
    assert (found.rule, found.path, found.model) == ("VersionMissing", "models", "")
    assert "None of its 5 models (a, b, c and 2 more) has" in found.message
    assert "--exclude VersionMissing" in found.remedy
    assert "2 models (a, b) has" in audited(*bare[:2])[0].message
    assert [each.model for each in audited(bare[0])] == ["a"]
    assert [each.model for each in audited(*bare[:2], model("z", ON_CPU))] == ["a", "b"]


def test_an_ensemble_needs_a_version_and_has_no_instances() -> None:
    """Its remedy says that the folder may be empty; two versions of it double nothing."""
    bare = model("e", ensemble=True, backend="", platform="ensemble", versions=())
    assert "it may be empty" in only("VersionMissing", bare).remedy
    policy, versions = VersionPolicy(None), (version(1), version(2))
    both = model("e", ensemble=True, backend="", steps=TO_M, policy=policy, versions=versions)
    assert rules(both, model("m", ON_CPU)) == []


def test_zeros_in_front_of_a_version_are_told() -> None:
    """And the folder is none."""
    odd = model("m", ON_CPU, versions=(), ignored=("01",))
    assert rules(odd) == ["VersionMissing", "VersionIgnored"]
    assert only("VersionIgnored", odd).remedy == "Rename it to 1."


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (model("m", ON_CPU, versions=(version(1, "x"),)), ["ModelFileMissing"]),
        (model("m", ON_CPU, default_file="main.py", versions=(version(1, "main.py"),)), []),
        (model("m", ON_CPU, default_file="src/main.py"), []),
        (model("m", ON_CPU, versions=(version(1, "x"), version(2))), []),
        (model("m", ON_CPU, backend="onnxruntime", versions=(version(1, "x"),)), []),
        (model("m", ON_CPU, ensemble=True, steps=TO_M, versions=(version(1, "x"),)), []),
    ],
)
def test_a_python_model_needs_its_source_in_each_version_that_is_loaded(
    asked: RepositoryModel, expected: list[str]
) -> None:
    """By the name that its configuration gives; of other backends the weights may come later."""
    assert rules(asked) == expected


def test_instances_on_several_gpus_have_one_name() -> None:
    """The remedy is a group for each; without gpus it takes --gpus to know."""
    found = only("DuplicateInstanceName", model("m", group(GPU, 2, 0, 1)))
    assert (
        "Its 4 instances on the GPUs 0, 1 have one name for each 2 of them (m_0_0 to m_0_1)" in found.message
    )
    assert found.remedy.endswith(
        "instance_group [ { count: 2 kind: KIND_GPU gpus: [ 0 ] }, { count: 2 kind: KIND_GPU gpus: [ 1 ] } ]"
    )
    assert "(g_0)" in only("DuplicateInstanceName", model("m", group(AUTO, 1, 0, 1, name="g"))).message
    assert rules(model("m", group(GPU))) == []
    assert rules(model("m", group(GPU)), by=terms(gpus=2)) == ["DuplicateInstanceName"]
    assert rules(model("m", group(GPU), backend="vllm"), by=terms(gpus=2)) == []


def test_groups_of_one_name_are_told() -> None:
    """Also where one is written as Triton would number another (seen in 24.10: it takes both)."""
    same = model("m", group(CPU, 1, name="g"), group(CPU, 1, name="g", line=8))
    assert only("DuplicateGroupName", same).line == 8
    assert rules(model("m", group(CPU, 1, name="m_1"), group(CPU, 1))) == ["DuplicateGroupName"]
    assert rules(model("m", group(CPU, 1, name="g"), group(CPU, 1))) == []


def test_a_group_by_the_models_own_name_is_told() -> None:
    """By that name a running Triton's made-up groups are known."""
    assert rules(model("m", group(CPU, 1, name="m"))) == ["GroupNamedAsModel"]
    assert rules(model("m", group(CPU, 1, name="m"), lone=True)) == []


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (model("m", group(GPU, 1, 0), group(GPU, 1, 1), versions=(version(1, asks_device=False),)), True),
        (model("m", group(GPU, 1, 0), group(GPU, 1, 1), versions=(version(1, asks_device=True),)), False),
        (model("m", group(GPU, 1, 0), group(GPU, 1, 1), versions=(version(1),)), False),
        (model("m", group(GPU, 2, 0), versions=(version(1, asks_device=False),)), False),
        (
            model(
                "m",
                group(GPU, 1, 0),
                group(GPU, 1, 1),
                backend="pytorch",
                versions=(version(1, asks_device=False),),
            ),
            False,
        ),
    ],
)
def test_python_code_that_never_asks_for_its_gpu_is_skewed(asked: RepositoryModel, *, expected: bool) -> None:
    """Where it is spread over several; one GPU is the first one."""
    assert ("PlacementSkewed" in rules(asked)) is expected


def ensemble(*steps: WrittenStep, **told: Any) -> RepositoryModel:  # noqa: ANN401 - model()\'s own
    """An ensemble of these steps."""
    return model("e", ensemble=True, backend="", platform="ensemble", steps=steps, **told)


def test_steps_that_lead_nowhere_are_told() -> None:
    """To no model, or to a version that is not loaded; what lies beside a single model counts as there."""
    steps = (
        WrittenStep("m", None, 3),
        WrittenStep("gone", None, 4),
        WrittenStep("m", 7, 5),
        WrittenStep("m", 1, 6),
    )
    found = [
        each for each in audited(ensemble(*steps), model("m", ON_CPU)) if each.rule == "EnsembleStepMissing"
    ]

    assert [each.line for each in found] == [4, 5]
    assert "version 7, which is not loaded" in found[1].message
    assert rules(ensemble(WrittenStep("gone", 1, 3)), beside=("gone",)) == []
    assert rules(ensemble(WrittenStep("gone", None, 3), lone=True)) == []
    unread = RepositoryModel("m", "models/m", "models/m/config.pbtxt")
    assert rules(ensemble(WrittenStep("m", 7, 3)), unread) == []


def test_an_ensemble_without_a_step_is_refused() -> None:
    """Its platform alone makes no schedule."""
    found = only("EnsembleStepMissing", model("e", backend="", ensemble=True, platform="ensemble"))

    assert "names no step" in found.message


def test_a_name_in_two_repositories_is_told() -> None:
    """Triton then loads neither; a variant of a model is no second model."""
    assert rules(model("m", ON_CPU), model("m", ON_CPU, folder="other/m")) == ["ModelNotUnique"]
    assert rules(model("m", ON_CPU), model("m", ON_CPU, variant="v")) == []


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        (
            "triton_probe.device",
            "cuda",
            "triton_probe.device: found 'cuda', expected one of auto, gpu, cpu, any.",
        ),
        ("triton_probe.gpus", "0,1", "expected UUIDs as `nvidia-smi -L` prints them"),
        ("triton_probe.required", "maybe", "found 'maybe', expected one of true"),
        ("triton_probe.canary", "", "found nothing, expected one of warmup, generate, off."),
        (
            "triton_probe.devise",
            "gpu",
            "no parameter 'triton_probe.devise', did you mean triton_probe.device?",
        ),
        ("triton_probe.xyzzy", "1", "expected triton_probe.device, triton_probe.gpus"),
    ],
)
def test_parameters_that_the_probe_will_not_understand_are_told(key: str, value: str, told: str) -> None:
    """With what it would; at the line where they stand."""
    found = only("ParameterInvalid", model("m", ON_CPU, parameters=(WrittenParameter(key, value, 6),)))

    assert told in found.message
    assert found.line == 6


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("triton_probe.device", " CPU"),
        ("triton_probe.gpus", "GPU-1-a, MIG-2-b"),
        ("triton_probe.gpus", "GPU-1-a,"),
        ("triton_probe.required", "yes"),
        ("triton_probe.canary", "off"),
        ("device", "cuda"),
    ],
)
def test_parameters_that_it_understands_are_no_finding(key: str, value: str) -> None:
    """Nor those of others."""
    assert rules(model("m", group(GPU), parameters=(WrittenParameter(key, value, 6),))) == []


@pytest.mark.parametrize(
    ("unknown", "what", "do"),
    [
        (UnknownName("a.b", "", "bc", 4, 2), "no field a.b (column 2)", "Did you mean bc?"),
        (UnknownName("a.b", "KIND_X", "", 4, 2), "no value a.b: 'KIND_X'", "See whether the Triton"),
    ],
)
def test_names_that_the_schema_lacks_are_told(unknown: UnknownName, what: str, do: str) -> None:
    """As warnings: the Triton at hand may know them."""
    found = only("FieldUnknown", model("m", ON_CPU, unknown=(unknown,)))

    assert what in found.message
    assert found.remedy.startswith(do)
    assert found.severity is Severity.WARNING


MIB = 1 << 20


def stubs(name: str, count: int, **told: Any) -> RepositoryModel:  # noqa: ANN401 - model()\'s own
    """A python model of so many stubs."""
    return model(name, group(CPU, count), **told)


@pytest.mark.parametrize(
    ("shm", "severity", "told"),
    [
        (8 * MIB, None, ""),
        (
            7 * MIB,
            Severity.WARNING,
            "4 stubs (a 3, b 1) need 8 MiB of /dev/shm as soon as each has grown once (1 MiB and a step of 1 MiB)",
        ),
        (4 * MIB, Severity.WARNING, "and --shm is 4 MiB"),
        (
            4 * MIB - 1,
            Severity.CRITICAL,
            "begin with 1 MiB of /dev/shm each: 4 MiB, and --shm is 4 MiB. Not all",
        ),
    ],
)
def test_stubs_that_do_not_fit_into_shm_are_told(shm: int, severity: Severity | None, told: str) -> None:
    """Critical where they can not even begin, a warning where each may grow but once; with the sum."""
    found = audited(
        stubs("b", 1), stubs("a", 3), model("o", ON_CPU, backend="onnxruntime"), by=terms(shm_bytes=shm)
    )

    assert [each.severity for each in found] == ([severity] if severity else [])
    if found:
        assert found[0].rule == "ShmTooSmall"
        assert (found[0].path, found[0].line, found[0].model) == ("models", None, "")
        assert told in found[0].message
        assert "sizeLimit: 64Mi" in found[0].remedy


def test_older_releases_begin_with_larger_regions() -> None:
    """64 MiB each before 23.09; versions that are loaded together count each."""
    twice = stubs("a", 2, policy=VersionPolicy(None), versions=(version(1), version(2)))
    found = only("ShmTooSmall", twice, by=terms(shm_bytes=128 * MIB, stub_shm_bytes=64 * MIB))

    assert "4 stubs (a 2 versions x 2) begin with 64 MiB of /dev/shm each: 256 MiB" in found.message
    assert "--shm-size=1024m" in found.remedy


def test_a_long_list_of_models_is_cut() -> None:
    """The largest three, and how many more."""
    found = only("ShmTooSmall", *(stubs(each, 1) for each in "abcde"), by=terms(shm_bytes=MIB))
    assert "5 stubs (a 1, b 1, c 1 and 2 more models)" in found.message


def test_memory_that_does_not_hold_the_least_is_told() -> None:
    """tritonserver, its stubs, and the files that it holds on the CPU itself: each copy of ONNX Runtime's."""
    onnx = model("o", group(CPU, 3), backend="onnxruntime", versions=(version(1, bytes=100 * MIB),))
    torch = model(
        "t",
        group(CPU, 3),
        backend="pytorch",
        versions=(version(1, bytes=10 * MIB), version(2, bytes=7 * MIB)),
    )
    on_gpu = model("g", group(GPU), backend="onnxruntime", versions=(version(1, bytes=900 * MIB),))
    many = (stubs("a", 4), onnx, torch, on_gpu)
    least = (50 + 4 * 17 + 3 * 100 + 7) * MIB
    found = only("MemoryTooSmall", *many, by=terms(memory_bytes=least - 1))

    assert "tritonserver itself 50 MiB, 4 stubs (a 4) x 17 MiB = 68 MiB" in found.message
    assert "the files of models on the CPU 307 MiB: 425 MiB at least" in found.message
    assert "MemoryTooSmall" not in rules(*many, by=terms(memory_bytes=least))
    assert (
        "4 stubs (a 4) x 1000 MiB"
        in only(
            "MemoryTooSmall", stubs("a", 4), by=terms(memory_bytes=MIB, stub_memory_bytes=1000 * MIB)
        ).message
    )


def test_memory_of_a_model_without_a_group_counts_where_it_is_wanted_on_the_cpu() -> None:
    """Elsewhere its weights may be on a GPU, and a floor holds what is sure."""
    onnx = model("o", backend="onnxruntime", versions=(version(1, bytes=100 * MIB),))
    found = only("MemoryTooSmall", onnx, by=terms("cpu", memory_bytes=MIB))

    assert found.message.startswith("tritonserver itself 50 MiB, the files of models on the CPU 200 MiB")
    assert "files" not in only("MemoryTooSmall", onnx, by=terms(memory_bytes=MIB)).message


def test_a_file_that_lies_alone_is_one_version() -> None:
    """And nothing is said of a folder that is none."""
    alone = model("m", group(CPU, 3), versions=(), lone=True)
    assert rules(alone) == []
    assert "3 stubs (m 3)" in only("ShmTooSmall", alone, by=terms(shm_bytes=MIB)).message


def test_findings_are_in_the_order_of_files_lines_and_rules_and_can_be_left_out() -> None:
    """models.ignore leaves a model out, --exclude a rule."""
    first = model("b", group(CPU, 1, 0, kind_line=9, name="b"), name="x", name_line=1)
    reading = RepositoryReading((Deployment(("models",), (first, model("a"))),))

    assert [(each.model, each.rule) for each in findings(reading, terms())] == [
        ("b", "NameMismatch"),
        ("b", "GpusRefused"),
        ("b", "GroupNamedAsModel"),
        ("a", "PlacementImplicit"),
    ]
    ignoring = Terms(Settings(models=ModelsSettings(ignore=("b",))))
    assert [each.model for each in findings(reading, ignoring)] == ["a"]
    assert [each.rule for each in findings(reading, ignoring, ("PlacementImplicit",))] == []


def test_every_rule_says_what_it_is() -> None:
    """A sentence each, by its own name."""
    for name, rule in RULES.items():
        assert rule.name == name
        assert rule.says.endswith(".")
