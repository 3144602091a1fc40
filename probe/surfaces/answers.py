"""What the endpoints answer, as pure functions of the snapshot: no HTTP, no clock, no waiting.

A gate's answer rests on what the engine decided; narrowing (``exclude``, ``model``) leaves findings out
and can only open a failing gate, never fail an open one.
"""

from __future__ import annotations

import datetime

import msgspec

from probe.facts.catalogue import CATALOGUE
from probe.facts.findings import Action, Finding, Severity, Subject, SubjectKind
from probe.facts.gates import Gate
from probe.facts.status import ModelStatus, Snapshot, SourceStatus, Status
from probe.kits.words import nearest
from probe.surfaces.plain import one_line

_MISSING = "ModelMissing"
_NOT_READY = "ModelNotReady"
_REFUSED = "RestartBudgetSpent"
_MOST_WARNINGS = 8
"""Warnings beyond these are only counted: each costs a search for the nearest reason, and an address
line has room for thousands."""
_MOST_MISSING = 100
"""Unknown models beyond these are only counted, for the same reason."""
_LONGEST_NAME = 100


class Query(msgspec.Struct, frozen=True):
    """How a gate was asked: ``?verbose``, ``?exclude=Reason``…, ``?model=NAME``…."""

    verbose: bool = False
    exclude: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


_PLAINLY = Query()


class GateObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """The gate's object of ``/status``, narrowed as asked.

    ``since`` is None where narrowing changed the answer: nobody recorded since when that would hold.
    """

    ok: bool
    since: datetime.datetime | None
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...] = msgspec.field(default=())


class GateAnswer(msgspec.Struct, frozen=True):
    """A gate's answer in each of its spellings."""

    gate: Gate
    object: GateObject
    checked: tuple[str, ...]
    """Reasons that this answer looked at, in the order of the catalogue."""

    @property
    def code(self) -> int:
        """200 where the gate is open for this question, else 503."""
        return 200 if self.object.ok else 503

    def text(self, *, verbose: bool = False) -> str:
        """Write the body: ``ok``, or one line a finding; every reason where verbose."""
        lines = [f"warn: {each}" for each in self.object.warnings]
        failing = [f"[-]{one_line(each.line())}" for each in self.object.findings]
        if verbose:
            lines += self._every_check()
            lines.append(f"{self.gate}z check {'passed' if self.object.ok else 'failed'}")
        elif self.object.ok:
            lines.append("ok")
        else:
            # A failing gate always has a reason; should the engine ever break this, say so.
            lines += failing or [f"[-]{self.gate}z fails, and no finding says why"]
        return lines[0] if lines == ["ok"] else "\n".join(lines) + "\n"

    def _every_check(self) -> list[str]:
        failing: dict[str, list[str]] = {}
        for each in self.object.findings:
            failing.setdefault(each.reason, []).append(f"[-]{one_line(each.line())}")
        lines = []
        for reason in self.checked:
            lines += failing.pop(reason, [f"[+]{reason} ok"])
        return lines + [line for rest in failing.values() for line in rest]


def gate_answer(snapshot: Snapshot, gate: Gate, query: Query = _PLAINLY) -> GateAnswer:
    """Answer ``/livez``, ``/readyz`` or ``/startupz``.

    200 while the engine holds the gate open, or where every finding that fails it is left out by the
    query; 503 otherwise.  An unknown ``?model`` is a 503 with ModelMissing, except on ``/livez`` as long
    as Triton's models can not be known: ignorance never restarts anything.
    """
    held = snapshot.status.gates[gate]
    excluded = frozenset(query.exclude)
    warnings = list(_unknown_reasons(query.exclude))
    if query.verbose and gate is Gate.LIVE:
        # The engine counts what the budget refuses as passed, and this is the gate that it is about.
        warnings += [one_line(each.line()) for each in snapshot.status.findings if each.reason == _REFUSED]
    failing = tuple(
        each
        for each in held.findings
        if gate in each.gates
        and each.reason not in excluded
        and (not query.models or not each.subject.model or each.subject.model in query.models)
    )
    narrowed = bool(excluded or query.models) and bool(held.findings)
    ok = held.ok or (narrowed and not failing)

    unknown = tuple(dict.fromkeys(each for each in query.models if each not in snapshot.known_models))
    if unknown and (_MISSING in excluded or (gate is Gate.LIVE and not _models_are_known(snapshot))):
        warnings += _counted([f"model {_named(each)} is not known here" for each in unknown])
    elif unknown:
        listed = {each.subject.model for each in failing if each.reason == _MISSING}
        named = [each for each in unknown[:_MOST_MISSING] if each not in listed]
        failing += tuple(_missing(each, gate, snapshot) for each in named)
        if len(unknown) > _MOST_MISSING:
            warnings.append(f"and {len(unknown) - _MOST_MISSING} more unknown models")
        ok = False
    if gate is Gate.READY and _NOT_READY not in excluded:
        # Who asks for one model by name wants to send it requests, required by configuration or not.
        spoken_of = {each.subject.model for each in failing}
        asked = (
            each for each in dict.fromkeys(query.models) if each not in unknown and each not in spoken_of
        )
        unready = [each for each in asked if not _serves(snapshot.status, each)][:_MOST_MISSING]
        failing += tuple(_unready(each, gate, snapshot) for each in unready)
        ok = ok and not unready

    return GateAnswer(
        gate,
        GateObject(ok, held.since if ok == held.ok else None, failing, tuple(warnings)),
        tuple(
            name for name, each in CATALOGUE.items() if each.hold(gate) is not None and name not in excluded
        ),
    )


def status_now(snapshot: Snapshot, mono: float, loop_age: float) -> Status:
    """Tell the ages in the status as of now: ``mono`` and ``loop_age`` in seconds, see the board."""
    grown = max(0.0, mono - snapshot.taken.mono)
    status = snapshot.status
    probe = msgspec.structs.replace(
        status.probe,
        uptime_seconds=status.probe.uptime_seconds + grown,
        loop_age_seconds=loop_age,
        sources={name: _aged(each, grown) for name, each in status.probe.sources.items()},
    )
    return msgspec.structs.replace(
        status, probe=probe, models=tuple(_model_aged(each, grown) for each in status.models)
    )


def health(loop_age: float, *, stalled: bool) -> tuple[int, str]:
    """Answer ``/healthz``: 200 while the engine's loop turns, whatever its sources say; else 503."""
    return (503, f"loop has not turned for {loop_age:.1f} s\n") if stalled else (200, "ok")


def _unknown_reasons(names: tuple[str, ...]) -> list[str]:
    unknown = [each for each in dict.fromkeys(names) if each not in CATALOGUE]
    warnings = []
    for each in unknown[:_MOST_WARNINGS]:
        near = nearest(each, CATALOGUE)
        hint = f", did you mean {near}?" if near else ""
        warnings.append(f"no reason {_named(each)} to exclude{hint}")
    return _counted(warnings, len(unknown))


def _counted(warnings: list[str], total: int | None = None) -> list[str]:
    beyond = (len(warnings) if total is None else total) - _MOST_WARNINGS
    return warnings if beyond <= 0 else [*warnings[:_MOST_WARNINGS], f"and {beyond} more unknown names"]


def _named(name: str) -> str:
    return f'"{one_line(name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…")}"'


def _models_are_known(snapshot: Snapshot) -> bool:
    """Whether Triton has told its models in this epoch, so that a name can be called unknown."""
    status = snapshot.status
    starting = any(each.reason in ("Initializing", "TritonStarting") for each in status.findings)
    return status.triton.reachable is True and not starting and snapshot.repository_told


def _missing(model: str, gate: Gate, snapshot: Snapshot) -> Finding:
    """Make the finding of a question about an unknown model; it lives in this answer alone."""
    seen = snapshot.taken.as_datetime()
    return Finding(
        reason=_MISSING,
        severity=Severity.CRITICAL,
        subject=Subject(SubjectKind.MODEL, model=model),
        gates=(gate,),
        message="neither Triton nor the configuration knows a model of this name",
        remedy="Correct ?model= in the request, or add the model to Triton's repository.",
        action=Action.CHECK_CONFIG,
        evidence={},
        since=seen,
        observed_at=seen,
    )


def _serves(status: Status, model: str) -> bool:
    return any(each.name == model and each.ready for each in status.models)


def _unready(model: str, gate: Gate, snapshot: Snapshot) -> Finding:
    """Make the finding of a question about a model that has no ready version; it lives in this answer alone."""
    told = next((each for each in snapshot.status.models if each.name == model), None)
    state = told.state if told is not None else "not loaded"
    return msgspec.structs.replace(
        _missing(model, gate, snapshot),
        reason=_NOT_READY,
        message=f"no version of it is ready (state: {state})",
        remedy="Wait where it is loading; else load it: POST /v2/repository/models/<model>/load.",
        action=Action.WAIT,
    )


def _aged(source: SourceStatus, grown: float) -> SourceStatus:
    if source.age_seconds is None:
        return source
    return msgspec.structs.replace(source, age_seconds=source.age_seconds + grown)


def _model_aged(model: ModelStatus, grown: float) -> ModelStatus:
    ago = model.traffic.last_success_seconds_ago
    if ago is None:
        return model
    traffic = msgspec.structs.replace(model.traffic, last_success_seconds_ago=ago + grown)
    return msgspec.structs.replace(model, traffic=traffic)
