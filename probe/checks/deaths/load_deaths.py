"""What did the probe see die in a load that failed, and what does that add to Triton's own text?"""

from __future__ import annotations

from itertools import islice

from probe.checks.deaths.around import (
    cure_of,
    evidence,
    memory_evidence,
    memory_remedy,
    memory_says,
    of_shm,
    shm_remedy,
    shm_says,
    surroundings,
)
from probe.checks.deaths.causes import Cause, cause_of
from probe.checks.deaths.earlier_kills import killed_earlier
from probe.checks.load_failures import LoadFailure, Told, classify
from probe.checks.observation import Observation
from probe.facts.findings import Scalar
from probe.facts.instants import Instant
from probe.facts.models import ModelState
from probe.ledgers.kills import Rise
from probe.ledgers.models import ModelRecord
from probe.ledgers.obituaries import Obituary, Role
from probe.ledgers.ownership import may_be_of

_OPEN = ("stub_unhealthy", "unknown")
"""Causes that Triton's text leaves open."""
AFTERWARDS = 15.0
"""Seconds after a failure within which a kill that happened in the load is still found by a look: three of them."""


def told_of(seen: Observation, record: ModelRecord) -> Told:
    """Why this load failed, from Triton's text and from what the probe saw."""
    failure = classify(record.reason)
    deaths = deaths_in(seen, record)
    if failure.cause == "shm_exhausted":
        return _shm(seen, failure)
    if failure.cause in _OPEN:
        if deaths:
            return _died(seen, record, failure, deaths)
        rise = unwatched_kill(seen, record)
        if rise is not None:
            return _killed(seen, rise)
        records = seen.book.models.records.values()
        earlier = killed_earlier(seen, record, (each for each in records if not deaths_in(seen, each)))
        if earlier is not None:
            return earlier
        if failure.cause == "stub_unhealthy":
            return _unseen(seen, record, failure)
    elif deaths and deaths[0].exit.oom_killed:
        # A worker's end is an error of the model's own code, in the words of its framework.
        return _died(seen, record, failure, deaths)
    return Told(failure.cause, "", failure.remedy)


def deaths_in(seen: Observation, record: ModelRecord) -> tuple[Obituary, ...]:
    """Who died in the latest load of this version while it was loading, the one that tells most first."""
    started = record.tried_after
    mine = [
        each
        for each in seen.lost_in_loads.get(record.key.name, ())
        if each.arguments is not None
        and may_be_of(each.arguments, record.key, seen.book.models.known)
        and (started is None or each.exit.observed.mono > started.mono)
        and _tells(each, record)
    ]
    if not mine:
        return ()
    # Of one load are those that lived at the same time.
    last = max(mine, key=lambda each: each.began.mono)
    return tuple(sorted((each for each in mine if each.exit.observed.mono >= last.began.mono), key=_rank))


def lost_while_loading(seen: Observation, record: ModelRecord) -> tuple[str, str]:
    """Of a load that goes on: who of it was killed or failed, as sentences, and the manifest's line; else empty."""
    deaths = deaths_in(seen, record)
    if not deaths or not (deaths[0].exit.violent or deaths[0].exit.oom_killed):
        return "", ""
    cause = cause_of(seen, deaths[0].exit)
    said = said_of(seen, deaths[0], cause, len(deaths) - 1)
    return f" {said}", cure_of(seen, deaths[0])


def _tells(death: Obituary, record: ModelRecord) -> bool:
    if death.exit.oom_killed:
        return True
    # One by the bare name of the model only completes its configuration, and ends.
    helper = death.name == record.key.name and not death.exit.violent
    return death.role is Role.STUB and not helper


def _rank(death: Obituary) -> tuple[bool, bool, bool, bool, float]:
    event = death.exit
    return (
        not event.oom_killed,
        death.role is not Role.STUB,
        event.signal is None,
        not event.code,
        event.observed.mono,
    )


def _died(seen: Observation, record: ModelRecord, failure: LoadFailure, deaths: tuple[Obituary, ...]) -> Told:
    first = deaths[0]
    cause = cause_of(seen, first.exit)
    named = failure.cause
    if named in _OPEN and cause.oom:
        named = "stub_oom_killed"
    elif named in _OPEN and of_shm(first):
        named = "shm_exhausted"
    return Told(
        named,
        f" {said_of(seen, first, cause, len(deaths) - 1)}",
        _remedy(seen, record, failure, first),
        {
            "pid": first.id.pid,
            "process": first.name,
            "ended": cause.says,
            "cause_rests_on": cause.rests_on,
            "signal": first.exit.signal,
            "exit_code": first.exit.code,
            "last_rss_bytes": first.rss_bytes,
            "processes_dead": len(deaths),
            **evidence(first),
        },
    )


def said_of(seen: Observation, death: Obituary, cause: Cause, others: int) -> str:
    """A process that died in a load, as sentences."""
    whose = "stub process" if death.role is Role.STUB else "worker"
    more = f", and {others} more of the same load ended" if others else ""
    rests = f" ({cause.rests_on})" if cause.oom else ""
    beside = surroundings(death, cause)
    said = f"Its {whose} {death.name} (pid {death.id.pid}) ended while it loaded, {cause.says}{rests}{more}."
    if death.exit.signal is None and not cause.oom and death.exit.code is None:
        kills = _may_be_killed(seen, death.began, death.exit.observed)
        said = f"{said} {kills}" if kills else said
    return f"{said} {beside}" if beside else said


def _remedy(seen: Observation, record: ModelRecord, failure: LoadFailure, death: Obituary) -> str:
    cure = cure_of(seen, death)
    if cure:
        return f"{cure} Then load {record.key.name} again."
    event = death.exit
    if event.code is not None:
        return (
            "The model's own code, or a library of it, ended the process while it was loading (os._exit, sys.exit, "
            "abort): read Triton's log for what initialize() did."
        )
    if event.signal is not None:
        return (
            "Neither memory nor /dev/shm was seen to be short: read Triton's log for what initialize() did, and look "
            "for who sends such a signal (a crash in a library, a debugger, an agent of the node)."
        )
    return failure.remedy


def _shm(seen: Observation, failure: LoadFailure) -> Told:
    looks = [each.shm for each in seen.book.scenes.looks if each.shm is not None and each.shm.size_bytes]
    shm = looks[-1] if looks else None
    if shm is None:
        return Told(failure.cause, "", failure.remedy)
    figures: dict[str, Scalar] = {"shm_used_bytes": shm.used_bytes, "shm_size_bytes": shm.size_bytes}
    return Told(failure.cause, f" At its last look {shm_says(shm)}.", shm_remedy(shm), figures)


def unwatched_kill(seen: Observation, record: ModelRecord) -> Rise | None:
    """The OOM kill in this load that nobody else can have been, where its stub lived too shortly to be seen.

    None where one was seen to die in it; only where there is a kill for each such load of that time.
    """
    if classify(record.reason).cause != "stub_unhealthy" or deaths_in(seen, record):
        return None
    free = [each for each in seen.book.kills.rises if each.unclaimed and _in_load(each, record)]
    if not free:
        return None
    others = (
        each
        for each in seen.book.models.records.values()
        if each.state is ModelState.UNAVAILABLE
        and any(_in_load(rise, each) for rise in free)
        and classify(each.reason).cause == "stub_unhealthy"
        and not deaths_in(seen, each)
    )
    # One load too many settles it: a thousand may have failed together.
    kills = sum(each.unclaimed for each in free)
    return free[-1] if len(list(islice(others, kills + 1))) <= kills else None


def _in_load(rise: Rise, record: ModelRecord) -> bool:
    began, failed = record.tried_after, record.since
    if rise.over or began is None or failed is None:
        return False
    until = rise.after.observed.mono
    return rise.before.observed.mono < failed.mono and began.mono < until <= failed.mono + AFTERWARDS


def _killed(seen: Observation, rise: Rise) -> Told:
    before, after = rise.before, rise.after
    rests = (
        f"oom_kill of {after.path or 'the container'} rose from {before.kills} to {after.kills} while it loaded, and "
        "no process that the probe watched ended of it"
    )
    held = memory_says(rise.scene, after.observed)
    return Told(
        "stub_oom_killed",
        f" The kernel killed a process of the container for want of memory: {rests}. {held}".rstrip(),
        f"{memory_remedy(seen, rise.scene)} Then load the model again.",
        {
            "cause_rests_on": rests,
            "oom_kills_before": before.kills,
            "oom_kills_after": after.kills,
            **memory_evidence(rise.scene, after.observed),
        },
    )


def _unseen(seen: Observation, record: ModelRecord, failure: LoadFailure) -> Told:
    said = [" The probe did not see its stub process end."]
    until = (record.since or seen.now).shifted(AFTERWARDS)
    said.append(_may_be_killed(seen, record.tried_after, until))
    looks = seen.book.scenes.looks
    scene = looks[-1] if looks else None
    figures: dict[str, Scalar] = {}
    if scene is not None:
        limit = scene.memory.limit
        if limit is not None and limit.value is None:
            said.append("The container has no memory limit.")
        shm = shm_says(scene.shm)
        said.append(f"At its last look {shm}." if shm else "")
        if scene.memory.oom_kills is not None:
            figures["oom_kills"] = scene.memory.oom_kills
    return Told(failure.cause, " ".join(each for each in said if each), failure.remedy, figures)


def _may_be_killed(seen: Observation, began: Instant | None, ended: Instant) -> str:
    """Kills in this time of which nobody knows whom they hit, as a possibility; empty where there is none."""
    left = seen.book.kills.unexplained(began, ended)
    if not left:
        return ""
    return (
        f"The kernel has killed {left} process{'es' if left > 1 else ''} of this container for want of memory of "
        "which it is not known whom, perhaps this one."
    )
