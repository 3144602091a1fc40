"""Is the memory of a GPU of this Triton nearly used up, and who holds it?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.gpu_condition import of_ours, telling
from probe.checks.gpus import named, subject
from probe.checks.observation import Observation
from probe.facts.findings import Claim
from probe.ledgers.gpu_records import GpuRecord

_NAMED = 5
"""Holders that a message names."""


def judge(seen: Observation) -> Iterator[Claim]:
    """One claim a GPU above ``gpu.memory_pressure``; a GPU in parts has a memory for each."""
    for record in telling(seen):
        total, used = record.gpu.memory_total_bytes, record.gpu.memory_used_bytes
        if not total or used is None or used / total <= seen.settings.gpu.memory_pressure:
            continue
        if not seen.book.gpus.parts(record.gpu.uuid):
            yield from of_ours(seen, record, _pressure(seen, record, total, used))


def _pressure(seen: Observation, record: GpuRecord, total: int, used: int) -> Claim:
    held = _holders(seen, record)
    ours = sum(held.values())
    most = sorted(held.items(), key=lambda each: -each[1])[:_NAMED]
    shares = ", ".join(f"{_gib(size)} by {who}" for who, size in most)
    if held:
        # A figure of NVML's for a process may be older than that for the device.
        who = f"Of this Triton's: {shares}; by others, or the driver itself: {_gib(max(0, used - ours))}."
    else:
        who = "Who holds it can not be told here."
    return Claim(
        "GpuMemoryPressure",
        subject(record.gpu.uuid),
        f"{used / total:.1%} of the memory of the {named(record)} is in use ({_gib(used)} of {_gib(total)}), above "
        f"gpu.memory_pressure ({seen.settings.gpu.memory_pressure:.0%}). {who}",
        "Put fewer models or instances on it, or smaller ones (a shorter context, smaller batches, a lower "
        "gpu_memory_utilization). Where a framework takes all memory by design, raise gpu.memory_pressure.",
        record.told,
        {
            "used_bytes": used,
            "total_bytes": total,
            "ours_bytes": ours if held else None,
            **{f"held_by_{who}": size for who, size in most},
        },
    )


def _holders(seen: Observation, record: GpuRecord) -> dict[str, int]:
    """Bytes by model, and by tritonserver itself for all that run inside it; empty where lists tell nothing."""
    if not seen.book.evidence.evidence.lists_prove_absence:
        return {}
    server = seen.book.server.process
    whose = {server.pid: "tritonserver"} if server is not None else {}
    for stub in seen.book.stubs.live.values():
        model = str(stub.model) if stub.model is not None else stub.stub.arguments.name
        whose.update(dict.fromkeys(stub.stub.pids, model))
    held: dict[str, int] = {}
    for each in record.gpu.processes or ():
        if each.pid in whose and each.used_bytes:
            held[whose[each.pid]] = held.get(whose[each.pid], 0) + each.used_bytes
    return held


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
