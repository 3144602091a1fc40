"""Is this GPU Triton's?"""

from __future__ import annotations

import enum

from probe.checks.observation import Observation
from probe.facts.nvml import Gpu


def ours(seen: Observation, gpu: Gpu) -> bool | None:
    """Whether the watched Triton was given this GPU or MIG device; None where that can not be told.

    What proves it, best first: a process of this Triton on it; Triton's own metrics, which name the GPUs that CUDA
    shows to it; UUIDs in its ``CUDA_VISIBLE_DEVICES``; the device nodes in Triton's root.  A node alone proves
    little against metrics without the GPU (on a plain host it has them all), nor which MIG device of several it is
    for.
    """
    ledger, server = seen.book.gpus, seen.book.server
    parts = ledger.parts(gpu.uuid)
    record = ledger.records.get(gpu.uuid)
    if any(each.ours for each in (record, *parts) if each is not None):
        return True
    if gpu.uuid in server.gpu_uuids:
        return True
    given = _given(seen, gpu, frozenset((gpu.parent, *(each.gpu.uuid for each in parts))))
    if given and gpu.parent is not None and len(ledger.parts(gpu.parent)) > 1:
        return None
    return given


class Whose(enum.StrEnum):
    """Whom trouble with a GPU concerns."""

    OURS = "ours"
    UNKNOWN = "unknown"
    OTHERS = "others"


def whose(seen: Observation, gpu: Gpu) -> Whose:
    """As :func:`ours`, but what can not be told is taken for ours where there is no other GPU."""
    told = ours(seen, gpu)
    if told is not None:
        return Whose.OURS if told else Whose.OTHERS
    records, parts = seen.book.gpus.records, seen.book.gpus.parts(gpu.parent or gpu.uuid)
    whole = {
        each.gpu.parent or uuid
        for uuid, each in records.items()
        if each.gone_since is None or each.lost_since is not None
    }
    only = whole == {gpu.parent or gpu.uuid} and (gpu.parent is None or len(parts) == 1)
    return Whose.OURS if only else Whose.UNKNOWN


def _given(seen: Observation, gpu: Gpu, related: frozenset[str | None]) -> bool | None:
    server = seen.book.server
    minors = server.server.gpu_minors if server.server is not None else None
    if not minors and seen.has_gpu:
        # It uses a GPU without having a node of any: so it is on WSL and on Jetson.
        minors = None
    node = gpu.minor in minors if minors is not None and gpu.minor is not None else None
    if not server.gpu_uuids:
        return False if _hidden(seen, gpu, related) else node
    if related & server.gpu_uuids:
        return True
    return None if node else False


def _hidden(seen: Observation, gpu: Gpu, related: frozenset[str | None]) -> bool:
    # Triton's own environment keeps CUDA from it.  UUIDs there may be cut short.
    server = seen.book.server.server
    named = server.visible_devices if server is not None else None
    uuids = [each.casefold() for each in (gpu.uuid, *related) if each is not None]
    return named is not None and not any(uuid.startswith(each.casefold()) for uuid in uuids for each in named)
