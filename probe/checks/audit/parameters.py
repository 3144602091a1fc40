"""Will the probe, and Triton, understand what is written?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from probe.checks.audit.terms import Terms, finding
from probe.facts.audits import AuditFinding
from probe.facts.placement import gpus_named
from probe.facts.repository import RepositoryModel, UnknownName
from probe.kits.words import nearest, quoted
from probe.settings import Policy

_PREFIX = "triton_probe."
_SWITCH = ("true", "1", "yes", "on", "false", "0", "no", "off")
_CANARY = ("warmup", "generate", "off")


def _one_of(*words: str) -> tuple[Callable[[str], bool], str]:
    return (lambda value: value.strip().casefold() in words), f"one of {', '.join(words)}"


_KNOWN: dict[str, tuple[Callable[[str], bool], str]] = {
    "device": _one_of(*(each.value for each in Policy)),
    "gpus": (
        lambda value: bool(gpus_named(value)),
        "UUIDs as `nvidia-smi -L` prints them, GPU-… or MIG-…, with commas between them",
    ),
    "required": _one_of(*_SWITCH),
    "canary": _one_of(*_CANARY),
}


def judge(model: RepositoryModel, terms: Terms) -> Iterator[AuditFinding]:  # noqa: ARG001 - as all of them
    """Parameters by which a model speaks to the probe, and names that the schema does not have."""
    for parameter in model.said.parameters:
        if not parameter.key.startswith(_PREFIX):
            continue
        name = parameter.key.removeprefix(_PREFIX)
        if name not in _KNOWN:
            close = nearest(name, _KNOWN)
            expected = (
                f"did you mean {_PREFIX}{close}?"
                if close
                else f"expected {', '.join(_PREFIX + each for each in _KNOWN)}"
            )
            what = f"The probe knows no parameter {quoted(parameter.key)}, {expected}"
        elif not _KNOWN[name][0](parameter.value):
            what = f"{parameter.key}: found {quoted(parameter.value)}, expected {_KNOWN[name][1]}"
        else:
            continue
        yield finding(
            "ParameterInvalid",
            model,
            parameter.line,
            f"{what.rstrip('.?')}{'?' if what.endswith('?') else '.'}",
            f'Write, say: parameters {{ key: "{_PREFIX}device" value {{ string_value: "gpu" }} }}',
        )
    for unknown in model.said.unknown:
        yield _stranger(model, unknown)


def _stranger(model: RepositoryModel, unknown: UnknownName) -> AuditFinding:
    what = f"{unknown.path}: {quoted(unknown.value)}" if unknown.value else unknown.path
    kind = "value" if unknown.value else "field"
    close = f"Did you mean {unknown.nearest}? If not, see" if unknown.nearest else "See"
    return finding(
        "FieldUnknown",
        model,
        unknown.line,
        f"This schema has no {kind} {what} (column {unknown.column}), and it was left out here: a Triton that does "
        "not know it refuses the whole file.",
        f"{close} whether the Triton that this is for knows it (model_config.proto of its release).",
    )
