"""What did somebody write of a model's place, and what becomes of it where it means nothing?"""

from __future__ import annotations

import pytest

from probe.checks.placement import judge
from probe.checks.policies import Allowed, allowed_gpus, declared_ordinals, mistakes, own_device
from probe.checks.verdicts import placement_of
from probe.facts.models import InstanceKind
from probe.facts.placement import Expected
from probe.settings import Policy, Settings
from probe.settings.schema import ModelPlacement, PlacementSettings
from tests.worlds import GIB, SERVER_PID, World, config, ensemble, gpu, group, python_model, server, serving

CPU, GPU = InstanceKind.CPU, InstanceKind.GPU
HELD: dict[int, int | None] = {SERVER_PID: GIB}
SHOWN = (gpu("GPU-aa", HELD, minor=0), gpu("GPU-ab", HELD, minor=1))


def settings(default: Policy = Policy.AUTO, **entry: object) -> Settings:
    """With this entry for the model m."""
    return Settings(
        placement=PlacementSettings(default=default, models={"m": ModelPlacement(**entry)})  # type: ignore[arg-type]
    )


def allowed(seen: World) -> Allowed | None:
    """The GPUs that the model m may run on."""
    found = seen.record("m").config
    assert found is not None
    return allowed_gpus(seen.seen, found)


@pytest.mark.parametrize(
    ("value", "gpus"),
    [
        ("GPU-1", ("GPU-1",)),
        ("GPU-1,GPU-2", ("GPU-1", "GPU-2")),
        (" GPU-1 , MIG-2\tMIG-GPU-3/1/0 ", ("GPU-1", "MIG-2", "MIG-GPU-3/1/0")),
        ("", ()),
        ("0,1", ()),
        ("GPU-1,1", ()),
    ],
)
def test_a_model_names_its_gpus_with_commas_or_spaces_between(value: str, gpus: tuple[str, ...]) -> None:
    """All of them or none: half of a list would forbid what its author allows."""
    seen = serving(python_model("m", parameters={"triton_probe.gpus": value}))
    told = allowed(seen)
    assert (told.gpus if told is not None else ()) == gpus
    wrong = bool(value.strip()) and not gpus
    found = seen.record("m").config
    assert found is not None
    assert bool(mistakes(found)) == wrong
    assert ("PolicyInvalid" in seen.reasons(judge)) == wrong


def test_its_own_gpus_win_over_those_of_the_file() -> None:
    """And where they can not be obeyed, the file's hold."""
    told = settings(gpus=("GPU-2",))
    assert allowed(serving(python_model("m"), settings=told)) == Allowed(
        ("GPU-2",), "placement.models.m.gpus"
    )
    own = python_model("m", parameters={"triton_probe.gpus": "GPU-1"})
    assert allowed(serving(own, settings=told)) == Allowed(
        ("GPU-1",), "triton_probe.gpus in its config.pbtxt"
    )
    bad = python_model("m", parameters={"triton_probe.gpus": "0"})
    assert allowed(serving(bad, settings=told)) == Allowed(("GPU-2",), "placement.models.m.gpus")


def test_a_parameter_that_means_nothing_is_a_finding_and_is_told_with_the_placement() -> None:
    """With what was expected, and what holds in its place; an ensemble's too."""
    model = python_model("m", parameters={"triton_probe.device": "cuda", "triton_probe.gpus": "1"})
    seen = serving(model, ensemble("e", "m"), settings=settings(device=Policy.CPU))
    claim = seen.only("PolicyInvalid", judge)
    assert "triton_probe.device is 'cuda', expected one of auto, gpu, cpu, any" in claim.message
    assert "triton_probe.gpus is '1', expected UUIDs of GPUs" in claim.message
    assert "/models/m/config.pbtxt" in claim.remedy
    assert claim.evidence == {"triton_probe.device": "cuda", "triton_probe.gpus": "1"}
    told = placement_of(seen.seen, seen.record("m"))
    assert told.expected is Expected.CPU
    assert "triton_probe.device 'cuda' is not obeyed: it is not one of auto, gpu, cpu, any." in told.why
    only_gpus = serving(python_model("m", parameters={"triton_probe.gpus": "1"}))
    assert 'string_value: "GPU-' in only_gpus.only("PolicyInvalid", judge).remedy


@pytest.mark.parametrize(
    ("value", "policy"), [(" GPU ", Policy.GPU), ("any", Policy.ANY), ("", None), ("x", None)]
)
def test_a_device_is_read_without_regard_to_case(value: str, policy: Policy | None) -> None:
    """And spaces around it."""
    assert own_device(python_model("m", parameters={"triton_probe.device": value})) is policy


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (settings(gpus=("GPU-1",)), Expected.GPU),
        (settings(gpus=("GPU-1",), device=Policy.AUTO), Expected.CPU),
        (settings(Policy.CPU, gpus=("GPU-1",)), Expected.CPU),
        (settings(Policy.ANY, gpus=("GPU-1",)), Expected.ANY),
    ],
)
def test_who_names_gpus_and_no_device_means_one_of_them(told: Settings, expected: Expected) -> None:
    """Unless something else was written as the default."""
    seen = serving(python_model("m"), settings=told)
    assert placement_of(seen.seen, seen.record("m")).expected is expected
    assert ("CpuFallback" in seen.reasons(judge)) == (expected is Expected.GPU)


def test_a_limit_on_instances_that_means_nothing_is_told() -> None:
    """No GPU is expected."""
    seen = serving(python_model("m"), settings=settings(min_instances=2))
    told = placement_of(seen.seen, seen.record("m"))
    assert "min_instances 2 means nothing: no GPU is expected." in told.why
    wanted = serving(python_model("m"), settings=settings(min_instances=2, device=Policy.GPU))
    assert "means nothing" not in " ".join(placement_of(wanted.seen, wanted.record("m")).why)


# What CUDA ordinals mean


@pytest.mark.parametrize(
    ("visible", "gpus", "found"),
    [
        (("GPU-ab", "GPU-aa"), (0,), ("GPU-ab",)),
        (("GPU-ab", "GPU-aa"), (1,), ("GPU-aa",)),
        (("GPU-AB", "GPU-AA"), (1,), ("GPU-aa",)),
        (("GPU-ab", "GPU-aa"), (0, 1), None),
        (("GPU-ab",), (1,), None),
        (("GPU-a", "GPU-ab"), (1,), None),
        (("GPU-x", "GPU-ab"), (1,), None),
        (None, (1,), None),
    ],
)
def test_an_ordinal_is_a_gpu_only_where_tritons_environment_lists_uuids(
    visible: tuple[str, ...] | None, gpus: tuple[int, ...], found: tuple[str, ...] | None
) -> None:
    """Never NVML's index; a UUID may be cut short where one GPU alone begins so."""
    seen = serving(python_model("m", 1, GPU, gpus), server=server(visible=visible)).looks(*SHOWN)
    told = allowed(seen)
    assert (told.gpus if told is not None else None) == found
    if told is not None:
        assert told.by == f"its instance_group's gpus [{gpus[0]}], counted in CUDA_VISIBLE_DEVICES of Triton"


def test_groups_that_leave_the_device_open_name_none() -> None:
    """Nor does anything mean anything before NVML was looked at."""
    triton = server(visible=("GPU-aa", "GPU-ab"))
    mixed = config("m", group("m_0", GPU, 1, 1), group("m_1", CPU))
    assert allowed(serving(mixed, server=triton).looks(*SHOWN)) is None
    assert allowed(serving(python_model("m"), server=triton).looks(*SHOWN)) is None
    assert allowed(serving(python_model("m", 1, GPU, (1,)), server=triton)) is None
    assert allowed(serving(python_model("m", 1, GPU, (1,)), server=None).looks(*SHOWN)) is None


def test_declared_ordinals_are_those_of_groups_with_instances() -> None:
    """Each once."""
    model = config(
        "m", group("a", GPU, 2, 1, 0), group("b", GPU, 1, 1), group("c", GPU, 0, 7), group("d", CPU, 1)
    )
    assert declared_ordinals(model) == (0, 1)
