"""Is the memory of Triton's container nearly used up, or does it wait for memory?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.container.holders import largest
from probe.checks.container.limits import unlimited
from probe.checks.container.manifest import CONTAINER as WHERE
from probe.checks.container.manifest import memory_line, rounded, size_of
from probe.checks.observation import Observation
from probe.facts.container import ContainerReading
from probe.facts.findings import CONTAINER, Action, Claim, Scalar
from probe.facts.qos import requested_memory
from probe.ledgers.strain import Fill, Stall

_SOON = 3600.0
"""Seconds to the limit that are worth a word; what is further off changes before."""
_MUCH = 0.25
"""Part of the memory in use from which ``/dev/shm`` is named: it is freed in another way."""


def judge(seen: Observation) -> Iterator[Claim]:
    """One claim near the limit, from one look, or where tasks wait for memory, from a window of looks."""
    container, strain = seen.book.container, seen.book.strain
    if container is None or seen.book.server.gone is not None:
        return
    fill = strain.memory
    if fill is not None and (fill.since is None or unlimited(fill.limit, container.node_memory_bytes)):
        fill = None
    stall = strain.stall if strain.stall is not None and strain.stall.since is not None else None
    if fill is not None:
        yield _near(seen, container, fill, stall)
    elif stall is not None:
        yield _waiting(seen, container, stall)


def _near(seen: Observation, container: ContainerReading, fill: Fill, stall: Stall | None) -> Claim:
    limit = int(fill.limit.value or 0)
    pace = seen.book.strain.trend.per_second
    left = max(0, limit - fill.used) / pace if pace is not None else None
    soon = left if left is not None and left <= _SOON else None
    holds = (
        f"Triton's container holds {size_of(fill.used)} that can not be reclaimed of its limit of {size_of(limit)} "
        f"({fill.share:.0%}){_requested(container)}{_in_shm(container, fill)}."
    )
    told = [holds]
    if soon is not None:
        told.append(
            f"At the pace of the last minutes, {size_of((pace or 0) * 60)} a minute, it is full in {_time(soon)}."
        )
    if stall is not None:
        told.append(_stalled(stall))
    told += [_killed(container), *_largest(seen)]
    wanted = rounded(limit)
    node = container.node_memory_bytes
    if node is not None and wanted >= node:
        cure = (
            f"The node has no more than {size_of(node)}: give the models fewer instances or smaller batches."
        )
    else:
        cure = (
            f"Raise the limit of {WHERE} from {size_of(limit)}: {memory_line(wanted)}; "
            "or give the models fewer instances or smaller batches."
        )
    return Claim(
        "MemoryPressure",
        CONTAINER,
        " ".join(told),
        cure,
        fill.observed,
        _evidence(container, fill, stall, soon),
    )


def _waiting(seen: Observation, container: ContainerReading, stall: Stall) -> Claim:
    limit, node = container.memory.limit, container.node_memory_bytes
    bound = limit.value if limit is not None and not unlimited(limit, node) else None
    if bound is not None:
        cure = (
            f"The kernel reclaims memory at the limit over and over. Raise it for {WHERE}: "
            f"{memory_line(rounded(bound))}; or read fewer files at once."
        )
    else:
        cure = (
            "No limit of its own holds it back, so the node is short of memory: look at what else runs there, and set "
            f"resources.requests.memory on {WHERE}, so that the scheduler keeps room for it."
        )
    return Claim(
        "MemoryPressure",
        CONTAINER,
        " ".join([_stalled(stall), *_largest(seen)]),
        cure,
        stall.window.ended,
        _evidence(container, None, stall, None),
        action=Action.CHECK_NODE if bound is None else None,
    )


def _stalled(stall: Stall) -> str:
    return (
        f"For {stall.share:.0%} of the last {stall.window.seconds:.0f} s some task of Triton's container waited for "
        "memory to be reclaimed."
    )


def _requested(container: ContainerReading) -> str:
    requested = requested_memory(container)
    return f", with about {size_of(requested)} requested" if requested is not None else ""


def _in_shm(container: ContainerReading, fill: Fill) -> str:
    held = container.memory.shmem_bytes
    return (
        f"; {size_of(held)} of it in /dev/shm and other tmpfs" if held and held >= _MUCH * fill.used else ""
    )


def _killed(container: ContainerReading) -> str:
    if container.memory.oom_group:
        return "At the limit the kernel kills all processes of the container at once (memory.oom.group)."
    return "At the limit the kernel kills a process, mostly the largest stub."


def _largest(seen: Observation) -> Iterator[str]:
    most = largest(seen, lambda process: process.rss_bytes)
    if most:
        yield f"Resident: {', '.join(f'{name} {size_of(amount)}' for name, amount in most)}."


def _time(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds:.0f} s"  # noqa: PLR2004


def _evidence(
    container: ContainerReading, fill: Fill | None, stall: Stall | None, left: float | None
) -> dict[str, Scalar]:
    memory = container.memory
    limit = fill.limit if fill is not None else memory.limit
    told: dict[str, Scalar] = {
        "limit_bytes": int(limit.value) if limit is not None and limit.value is not None else None,
        "limit_file": limit.path if limit is not None else None,
        "unreclaimable_bytes": fill.used if fill is not None else None,
        "working_set_bytes": memory.working_set_bytes,
        "shmem_bytes": memory.shmem_bytes,
        "requested_bytes_estimate": requested_memory(container),
        "seconds_to_limit": round(left) if left is not None else None,
        "stall_share": round(stall.share, 3) if stall is not None else None,
        "oom_group": memory.oom_group,
    }
    return {name: value for name, value in told.items() if value is not None}
