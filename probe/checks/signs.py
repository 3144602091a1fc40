"""What speaks for a GPU, and what for the CPU, of a model that runs inside tritonserver?

That tritonserver has a context on a GPU, and the pool of memory that belongs to it, is no sign of any model.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator

import msgspec

from probe.checks.coverage import visible
from probe.checks.observation import Observation
from probe.facts.models import DeviceMemory
from probe.facts.placement import EvidenceMode, Verdict
from probe.ledgers.growth import GROWN_BYTES, Growth
from probe.ledgers.models import ModelRecord

_PLAUSIBLE = 1 << 50
"""Bytes from which on a figure is none: what was freed and never counted wraps around below zero (backend,
``device_memory_tracker.h``)."""


class Weight(enum.IntEnum):
    """How much a sign counts.  Weak ones are told and decide nothing by themselves."""

    WEAK = 1
    MEDIUM = 2
    STRONG = 3


class Sign(msgspec.Struct, frozen=True):
    """One thing that was seen, and the side that it speaks for; UNKNOWN where it speaks for none.

    ``memory_bytes`` is what the model holds on the GPUs by this sign, ``by_gpu`` as far as it is known on which;
    ``figure`` is what that figure is.
    """

    side: Verdict
    weight: Weight
    why: str
    gpus: tuple[str, ...] = ()
    memory_bytes: int | None = None
    by_gpu: dict[str, int] = {}
    figure: str = ""


def signs_of(seen: Observation, record: ModelRecord) -> tuple[Sign, ...]:
    """All of one model, those with a figure of its memory first and the better figure before the other.

    Growth and exertion rest on NVML's figures of a process: in every mode but ``full`` they say nothing.
    """
    book, signs = seen.book, [*reported(seen, record)]
    if book.evidence.evidence.mode is EvidenceMode.FULL:
        if book.growth.grown:
            signs += _grown(seen, record)
        if book.exertion.used or book.exertion.idle:
            signs += _exerted(seen, record)
    return tuple(signs)


def reported(seen: Observation, record: ModelRecord) -> Iterable[Sign]:
    """What Triton's statistics say of its memory.

    Backends count what the thread that loads the model allocates through CUDA, and name no device of which they
    counted nothing (backend, ``device_memory_tracker.h``).  Without weights there is little to count: a GPU
    that is not named proves something only of a model whose memory was counted elsewhere.
    """
    rows = record.statistics.memory if record.statistics is not None else ()
    return _reported(seen, record, rows) if rows else ()


def _reported(seen: Observation, record: ModelRecord, told: tuple[DeviceMemory, ...]) -> Iterator[Sign]:
    rows = tuple(each for each in told if 0 < each.bytes < _PLAUSIBLE)
    held = [each for each in rows if each.kind == "GPU"]
    if held:
        used: dict[int, int] = {}
        for each in held:
            used[each.device] = used.get(each.device, 0) + each.bytes
        total, devices = sum(used.values()), ", ".join(str(each) for each in sorted(used))
        named = f"CUDA device{'s' if len(used) > 1 else ''} {devices}"
        gpus, by_gpu = _of_ordinals(seen, used)
        yield Sign(
            Verdict.GPU,
            Weight.STRONG if total >= GROWN_BYTES else Weight.MEDIUM,
            f"Triton's statistics report {_mib(total)} of GPU memory for it ({named}), counted while it was loaded.",
            gpus,
            total,
            by_gpu,
            "what Triton's statistics report",
        )
    elif rows:
        total = sum(each.bytes for each in rows)
        heavy = total >= GROWN_BYTES and record.exercised_since is not None
        yield Sign(
            Verdict.CPU,
            Weight.MEDIUM if heavy else Weight.WEAK,
            f"Triton's statistics report {_mib(total)} of host memory for it and none of a GPU, so that its backend "
            "counts memory and counted none there while it was loaded.",
        )


def _of_ordinals(seen: Observation, used: dict[int, int]) -> tuple[tuple[str, ...], dict[str, int]]:
    # CUDA's ordinals are no NVML indexes: Triton's environment may name its GPUs in CUDA's order.  Else, memory
    # needs a context: where tritonserver is listed on as many GPUs as are named, they are the same.
    good, server = seen.book.evidence.good, seen.book.server
    shown = visible(server.server, good.gpus) if good is not None else None
    if shown is not None and all(device < len(shown) for device in used):
        by_gpu = {shown[device].uuid: each for device, each in used.items()}
        return tuple(sorted(by_gpu)), by_gpu
    if server.process is None or seen.gap is not None:
        return (), {}
    on = tuple(sorted(seen.on_gpus.get(server.process.pid, {})))
    if len(on) != len(used):
        return (), {}
    return on, {on[0]: sum(used.values())} if len(on) == 1 else {}


def _grown(seen: Observation, record: ModelRecord) -> Iterator[Sign]:
    growth = seen.book.growth.of(record)
    if growth is None:
        return
    total, gpus = sum(growth.memory.values()), tuple(sorted(growth.memory))
    grew = f"tritonserver's memory on {', '.join(gpus)} grew by {_mib(total)}"
    if growth.company:
        names = ", ".join(str(each) for each in growth.company)
        why = f"Across its load {grew}; {names} came or went at the same time, so that whose it is can not be told."
        yield Sign(Verdict.UNKNOWN, Weight.WEAK, why)
    elif growth.memory and growth.beside:
        why = f"Across its load {grew}, but others inside it executed meanwhile and may have taken that."
        yield Sign(Verdict.GPU, Weight.WEAK, why)
    elif growth.memory:
        why = f"Across its load {grew}, and no other model inside it was loaded, unloaded or executed meanwhile."
        figure = "by how much tritonserver's grew across its load"
        yield Sign(Verdict.GPU, Weight.MEDIUM, why, gpus, total, growth.memory, figure)
    elif _exercised(record, growth):
        yield Sign(Verdict.CPU, Weight.WEAK, _nothing(growth))


def _exercised(record: ModelRecord, growth: Growth) -> bool:
    return record.exercised_since is not None and record.exercised_since.mono < growth.until.mono


def _nothing(growth: Growth) -> str:
    pools = (
        f" ({_mib(growth.pooled_bytes)} of which models that were unloaded left behind)"
        if growth.pooled_bytes
        else ""
    )
    return (
        f"Across its load and its first executions tritonserver's memory grew by less than {_mib(GROWN_BYTES)} on "
        f"every GPU; a small model, or one that was served from memory taken before{pools}, shows no more."
    )


def _exerted(seen: Observation, record: ModelRecord) -> Iterator[Sign]:
    ledger = seen.book.exertion
    for uuid, use in sorted(ledger.uses(record.key).items()):
        yield Sign(
            Verdict.GPU,
            Weight.MEDIUM,
            f"While it alone of the models inside tritonserver executed, tritonserver kept {uuid} busy: "
            f"{use.percent:.0f} % in the mean of the driver's samples, in {use.windows} windows of {use.seconds:.0f} s "
            "together.",
            (uuid,),
        )
    idle, gap = ledger.idle.get(record.key), seen.gap
    if idle is not None and idle.proven:
        unseen = f" That proves nothing alone: {gap.why}" if gap is not None else ""
        if gap is None and seen.strays:
            pids = ", ".join(map(str, seen.strays))
            unseen = (
                f" That proves nothing alone: on a GPU are processes that it may have begun (pids {pids})."
            )
        yield Sign(
            Verdict.CPU,
            Weight.WEAK if unseen else Weight.STRONG,
            f"While it alone of the models inside tritonserver executed, {idle.seconds:.1f} s in {idle.windows} "
            f"windows, tritonserver kept no GPU busy at all, and took {idle.cpu_seconds:.1f} s of CPU time.{unseen}",
        )


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
