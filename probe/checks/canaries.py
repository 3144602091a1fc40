"""Does each model that is sent a canary still answer it?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.observation import Observation
from probe.facts.canaries import CanaryOutcome, CanaryResult
from probe.facts.findings import Action, Claim, Severity, Subject, SubjectKind
from probe.facts.gates import Gate
from probe.ledgers.book import age
from probe.ledgers.canaries import CanaryRecord
from probe.ledgers.models import ModelRecord

CLIPPED = 300
"""Characters of a foreign text in a message; the evidence has the whole."""

_NO_GATE = frozenset((Gate.READY,))


def judge(seen: Observation) -> Iterator[Claim]:
    """One claim a model version whose last canary did not pass, and one for each name nobody knows."""
    if not seen.watching:
        return
    for record in seen.records():
        canary = seen.book.canaries.of(record.key)
        if canary is None or not record.ready:
            continue
        if canary.last.outcome is CanaryOutcome.UNSENDABLE:
            yield _unsendable(canary.last)
        elif canary.last.outcome is not CanaryOutcome.PASSED and not _served_since(record, canary):
            yield _failed(seen, canary)
    yield from _unknown(seen)


def _served_since(record: ModelRecord, canary: CanaryRecord) -> bool:
    # Under traffic no canary is sent, and the requests themselves show that it works again; only whether
    # an answer is the right one they do not show.
    served = record.others.served_since
    return (
        canary.last.outcome is not CanaryOutcome.WRONG
        and served is not None
        and served.mono >= canary.last.ended.mono
    )


def _subject(result: CanaryResult) -> Subject:
    return Subject(SubjectKind.MODEL, model=result.key.name, version=result.key.version)


def _failed(seen: Observation, canary: CanaryRecord) -> Claim:
    last = canary.last
    told = f"{last.detail[:CLIPPED]}…" if len(last.detail) > CLIPPED else last.detail
    passed = age(last.ended, canary.passed_at)
    before = (
        "none has passed since it was loaded" if passed is None else f"the last passed {passed:.0f} s before"
    )
    times = "once" if canary.failed_in_a_row == 1 else f"{canary.failed_in_a_row} times in a row"
    reload, name = seen.reload_remedy(last.key.name), last.key.name
    if last.outcome is CanaryOutcome.TIMEOUT:
        message = f"A canary inference was not answered: {told}"
        if seen.explicit_control:
            reload = (
                f"Where it hangs, restart the Triton container, or load it once more ({seen.load_beside(name)}): "
                "unloading a hung model never ends."
            )
        remedy = f"{reload} If the model may take longer, raise canary.{name}.deadline."
    elif last.outcome is CanaryOutcome.WRONG:
        message = f"A canary inference was answered after {last.seconds:.3g} s, and wrongly: {told}"
        remedy = (
            f"Compare the model's files with what its config.pbtxt and canary.{name}.expected say of its outputs. "
            f"{reload}"
        )
    else:
        message = f"A canary inference ended with an error after {last.seconds:.3g} s: {told}"
        remedy = f"See Triton's log for what the model raised. {reload}"
    return Claim(
        "CanaryFailed",
        _subject(last),
        f"{message} (failed {times}; {before}).",
        remedy,
        last.ended,
        {
            "outcome": last.outcome.value,
            "seconds": round(last.seconds, 3),
            "failed_in_a_row": canary.failed_in_a_row,
            "detail": last.detail,
        },
        action=Action.RESTART_CONTAINER if last.outcome is CanaryOutcome.TIMEOUT else seen.reload_action,
    )


def _unsendable(last: CanaryResult) -> Claim:
    return Claim(
        "CanaryFailed",
        _subject(last),
        f"No canary can be sent to it: {last.detail}",
        f"Mend canary.{last.key.name} in the probe's configuration, or triton_probe.canary in the model's "
        "config.pbtxt; `off` there sends none.",
        last.ended,
        {"outcome": last.outcome.value, "detail": last.detail},
        action=Action.CHECK_CONFIG,
        severity=Severity.WARNING,
        spares=_NO_GATE,
    )


def _unknown(seen: Observation) -> Iterator[Claim]:
    models = seen.book.models
    if models.index_at is None:
        return
    for name in sorted(seen.settings.canary.keys() - models.known - frozenset(seen.settings.models.ignore)):
        yield Claim(
            "CanaryFailed",
            Subject(SubjectKind.MODEL, model=name),
            f"No canary can be sent to it: canary.{name} names a model that Triton's repository does not have.",
            f"Mend the name in canary.{name}, or put the model into Triton's repository.",
            models.index_at,
            {"outcome": CanaryOutcome.UNSENDABLE.value},
            action=Action.CHECK_CONFIG,
            severity=Severity.WARNING,
            spares=_NO_GATE,
        )
