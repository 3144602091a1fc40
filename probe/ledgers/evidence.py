"""How far NVML's process lists can be trusted here: measured by what they say of processes we know.

What releases of the driver do (``facts/drivers.py``) is only ever a hint beside that.
"""

from __future__ import annotations

import msgspec

from probe.facts import drivers
from probe.facts.instants import Instant
from probe.facts.models import InstanceKind
from probe.facts.nvml import GpuProcess, NvmlReading, NvmlState
from probe.facts.placement import Evidence, EvidenceMode
from probe.facts.processes import ProcessReading
from probe.ledgers.models import ModelsLedger
from probe.ledgers.strangers import Strangers

_NOT_LOOKED = "NVML has not been looked at since this tritonserver began."


class EvidenceLedger(msgspec.Struct, frozen=True):
    """The last good look at the GPUs, and what it proved about its own lists.

    ``failing_since``: when NVML began to fail after the last good look.  ``worked`` says that NVML ever
    answered since the probe started.  ``contexts`` are the GPUs (or MIG devices) whose lists have shown
    tritonserver itself in this epoch: it keeps its context on each until it ends.
    """

    evidence: Evidence = Evidence(EvidenceMode.NO_NVML, "NVML has not been asked yet.")
    last: NvmlReading | None = None
    good: NvmlReading | None = None
    failing_since: Instant | None = None
    worked: bool = False
    strangers: Strangers = Strangers()
    contexts: frozenset[str] = frozenset()
    looks: int = 0

    def forgotten(self) -> EvidenceLedger:
        """At the start of an epoch: the lists must prove themselves again on the new processes."""
        evidence = self.evidence
        if evidence.mode is not EvidenceMode.NO_NVML:
            evidence = Evidence(EvidenceMode.BLIND, _NOT_LOOKED)
        return msgspec.structs.replace(
            self, evidence=evidence, strangers=Strangers(), contexts=frozenset(), looks=0
        )

    def with_look(
        self, reading: NvmlReading, processes: ProcessReading | None, models: ModelsLedger, patience: float
    ) -> EvidenceLedger:
        """After a look at NVML.

        A failed look changes nothing for ``patience`` seconds (a missing sample neither raises nor
        clears); after that the last good one is dropped.
        """
        if reading.state is not NvmlState.OK:
            since = self.failing_since or reading.observed
            kept = self.good is not None and reading.observed.mono - since.mono <= patience
            return msgspec.structs.replace(
                self,
                last=reading,
                good=self.good if kept else None,
                failing_since=since,
                evidence=self.evidence if kept else Evidence(EvidenceMode.NO_NVML, _unavailable(reading)),
            )
        strangers = self.strangers.with_look(self.good, reading, processes)
        evidence = _measured(reading, processes, models, strangers, shown_before=bool(self.contexts))
        contexts = _contexts(reading, processes) if evidence.lists_prove_absence else frozenset()
        return msgspec.structs.replace(
            self,
            last=reading,
            good=reading,
            failing_since=None,
            worked=True,
            looks=self.looks + 1,
            strangers=strangers,
            contexts=self.contexts | contexts,
            evidence=evidence,
        )


def _unavailable(reading: NvmlReading) -> str:
    if reading.state is NvmlState.HUNG:
        return f"An NVML call has not come back for {reading.outstanding_seconds:.0f} s."
    return f"NVML is not available here: {reading.detail or reading.state.value}."


def family_pids(processes: ProcessReading | None) -> frozenset[int]:
    """Every pid of the watched Triton: the server, its stubs, and all below them."""
    if processes is None or processes.server is None or processes.server.process.gone:
        return frozenset()
    below = (pid for stub in processes.stubs for pid in stub.pids)
    return frozenset((processes.server.process.id.pid, *below))


def _contexts(reading: NvmlReading, processes: ProcessReading | None) -> frozenset[str]:
    server = (
        processes.server.process.id.pid if processes is not None and processes.server is not None else None
    )
    return frozenset(
        gpu.uuid for gpu in reading.gpus if any(each.pid == server for each in gpu.processes or ())
    )


def _measured(
    reading: NvmlReading,
    processes: ProcessReading | None,
    models: ModelsLedger,
    strangers: Strangers,
    *,
    shown_before: bool,
) -> Evidence:
    if not reading.gpus:
        return Evidence(EvidenceMode.NO_NVML, "NVML answers and shows no GPU to this container.")
    if all(gpu.processes is None for gpu in reading.gpus):
        return Evidence(EvidenceMode.BLIND, "NVML gives no process list on any GPU here.")
    listed, family = reading.pids, family_pids(processes)
    initial = processes is not None and processes.initial_namespace
    # From the first pid namespace every process can be seen: who is not there has ended, and left memory behind.
    if strangers.pids and not (initial and listed & family):
        return Evidence(EvidenceMode.FOREIGN_PIDS, _why_foreign(reading, strangers.pids))
    ours = [each for gpu in reading.gpus for each in gpu.processes or () if each.pid in family]
    if not ours:
        return Evidence(EvidenceMode.BLIND, _why_blind(reading, family, models, shown_before=shown_before))
    if not (strangers.looked_up or initial or listed <= family):
        return Evidence(
            EvidenceMode.BLIND,
            f"NVML lists Triton's processes and {len(listed - family)} more; whether those exist here has not been "
            "looked up yet.",
        )
    return _trusted(reading, ours, initial=initial)


def _trusted(reading: NvmlReading, ours: list[GpuProcess], *, initial: bool) -> Evidence:
    if all(not each.used_bytes for each in ours):
        hint = "" if initial else drivers.hint_on_memory(reading.driver_version)
        return Evidence(
            EvidenceMode.MEMBERSHIP,
            f"NVML lists {len(ours)} of Triton's processes with no memory figure "
            f"({drivers.shown(reading.driver_version)}).{hint}",
        )
    return Evidence(
        EvidenceMode.FULL,
        f"NVML lists {len(ours)} of Triton's processes by their pids here, with memory.",
    )


def _why_foreign(reading: NvmlReading, strangers: frozenset[int]) -> str:
    some = ", ".join(str(pid) for pid in sorted(strangers)[:3])
    return (
        f"NVML lists pids that do not exist in this pid namespace, or name other processes there ({some}): "
        f"{drivers.shown(reading.driver_version)} answers with another namespace's pids."
        f"{drivers.hint_on_pids(reading.driver_version)}"
    )


def _why_blind(
    reading: NvmlReading, family: frozenset[int], models: ModelsLedger, *, shown_before: bool
) -> str:
    if not family:
        return "Triton's processes can not be seen from here, so no pid in a list can be matched."
    lists = "other processes only" if reading.pids else "no process"
    if shown_before:
        return (
            f"NVML lists {lists}, although it showed tritonserver before, which keeps its CUDA context until it "
            "ends: these lists do not show Triton's processes any more."
        )
    hint = drivers.hint_on_pids(reading.driver_version)
    if any(
        group.kind is InstanceKind.GPU
        for record in models.records.values()
        if record.config is not None
        for group in record.config.groups
    ):
        return (
            f"NVML lists {lists}, although Triton resolved models to KIND_GPU and so has a CUDA context: "
            f"these lists do not show Triton's processes.{hint}"
        )
    return f"NVML lists {lists}; until Triton itself is seen in a list, absence from it proves nothing."
