"""What holds, since when, and which gates it fails: pure folds from claims to findings and gates."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from probe.engine.damping import Damping
from probe.facts.catalogue import CATALOGUE
from probe.facts.findings import Claim, Finding, Key, Severity, SubjectKind
from probe.facts.gates import Gate, Hold
from probe.facts.instants import Instant
from probe.settings import Settings

_OF_TRITON = frozenset((SubjectKind.SERVER, SubjectKind.MODEL, SubjectKind.INSTANCE))
_NEVER_KEPT = frozenset(("RestartBudgetSpent",))
"""What says how /livez answers now must not outlast that."""


class Held(msgspec.Struct, frozen=True):
    """A claim with its history.

    ``looks`` counts the readings that showed it; judging one reading twice is one look.  ``since`` is when it
    was first claimed and ``steady`` since when it has been without a break: a hold counts from there.
    ``moved`` are the gates that it has failed so far, so that the delay of detection is taken once, and
    ``failed`` those that it failed when the gates were last read off.
    """

    claim: Claim
    since: Instant
    looks: int
    steady: Instant
    load: object = None
    """Which load of its model it was last claimed of."""
    moved: frozenset[Gate] = frozenset()
    failed: frozenset[Gate] = frozenset()
    came: bool = False
    """It failed a gate since it was last claimed anew, so that this coming is counted."""
    gone: Instant | None = None
    """Since when it is kept without being claimed, because it came and went too often, or because Triton is
    loading its model anew at this moment."""
    until: float = 0.0
    """Until when it is kept, on the monotonic clock."""
    kept: frozenset[Gate] = frozenset()
    """Gates that it still fails because it failed them before it went.  Never the live gate."""
    note: str = ""

    def again(self, claim: Claim, now: Instant, load: object) -> Held:
        """Claimed once more; after a break its holds begin anew."""
        if self.gone is not None:
            return msgspec.structs.replace(
                self, claim=claim, looks=1, steady=now, load=load, came=False, gone=None
            )
        fresh = claim.observed.mono > self.claim.observed.mono
        return msgspec.structs.replace(self, claim=claim, looks=self.looks + fresh, load=load)


class Circumstances(msgspec.Struct, frozen=True):
    """What decides whether a finding that is no longer claimed is kept.

    ``load_of`` tells one load of a model from the next: a finding that came and went is cured by a new one,
    whatever it did before.  ``treated``: models that are being reloaded now; what is said of them is neither
    better nor worse before that has ended.
    """

    load_of: Callable[[str], object] = lambda _: None
    treated: frozenset[str] = frozenset()


class Standing(msgspec.Struct, frozen=True):
    """Everything that holds now, and how often it came."""

    held: dict[Key, Held] = {}
    damping: Damping = Damping()

    def in_new_epoch(self) -> Standing:
        """At the start of an epoch: verdicts about the old Triton are dropped, and their holds with them."""
        return Standing(
            {key: each for key, each in self.held.items() if key[1].kind not in _OF_TRITON},
            self.damping.without(_OF_TRITON),
        )

    def with_claims(
        self,
        claims: tuple[Claim, ...],
        now: Instant,
        circumstances: Circumstances = Circumstances(),  # noqa: B008  (frozen)
    ) -> Standing:
        """After a judgement: what is claimed still holds, what is not has cleared, or is kept for a while."""
        held: dict[Key, Held] = {}
        for claim in claims:
            key = (claim.reason, claim.subject)
            load = circumstances.load_of(claim.subject.model) if claim.subject.model else None
            before = self.held.get(key)
            held[key] = Held(claim, now, 1, now, load) if before is None else before.again(claim, now, load)
        for key, each in self.held.items():
            if key not in held and (kept := self._kept(key, each, now, circumstances)) is not None:
                held[key] = kept
        return Standing(held, self.damping)

    def _kept(self, key: Key, held: Held, now: Instant, circumstances: Circumstances) -> Held | None:
        reason, subject = key
        if held.gone is None:
            gates = held.failed - {Gate.LIVE}
            severity = held.claim.severity or CATALOGUE[reason].severity
            # What only says that something is on its way up has nothing to be damped.
            if not gates or severity is Severity.INFO or reason in _NEVER_KEPT:
                return None
            patience = self.damping.patience(key, now)
            note = self.damping.note(key, now) if patience else ""
            held = msgspec.structs.replace(
                held, gone=now, until=now.mono + patience, kept=gates, note=note, failed=gates
            )
        if subject.model in circumstances.treated:
            return held
        if subject.model and circumstances.load_of(subject.model) != held.load:
            return None
        return held if now.mono < held.until else None

    def with_moves(self, rules: Rules, now: Instant) -> Standing:
        """After the gates were read off: each finding remembers which gates it fails."""
        held, damping = {}, self.damping
        for key, each in self.held.items():
            failed = frozenset(rules.failing(each, now))
            # What it fails only because it is kept is no coming: else a flicker would keep it for ever.
            came = each.came or bool(rules.met(each, now) - {Gate.LIVE})
            if came and not each.came:
                damping = damping.with_coming(key, now)
            held[key] = msgspec.structs.replace(each, moved=each.moved | failed, failed=failed, came=came)
        return Standing(held, damping)

    def due(self, rules: Rules, now: Instant) -> float | None:
        """Seconds until a hold runs out, or a finding has been kept for long enough; None for neither."""
        ends = [
            each.steady.mono + hold.seconds
            for each in self.held.values()
            if each.gone is None
            for _, hold in rules.holds(each)
        ]
        ends += [each.until for each in self.held.values() if each.gone is not None]
        return min((end - now.mono for end in ends if end > now.mono), default=None)


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

    def met(self, held: Held, now: Instant) -> frozenset[Gate]:
        """The gates whose holds it has met by itself, without a break."""
        if held.gone is not None:
            return frozenset()
        return frozenset(gate for gate, hold in self.holds(held) if _met(hold, held, now))

    def failing(self, held: Held, now: Instant) -> tuple[Gate, ...]:
        """The gates that it fails at this moment: those that it met, and those for which it is kept."""
        met = self.met(held, now) | held.kept
        return tuple(gate for gate, _ in self.holds(held) if gate in met)

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
            message=claim.message + held.note,
            remedy=claim.remedy,
            action=claim.action or reason.action,
            evidence=claim.evidence,
            since=held.since.as_datetime(),
            observed_at=claim.observed.as_datetime(),
            # What is no longer seen will fail no further gate.
            pending=tuple(gate for gate in gates if gate not in failing) if held.gone is None else (),
            shadow=claim.reason in self.settings.shadow,
        )


def _met(hold: Hold, held: Held, now: Instant) -> bool:
    # The same sum as in `due`: a difference may round to just below the hold that `due` says has run out.
    return held.looks >= hold.looks and held.steady.mono + hold.seconds <= now.mono


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
