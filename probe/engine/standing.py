"""What holds, since when, and which gates it fails: pure folds from claims to findings and gates."""

from __future__ import annotations

import msgspec

from probe.facts.catalogue import CATALOGUE
from probe.facts.findings import Claim, Finding, Subject, SubjectKind
from probe.facts.gates import Gate, Hold
from probe.facts.instants import Instant
from probe.settings import Settings

Key = tuple[str, Subject]

_OF_TRITON = frozenset((SubjectKind.SERVER, SubjectKind.MODEL, SubjectKind.INSTANCE))


class Held(msgspec.Struct, frozen=True):
    """A claim with its history.

    ``looks`` counts the readings that showed it; judging one reading twice is one look.  ``moved`` are
    the gates that it has failed so far, so that the delay of detection is taken once.
    """

    claim: Claim
    since: Instant
    looks: int
    moved: frozenset[Gate] = frozenset()


class Standing(msgspec.Struct, frozen=True):
    """Everything that holds now."""

    held: dict[Key, Held] = {}

    def in_new_epoch(self) -> Standing:
        """At the start of an epoch: verdicts about the old Triton are dropped, and their holds with them."""
        return Standing({key: each for key, each in self.held.items() if key[1].kind not in _OF_TRITON})

    def with_claims(self, claims: tuple[Claim, ...], now: Instant) -> Standing:
        """After a judgement: what is claimed still holds, what is not has cleared."""
        held: dict[Key, Held] = {}
        for claim in claims:
            key = (claim.reason, claim.subject)
            before = self.held.get(key)
            if before is None:
                held[key] = Held(claim, now, 1)
            else:
                fresh = claim.observed.mono > before.claim.observed.mono
                held[key] = msgspec.structs.replace(before, claim=claim, looks=before.looks + fresh)
        return Standing(held)

    def with_moves(self, rules: Rules, now: Instant) -> Standing:
        """After the gates were read off: each finding remembers which gates it fails."""
        return Standing(
            {
                key: msgspec.structs.replace(each, moved=each.moved.union(rules.failing(each, now)))
                for key, each in self.held.items()
            }
        )

    def due(self, rules: Rules, now: Instant) -> float | None:
        """Seconds until a hold runs out, or None where none is running."""
        left = [
            each.since.mono + hold.seconds - now.mono
            for each in self.held.values()
            for _, hold in rules.holds(each)
            if each.since.mono + hold.seconds > now.mono
        ]
        return min(left, default=None)


class Rules(msgspec.Struct, frozen=True):
    """Which gates a reason fails after how long: the catalogue, overridden by configuration."""

    settings: Settings

    def holds(self, held: Held) -> tuple[tuple[Gate, Hold], ...]:
        """The gates that this finding can fail, with their holds; none in shadow."""
        claim = held.claim
        if claim.reason in self.settings.shadow:
            return ()
        holds: dict[Gate, Hold | None] = dict(CATALOGUE[claim.reason].fails)
        # What the user wrote about a gate stands, also where this case would spare it.
        spared = {gate: hold for gate, hold in holds.items() if gate not in claim.spares}
        overridden = {**spared, **self.settings.gates.get(claim.reason, {})}
        return tuple((gate, hold) for gate, hold in overridden.items() if hold is not None)

    def failing(self, held: Held, now: Instant) -> tuple[Gate, ...]:
        """The gates that it fails at this moment."""
        return tuple(gate for gate, hold in self.holds(held) if _met(hold, held, now))

    def finding(self, held: Held, now: Instant, open_for_good: frozenset[Gate]) -> Finding:
        """The finding as ``/status`` shows it; a gate that is open for good is not failed any more."""
        claim, reason = held.claim, CATALOGUE[held.claim.reason]
        gates = [gate for gate, _ in self.holds(held) if gate not in open_for_good]
        failing = frozenset(self.failing(held, now))
        return Finding(
            reason=claim.reason,
            severity=claim.severity or reason.severity,
            subject=claim.subject,
            gates=tuple(gate for gate in gates if gate in failing),
            message=claim.message,
            remedy=claim.remedy,
            action=claim.action or reason.action,
            evidence=claim.evidence,
            since=held.since.as_datetime(),
            observed_at=claim.observed.as_datetime(),
            pending=tuple(gate for gate in gates if gate not in failing),
            shadow=claim.reason in self.settings.shadow,
        )


def _met(hold: Hold, held: Held, now: Instant) -> bool:
    # The same sum as in `due`: a difference may round to just below the hold that `due` says has run out.
    return held.looks >= hold.looks and held.since.mono + hold.seconds <= now.mono


class GateRecord(msgspec.Struct, frozen=True):
    """A gate and since when it is as it is."""

    ok: bool
    since: Instant


class Gates(msgspec.Struct, frozen=True):
    """The three gates.

    ``started``: the startup gate has opened in this epoch.  It then stays open: a model that is loaded
    later does not make a server start again.
    """

    records: dict[Gate, GateRecord] = {}
    started: bool = False
    epoch: int = 0

    @property
    def open_for_good(self) -> frozenset[Gate]:
        """Gates that nothing fails any more in this epoch."""
        return frozenset((Gate.STARTUP,)) if self.started else frozenset()

    def in_epoch(self, epoch: int) -> Gates:
        """At a judgement within this epoch: a new one starts anew."""
        return self if epoch == self.epoch else Gates(self.records, started=False, epoch=epoch)

    def with_findings(self, findings: tuple[Finding, ...], now: Instant) -> Gates:
        """After a judgement."""
        failed = {gate for finding in findings for gate in finding.gates}
        records = {}
        for gate in Gate:
            before = self.records.get(gate)
            ok = gate not in failed
            records[gate] = before if before is not None and before.ok == ok else GateRecord(ok, now)
        return Gates(records, started=self.started or records[Gate.STARTUP].ok, epoch=self.epoch)
