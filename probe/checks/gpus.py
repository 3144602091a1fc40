"""Can a GPU be used at all: did it fall off the bus, does it ask for a reset?

Neither is cured by a restart, so neither ever fails the live gate.  What was told stands while NVML fails, for a GPU
that dies often takes NVML along: for an hour, after which nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.observation import Observation
from probe.checks.ours import Whose, whose
from probe.facts.findings import Action, Claim, Scalar, Severity, Subject, SubjectKind
from probe.facts.gates import Gate
from probe.facts.instants import Instant
from probe.facts.recoveries import recovery
from probe.ledgers.book import age
from probe.ledgers.gpu_records import GpuRecord
from probe.ledgers.gpus import LASTING

NO_GATE = frozenset(Gate)

_CONCERN = {
    Whose.OURS: "",
    Whose.UNKNOWN: " Whether it is a GPU of this Triton can not be told, so no gate fails.",
    Whose.OTHERS: " It is no GPU of this Triton.",
}
_SEVERITY = {Whose.OURS: None, Whose.UNKNOWN: Severity.WARNING, Whose.OTHERS: Severity.INFO}
"""That of the catalogue for our GPU; a ticket where nobody knows; of another's it is worth knowing."""


def judge(seen: Observation) -> Iterator[Claim]:
    """At most one claim a GPU; a MIG device shares the fate of its GPU, which says it."""
    for uuid, record in sorted(seen.book.gpus.records.items()):
        if not _troubled(record) or not known(seen, record):
            continue
        whole = seen.book.gpus.whole(uuid)
        if whole is not None and whole is not record and _troubled(whole):
            continue
        yield _lost(seen, record) if record.lost_since is not None else _needs(seen, record)


def known(seen: Observation, record: GpuRecord) -> bool:
    """Whether what NVML last told of it may still be held for true."""
    return seen.now.mono - record.told.mono <= LASTING


def subject(uuid: str) -> Subject:
    """The subject of a finding on this GPU."""
    return Subject(SubjectKind.GPU, gpu_uuid=uuid)


def named(record: GpuRecord) -> str:
    """How a message calls it: its name, and its device node where that is known."""
    gpu = record.gpu
    node = f" (/dev/nvidia{gpu.minor})" if gpu.minor is not None and not gpu.mig else ""
    return f"{gpu.name or 'GPU'}{node}"


def _troubled(record: GpuRecord) -> bool:
    return record.lost_since is not None or record.needs is not None


def _lost(seen: Observation, record: GpuRecord) -> Claim:
    concern = whose(seen, record.gpu)
    missing = " NVML no longer lists it." if record.gone_since is not None else ""
    return Claim(
        "GpuLost",
        subject(record.gpu.uuid),
        f"The {named(record)} fell off the bus{_since(seen, record.lost_since)}: the driver can not reach it, and "
        f"whatever ran on it is lost.{missing}{_CONCERN[concern]}",
        "Restarting Triton does not help. Drain the node and reboot it, and let the pod run elsewhere; where it comes "
        "again, have the GPU's seat, its power and the GPU itself checked.",
        record.told,
        _evidence(record, concern),
        action=Action.CHECK_NODE,
        severity=_SEVERITY[concern],
        spares=frozenset() if concern is Whose.OURS else NO_GATE,
    )


def _needs(seen: Observation, record: GpuRecord) -> Claim:
    concern = whose(seen, record.gpu)
    asked = recovery(record.needs or "")
    severity = _SEVERITY[concern]
    if asked.peers and severity is None:
        severity = Severity.WARNING
    alone = (
        " Work on this GPU alone goes on, so no gate fails." if asked.peers and concern is Whose.OURS else ""
    )
    return Claim(
        "GpuResetRequired",
        subject(record.gpu.uuid),
        f"NVML asks of the {named(record)}{_since(seen, record.needs_since)} {asked.asks}.{alone}{_CONCERN[concern]}",
        asked.remedy,
        record.told,
        {"recovery_action": record.gpu.recovery_action, **_evidence(record, concern)},
        action=Action.CHECK_NODE,
        severity=severity,
        spares=frozenset() if concern is Whose.OURS and not asked.peers else NO_GATE,
    )


def _since(seen: Observation, since: Instant | None) -> str:
    seconds = age(seen.now, since) or 0.0
    return f", {seconds:.0f} s ago" if seconds else ""


def _evidence(record: GpuRecord, concern: Whose) -> dict[str, Scalar]:
    return {
        "minor": record.gpu.minor,
        "error": record.gpu.error,
        "listed": record.gone_since is None,
        "whose": concern.value,
    }
