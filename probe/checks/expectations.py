"""Where policy wants a model, and what its resolved configuration declares."""

from __future__ import annotations

import msgspec

from probe.checks.observation import Observation
from probe.facts.models import InstanceKind, ModelConfig
from probe.facts.placement import Expected
from probe.ledgers.models import ModelRecord
from probe.settings import Policy

GPU_WITHOUT_KIND_GPU = frozenset(("tensorrtllm",))
"""Backends that take GPUs although their groups say KIND_CPU (tensorrtllm_backend, docs/llmapi.md)."""

_CPU_ONLY = frozenset(("openvino",))
"""Backends that refuse KIND_GPU; openvino's TARGET_DEVICE=GPU means another vendor's (``openvino.cc``)."""

_MULTI_GPU = frozenset(("vllm", "tensorrtllm", "pytorch", "tensorflow"))
"""Backends whose KIND_MODEL groups choose GPUs themselves."""

OF_POLICY = {Policy.GPU: Expected.GPU, Policy.CPU: Expected.CPU, Policy.ANY: Expected.ANY}


class Expectation(msgspec.Struct, frozen=True):
    """Where policy wants a model, and which policy said so."""

    expected: Expected
    by: str
    indifferent: bool = False
    """Somebody wrote ``any``: the place is not even worth a warning."""


def expectation(seen: Observation, record: ModelRecord, config: ModelConfig) -> Expectation:
    """Where policy wants it: the model's own parameter, then the file's entry, then the default."""
    placement = seen.settings.placement
    own = (config.parameter("triton_probe.device") or "").casefold()
    entry = placement.models.get(record.key.name)
    if own in [each.value for each in Policy]:
        policy, by = Policy(own), f"triton_probe.device: {own} in its config.pbtxt"
    elif entry is not None and entry.device is not None:
        policy, by = entry.device, f"placement.models.{record.key.name}.device: {entry.device.value}"
    else:
        policy, by = placement.default, named(placement.default)
    if config.ensemble:
        return Expectation(Expected.ANY, "an ensemble runs where its steps run")
    if policy is not Policy.AUTO:
        return Expectation(OF_POLICY[policy], by, indifferent=policy is Policy.ANY)
    return _automatic(seen, config)


def _automatic(seen: Observation, config: ModelConfig) -> Expectation:
    given = seen.has_gpu
    if config.backend in _CPU_ONLY:
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

    A group that Triton made itself carries the bare model name; a written one is ``<model>_<n>`` or
    named by its author (core, ``model_config_utils.cc``, ``NormalizeInstanceGroup``).
    """
    return bool(config.groups) and not all(group.name == config.key.name for group in config.groups)


def resolved_to_cpu(config: ModelConfig) -> bool:
    """Whether Triton resolved every instance to KIND_CPU, and its backend takes no GPU all the same."""
    return declared(config) == InstanceKind.CPU.value and config.backend not in GPU_WITHOUT_KIND_GPU


def named(policy: Policy) -> str:
    """The default policy as it is written."""
    return f"placement.default: {policy.value}"
