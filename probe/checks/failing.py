"""Does every request to a model fail?

A poisoned CUDA context, a dead engine or a lost file show in no state of Triton's: the model stays ready and
answers every request with an error (server issues 3627, 4126, 5765).
"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.observation import Observation
from probe.checks.stubs import believed_deaths
from probe.facts.canaries import CanaryOutcome
from probe.facts.findings import Action, Claim, Scalar, Severity, Subject, SubjectKind
from probe.facts.gates import Gate
from probe.facts.instants import Instant
from probe.ledgers.book import age
from probe.ledgers.models import ModelRecord
from probe.ledgers.progress import Progress

FAILURES = 5
"""Failures without a success between them: one client's mistake makes one or two, then somebody else asks."""
LOOKS = 2
"""Polls with new failures: what came between two polls is one moment."""
LASTING_SECONDS = 30.0
"""Seconds over which failures must have come before a gate may move.  A few bad requests in a quiet night are
told and close nothing: behind a closed ready gate no request would come that could open it again."""

_BOTH = frozenset((Gate.READY, Gate.LIVE))


def judge(seen: Observation) -> Iterator[Claim]:
    """One claim a ready model that answered nothing but errors since its last success."""
    if not seen.watching:
        return
    for record in seen.records():
        until = record.progress.failing_until
        if until is None or not fails(record) or _explained(seen, record):
            continue
        passed = _canary_passed(seen, record)
        if passed is None:
            yield _failing(seen, record, until)
        elif until.mono > passed.mono:
            yield _clients_fail(seen, record, until, passed)


def fails(record: ModelRecord) -> bool:
    """Whether it failed enough requests, over enough polls, and none succeeded since."""
    progress = record.progress
    return record.ready and progress.failures >= FAILURES and progress.failing_looks >= LOOKS


def _explained(seen: Observation, record: ModelRecord) -> bool:
    # StubDead says it with its cause, and an ensemble fails with its steps.
    if believed_deaths(seen, record):
        return True
    steps = (seen.meant(step) for step in (record.config.steps if record.config is not None else ()))
    return any(step is not None and (fails(step) or bool(believed_deaths(seen, step))) for step in steps)


def _canary_passed(seen: Observation, record: ModelRecord) -> Instant | None:
    # When, if the last canary passed, and after the failures had begun.
    canary, since = seen.book.canaries.of(record.key), record.progress.failing_since
    if canary is None or since is None or canary.last.outcome is not CanaryOutcome.PASSED:
        return None
    return canary.last.ended if canary.last.ended.mono > since.mono else None


def _failing(seen: Observation, record: ModelRecord, until: Instant) -> Claim:
    progress = record.progress
    lasting = progress.failing_seconds >= LASTING_SECONDS
    reloads = _reloads(seen, record)
    return Claim(
        "ModelFailing",
        _subject(record),
        f"{_figures(seen, record, until)}; none succeeded{_last_success(seen, record)}."
        + ("" if lasting else " Whether that is the model or a few bad requests is not told yet."),
        _remedy(seen, record, reloads=reloads),
        until,
        _evidence(record),
        action=seen.reload_action if reloads else Action.RESTART_CONTAINER,
        severity=None if lasting else Severity.WARNING,
        spares=_spared(record, progress) if lasting else _BOTH,
    )


def _spared(record: ModelRecord, progress: Progress) -> frozenset[Gate]:
    # Clients that give up are no reason for a restart, nor is an ensemble whose steps are well: after one it
    # would be as it is now.
    composed = record.config is not None and record.config.ensemble
    return frozenset((Gate.LIVE,)) if progress.uncertain or composed else frozenset()


def _clients_fail(seen: Observation, record: ModelRecord, until: Instant, passed: Instant) -> Claim:
    return Claim(
        "ModelFailing",
        _subject(record),
        f"{_figures(seen, record, until)}; the canary passes (last {age(seen.now, passed) or 0.0:.0f} s ago), so it "
        "is the clients' requests that fail.",
        "Compare a client's request with the model's inputs (GET /v2/models/<model>), and read the error that the "
        "client gets. If the model is at fault, let the canary send what clients send (canary.<model>.inputs).",
        until,
        {**_evidence(record), "canary": "passed"},
        action=Action.NONE,
        severity=Severity.WARNING,
        spares=_BOTH,
    )


def _subject(record: ModelRecord) -> Subject:
    return Subject(SubjectKind.MODEL, model=record.key.name, version=record.key.version)


def _figures(seen: Observation, record: ModelRecord, until: Instant) -> str:
    progress = record.progress
    return (
        f"All of the last {progress.failures} requests to it failed, over {progress.failing_seconds:.0f} s, the last "
        f"{age(seen.now, until) or 0.0:.0f} s ago"
    )


def _last_success(seen: Observation, record: ModelRecord) -> str:
    last = record.traffic.last_success_wall
    if last is None:
        return " since the probe first saw it"
    return f" for {max(0.0, seen.now.wall - last):.0f} s"


def _evidence(record: ModelRecord) -> dict[str, Scalar]:
    progress, row = record.progress, record.statistics
    return {
        "failures": progress.failures,
        "failing_seconds": round(progress.failing_seconds, 1),
        "failure_total": row.failure if row is not None else None,
        "success_total": row.success if row is not None else None,
        "reasons_known": not progress.uncertain,
        "backend": record.config.backend if record.config is not None else None,
    }


def _reloads(seen: Observation, record: ModelRecord) -> bool:
    # A stub takes its own CUDA context along; what runs inside tritonserver leaves a poisoned one to all.
    if seen.book.stubs.of(record.key):
        return True
    return record.config is not None and record.config.backend == "python"


def _remedy(seen: Observation, record: ModelRecord, *, reloads: bool) -> str:
    if record.config is not None and record.config.ensemble:
        return (
            "Read the error that a client gets: the ensemble's steps answer when they are asked themselves, so what "
            "one hands to the next does not fit, or the requests do not."
        )
    cure = (
        seen.reload_remedy(record.key.name)
        if reloads
        else "Restart the Triton container: the model runs inside tritonserver, and an error that stays with the "
        "process (a CUDA context after an illegal access or an assert) leaves it by no other way."
    )
    return f"Read the error in Triton's log, or as a client gets it. {cure}"
