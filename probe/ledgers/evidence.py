"""How far NVML's process lists can be trusted here: measured by what they say of processes we know.

Sources: NVIDIA's open kernel modules (``os_find_ns_pid``, ``gpuGetProcWithObject``): from 535.113 the
driver answers with pids of the caller's namespace and drops those it can not see there; before, with
pids of the host; per-process memory outside the first namespace works from 565.57.
"""

from __future__ import annotations

import msgspec

from probe.facts.instants import Instant
from probe.facts.models import InstanceKind
from probe.facts.nvml import NvmlReading, NvmlState
from probe.facts.placement import Evidence, EvidenceMode
from probe.facts.processes import ProcessReading
from probe.ledgers.models import ModelsLedger

FOREIGN_LOOKS = 1
"""Looks with strangers that make all pids foreign: a stranger is in two looks, and was nobody in between."""
_NOT_LOOKED = "NVML has not been looked at since this tritonserver began."


class EvidenceLedger(msgspec.Struct, frozen=True):
    """The last good look at the GPUs, and what it proved about its own lists.

    ``failing_since``: when NVML began to fail after the last good look.  ``worked`` says that NVML ever
    answered since the probe started.
    """

    evidence: Evidence = Evidence(EvidenceMode.NO_NVML, "NVML has not been asked yet.")
    last: NvmlReading | None = None
    good: NvmlReading | None = None
    failing_since: Instant | None = None
    worked: bool = False
    foreign_looks: int = 0
    looks: int = 0

    def forgotten(self) -> EvidenceLedger:
        """At the start of an epoch: the lists must prove themselves again on the new processes."""
        evidence = self.evidence
        if evidence.mode is not EvidenceMode.NO_NVML:
            evidence = Evidence(EvidenceMode.BLIND, _NOT_LOOKED)
        return msgspec.structs.replace(self, evidence=evidence, foreign_looks=0, looks=0)

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
        strangers = _strangers(self.good, reading, processes)
        foreign_looks = self.foreign_looks
        if strangers is not None:
            foreign_looks = foreign_looks + 1 if strangers else 0
        return msgspec.structs.replace(
            self,
            last=reading,
            good=reading,
            failing_since=None,
            worked=True,
            looks=self.looks + 1,
            foreign_looks=foreign_looks,
            evidence=_foreign(reading, strangers or listed_pids(reading))
            if foreign_looks >= FOREIGN_LOOKS
            else _measured(reading, processes, models),
        )


def _unavailable(reading: NvmlReading) -> str:
    if reading.state is NvmlState.HUNG:
        return f"An NVML call has not come back for {reading.outstanding_seconds:.0f} s."
    return f"NVML is not available here: {reading.detail or reading.state.value}."


def listed_pids(reading: NvmlReading) -> frozenset[int]:
    """Every pid on any GPU."""
    return frozenset(each.pid for gpu in reading.gpus for each in gpu.processes or ())


def family_pids(processes: ProcessReading | None) -> frozenset[int]:
    """Every pid of the watched Triton: the server, its stubs, and all below them."""
    if processes is None or processes.server is None or processes.server.process.gone:
        return frozenset()
    below = (pid for stub in processes.stubs for pid in stub.pids)
    return frozenset((processes.server.process.id.pid, *below))


def _strangers(
    before: NvmlReading | None, reading: NvmlReading, processes: ProcessReading | None
) -> frozenset[int] | None:
    # Pids that two looks list and that did not exist here when a scan between the two looked them up;
    # None where no scan did.  A pid of one look may be a process that has just begun or ended.
    if before is None:
        return None
    if processes is None or processes.observed.mono < before.observed.mono:
        return None
    return (listed_pids(before) & listed_pids(reading)) - processes.existing_pids


def _foreign(reading: NvmlReading, strangers: frozenset[int]) -> Evidence:
    some = ", ".join(str(pid) for pid in sorted(strangers)[:3])
    return Evidence(
        EvidenceMode.FOREIGN_PIDS,
        f"NVML lists pids that do not exist in this pid namespace ({some}): "
        f"driver {reading.driver_version or 'of unknown release'} answers with another namespace's pids.",
    )


def _measured(reading: NvmlReading, processes: ProcessReading | None, models: ModelsLedger) -> Evidence:
    listed = listed_pids(reading)
    if not reading.gpus:
        return Evidence(EvidenceMode.NO_NVML, "NVML answers and shows no GPU to this container.")
    if all(gpu.processes is None for gpu in reading.gpus):
        return Evidence(EvidenceMode.BLIND, "NVML gives no process list on any GPU here.")
    family = family_pids(processes)
    ours = [each for gpu in reading.gpus for each in gpu.processes or () if each.pid in family]
    if not ours:
        return Evidence(EvidenceMode.BLIND, _why_blind(listed, family, models))
    if all(not each.used_bytes for each in ours):
        return Evidence(
            EvidenceMode.MEMBERSHIP,
            f"NVML lists {len(ours)} of Triton's processes with no memory figure "
            f"(driver {reading.driver_version or 'of unknown release'}).",
        )
    return Evidence(
        EvidenceMode.FULL,
        f"NVML lists {len(ours)} of Triton's processes by their pids here, with memory.",
    )


def _why_blind(listed: frozenset[int], family: frozenset[int], models: ModelsLedger) -> str:
    if not family:
        return "Triton's processes can not be seen from here, so no pid in a list can be matched."
    on_gpu = any(
        group.kind is InstanceKind.GPU
        for record in models.records.values()
        if record.config is not None
        for group in record.config.groups
    )
    lists = "other processes only" if listed else "no process"
    if on_gpu:
        return (
            f"NVML lists {lists}, although Triton resolved models to KIND_GPU and so has a CUDA context: "
            "these lists do not show Triton's processes."
        )
    return f"NVML lists {lists}; until Triton itself is seen in a list, absence from it proves nothing."
