"""Does Triton's container have a memory limit, and may the probe read what the kernel says of it?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from probe.checks.container import access
from probe.checks.container.manifest import memory_line, size_of, suggested_limit
from probe.facts.container import ContainerReading, Limit
from probe.facts.findings import CONTAINER, Claim, Scalar
from probe.facts.qos import requested_memory

_NODES_OWN = re.compile(r"(.*-)?kubepods(-besteffort|-burstable)?(\.slice)?|besteffort|burstable")
"""cgroups in which the kubelet keeps all pods: their limit is the node's, not the container's."""

_WHAT = {"cgroup": "the cgroup files (memory, CPU, processes)", "shm": "the file system at /dev/shm"}


def judge(container: ContainerReading) -> Iterator[Claim]:
    """Claim a container without a memory limit, and one that may not be read; silent on the unknown."""
    if container.denied:
        yield _denied(container)
    limit = container.memory.limit
    if limit is not None and (why := unlimited(limit, container.node_memory_bytes)):
        yield _memory_unlimited(container, limit, why)


def unlimited(limit: Limit, node: int | None) -> str | None:
    """Why this limit, on a node with so much memory, is none of the container's own; None where it is."""
    if limit.value is None:
        return "has no memory limit"
    told = size_of(limit.value)
    if node is not None and limit.value >= node:
        return f"has a memory limit of {told}, which is not below the memory of the node"
    if _NODES_OWN.fullmatch(limit.path.split("/")[-2] if limit.path.count("/") > 1 else ""):
        return f"has no memory limit but that of all pods together ({told})"
    return None


def _memory_unlimited(container: ContainerReading, limit: Limit, why: str) -> Claim:
    memory, node = container.memory, container.node_memory_bytes
    reach = f"all {size_of(node)} of the node's memory" if node is not None else "all memory of the node"
    used = memory.working_set_bytes if memory.working_set_bytes is not None else memory.used_bytes
    now = f"; it holds {size_of(used)} now" if used is not None else ""
    requested = requested_memory(container)
    asked = f"; about {size_of(requested)} are requested" if requested is not None else ""
    suggested = suggested_limit(container)
    if suggested is None:
        remedy = (
            "Set resources: {limits: {memory: …}} on Triton's container, a quarter above its peak under load."
        )
    else:
        remedy = (
            f"Set {memory_line(suggested[0])} on Triton's container"
            f" ({suggested[1]}); look again after it has been under full load."
        )
    seen: dict[str, Scalar] = {
        "limit_bytes": None if limit.value is None else int(limit.value),
        "limit_file": limit.path,
        "working_set_bytes": memory.working_set_bytes,
        "peak_bytes": memory.peak_bytes,
        "node_memory_bytes": node,
        "requested_bytes_estimate": requested,
        "suggested_limit_bytes": suggested[0] if suggested is not None else None,
    }
    return Claim(
        reason="MemoryUnlimited",
        subject=CONTAINER,
        message=f"Triton's container {why}: it can take {reach}{now}{asked}.",
        remedy=remedy,
        observed=container.observed,
        evidence={name: value for name, value in seen.items() if value is not None},
    )


def _denied(container: ContainerReading) -> Claim:
    what = " and ".join(_WHAT.get(name, name) for name in container.denied)
    return Claim(
        reason="ProcessAccessDenied",
        subject=CONTAINER,
        message=f"The probe may not read {what} of Triton's container: nothing that rests on them is judged.",
        remedy=access.remedy(container.owner),
        observed=container.observed,
        evidence={"denied": ", ".join(container.denied)},
    )
