"""Where policy wants a model, and what its resolved configuration declares."""

from __future__ import annotations

import msgspec

from probe.checks import policies
from probe.checks.observation import Observation
from probe.facts.backends import CPU_ONLY, TWO_ON_CPU
from probe.facts.models import InstanceKind, ModelConfig
from probe.facts.placement import DEVICE_PARAMETER, Expected
from probe.ledgers.models import ModelRecord
from probe.settings import Policy

GPU_WITHOUT_KIND_GPU = frozenset(("tensorrtllm",))
"""Backends that take GPUs although their groups say KIND_CPU (tensorrtllm_backend, docs/llmapi.md)."""

_MULTI_GPU = frozenset(("vllm", "tensorrtllm", "pytorch", "tensorflow"))
"""Backends whose KIND_MODEL groups choose GPUs themselves."""


class Expectation(msgspec.Struct, frozen=True):
    """Where policy wants a model, and which policy said so."""

    expected: Expected
    by: str
    indifferent: bool = False
    """Somebody wrote ``any``: the place is not even worth a warning."""


def expectation(seen: Observation, record: ModelRecord, config: ModelConfig) -> Expectation:
    """Where policy wants it: the model's own parameter, then the file's entry, then the default."""
    if config.ensemble:
        return Expectation(Expected.ANY, "an ensemble runs where its steps run")
    default, said = seen.settings.placement.default, policies.entry(seen, config).device
    if (own := policies.own_device(config)) is not None:
        policy, by = own, f"{DEVICE_PARAMETER}: {own.value} in its config.pbtxt"
    elif said is not None:
        policy, by = said, f"placement.models.{record.key.name}.device: {said.value}"
    elif default is Policy.AUTO and (gpus := policies.named_gpus(seen, config)) is not None:
        # Who names GPUs for a model, and no device, means it to be on one.
        return Expectation(Expected.GPU, gpus.by)
    else:
        policy, by = default, named(default)
    if policy is not Policy.AUTO:
        return Expectation(Expected(policy.value), by, indifferent=policy is Policy.ANY)
    return _automatic(seen, config)


def _automatic(seen: Observation, config: ModelConfig) -> Expectation:
    given = seen.has_gpu
    if config.backend in CPU_ONLY:
        return Expectation(Expected.CPU, f"auto: the backend {config.backend} runs on the CPU")
    if not is_explicit(config):
        if given is None:
            return Expectation(
                Expected.ANY, "auto: no instance_group, and whether this pod has a GPU is unknown"
            )
        expected = Expected.GPU if given else Expected.CPU
        return Expectation(
            expected, f"auto: no instance_group, and this pod has {'a' if given else 'no'} GPU"
        )
    kinds = {group.kind for group in config.groups}
    if InstanceKind.GPU in kinds:
        return Expectation(Expected.GPU, "auto: an explicit KIND_GPU group")
    if config.backend in GPU_WITHOUT_KIND_GPU:
        return Expectation(
            Expected.GPU, f"auto: the backend {config.backend} uses GPUs whatever its kind says"
        )
    if InstanceKind.MODEL in kinds:
        if config.backend in _MULTI_GPU and given:
            return Expectation(Expected.GPU, f"auto: KIND_MODEL of the backend {config.backend}")
        return Expectation(Expected.ANY, "auto: KIND_MODEL leaves the device to the model")
    return Expectation(Expected.CPU, "auto: an explicit KIND_CPU group")


def declared(config: ModelConfig) -> str | None:
    """What the resolved configuration declares, in the words of ``/status``."""
    if config.ensemble:
        return "ensemble"
    kinds = [group.kind for group in config.groups]
    for kind in (InstanceKind.GPU, InstanceKind.MODEL, InstanceKind.CPU):
        if kind in kinds:
            return kind.value
    return None


def is_explicit(config: ModelConfig) -> bool:
    """Whether its author wrote an instance_group.

    A group that Triton made itself carries the bare model name, and is the only one; a written one is
    ``<model>_<n>`` or named by its author (core, ``model_config_utils.cc``, ``NormalizeInstanceGroup``).  One
    whose author named it after the model can not be told from Triton's own.
    """
    return bool(config.groups) and [group.name for group in config.groups] != [config.key.name]


def is_fallback_count(config: ModelConfig) -> bool:
    """Whether Triton made it two CPU instances, as it does for these backends where it finds no GPU.

    Core, ``model_config_utils.cc``: count 2 for KIND_CPU groups of onnxruntime and tensorflow without one.
    """
    instances = [(group.kind, group.count) for group in config.groups]
    return config.backend in TWO_ON_CPU and not is_explicit(config) and instances == [(InstanceKind.CPU, 2)]


def declared_on_gpu(config: ModelConfig) -> int:
    """How many of its instances may take a GPU, as the resolved configuration has it."""
    if config.backend in GPU_WITHOUT_KIND_GPU:
        return sum(group.instances for group in config.groups)
    may = (InstanceKind.GPU, InstanceKind.MODEL)
    return sum(group.instances for group in config.groups if group.kind in may)


def is_mixed(config: ModelConfig) -> bool:
    """Whether some of its instances are declared on a GPU and some on the CPU."""
    return 0 < declared_on_gpu(config) < sum(group.instances for group in config.groups)


def resolved_to_cpu(config: ModelConfig) -> bool:
    """Whether Triton resolved every instance to KIND_CPU, and its backend takes no GPU all the same."""
    return declared(config) == InstanceKind.CPU.value and config.backend not in GPU_WITHOUT_KIND_GPU


def named(policy: Policy) -> str:
    """The default policy as it is written."""
    return f"placement.default: {policy.value}"
