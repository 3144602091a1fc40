"""Where the processes of a model run that has stubs: python, vLLM, and whatever else is written in python."""

from __future__ import annotations

from collections.abc import Iterable

from probe.checks.expectations import is_explicit, resolved_to_cpu
from probe.checks.observation import Observation
from probe.facts.models import InstanceKind, ModelConfig
from probe.facts.nvml import NvmlReading
from probe.facts.placement import Observed, Verdict
from probe.ledgers.lives import LiveStub
from probe.ledgers.models import ModelRecord


def gpu_use(reading: NvmlReading | None, pids: Iterable[int]) -> dict[str, int | None]:
    """Bytes that these processes hold on each GPU they are listed on; None where no figure is given."""
    wanted = frozenset(pids)
    found: dict[str, int | None] = {}
    for gpu in reading.gpus if reading is not None else ():
        mine = [each for each in gpu.processes or () if each.pid in wanted]
        if mine:
            told = [each.used_bytes for each in mine if each.used_bytes]
            found[gpu.uuid] = sum(told) if told else None
    return found


def of_stubs(seen: Observation, record: ModelRecord, config: ModelConfig) -> Observed:
    """What the process lists tell of its stubs and everything below them."""
    evidence, good = seen.book.evidence.evidence, seen.book.evidence.good
    stubs = seen.book.stubs.of(record.key)
    cpu_only = resolved_to_cpu(config)
    shown = good is not None and evidence.lists_prove_absence
    uses = [gpu_use(good, each.stub.pids) for each in stubs] if shown else []
    holding = sum(bool(use) for use in uses)
    if holding:
        kinds = {group.kind for group in config.groups}
        mixed = holding < len(stubs) and kinds == {InstanceKind.GPU, InstanceKind.CPU}
        gpus = tuple(sorted({uuid for use in uses for uuid in use}))
        figures = [used for use in uses for used in use.values() if used]
        total = sum(figures) if figures else None
        size = f" with {_mib(total)}" if total is not None else ""
        why = f"{holding} of {len(stubs)} stub processes are in NVML's list of {', '.join(gpus)}{size}."
        return Observed(Verdict.MIXED if mixed else Verdict.GPU, gpus, total, (why,))
    listless = [gpu.uuid for gpu in good.gpus if gpu.processes is None] if good is not None else []
    if good is None or not shown or listless:
        unlisted = f"NVML gives no process list of {', '.join(listless)}." if shown else evidence.why
        if not cpu_only:
            return Observed(Verdict.UNKNOWN, (), None, (unlisted,))
        if is_explicit(config) and seen.has_gpu:
            why = "It is declared KIND_CPU; its own code may use a GPU all the same, which can not be seen here."
            return Observed(Verdict.UNKNOWN, (), None, (why, unlisted))
        return Observed(Verdict.CPU, (), None, ("Triton resolved all of its instances to KIND_CPU.",))
    if cpu_only:
        why = "Triton resolved all of its instances to KIND_CPU, and NVML lists none of its processes."
        return Observed(Verdict.CPU, (), None, (why,))
    if stubs and _exercised_before(record, stubs, good):
        why = f"It has executed requests, and NVML lists none of its {len(stubs)} stub processes on any GPU."
        return Observed(Verdict.CPU, (), None, (why,))
    why = (
        "NVML lists none of its processes, and it has executed nothing since they began: a framework takes the "
        "GPU with its first use."
    )
    return Observed(Verdict.UNKNOWN, (), None, (why,))


def _exercised_before(record: ModelRecord, stubs: Iterable[LiveStub], good: NvmlReading) -> bool:
    since, rows = record.exercised_since, record.statistics
    if since is None or rows is None or since.mono >= good.observed.mono:
        return False
    # A stub that was started again since the model last executed has had no occasion to take a GPU.
    return all(each.stub.process.started_at < rows.last_inference_ms / 1000 for each in stubs)


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
