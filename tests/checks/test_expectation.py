"""Where is a model meant to run: its own word, the file's, the default's; and what ``auto`` makes of it?"""

from __future__ import annotations

import pytest

from probe.checks.expectations import declared, expectation, is_explicit
from probe.checks.placement import judge
from probe.facts.models import InstanceGroup, InstanceKind, ModelConfig
from probe.settings import Policy, Settings
from probe.settings.schema import ModelPlacement, PlacementSettings
from tests.worlds import World, config, ensemble, gpu, group, python_model, server, serving

CPU, GPU, MODEL, AUTO = InstanceKind.CPU, InstanceKind.GPU, InstanceKind.MODEL, InstanceKind.AUTO
WITH_GPU, WITHOUT_GPU, UNREADABLE = server(minors=(0,)), server(minors=()), server(minors=None)


def expected(seen: World, name: str = "m") -> str:
    """Where policy wants this model."""
    record = seen.record(name)
    assert record.config is not None
    return expectation(seen.seen, record, record.config).expected.value


def by(seen: World) -> str:
    """Which policy said so."""
    record = seen.record("m")
    assert record.config is not None
    return expectation(seen.seen, record, record.config).by


def policies(default: Policy = Policy.AUTO, **models: Policy) -> Settings:
    """Settings with these placements."""
    entries = {name: ModelPlacement(device=policy) for name, policy in models.items()}
    return Settings(placement=PlacementSettings(default=default, models=entries))


def made(*kinds: InstanceKind, backend: str = "python", explicit: bool = True) -> ModelConfig:
    """The model ``m`` with a group of each kind, written or made by Triton."""
    groups = tuple(
        InstanceGroup(f"m_{index}" if explicit else "m", kind, 1) for index, kind in enumerate(kinds)
    )
    return config("m", *groups, backend=backend)


# auto: the table of the contract's section 6


@pytest.mark.parametrize(
    ("model", "with_gpu", "without", "unknown"),
    [
        (made(GPU), "gpu", "gpu", "gpu"),
        (made(CPU), "cpu", "cpu", "cpu"),
        (made(CPU, GPU), "gpu", "gpu", "gpu"),
        (made(CPU, MODEL), "any", "any", "any"),
        (made(CPU, backend="onnxruntime"), "cpu", "cpu", "cpu"),
        (made(CPU, backend="tensorrtllm"), "gpu", "gpu", "gpu"),
        (made(CPU, backend="openvino"), "cpu", "cpu", "cpu"),
        (made(CPU, backend="openvino", explicit=False), "cpu", "cpu", "cpu"),
        (made(MODEL, backend="tensorrtllm"), "gpu", "gpu", "gpu"),
        (made(MODEL, backend="vllm"), "gpu", "any", "any"),
        (made(MODEL, backend="pytorch"), "gpu", "any", "any"),
        (made(MODEL, backend="tensorflow"), "gpu", "any", "any"),
        (made(MODEL, backend="python"), "any", "any", "any"),
        (made(CPU, explicit=False), "gpu", "cpu", "any"),
        (made(AUTO, explicit=False), "gpu", "cpu", "any"),
        (made(explicit=False), "gpu", "cpu", "any"),
        (made(CPU, explicit=False, backend="tensorrtllm"), "gpu", "cpu", "any"),
        (made(MODEL, explicit=False, backend="vllm"), "gpu", "cpu", "any"),
    ],
)
def test_auto_takes_an_instance_group_at_its_word_and_else_asks_what_the_pod_was_given(
    model: ModelConfig, with_gpu: str, without: str, unknown: str
) -> None:
    """Whether there is a GPU is told by device nodes here; where they can not be read, nothing is."""
    told = [expected(serving(model, server=each)) for each in (WITH_GPU, WITHOUT_GPU, UNREADABLE)]
    assert told == [with_gpu, without, unknown]
    assert by(serving(model)).startswith("auto: ")


@pytest.mark.parametrize(
    ("seen", "given"),
    [
        (serving(made(CPU), server=WITH_GPU), True),
        (serving(made(CPU), server=WITHOUT_GPU), False),
        (serving(made(CPU), server=UNREADABLE), None),
        (serving(made(CPU), server=None), None),
        (serving(made(CPU), server=None).polls(gpu_memory_used=(("GPU-a", 0),)), True),
        (serving(made(CPU), server=None).polls(gpu_memory_used=()), None),
        (serving(made(CPU), python_model("n", 1, GPU), server=None), True),
        (serving(made(CPU), python_model("n", 1, GPU), server=WITHOUT_GPU), True),
        (World(), None),
        (serving(made(CPU), server=WITHOUT_GPU).looks(gpu(processes={})), False),
    ],
)
def test_what_the_pod_was_given_is_told_by_triton_and_not_by_our_own_nvml(
    seen: World, *, given: bool | None
) -> None:
    """The probe may see GPUs that Triton was not given."""
    assert seen.seen.has_gpu is given


# The order of policies


@pytest.mark.parametrize(
    ("own", "entry", "default", "result", "said"),
    [
        (None, None, Policy.AUTO, "cpu", "auto"),
        (None, None, Policy.GPU, "gpu", "placement.default: gpu"),
        (None, None, Policy.CPU, "cpu", "placement.default: cpu"),
        (None, None, Policy.ANY, "any", "placement.default: any"),
        (None, Policy.GPU, Policy.CPU, "gpu", "placement.models.m.device: gpu"),
        (None, Policy.AUTO, Policy.GPU, "cpu", "auto"),
        ("any", Policy.GPU, Policy.CPU, "any", "triton_probe.device: any"),
        ("GPU", Policy.CPU, Policy.CPU, "gpu", "triton_probe.device: gpu"),
        ("auto", Policy.GPU, Policy.GPU, "cpu", "auto"),
        ("tpu", Policy.GPU, Policy.CPU, "gpu", "placement.models.m"),
        ("", None, Policy.GPU, "gpu", "placement.default"),
    ],
)
def test_the_models_own_parameter_wins_over_the_file_and_the_file_over_the_default(
    own: str | None, entry: Policy | None, default: Policy, result: str, said: str
) -> None:
    """What is no policy is passed over."""
    parameters = {} if own is None else {"triton_probe.device": own}
    settings = policies(default) if entry is None else policies(default, m=entry)
    seen = serving(python_model("m", parameters=parameters), settings=settings)
    assert expected(seen) == result
    assert said in by(seen)


def test_an_entry_without_a_device_leaves_the_default() -> None:
    """It may name other things of the model."""
    entries = {"m": ModelPlacement(min_instances=2)}
    settings = Settings(placement=PlacementSettings(default=Policy.GPU, models=entries))
    assert expected(serving(made(CPU), settings=settings)) == "gpu"


def test_an_ensemble_is_wanted_nowhere() -> None:
    """Its steps are."""
    seen = serving(made(CPU), ensemble("e", "m"), settings=policies(Policy.GPU, e=Policy.CPU))
    assert expected(seen, "e") == "any"
    assert "e" not in {claim.subject.model for claim in seen.claims(judge)}


# Declared


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (made(GPU), "gpu"),
        (made(CPU), "cpu"),
        (made(MODEL), "model"),
        (made(CPU, GPU), "gpu"),
        (made(CPU, MODEL), "model"),
        (made(AUTO), None),
        (made(), None),
        (ensemble("e", "m"), "ensemble"),
    ],
)
def test_what_is_declared_is_the_strongest_word_of_the_groups(model: ModelConfig, says: str | None) -> None:
    """In the words of ``/status``."""
    assert declared(model) == says


@pytest.mark.parametrize(
    ("model", "explicit"),
    [
        (config("m", group("m")), False),
        (config("m"), False),
        (config("m", group("m_0")), True),
        (config("m", group("fast")), True),
        (config("m", group("m"), group("other")), True),
        (config("m", group("m"), group("m")), True),
    ],
)
def test_a_group_with_the_bare_model_name_was_made_by_triton(model: ModelConfig, *, explicit: bool) -> None:
    """Written ones are ``<model>_<n>`` or named."""
    assert is_explicit(model) is explicit


@pytest.mark.parametrize(
    ("policy", "kind"),
    [(Policy.AUTO, "CPU"), (Policy.GPU, "GPU"), (Policy.CPU, "CPU"), (Policy.ANY, None)],
)
def test_an_implicit_placement_is_told_unless_somebody_wrote_any(policy: Policy, kind: str | None) -> None:
    """With the line that writes down what is wanted, not what this start happened to give."""
    seen = serving(config("m", group("m", CPU, 2)), settings=policies(policy))
    assert ("PlacementImplicit" in seen.reasons()) == (kind is not None)
    if kind is not None:
        claim = seen.only("PlacementImplicit")
        assert "resolved it to KIND_CPU" in claim.message
        assert f"instance_group [ {{ count: 2 kind: KIND_{kind} }} ]" in claim.remedy
        assert "/models/m/config.pbtxt" in claim.remedy
        assert claim.evidence == {"resolved": "cpu"}
        assert claim.observed == seen.record("m").config_at
    assert "PlacementImplicit" not in serving(made(CPU), settings=policies(policy)).reasons()


def test_where_nobody_wants_a_place_the_resolved_one_is_written_down() -> None:
    """Whether the pod has a GPU is unknown."""
    seen = serving(config("m", group("m", CPU, 2)), server=UNREADABLE)
    assert "count: 2 kind: KIND_CPU" in seen.only("PlacementImplicit").remedy


def test_a_group_that_was_not_resolved_is_told_as_auto() -> None:
    """Never seen for a loaded model, and no fault."""
    claim = serving(made(AUTO, explicit=False)).only("PlacementImplicit")
    assert claim.evidence == {"resolved": "auto"}
