"""A proposal of sizes as YAML to paste, each line below the figure that it comes from."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from probe.checks.container.manifest import size_of
from probe.facts.sizing import ModelPeak, SizeLine, SizingStatus
from probe.surfaces.plain import one_line

_WIDTH = 100
_MODELS = 20
"""Models that are listed; the rest is counted."""
_PARTS = ("requests.", "limits.")


def as_yaml(sizing: SizingStatus) -> str:
    """One document: ``resources`` and ``volumeMounts`` of Triton's container, ``volumes`` of its pod.

    Without anything to propose it is comments alone.
    """
    lines = {each.what: each for each in sizing.proposal}
    shm = lines.get("shm.sizeLimit")
    parts = [*_head(sizing), *_container(lines, shm), *_volume(shm), *_models(sizing)]
    return "\n".join(parts)


def _head(sizing: SizingStatus) -> Iterator[str]:
    watched = (
        f"{sizing.watched_seconds / 60:.1f} min of serving, {sizing.busy_minutes} of {sizing.minutes} minutes "
        "with requests"
    )
    if sizing.enough:
        yield from _comment(f"What this Triton needs, from {watched}.")
    else:
        yield from _comment(f"TOO LITTLE WATCHED TO TELL: {watched}. What follows holds for that alone.")
        for each in sizing.why_not:
            yield from _comment(each, first="- ", rest="  ")
    if sizing.since is not None:
        yield from _comment(
            f"Since {sizing.since:%Y-%m-%d %H:%M:%S} UTC, with {sizing.headroom:.0%} of headroom."
        )
    held = (sizing.container.memory_bytes, sizing.container.memory_life_bytes)
    if None not in held and (held[1] or 0) > (held[0] or 0):
        yield from _comment(
            f"Before, with models that are gone, its working set came up to {size_of(held[1] or 0)}."
        )


def _container(lines: dict[str, SizeLine], shm: SizeLine | None) -> Iterator[str]:
    if not lines:
        return
    yield ""
    yield from _comment(
        "Into Triton's container; in a KServe InferenceService into spec.predictor.model (or into its container):"
    )
    parts = {part: [each for what, each in lines.items() if what.startswith(part)] for part in _PARTS}
    valued = {part for part, found in parts.items() if any(each.value is not None for each in found)}
    # A key without a value would be null, which is not the same as none.
    if valued:
        yield "resources:"
    for part, found in parts.items():
        if part in valued:
            yield f"  {part[:-1]}:"
        for each in found:
            yield from _line(each, part, "    " if part in valued else "")
    if shm is not None and shm.value is not None:
        yield "volumeMounts:"
        yield "- name: triton-shm"
        yield "  mountPath: /dev/shm"


def _line(line: SizeLine, part: str, indent: str) -> Iterator[str]:
    name = line.what.removeprefix(part)
    yield from _why(line, indent)
    if line.value is not None:
        yield f"{indent}{name}: {_scalar(line.value)}"
    elif line.if_demanded is not None:
        yield f"{indent}# {name}: {_scalar(line.if_demanded)}"


def _why(line: SizeLine, indent: str) -> Iterator[str]:
    guess = "AT LEAST. " if line.at_least else ""
    now = f" Now: {line.now}." if line.now is not None else ""
    yield from _comment(f"{guess}{line.figure} {line.reason}{now}", indent)


def _volume(line: SizeLine | None) -> Iterator[str]:
    if line is None or line.value is None:
        return
    yield ""
    yield from _comment("Into the pod's spec; in a KServe InferenceService into spec.predictor:")
    yield "volumes:"
    yield "- name: triton-shm"
    yield "  emptyDir:"
    yield "    medium: Memory"
    yield from _why(line, "    ")
    yield f"    sizeLimit: {_scalar(line.value)}"


def _models(sizing: SizingStatus) -> Iterator[str]:
    known = (each for each in sizing.models if any(_of_model(each)))
    models = sorted(known, key=lambda each: (-(each.memory_bytes or 0), each.name, each.version))
    if not models:
        return
    yield ""
    yield from _comment("By model, at their highest (pages that a model's stubs share count more than once):")
    for each in models[:_MODELS]:
        yield from _comment(f"{each.name}/{each.version}: {', '.join(_of_model(each))}", rest="  ")
    if len(models) > _MODELS:
        yield from _comment(f"and {len(models) - _MODELS} more")


def _of_model(model: ModelPeak) -> Iterator[str]:
    if model.memory_bytes is not None:
        loading = (
            f" ({size_of(model.memory_load_bytes)} loading)" if model.memory_load_bytes is not None else ""
        )
        yield f"memory {size_of(model.memory_bytes)}{loading}"
    if model.shm_bytes is not None:
        yield f"/dev/shm {size_of(model.shm_bytes)}"
    if model.cpu_cores is not None:
        yield f"{model.cpu_cores:.2f} cores"
    for uuid, held in sorted(model.gpu_memory_bytes.items()):
        yield f"{size_of(held)} on {uuid}"


def _comment(text: str, indent: str = "", first: str = "", rest: str = "") -> Iterable[str]:
    # Names are whatever a model repository holds: nothing in them may end the comment.
    plain = "".join(each if each.isprintable() else "?" for each in one_line(text))
    return textwrap.wrap(
        plain,
        _WIDTH,
        initial_indent=f"{indent}# {first}",
        subsequent_indent=f"{indent}# {rest}",
        break_on_hyphens=False,
    )


def _scalar(quantity: str) -> str:
    # A bare number would be a number, which Kubernetes takes and other readers of a quantity may not.
    return f'"{quantity}"' if quantity.isdigit() else quantity
