"""Who uses a GPU: the driver's process lists, and how busy each process kept the multiprocessors."""

from __future__ import annotations

import time
from typing import Any

from probe.sources.nvml.questions import NOT_FOUND, Questions

_COMPUTE = "nvmlDeviceGetComputeRunningProcesses"
_MPS = "nvmlDeviceGetMPSComputeRunningProcesses"
_WIDE_HAS = "nvmlDeviceGetConfComputeMemSizeInfo"
_WIDE_LACKS = "nvmlDeviceGetRunningProcessDetailList"

_NO_INSTANCE = 0xFFFFFFFF
_FIRST_MICROSECONDS = 1_000_000
_NO_SAMPLES: dict[int, tuple[()]] = {0: (), NOT_FOUND: ()}
"""NOT_FOUND is the driver's word for idle; the binding raises SUCCESS where there is nothing to fetch."""

Instance = tuple[int | None, int | None]
"""The GPU instance and the compute instance of a MIG device, each None where it is not known."""


def list_functions(nvml: Any, name: str) -> tuple[str, ...]:  # noqa: ANN401 - the binding is untyped
    """The versions of a list to try, newest first.

    In the first builds of R535 (535.43 to 535.86) the entries of the third version had 32 bytes instead of
    24, and the binding would read garbage pids out of them; these are told by the functions that came with
    that layout and with its end (found by nvitop, XuehaiPan/nvitop#79).  The second version is sound there.
    """
    library = getattr(nvml, "nvmlLib", None)
    wide = hasattr(library, _WIDE_HAS) and not hasattr(library, _WIDE_LACKS)
    return (f"{name}_v2",) if wide else (f"{name}_v3", f"{name}_v2")


def processes(
    handle: Any,  # noqa: ANN401 - likewise
    asked: Questions,
    own: Instance = (None, None),
) -> list[dict[str, Any]] | None:
    """List the compute and MPS clients, each pid once.  None where either list could not be had.

    Half a list would prove an absence that is none.  ``own`` are the instances of a MIG device: entries that
    name others are not its.  Some drivers list a process once for each of its clients, with the same memory:
    the most that is said of one counts.  On instances of their own its clients hold memory each.
    """
    compute = asked.ask_list(list_functions(asked.nvml, _COMPUTE), handle, absent=None)
    mps = asked.ask_list(list_functions(asked.nvml, _MPS), handle, absent=[])
    if compute is None or mps is None:
        return None
    clients: dict[tuple[int, Instance], int | None] = {}
    for each in (*compute, *mps):
        instance = _instance(each, own)
        if instance is None:
            continue
        client, said = (each.pid, instance), each.usedGpuMemory
        before = clients.get(client)
        clients[client] = said if before is None else before if said is None else max(before, said)
    used: dict[int, int | None] = {}
    for (pid, _), said in clients.items():
        before = used.get(pid)
        used[pid] = said if before is None else before if said is None else before + said
    return [{"pid": pid, "used_bytes": used_bytes} for pid, used_bytes in used.items()]


def busy(
    handle: Any,  # noqa: ANN401 - likewise
    asked: Questions,
    seen: int | None,
) -> tuple[list[dict[str, Any]] | None, int]:
    """Tell how busy each process kept the GPU in samples newer than ``seen``, and up to when they reach.

    Both moments are the driver's, microseconds since 1970; the mean over a pid's samples is in per cent.
    A first look (None) asks for the second before it: the driver's ring goes back to processes that ended
    long ago.  None where the driver does not tell: on MIG devices, in WSL, without permission.
    """
    now = int(time.time() * 1e6)
    if seen is None or seen > now:  # a clock that was set back would hide every sample for as long
        seen = now - _FIRST_MICROSECONDS
    samples = None
    for _ in range(2):  # the binding's array may be too small by its second call
        if samples is None:
            samples = asked.ask_optional("nvmlDeviceGetProcessUtilization", handle, seen, meaning=_NO_SAMPLES)
    if samples is None:
        return None, seen
    shares: dict[int, list[int]] = {}
    newest = seen
    for each in samples:
        if each.pid and seen < each.timeStamp <= now + _FIRST_MICROSECONDS:
            shares.setdefault(each.pid, []).append(min(each.smUtil, 100))
            newest = max(newest, each.timeStamp)
    means = [{"pid": pid, "percent": sum(each) / len(each)} for pid, each in shares.items()]
    return means, newest


def instance_of(number: int | None) -> int | None:
    """An instance's id as NVML gives it, None where it stands for none."""
    return None if number == _NO_INSTANCE else number


def _instance(entry: Any, own: Instance) -> Instance | None:  # noqa: ANN401 - likewise
    """The instances that an entry counts for; None where these are not the handle's own."""
    named = (
        instance_of(getattr(entry, "gpuInstanceId", None)),
        instance_of(getattr(entry, "computeInstanceId", None)),
    )
    if own == (None, None):
        return named
    strange = any(
        mine is not None and its is not None and mine != its for mine, its in zip(own, named, strict=True)
    )
    return None if strange else own
