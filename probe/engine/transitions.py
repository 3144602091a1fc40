"""What changed between two judgements; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from probe.engine.standing import Gates
from probe.facts.findings import Finding, Key
from probe.facts.gates import Gate
from probe.facts.instants import Instant
from probe.facts.status import Transition

KEPT = 500
"""Transitions kept for ``/events``, as the contract says."""


def of_epoch(before: int, after: int, pid: int | None, now: Instant) -> Iterator[Transition]:
    """A new tritonserver."""
    if before != after:
        whom = f"tritonserver (pid {pid})" if pid is not None else "a tritonserver"
        yield Transition(now.as_datetime(), "epoch", "server", f"epoch {after}: {whom}", epoch=after)


def of_findings(
    before: Mapping[Key, Finding],
    after: Mapping[Key, Finding],
    epoch: int,
    now: Instant,
) -> Iterator[Transition]:
    """Findings cleared, then findings raised."""
    for key in fresh(after, before):
        yield _about(before[key], "finding_cleared", epoch, now)
    for key in fresh(before, after):
        yield _about(after[key], "finding_raised", epoch, now)


def fresh(before: Mapping[Key, Finding], after: Mapping[Key, Finding]) -> Iterator[Key]:
    """What stands after and did not stand before; one that began anew, with an epoch, is another."""
    for key, finding in after.items():
        was = before.get(key)
        if was is None or was.since != finding.since:
            yield key


def _about(finding: Finding, kind: str, epoch: int, now: Instant) -> Transition:
    return Transition(
        at=now.as_datetime(),
        kind=kind,
        subject=str(finding.subject),
        message=finding.message,
        reason=finding.reason,
        severity=finding.severity.value,
        epoch=epoch,
        remedy=finding.remedy if kind == "finding_raised" else None,
    )


def of_gates(
    before: Gates, after: Gates, findings: tuple[Finding, ...], delays: Mapping[Key, float], now: Instant
) -> Iterator[Transition]:
    """Gates that opened or failed, with the reason that failed them first."""
    for gate in Gate:
        was, now_is = before.records.get(gate), after.records[gate]
        # The first state is no transition, and the metrics count none.
        if was is None or was.ok == now_is.ok:
            continue
        failing = [finding for finding in findings if gate in finding.gates]
        first = failing[0] if failing else None
        yield Transition(
            at=now.as_datetime(),
            kind="gate_opened" if now_is.ok else "gate_failed",
            subject=str(first.subject) if first else "server",
            message=first.line() if first else "nothing fails it",
            reason=first.reason if first else None,
            severity=first.severity.value if first else None,
            gate=gate,
            epoch=after.epoch,
            remedy=first.remedy if first else None,
            delay_seconds=delays.get((first.reason, first.subject)) if first else None,
        )
