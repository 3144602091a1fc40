"""From an observation to the snapshot: judge, debounce, move gates, count, remember transitions.

Synchronous and without I/O; the engine calls it in its loop, a doctor once.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import msgspec

from probe.checks import roster
from probe.checks.observation import Observation
from probe.checks.sizing.told import sizing
from probe.engine import canaries, report, transitions
from probe.engine.budget import RestartBudget
from probe.engine.healing import Healing
from probe.engine.standing import Circumstances, Gates, Rules, Standing
from probe.engine.tracking import Track
from probe.facts.catalogue import CATALOGUE
from probe.facts.findings import Claim, Finding, Key, Severity
from probe.facts.gates import Gate
from probe.facts.instants import Instant
from probe.facts.status import (
    GateStatus,
    Histogram,
    ProbeStatus,
    Snapshot,
    Status,
    Tallies,
    Transition,
)
from probe.settings import Settings

DELAY_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: from an event that woke the engine to a state that a poll found."""

_RANK = {Severity.CRITICAL: 0, Severity.WARNING: 1, Severity.INFO: 2}


class Publisher:
    """Keeps what holds and what it did to the gates; makes one snapshot from each observation."""

    def __init__(self, settings: Settings, version: str, started: Instant) -> None:
        """``version`` is the probe's own."""
        self.rules = Rules(settings)
        self.standing = Standing()
        self.healing = Healing()
        """What the healer did; it alone replaces it."""
        self._settings = settings
        self._version = version
        self._started = started
        self._gates = Gates()
        self._budget = RestartBudget()
        self._findings: dict[Key, Finding] = {}
        self._history: tuple[Transition, ...] = ()
        self._notes: tuple[Transition, ...] = ()
        self._tallies = Tallies(
            gate_transitions=dict.fromkeys(Gate, 0),
        )
        self._epoch = 0

    def due(self, now: Instant) -> float | None:
        """Seconds until a gate may move without anything new being seen, None where none waits."""
        ends = (self.standing.due(self.rules, now), self._budget.due(now, self._settings.restarts))
        return min((each for each in ends if each is not None), default=None)

    def note(self, told: Transition) -> None:
        """Remember what happened beside findings and gates; the next snapshot shows it."""
        self._notes = (*self._notes, told)

    @property
    def suspects(self) -> frozenset[str]:
        """Models with a critical finding: a warning may stand for ever, and asking costs Triton each time."""
        return frozenset(
            subject.model
            for (_, subject), finding in self._findings.items()
            if subject.model and finding.severity is Severity.CRITICAL
        )

    def snapshot(self, seen: Observation, tracks: Mapping[str, Track]) -> Snapshot:
        """Judge this observation and fold it into everything that stands."""
        now = seen.now
        server = seen.book.server
        self._gates = self._gates.in_epoch(server.epoch)
        if server.epoch != self._epoch:
            self.standing = self.standing.in_new_epoch()
            self.healing = self.healing.in_new_epoch()
        self._judge(seen)
        findings = self._found(now)
        gates = self._gates.with_findings(tuple(findings.values()), now)
        delays = self._delays(now)
        news = (
            *self._notes,
            *transitions.of_epoch(
                self._epoch, server.epoch, server.process.pid if server.process else None, now
            ),
            *transitions.of_findings(self._findings, findings, server.epoch, now),
            *transitions.of_gates(self._gates, gates, tuple(findings.values()), delays, now),
        )
        self._count(findings, gates, delays, seen, tracks)
        self.standing = self.standing.with_moves(self.rules, now)
        self._notes = ()
        self._history = (*reversed(news), *self._history)[: transitions.KEPT]
        self._findings, self._gates, self._epoch = findings, gates, server.epoch
        return self._assembled(seen, tracks)

    def _judge(self, seen: Observation) -> None:
        now, before, epoch = seen.now, self.standing, seen.book.server.epoch
        claims = tuple(self._patient(claim) for claim in roster.judge(seen))
        around = Circumstances(lambda name: self._load_of(seen, name), self.healing.treated)
        self.standing = before.with_claims(claims, now, around)
        wants = tuple(
            f"{reason} {subject}"
            for (reason, subject), each in self.standing.held.items()
            if Gate.LIVE in self.rules.failing(each, now)
        )
        restarts = self._settings.restarts
        self._budget = self._budget.judged(now, epoch, restarts, wanted=bool(wants))
        if self._budget.refused:
            spent = self._budget.claim(now, restarts, wants)
            self.standing = before.with_claims((*claims, spent), now, around)

    def _patient(self, claim: Claim) -> Claim:
        # While Triton loads the model anew, a restart would only begin that again; one that is already asked
        # for is not taken back, for the answer of /livez must not go to and fro.
        if claim.subject.model not in self.healing.treated:
            return claim
        held = self.standing.held.get((claim.reason, claim.subject))
        if held is not None and Gate.LIVE in held.failed:
            return claim
        return msgspec.structs.replace(claim, spares=claim.spares | {Gate.LIVE})

    def _load_of(self, seen: Observation, name: str) -> object:
        began = [each.ready_since for each in seen.book.models.named(name) if each.ready_since is not None]
        return max(began, default=None), self.healing.of(name).cured

    def _found(self, now: Instant) -> dict[Key, Finding]:
        # A gate that this very judgement opens for good is no longer listed as failed.
        held = self.standing.held
        open_for_good = self._gates.open_for_good
        if self._budget.spent(now, self._settings.restarts):
            open_for_good |= {Gate.LIVE}
        listed = {key: self.rules.finding(each, now, open_for_good) for key, each in held.items()}
        return dict(sorted(listed.items(), key=lambda item: _RANK[item[1].severity]))

    def _delays(self, now: Instant) -> dict[Key, float]:
        # From the event's own time to the first gate that the finding fails; to the finding, where it fails none.
        return {
            key: now.mono - each.claim.event_at.mono
            for key, each in self.standing.held.items()
            if each.claim.event_at is not None
            and not each.moved
            and (self.rules.failing(each, now) or (not CATALOGUE[key[0]].fails and key not in self._findings))
        }

    def _count(
        self,
        findings: Mapping[Key, Finding],
        gates: Gates,
        delays: Mapping[Key, float],
        seen: Observation,
        tracks: Mapping[str, Track],
    ) -> None:
        told = self._tallies
        raised = dict(told.findings)
        for key in transitions.fresh(self._findings, findings):
            raised[key[0]] = raised.get(key[0], 0) + 1
        moved = dict(told.gate_transitions)
        for gate, record in gates.records.items():
            before = self._gates.records.get(gate)
            if before is not None and before.ok != record.ok:
                moved[gate] += 1
        histograms = dict(told.delays)
        for (reason, _), seconds in delays.items():
            histograms[reason] = histograms.get(reason, Histogram.empty(DELAY_BOUNDS)).observed(seconds)
        self._tallies = msgspec.structs.replace(
            told,
            findings=raised,
            gate_transitions=moved,
            delays=histograms,
            stub_exits=seen.book.stubs.exits,
            canaries=canaries.tallies(seen),
            heals=self.healing.counts,
            xids={
                (uuid, str(code)): each.count
                for uuid, codes in seen.book.gpus.xids.items()
                for code, each in codes.items()
            },
            sources={name: track.tally() for name, track in tracks.items()},
            last_success_wall={
                (key.name, key.version): record.traffic.last_success_wall
                for key, record in seen.book.models.records.items()
                if record.traffic.last_success_wall is not None
            },
        )

    def _assembled(self, seen: Observation, tracks: Mapping[str, Track]) -> Snapshot:
        now = seen.now
        findings = tuple(self._findings.values())
        status = Status(
            schema=1,
            probe=ProbeStatus(
                version=self._version,
                started_at=_whole_seconds(self._started.as_datetime()),
                uptime_seconds=now.mono - self._started.mono,
                loop_age_seconds=0.0,
                sources={name: track.status(now) for name, track in tracks.items()},
            ),
            triton=report.triton(seen),
            gates={
                gate: GateStatus(
                    ok=record.ok,
                    since=record.since.as_datetime(),
                    findings=tuple(finding for finding in findings if gate in finding.gates),
                )
                for gate, record in self._gates.records.items()
            },
            findings=findings,
            models=report.models(seen),
            gpus=report.gpus(seen, findings),
            container=report.container(seen.book.container, seen.book.shm),
            evidence=seen.book.evidence.evidence,
            sizing=sizing(seen),
        )
        return Snapshot(
            taken=now,
            status=status,
            tallies=self._tallies,
            transitions=self._history,
            repository_told=seen.book.models.index_at is not None,
            known_models=seen.book.models.known | frozenset(seen.settings.models.required),
        )


def _whole_seconds(moment: datetime.datetime) -> datetime.datetime:
    return moment.replace(microsecond=0)
