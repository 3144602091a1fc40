"""How much memory does the container need, and how much ``/dev/shm``?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.container.limits import unlimited
from probe.checks.container.manifest import MIB, quantity, size_of
from probe.checks.sizing.quantities import GUESS, HEADROOM, rounded_bytes, with_headroom
from probe.facts.container import ContainerReading, Limit
from probe.facts.sizing import SizeLine
from probe.ledgers.container_peaks import ContainerPeaks

LEAST_BYTES = 64 * MIB
"""tritonserver alone holds as much."""
SHM_LEAST_BYTES = 64 * MIB
"""What every container runtime gives unasked."""
AT_THE_LIMIT = 0.95
"""What part of a limit must have been reached for it to have held the figure down."""
MOST = 2
"""A proposal is no more than this often what was seen."""


def peak_bytes(peaks: ContainerPeaks) -> int | None:
    """The highest working set that is known of, loads and what was before the first look too."""
    told = [each for each in (peaks.memory.highest, peaks.earlier_bytes) if each is not None]
    return int(max(told)) if peaks.memory.highest is not None else None


def memory_lines(peaks: ContainerPeaks, reading: ContainerReading | None) -> Iterator[SizeLine]:
    """Request and limit; none where the working set was never read."""
    peak = peak_bytes(peaks)
    if peak is None:
        return
    limit = _own_limit(reading)
    clipped = _clipped(peaks, peak, limit)
    base = max(peak, _reached(peaks, limit)) if clipped else peak
    value = quantity(rounded_bytes(with_headroom(base, at_least=bool(clipped)), LEAST_BYTES))
    steady = peaks.memory.steady(busy=peaks.busy)
    yield SizeLine(
        "requests.memory",
        value,
        "No serving was seen." if steady is None else f"Serving alone came up to {size_of(steady)}.",
        "As the limit all the same: memory can not be throttled, and when the node runs short, whoever holds more "
        "than they asked for goes first.",
        at_least=bool(clipped),
    )
    node = reading.node_memory_bytes if reading is not None else None
    much = f" The node has {size_of(node)}." if node is not None and base * (1 + HEADROOM) > node else ""
    added = (
        f"{clipped} What it would have taken nobody saw: {size_of(base)} + {GUESS:.0%} is a guess."
        if clipped
        else f"The highest of all + {HEADROOM:.0%}: it must hold the load of a model too, for a kill then is a kill."
    )
    yield SizeLine(
        "limits.memory",
        value,
        _figure(peaks),
        f"{added} What lies in /dev/shm is in this figure.{much}",
        at_least=bool(clipped),
        now=_set(limit),
    )


def _own_limit(reading: ContainerReading | None) -> Limit | None:
    # That of all pods together, or one above the node's memory, holds nothing down here.
    limit = reading.memory.limit if reading is not None else None
    if reading is None or limit is None or unlimited(limit, reading.node_memory_bytes) is None:
        return limit
    return Limit(None, limit.path)


def _clipped(peaks: ContainerPeaks, peak: int, limit: Limit | None) -> str:
    if peaks.oom_kills:
        times = "a process" if peaks.oom_kills == 1 else f"{peaks.oom_kills} processes"
        return f"The kernel killed {times} here for want of memory."
    if limit is not None and limit.value is not None and peak >= AT_THE_LIMIT * limit.value:
        return f"The limit of {size_of(limit.value)} was reached."
    return ""


def _reached(peaks: ContainerPeaks, limit: Limit | None) -> int:
    # A kill by its own limit comes where the kernel's peak is at that limit; the looks may have missed it.  One for
    # want of memory on the node says nothing of the limit.  Where the kernel keeps no peak (version 2 before Linux
    # 5.19) it may have been the limit, and less than that would have it killed again.
    if limit is None or limit.value is None:
        return 0
    witness = peaks.witness_bytes
    return int(limit.value) if witness is None or witness >= AT_THE_LIMIT * limit.value else 0


def _figure(peaks: ContainerPeaks) -> str:
    highest, load, earlier = peaks.memory.highest or 0.0, peaks.memory.load, peaks.earlier_bytes
    loading = f" ({size_of(load)} while a model was loading)" if load is not None else ""
    parts = [f"Its working set came up to {size_of(highest)}{loading}"]
    if earlier is not None and earlier > highest:
        parts.append(
            f"before the probe looked to {size_of(earlier)}, by the kernel's peak less the file cache then"
        )
    if peaks.witness_bytes is not None:
        parts.append(f"with all file cache to {size_of(peaks.witness_bytes)}")
    return f"{'; '.join(parts)}."


def shm_line(
    peaks: ContainerPeaks,
    reading: ContainerReading | None,
    regions: int,
    growth_bytes: int,
    needed_bytes: int = 0,
) -> Iterator[SizeLine]:
    """The size of ``/dev/shm``; ``regions`` of live stubs grow by ``growth_bytes`` in all with their next step.

    With less than ``needed_bytes`` it would be ShmTooSmall.
    """
    seen = peaks.shm.highest
    if seen is None or not (regions or seen):
        return
    peak = int(seen)
    given = reading.shm.size_bytes if reading is not None and reading.shm is not None else None
    full = given is not None and peak >= AT_THE_LIMIT * given
    wanted = with_headroom(peak, at_least=full) + growth_bytes
    most = max(SHM_LEAST_BYTES, MOST * peak // MIB * MIB, -(-needed_bytes // MIB) * MIB)
    value = rounded_bytes(max(min(wanted, MOST * peak), needed_bytes), SHM_LEAST_BYTES)
    more = (
        f" Once each has grown, they need {size_of(needed_bytes)} in all."
        if needed_bytes > min(wanted, MOST * peak)
        else ""
    )
    yield SizeLine(
        "shm.sizeLimit",
        quantity(min(value, most)),
        f"Up to {size_of(peak)} of it were in use; {regions} stubs live now.",
        (
            f"It was full: what they would have taken nobody saw. {GUESS:.0%} more is a guess."
            if full
            else f"That + {HEADROOM:.0%} and one step of each stub's region ({size_of(growth_bytes)} in all), "
            f"no more than twice what was in use, and no less than the {size_of(SHM_LEAST_BYTES)} of every runtime. "
            "A region never shrinks."
        )
        + f"{more} Its use is charged to the memory of the container, whose limit above holds it.",
        at_least=full,
        now=None if given is None else size_of(given),
    )


def _set(limit: Limit | None) -> str | None:
    if limit is None:
        return None
    return "none" if limit.value is None else size_of(limit.value)
