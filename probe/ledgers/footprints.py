"""What NVML shows of tritonserver's own process on each GPU, in one look; pure.

Memory and busy time of a process are believed in evidence mode ``full`` alone.  In ``membership`` the driver is
one that still counts the busy time by the pids of the host (NVIDIA's open kernel modules, ``kern_perf_ctrl.c``:
translated from release 570 on), so that what stands under tritonserver's pid may be another tenant's.
"""

from __future__ import annotations

import msgspec

from probe.facts.instants import Instant
from probe.facts.nvml import Gpu, NvmlReading, NvmlState
from probe.facts.placement import EvidenceMode


class Footprint(msgspec.Struct, frozen=True):
    """Tritonserver on the GPUs whose lists show it, by UUID, at a moment from ``began`` to ``observed``.

    ``memory``: bytes, where the driver gives a figure.  ``busy``: how much of the time since the look before
    its kernels ran, 0 to 100, where the driver tells.  ``whole``: that is told of every GPU that it is on,
    and every GPU that it may be on has a list.
    """

    observed: Instant
    began: Instant
    memory: dict[str, int] = {}
    busy: dict[str, float] = {}
    whole: bool = False


def footprint(reading: NvmlReading, mode: EvidenceMode, pid: int | None) -> Footprint | None:
    """What one look shows of this pid; None where it proves nothing, or the process is not known."""
    if reading.state is not NvmlState.OK or mode is not EvidenceMode.FULL or pid is None:
        return None
    memory: dict[str, int] = {}
    busy: dict[str, float] = {}
    on, whole = 0, True
    # The list of a GPU that is divided is that of all its parts, where it can be had at all.
    divided = {gpu.parent for gpu in reading.gpus}
    for gpu in reading.gpus:
        if gpu.uuid in divided:
            continue
        if gpu.processes is None:
            whole = False
            continue
        mine = [each for each in gpu.processes if each.pid == pid]
        if not mine:
            continue
        on += 1
        used = max(each.used_bytes or 0 for each in mine)
        if used:
            memory[gpu.uuid] = used
        percent = _busy(gpu, pid)
        if percent is None:
            whole = False
        else:
            busy[gpu.uuid] = percent
    return Footprint(reading.observed, reading.began, memory, busy, whole=whole and on > 0)


def _busy(gpu: Gpu, pid: int) -> float | None:
    if gpu.busy is None:
        return None
    percent = sum(each.percent for each in gpu.busy if each.pid == pid)
    listed = {each.pid for each in gpu.processes or ()}
    if not percent and any(each.percent > 0 and each.pid not in listed for each in gpu.busy):
        # Somebody whom the list does not name was busy: it may be this process by its pid on the host.
        return None
    return percent
