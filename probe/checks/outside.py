"""Where the processes of a model run that has stubs: python, vLLM, and whatever else is written in python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from probe.checks.expectations import is_explicit, is_mixed, resolved_to_cpu
from probe.checks.observation import Observation
from probe.facts.instants import Instant
from probe.facts.models import ModelConfig
from probe.facts.nvml import NvmlReading
from probe.facts.placement import Observed, Verdict
from probe.facts.processes import Stub
from probe.ledgers.lives import LiveStub
from probe.ledgers.models import ModelRecord

BARE_CONTEXT_BYTES = 600 << 20
"""A context that nothing was put into yet takes 0.3 to 0.6 GiB: who holds no more may still move elsewhere."""


def gpu_use(reading: NvmlReading | None, pids: Iterable[int]) -> dict[str, int | None]:
    """Bytes that these processes hold on each GPU they are listed on; None where no figure is given.

    For processes that are nobody's model; :class:`Use` is for stubs.
    """
    wanted = frozenset(pids)
    found: dict[str, int | None] = {}
    for gpu in reading.gpus if reading is not None else ():
        mine = [each for each in gpu.processes or () if each.pid in wanted]
        if mine:
            told = [each.used_bytes for each in mine if each.used_bytes]
            found[gpu.uuid] = sum(told) if told else None
    return found


class Use(msgspec.Struct, frozen=True):
    """What one stub and everything below it has on GPUs: bytes by UUID of each process that is on one, by pid."""

    processes: Mapping[int, Mapping[str, int | None]]

    @property
    def gpus(self) -> frozenset[str]:
        """Every GPU that one of them is on."""
        return frozenset(uuid for each in self.processes.values() for uuid in each)

    @property
    def working(self) -> Mapping[int, Mapping[str, int | None]]:
        """Its processes without those that have a bare context only, where others have more.

        A stub may open one above the process that works.
        """
        more = {pid: on for pid, on in self.processes.items() if held(on) > BARE_CONTEXT_BYTES}
        return more or self.processes

    @property
    def main(self) -> frozenset[str] | None:
        """The GPU on which each working process holds the most; None where a missing figure leaves that open."""
        found = [main_of(each) for each in self.working.values()]
        return None if None in found else frozenset(uuid for uuid in found if uuid is not None)

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by GPU, without those of which no figure is known."""
        return _summed(self.processes.values())


def main_of(on: Mapping[str, int | None]) -> str | None:
    """The GPU on which a process holds the most; None where a missing figure leaves that open.

    A framework opens a bare context on GPU 0 beside the one that it works with (issue 7748 of Triton).
    """
    if len(on) == 1:
        return next(iter(on))
    known = {uuid: used for uuid, used in on.items() if used is not None}
    return max(known, key=lambda uuid: known[uuid]) if len(known) == len(on) else None


def held(on: Mapping[str, int | None]) -> int:
    """Bytes that a process holds on all GPUs, as far as it is told."""
    return sum(used or 0 for used in on.values())


def _summed(uses: Iterable[Mapping[str, int | None]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for use in uses:
        for uuid, used in use.items():
            if used is not None:
                total[uuid] = total.get(uuid, 0) + used
    return total


def use_of(seen: Observation, stub: Stub) -> Use:
    """What this stub's family has on GPUs, as far as the lists can be trusted."""
    pids = stub.pids | seen.families.get(stub.process.id, frozenset())
    return Use({pid: seen.on_gpus[pid] for pid in sorted(pids) if pid in seen.on_gpus})


def of_stubs(seen: Observation, record: ModelRecord, config: ModelConfig) -> Observed:
    """What the process lists tell of its stubs and everything below them."""
    stubs = seen.book.stubs.of(record.key)
    uses = [use_of(seen, each.stub) for each in stubs]
    if any(use.gpus for use in uses):
        return _present(seen, config, uses)
    return _absent(seen, record, config, stubs)


def _present(seen: Observation, config: ModelConfig, uses: list[Use]) -> Observed:
    holding = sum(bool(use.gpus) for use in uses)
    gpus = tuple(sorted(frozenset[str]().union(*(use.gpus for use in uses))))
    memory = _summed(each for use in uses for each in use.processes.values())
    total = sum(memory.values()) if memory else None
    size = f" with {_mib(total)}" if total is not None else ""
    why = [f"{holding} of {len(uses)} stub processes are in NVML's list of {', '.join(gpus)}{size}."]
    mixed = holding < len(uses) and is_mixed(config)
    if mixed and seen.gap is not None:
        why.append(f"Where the others are can not be told: {seen.gap.why}")
    verdict = Verdict.MIXED if mixed and seen.gap is None else Verdict.GPU
    return Observed(verdict, gpus, total, tuple(why), memory)


def _absent(
    seen: Observation, record: ModelRecord, config: ModelConfig, stubs: tuple[LiveStub, ...]
) -> Observed:
    cpu_only, gap = resolved_to_cpu(config), seen.gap
    if gap is not None:
        if not cpu_only:
            return _unknown(gap.why, remedy=gap.remedy)
        if is_explicit(config) and seen.has_gpu:
            why = "It is declared KIND_CPU; its own code may use a GPU all the same, which can not be seen here."
            return _unknown(why, gap.why, remedy=gap.remedy)
        return Observed(Verdict.CPU, (), None, ("Triton resolved all of its instances to KIND_CPU.",))
    if cpu_only:
        why = "Triton resolved all of its instances to KIND_CPU, and NVML lists none of its processes."
        return Observed(Verdict.CPU, (), None, (why,))
    if not stubs:
        return _unknown(
            "It has no process here at this moment.", remedy="Wait for the model's processes to start."
        )
    if seen.strays:
        return _unknown(_astray(seen.strays), remedy=_ASTRAY)
    if exercised(seen, record, config):
        why = f"It has executed requests, and NVML lists none of its {len(stubs)} stub processes on any GPU."
        return Observed(Verdict.CPU, (), None, (why,))
    why = (
        "NVML lists none of its processes, and it has executed nothing since they began, or not enough for each of "
        "them to have had its turn: a framework takes the GPU with its first use."
        if is_mixed(config)
        else "NVML lists none of its processes, and it has executed nothing since they began: a framework takes the "
        "GPU with its first use."
    )
    return _unknown(why, remedy="Send the model a request: what it does then can be observed.")


def _astray(strays: Mapping[int, str]) -> str:
    named = ", ".join(f"{name or 'not looked up yet'} (pid {pid})" for pid, name in list(strays.items())[:3])
    return (
        f"NVML lists none of its processes, and {len(strays)} of which it is not known who began them, so that they "
        f"may be its own: {named}."
    )


_ASTRAY = (
    "See what began these (ps -ef --forest). A process that the model's code detaches from its stub can not be laid to "
    "the model: say where it is meant to run, with placement.models.<model>.device: any."
)


def _unknown(*why: str, remedy: str) -> Observed:
    return Observed(Verdict.UNKNOWN, (), None, why, remedy=remedy)


def exercised(seen: Observation, record: ModelRecord, config: ModelConfig) -> bool:
    """Whether one of its stubs that is meant for a GPU has surely executed something before the last look.

    Of a model that is declared in part on the CPU, which of them did is known only once all of them did.
    """
    return all_exercised(seen, record, config) if is_mixed(config) else _any_exercised(seen, record)


def _any_exercised(seen: Observation, record: ModelRecord) -> bool:
    done = seen.book.exercise.of(record.key, seen.book.stubs.of(record.key))
    return done is not None and _before(done.since, seen)


def all_exercised(seen: Observation, record: ModelRecord, config: ModelConfig) -> bool:
    """Whether each of its stubs has surely executed something before the last look at the GPUs.

    Never known of a model whose requests are bound to instances: by sequences, or by the rate limiter.
    """
    stubs = seen.book.stubs.of(record.key)
    done, server = seen.book.exercise.of(record.key, stubs), seen.book.server.server
    if not _any_exercised(seen, record) or done is None:
        return False
    if len(stubs) == 1:
        return True
    bound = config.sequences or server is None or server.option("rate-limit") not in (None, "off")
    return not bound and not any(group.passive for group in config.groups) and _before(done.each_since, seen)


def _before(moment: Instant | None, seen: Observation) -> bool:
    good = seen.book.evidence.good
    return moment is not None and good is not None and moment.mono < good.began.mono


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
