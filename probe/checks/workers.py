"""Did a process below a stub die, such as a vLLM engine core, while its model stays loaded?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.deaths.around import cure_of, evidence, surroundings
from probe.checks.deaths.causes import cause_of
from probe.checks.observation import Observation
from probe.facts.findings import Claim, Subject, SubjectKind
from probe.ledgers.kinds import WorkerKind, named
from probe.ledgers.models import ModelRecord
from probe.ledgers.workers import DeadWorker


def judge(seen: Observation) -> Iterator[Claim]:
    """One claim for each instance that lost workers."""
    if not seen.watching:
        return
    for record in seen.records():
        if not record.ready:
            continue
        lost: dict[str, list[DeadWorker]] = {}
        for each in seen.book.workers.of(record.key):
            lost.setdefault(each.last.arguments.name, []).append(each)
        for instance, deaths in lost.items():
            yield _dead(seen, record, instance, deaths)


def _dead(seen: Observation, record: ModelRecord, instance: str, deaths: list[DeadWorker]) -> Claim:
    # The first is the likeliest cause of the others: an engine ends its workers when one of them dies.
    first = next((each for each in deaths if each.last.kind is WorkerKind.ENGINE), deaths[0])
    process = first.last.process
    cause = cause_of(seen, first.exit)
    alive = len(seen.book.families.of(first.last.stub))
    others = len(deaths) - 1
    more = f", and {others} more ended" if others else ""
    left = f"{alive or 'no'} other process{'es' if alive > 1 else ''} of the same stub"
    reload = seen.loss_remedy(record.key.name)
    obituary = seen.book.obituaries.of(first.exit.id)
    manifest = cure_of(seen, obituary)
    around = surroundings(obituary, cause) if obituary is not None else ""
    return Claim(
        "WorkerDead",
        Subject(SubjectKind.INSTANCE, model=record.key.name, version=record.key.version, instance=instance),
        f"Its worker {named(process)} (pid {process.id.pid}) exited, {cause.says}{more}, while the model stayed "
        f"loaded; {left} {'run on' if alive > 1 else 'runs on' if alive else 'is left'}. The stub (pid "
        f"{first.last.stub.pid}) lives and Triton still says that the model is ready, but requests that need the "
        "worker fail or wait." + (f" {around}" if around else ""),
        f"{manifest} Then: {reload}" if manifest else reload,
        first.exit.observed,
        {
            "pid": process.id.pid,
            "title": named(process),
            "kind": first.last.kind.value,
            **cause.evidence(first.exit),
            "stub_pid": first.last.stub.pid,
            "last_rss_bytes": process.rss_bytes,
            "workers_dead": len(deaths),
            "workers_alive": alive,
            **evidence(obituary),
        },
        event_at=first.exit.observed,
        action=seen.reload_action,
    )
