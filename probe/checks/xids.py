"""Did the driver report an Xid, and does it concern this Triton?

The class of the code says how grave it is, the driver's recovery action outranks it, and a ready gate fails only for
an Xid of the hardware on our own GPU.  The driver names no process and reports the Xids of every tenant, so where
others use the GPU too, something of ours must have broken around it.

When one is over: of a program, or of no known meaning, 10 minutes after the last, which is time to see it and to
look for what it broke.  Of the hardware, when the GPU recovered: its recovery action went back to none, it answers
again after it was lost, or the driver began anew.  Where the driver has a recovery action and asks for nothing a
minute later, NVIDIA's own word is that the GPU can be used: then it is a warning, and over after the same 10
minutes.  A driver without one can not say that the GPU is well: an hour, long enough for whoever was called to
come, and no gate stays closed for ever on a GPU that was repaired.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from probe.checks.gpus import NO_GATE, known, subject
from probe.checks.observation import Observation
from probe.checks.ours import Whose, whose
from probe.facts import recoveries
from probe.facts.findings import Action, Claim, Scalar, Severity
from probe.facts.gates import Gate
from probe.facts.nvml import Gpu
from probe.facts.xids import XidClass, XidMeaning, meaning
from probe.ledgers.gpu_records import GpuRecord
from probe.ledgers.gpus import LASTING, XidRecord

SHOWN = 600.0
"""Seconds after the last one for which an Xid is shown that nothing has to be done about."""

_RANK = {Severity.CRITICAL: 2, Severity.WARNING: 1, Severity.INFO: 0}


class _Standing(msgspec.Struct, frozen=True):
    """One code that still stands, and how grave it is here."""

    code: int
    told: XidRecord
    meaning: XidMeaning
    severity: Severity
    why: str

    @property
    def weight(self) -> tuple[int, float]:
        return _RANK[self.severity], self.told.last.mono


def judge(seen: Observation) -> Iterator[Claim]:
    """One claim a GPU with Xids that stand, on the gravest and the latest of these."""
    for uuid, codes in sorted(seen.book.gpus.xids.items()):
        record = seen.book.gpus.records.get(uuid)
        concern = whose(seen, record.gpu if record is not None else Gpu(uuid))
        standing = sorted(
            (found for code, told in codes.items() if (found := _standing(seen, uuid, code, told, concern))),
            key=lambda each: each.weight,
        )
        if standing:
            yield _claim(seen, uuid, standing, concern)


def _standing(seen: Observation, uuid: str, code: int, told: XidRecord, concern: Whose) -> _Standing | None:
    ledger = seen.book.gpus
    if ledger.renewed_since(uuid, told.last):
        return None
    means, whole = meaning(code), ledger.whole(uuid)
    since = seen.now.mono - told.last.mono
    if told.elsewhere:
        concern = Whose.OTHERS
    if not means.kind.hardware:
        if since > SHOWN or concern is Whose.OTHERS:
            return None
        severity = Severity.INFO if means.kind is XidClass.INFORMATIONAL else Severity.WARNING
        return _Standing(code, told, means, severity, _whose(told, concern))
    asked = ledger.asked_since(uuid, told.last)
    if asked == recoveries.NONE:
        lasts = SHOWN
    elif whole is not None and asked is not None and known(seen, whole):
        lasts = float("inf")
    else:
        lasts = LASTING
    if since > lasts:
        return None
    severity, why = _of_hardware(told, whole, concern, asked)
    return _Standing(code, told, means, severity, why)


def _of_hardware(
    told: XidRecord, whole: GpuRecord | None, concern: Whose, asked: str | None
) -> tuple[Severity, str]:
    if concern is Whose.OTHERS:
        return Severity.INFO, _whose(told, concern)
    if concern is Whose.UNKNOWN:
        return Severity.WARNING, _whose(told, concern)
    if asked == recoveries.NONE:
        return Severity.WARNING, "NVML says since that the GPU needs no recovery, so no gate fails."
    if asked is not None:
        recovery = recoveries.recovery(asked)
        return (
            Severity.WARNING if recovery.peers else Severity.CRITICAL,
            f"NVML asks of the GPU {recovery.asks}.",
        )
    if whole is not None and whole.lost_since is not None:
        return Severity.CRITICAL, "NVML calls the GPU lost."
    if told.hurt is not None:
        seconds = told.hurt.at.mono - told.last.mono
        when = f"{seconds:.0f} s later" if seconds >= 0 else f"{-seconds:.0f} s before"
        return Severity.CRITICAL, f"It concerns this Triton: {told.hurt.who} {when}."
    if told.shared is False:
        return Severity.CRITICAL, "Nobody but this Triton was seen on the GPU."
    others = "Others use this GPU too" if told.shared else "Whether others use this GPU too can not be told"
    return Severity.WARNING, f"{others}, and nothing of this Triton broke around it, so no gate fails."


def _whose(told: XidRecord, concern: Whose) -> str:
    if told.elsewhere:
        return "It was on a MIG instance that was not given to this container."
    if concern is Whose.OTHERS:
        return "It is no GPU of this Triton."
    if concern is Whose.UNKNOWN:
        return "Whether it is a GPU of this Triton can not be told."
    if told.own is False:
        return "No process of this Triton was on the GPU, so it was another's."
    if told.shared is False:
        return "Nobody but this Triton was seen on the GPU."
    return "The driver does not say whose work it was."


def _claim(seen: Observation, uuid: str, standing: list[_Standing], concern: Whose) -> Claim:
    *others, worst = standing
    told, words = worst.told, worst.meaning.words
    times = f" {told.count} times" if told.count > 1 else ""
    seconds = max(0.0, seen.now.mono - told.last.mono)
    also = ", ".join(str(each.code) for each in reversed(others))
    grave = worst.severity is Severity.CRITICAL
    evidence: dict[str, Scalar] = {
        "xid": worst.code,
        "class": worst.meaning.kind.value,
        "count": told.count,
        "last_seconds_ago": round(seconds, 1),
        "other_xids": also or None,
        "whose": concern.value,
        "own_process_on_it": told.own,
        "shared": told.shared,
        "broke": told.hurt.who if told.hurt is not None else None,
    }
    return Claim(
        "GpuXid",
        subject(uuid),
        f"The driver reported Xid {worst.code}{f' ({words})' if words else ''}{times}, the last {seconds:.0f} s ago"
        f"{f', and Xid {also}' if also else ''}. {worst.why}",
        worst.meaning.remedy,
        max(each.told.last for each in standing),
        evidence,
        action=_action(worst.meaning.kind),
        severity=worst.severity,
        spares=frozenset((Gate.LIVE,)) if grave else NO_GATE,
        event_at=told.last,
    )


def _action(kind: XidClass) -> Action:
    return Action.NONE if kind in (XidClass.APPLICATION, XidClass.INFORMATIONAL) else Action.CHECK_NODE
