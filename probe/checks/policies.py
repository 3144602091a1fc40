"""What somebody wrote of one model's place: in its own ``config.pbtxt``, which wins, or in the probe's file."""

from __future__ import annotations

import msgspec

from probe.checks.coverage import visible
from probe.checks.observation import Observation
from probe.facts.models import InstanceKind, ModelConfig
from probe.facts.placement import DEVICE_PARAMETER, GPUS_PARAMETER, gpus_named
from probe.settings import Policy
from probe.settings.schema import ModelPlacement


class Allowed(msgspec.Struct, frozen=True):
    """UUIDs of the GPUs that a model may run on, and who says so."""

    gpus: tuple[str, ...]
    by: str


class Mistake(msgspec.Struct, frozen=True):
    """A parameter whose value can not be obeyed, and what was expected in its place."""

    parameter: str
    value: str
    expected: str


def entry(seen: Observation, config: ModelConfig) -> ModelPlacement:
    """What the probe's file says of it."""
    return seen.settings.placement.models.get(config.key.name) or ModelPlacement()


def own_device(config: ModelConfig) -> Policy | None:
    """Its own ``triton_probe.device``; None where it has none, or none that can be obeyed."""
    value = _own(config, DEVICE_PARAMETER).casefold()
    return Policy(value) if value in list(Policy) else None


def mistakes(config: ModelConfig) -> tuple[Mistake, ...]:
    """Parameters of its own that mean nothing; what the probe's file says is obeyed in their place."""
    found = []
    if (value := _own(config, DEVICE_PARAMETER)) and own_device(config) is None:
        found.append(Mistake(DEVICE_PARAMETER, value, f"one of {', '.join(Policy)}"))
    if (value := _own(config, GPUS_PARAMETER)) and not _own_gpus(config):
        found.append(
            Mistake(
                GPUS_PARAMETER,
                value,
                "UUIDs of GPUs as nvidia-smi -L prints them, with commas or spaces between",
            )
        )
    return tuple(found)


def named_gpus(seen: Observation, config: ModelConfig) -> Allowed | None:
    """The GPUs that somebody named for it."""
    if own := _own_gpus(config):
        return Allowed(own, f"{GPUS_PARAMETER} in its config.pbtxt")
    if listed := entry(seen, config).gpus:
        return Allowed(listed, f"placement.models.{config.key.name}.gpus")
    return None


def allowed_gpus(seen: Observation, config: ModelConfig) -> Allowed | None:
    """The GPUs that it may run on: those that somebody named, or else those of its instance groups.

    What groups name are CUDA ordinals, which mean a GPU only where Triton's ``CUDA_VISIBLE_DEVICES`` lists
    UUIDs; groups that take every GPU say nothing.
    """
    if (named := named_gpus(seen, config)) is not None:
        return named
    good = seen.book.evidence.good
    shown = visible(seen.book.server.server, good.gpus) if good is not None else None
    ordinals = declared_ordinals(config)
    only_gpu = all(group.kind is InstanceKind.GPU for group in config.groups)
    if (
        shown is None
        or not only_gpu
        or not ordinals
        or max(ordinals) >= len(shown)
        or len(ordinals) == len(shown)
    ):
        return None
    listed = ", ".join(map(str, ordinals))
    return Allowed(
        tuple(shown[each].uuid for each in ordinals),
        f"its instance_group's gpus [{listed}], counted in CUDA_VISIBLE_DEVICES of Triton",
    )


def declared_ordinals(config: ModelConfig) -> tuple[int, ...]:
    """The CUDA ordinals of all its KIND_GPU groups, each once."""
    groups = (group for group in config.groups if group.kind is InstanceKind.GPU and group.count)
    return tuple(sorted({each for group in groups for each in group.gpus}))


def _own(config: ModelConfig, parameter: str) -> str:
    return (config.parameter(parameter) or "").strip()


def _own_gpus(config: ModelConfig) -> tuple[str, ...]:
    return gpus_named(_own(config, GPUS_PARAMETER))
