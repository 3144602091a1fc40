"""How much CPU does the container need, and how many GPUs?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from probe.checks.container.manifest import cpu_quantity, size_of
from probe.checks.sizing.quantities import (
    GUESS,
    HEADROOM,
    cores,
    rounded_millicores,
    with_headroom,
)
from probe.facts.container import ContainerReading
from probe.facts.sizing import ModelPeak, SizeLine
from probe.ledgers.container_peaks import ContainerPeaks

LEAST_MILLICORES = 100
"""A Triton that is asked nothing takes some."""
THROTTLED = 0.1
"""What part of all looks must have found the container held back for its use to be no measure."""
AT_THE_LIMIT = 0.95
_NAMED = 3


def cpu_lines(peaks: ContainerPeaks, reading: ContainerReading | None) -> Iterator[SizeLine]:
    """The request, and why there is no limit; none where no rate is known."""
    highest, steady = peaks.cores.highest, peaks.cores.steady(busy=peaks.busy)
    if highest is None:
        return
    limit = reading.cpu.limit if reading is not None else None
    cap = limit.value if limit is not None else None
    clipped = _clipped(peaks, highest, cap)
    if steady is not None:
        # A load that reached the limit says nothing of serving.
        clipped_serving = _clipped(peaks, _served(peaks), cap)
        wanted = rounded_millicores(with_headroom(steady, at_least=bool(clipped_serving)), LEAST_MILLICORES)
        yield SizeLine(
            "requests.cpu",
            cpu_quantity(wanted / 1000),
            _figure(peaks, steady),
            (
                f"{clipped_serving} What it would have taken nobody saw: serving + {GUESS:.0%} is a guess."
                if clipped_serving
                else f"Serving + {HEADROOM:.0%}. Loading asks for nothing: with less it only takes longer."
            ),
            at_least=bool(clipped_serving),
        )
    burst = cpu_quantity(
        rounded_millicores(with_headroom(highest, at_least=bool(clipped)), LEAST_MILLICORES) / 1000
    )
    yield SizeLine(
        "limits.cpu",
        None,
        f"At its highest it took {cores(highest)}.",
        "None: the request is its share whenever the CPUs are short, and a limit stops every thread in the middle "
        "of a request. Where one is demanded (a quota, the class Guaranteed), no less than this.",
        at_least=bool(clipped),
        now=None if limit is None else "none" if cap is None else cores(cap),
        if_demanded=burst,
    )


def _clipped(peaks: ContainerPeaks, highest: float, cap: float | None) -> str:
    if peaks.rated_looks and peaks.throttled_looks >= THROTTLED * peaks.rated_looks:
        return f"Its CPU limit held it back in {peaks.throttled_looks} of {peaks.rated_looks} looks."
    if cap is not None and highest >= AT_THE_LIMIT * cap:
        return f"Its CPU limit of {cores(cap)} was reached."
    return ""


def _figure(peaks: ContainerPeaks, steady: float) -> str:
    parts = [f"Serving came up to {cores(steady)}"]
    if peaks.cores.load is not None:
        parts.append(f"loading to {cores(peaks.cores.load)}")
    if (served := _served(peaks)) > steady:
        parts.append(f"spikes of at most two minutes to {cores(served)}")
    return f"{', '.join(parts)}."


def _served(peaks: ContainerPeaks) -> float:
    return msgspec.structs.replace(peaks.cores, load=None).highest or 0.0


def gpu_line(
    given: int | None, held: Mapping[str, int], models: tuple[ModelPeak, ...], *, divided: bool
) -> Iterator[SizeLine]:
    """How many GPUs; ``held``: bytes of Triton by UUID, ``divided``: one of them is a MIG device."""
    count = given or len(held)
    if not count:
        return
    parts = [
        f"up to {size_of(most)} on {uuid}{_by_model(uuid, models)}" for uuid, most in sorted(held.items())
    ]
    yield SizeLine(
        "limits.nvidia.com/gpu",
        None if divided else str(count),
        f"Triton held {'; '.join(parts)}." if parts else "What Triton holds on them can not be told here.",
        (
            "MIG devices are asked for by their profile, as nvidia.com/mig-1g.10gb."
            if divided
            else "As many as Triton has now. They are given whole."
        )
        + _room(max(held.values(), default=0)),
        now=str(count),
    )


def _room(most: int) -> str:
    if not most:
        return ""
    wanted = size_of(with_headroom(most, at_least=False))
    return f" Each has to have {wanted} for Triton alone: the most on one + {HEADROOM:.0%}."


def _by_model(uuid: str, models: tuple[ModelPeak, ...]) -> str:
    on = sorted(
        ((each.gpu_memory_bytes[uuid], each) for each in models if uuid in each.gpu_memory_bytes),
        key=lambda pair: (-pair[0], pair[1].name, pair[1].version),
    )
    if not on:
        return ""
    named = ", ".join(f"{each.name}/{each.version} {size_of(most)}" for most, each in on[:_NAMED])
    more = f" and {len(on) - _NAMED} more" if len(on) > _NAMED else ""
    return f" ({named}{more})"
