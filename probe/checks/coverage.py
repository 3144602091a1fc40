"""May "in no process list" be read as "on no GPU of Triton's"?

Only where the lists show Triton's processes at all (the evidence mode), where NVML shows the probe every GPU
that Triton has, and where each of these has a list that can be believed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import msgspec

from probe.facts.nvml import Gpu
from probe.facts.placement import EvidenceMode
from probe.facts.processes import Process, ProcessId, Server
from probe.ledgers.book import Book
from probe.ledgers.evidence import family_pids

LIST_AT_MOST = 950
"""Processes that the driver lists of one GPU (``NV2080_CTRL_GPU_GET_PIDS_MAX_COUNT``): a full list may be cut."""
_MPS_SERVER = "nvidia-cuda-mps"
"""``nvidia-cuda-mps-server`` as the kernel keeps it: 15 characters."""

_OTHERS = frozenset(("tritonserver", _MPS_SERVER))
"""Names of processes that are no model's, nor are those below them: another Triton with its stubs."""

_ALL_GPUS = (
    "Give the probe's container every GPU of the pod: NVIDIA_VISIBLE_DEVICES=all and "
    "NVIDIA_DRIVER_CAPABILITIES=utility."
)


class Gap(msgspec.Struct, frozen=True):
    """Why absence from the lists proves nothing, as a sentence, and what to change."""

    why: str
    remedy: str


def gap_of(book: Book) -> Gap | None:
    """The first thing that keeps absence from being proven, or None where it is."""
    good, evidence = book.evidence.good, book.evidence.evidence
    if good is None or not evidence.lists_prove_absence:
        return Gap(evidence.why, _REMEDIES[evidence.mode])
    server = book.server.server
    minors = frozenset(server.gpu_minors or ()) if server is not None else frozenset()
    devices = devices_of(good.gpus)
    given = [
        gpu
        for gpu in devices
        if gpu.uuid in book.evidence.contexts or _given(gpu, minors, book.server.gpu_uuids)
    ]
    known = bool(minors or book.server.gpu_uuids)
    gaps = chain(
        _hidden(good.gpus, server, minors, book.server.gpu_uuids),
        () if known else _uncounted(book, devices),
        _unlisted(book, given),
        _partitions(book, good.gpus, given) if known else (),
    )
    return next(gaps, None)


def devices_of(gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """What a process can be on: MIG devices in place of the GPU that they are part of."""
    parents = frozenset(gpu.parent for gpu in gpus if gpu.parent is not None)
    return tuple(gpu for gpu in gpus if gpu.uuid not in parents)


def strays_of(book: Book) -> dict[int, str]:
    """Processes that NVML lists and that may be a model's although no stub's family has them: names by pid.

    A daemon loses its stub as its parent before any scan has seen it there, and a young worker is below its stub
    and not scanned yet (without a name).  In the machine's first pid namespace only those that tritonserver itself
    adopted are told: there, the rest are other tenants.
    """
    reading, server, good = book.processes, book.server.process, book.evidence.good
    if reading is None or server is None or good is None:
        return {}
    known = family_pids(reading) | {each.pid for each in book.families.members}
    left = sorted(good.pids - known)
    asked = {each.id.pid: each for each in reading.asked}
    # What the last scan was asked of and did not find has ended since; before it, nobody was asked of the new ones.
    unasked = reading.observed.mono < good.observed.mono
    found = {}
    for pid in left:
        process = asked.get(pid)
        if process is None:
            if not reading.initial_namespace and (unasked or pid in reading.existing_pids):
                found[pid] = ""
        elif _may_be_ours(process, server, asked) and (
            process.parent == server.pid or not reading.initial_namespace
        ):
            found[pid] = process.name
    return found


def _may_be_ours(process: Process, server: ProcessId, asked: dict[int, Process]) -> bool:
    parent = asked.get(process.parent)
    others = process.name in _OTHERS or (parent is not None and parent.name in _OTHERS)
    return not others and not process.gone and process.id.start_ticks > server.start_ticks


def allows(named: str, gpu: Gpu) -> bool:
    """Whether this UUID names this GPU, or the GPU that this MIG device is part of."""
    return named.casefold() in (gpu.uuid.casefold(), (gpu.parent or "").casefold())


def visible(server: Server | None, gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...] | None:
    """The GPUs that CUDA shows to Triton, by their ordinals; None where that can not be told.

    ``CUDA_VISIBLE_DEVICES`` may cut a UUID short, as long as one GPU alone begins so.
    """
    if server is None or server.visible_devices is None:
        return None
    found = [[gpu for gpu in gpus if _begins(gpu, named)] for named in server.visible_devices]
    return tuple(each[0] for each in found) if all(len(each) == 1 for each in found) else None


def _begins(gpu: Gpu, named: str) -> bool:
    return gpu.uuid.casefold().startswith(named.casefold())


def _given(gpu: Gpu, minors: frozenset[int], uuids: frozenset[str]) -> bool:
    # What can not be told apart from Triton's own counts as its own.
    unknown = not (minors or uuids) or (gpu.minor is None and bool(minors))
    return unknown or gpu.minor in minors or bool({gpu.uuid, gpu.parent} & uuids)


def _hidden(
    gpus: tuple[Gpu, ...], server: Server | None, minors: frozenset[int], uuids: frozenset[str]
) -> Iterator[Gap]:
    for minor in sorted(minors - {gpu.minor for gpu in gpus}):
        yield Gap(f"Triton has /dev/nvidia{minor}, and NVML shows the probe no such GPU.", _ALL_GPUS)
    for uuid in sorted(uuids - {gpu.uuid for gpu in gpus}):
        yield Gap(f"Triton's own metrics show {uuid}, and NVML does not show it to the probe.", _ALL_GPUS)
    named = server.visible_devices if server is not None else None
    for each in named or ():
        if not any(_begins(gpu, each) for gpu in gpus):
            what = "MIG device" if each.startswith("MIG-") else "GPU"
            yield Gap(
                f"Triton's CUDA_VISIBLE_DEVICES names {each}, and NVML does not show that {what} to the probe.",
                _ALL_GPUS,
            )


def _uncounted(book: Book, devices: tuple[Gpu, ...]) -> Iterator[Gap]:
    # Device nodes have other names on some machines, and a root may be closed: then only its own contexts tell.
    configs = (record.config for record in book.models.records.values())
    ordinals = [
        each for config in configs if config is not None for group in config.groups for each in group.gpus
    ]
    contexts = sum(gpu.uuid in book.evidence.contexts for gpu in devices)
    remedy = (
        "Leave Triton's GPU metrics on (--allow-gpu-metrics), or let the probe read /proc/<pid>/root of Triton (the "
        "same uid and gid)."
    )
    if not ordinals:
        yield Gap(
            "How many GPUs Triton has can not be told: neither its device nodes nor its own metrics show one.",
            remedy,
        )
    elif contexts <= max(ordinals):
        yield Gap(
            f"Triton resolved models to its GPU {max(ordinals)}, counted from 0, and NVML shows tritonserver on "
            f"{contexts} of the GPUs that the probe was given.",
            _ALL_GPUS,
        )


def _unlisted(book: Book, devices: list[Gpu]) -> Iterator[Gap]:
    for uuid in sorted(book.evidence.contexts - {gpu.uuid for gpu in devices}):
        yield Gap(f"NVML no longer shows {uuid}, on which tritonserver has a context.", _ALL_GPUS)
    for gpu in devices:
        if gpu.processes is None:
            yield Gap(
                f"NVML gives no process list of {gpu.uuid}.",
                "Where that GPU is partitioned (MIG), give the probe's container the MIG devices that Triton has; else "
                "see what nvidia-smi says of it.",
            )
        else:
            yield from _doubtful(book, gpu, {each.pid for each in gpu.processes})


def _doubtful(book: Book, gpu: Gpu, pids: set[int]) -> Iterator[Gap]:
    family, server = family_pids(book.processes), book.server.process
    mps = (
        {each.id.pid for each in book.processes.asked if each.name == _MPS_SERVER}
        if book.processes
        else set()
    )
    if gpu.uuid in book.evidence.contexts and server is not None and server.pid not in pids:
        yield Gap(
            f"NVML no longer lists tritonserver on {gpu.uuid}, where it has a context until it ends: that list can "
            "not be believed.",
            "Restart the probe's container; where the list stays as it is, see what nvidia-smi says of that GPU.",
        )
    if len(pids) >= LIST_AT_MOST:
        yield Gap(
            f"NVML lists {len(pids)} processes on {gpu.uuid}, as many as fit; others may be missing.",
            "Run fewer processes on that GPU.",
        )
    if pids & mps and not pids & family:
        yield Gap(
            f"NVML lists the MPS server on {gpu.uuid} and none of Triton's processes, which may be its clients.",
            "Let Triton use its GPUs without MPS, or GPUs from Volta on, where MPS clients are listed themselves.",
        )


def _partitions(book: Book, gpus: tuple[Gpu, ...], given: list[Gpu]) -> Iterator[Gap]:
    # CUDA shows a process one of the MIG devices that its container was given: which others there are, only a
    # context or the environment tells.
    named = visible(book.server.server, gpus) or ()
    for parent in sorted({gpu.parent for gpu in given if gpu.parent is not None}):
        devices = [gpu for gpu in given if gpu.parent == parent]
        if not any(gpu in named or gpu.uuid in book.evidence.contexts for gpu in devices):
            yield Gap(
                f"{parent} is partitioned (MIG), and NVML shows tritonserver on none of the {len(devices)} MIG devices "
                "that the probe was given.",
                "Give the probe's container the same MIG devices as Triton's (NVIDIA_VISIBLE_DEVICES).",
            )


_TRUSTED = (
    "shareProcessNamespace: true for the pod and use a driver from 565 on, whose process lists can be trusted "
    "there."
)
_REMEDIES = {
    EvidenceMode.NO_NVML: "Give the probe's container NVML (NVIDIA_VISIBLE_DEVICES=all, capability utility).",
    EvidenceMode.BLIND: f"Set {_TRUSTED}",
    EvidenceMode.FOREIGN_PIDS: f"Set {_TRUSTED}",
    EvidenceMode.FULL: "Wait for the next look at NVML.",
    EvidenceMode.MEMBERSHIP: "Wait for the next look at NVML.",
}
