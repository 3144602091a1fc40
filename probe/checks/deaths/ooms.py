"""Did the kernel kill processes of Triton's container for want of memory of late, and is any of them still missing?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.deaths.around import memory_evidence, memory_remedy, memory_says
from probe.checks.deaths.ends import UNNAMED, largest, of_trees, trees_at
from probe.checks.deaths.load_deaths import deaths_in, unwatched_kill
from probe.checks.observation import Observation
from probe.checks.stubs import believed_deaths
from probe.facts.findings import CONTAINER, Claim
from probe.facts.instants import Instant
from probe.facts.models import ModelState
from probe.facts.processes import Exit, ProcessId
from probe.ledgers.kills import WINDOW, Rise
from probe.ledgers.obituaries import Obituary, Role

LATE = 600.0
"""Seconds for which a kill is told: the kubelet's longest wait between two starts (5 min) passes within it twice."""
_NAMED = 5


def judge(seen: Observation) -> Iterator[Claim]:
    """One claim for all kills that are late enough, or whose victims are still missing."""
    if not seen.book.kills.rises:
        return
    missing = _missing(seen)
    told = [each for each in seen.book.kills.rises if _tells(seen, each, missing)]
    if told:
        yield _killed(seen, told)


def _tells(seen: Observation, rise: Rise, missing: frozenset[ProcessId]) -> bool:
    late = seen.now.mono - rise.after.observed.mono <= LATE
    return late or any(each.id in missing for each in rise.victims)


def _missing(seen: Observation) -> frozenset[ProcessId]:
    """Who ended and has no one in its place yet."""
    server = seen.book.server
    if server.gone is not None and server.process is not None:
        return frozenset((server.process,))
    found: set[ProcessId] = set()
    for record in seen.records():
        if record.ready:
            found |= {each.id for each in believed_deaths(seen, record)}
            found |= {each.exit.id for each in seen.book.workers.of(record.key)}
        elif record.state is ModelState.UNAVAILABLE and record.reason:
            found |= {each.id for each in deaths_in(seen, record)}
    return frozenset(found)


def _of_last(rises: list[Rise]) -> list[Rise]:
    """Those of the container that the last of them was of."""
    first = len(rises) - 1
    while first and rises[first].continues(rises[first - 1]):
        first -= 1
    return rises[first:]


def _killed(seen: Observation, told: list[Rise]) -> Claim:
    rises = _of_last(told)
    first, last = rises[0], rises[-1]
    victims = [victim for each in rises for victim in each.victims]
    kills = sum(each.kills for each in rises)
    unknown = sum(each.unclaimed for each in rises)
    deaths = {each.id: each for each in seen.book.obituaries.kept}
    latest = deaths.get(last.victims[-1].id) if last.victims else None
    moment = last.event_at or last.after.observed
    likely = sorted(_likely(seen, rises))
    left = 0 if last.whole else unknown - len(likely)
    names = _names(victims, deaths, likely, left, "saw end yet" if _to_come(seen, last) else "watched")
    trees = trees_at(seen, moment, latest.epoch) if last.whole and latest is not None else ()
    earlier = sum(each.kills for each in told[: -len(rises)])
    parts = (
        _says(last, kills),
        f"It was {names}." if kills == 1 and not last.whole else f"Among them: {names}.",
        memory_says(last.scene, last.after.observed, latest.after if latest is not None else None),
        largest(trees),
        _earlier(earlier, told[-len(rises) - 1]) if earlier else "",
    )
    size = 0 if last.whole or latest is None else latest.rss_bytes
    return Claim(
        "OomKilled",
        CONTAINER,
        " ".join(each for each in parts if each),
        memory_remedy(seen, last.scene, latest.after if latest is not None else None, size),
        last.after.observed,
        {
            "kills": kills,
            "count_before": first.before.kills,
            "count_after": last.after.kills,
            "count_file": last.after.path or None,
            "kills_in_containers_before": earlier,
            "victims": names,
            "victims_unknown": unknown,
            "whole_container": last.whole,
            "oom_group": last.after.grouped,
            "earlier_container": last.over,
            "killed_at": _time(last.event_at) if last.event_at is not None else None,
            **memory_evidence(last.scene, last.after.observed),
            **of_trees(trees),
        },
        event_at=last.event_at,
    )


def _says(last: Rise, kills: int) -> str:
    when = _when(last)
    before = " before this one" if last.over else ""
    if last.whole:
        return (
            f"The kernel killed the whole of Triton's container{before} for want of memory {when}, "
            f"{kills} process{'es' if kills > 1 else ''} by its count: memory.oom.group is set, so that one process "
            "too large takes all with it."
        )
    which = f"Triton's container{before}"
    if kills == 1:
        return f"The kernel killed a process of {which} for want of memory {when}."
    return f"The kernel killed {kills} processes of {which} for want of memory, the last {when}."


def _earlier(kills: int, last: Rise) -> str:
    return (
        f"Before that it had killed {kills} process{'es' if kills > 1 else ''} of earlier containers, the last "
        f"{_when(last)}."
    )


def _when(rise: Rise) -> str:
    # A look that finds a higher count does not tell when it rose.
    if rise.event_at is not None:
        return f"at {_time(rise.event_at)}"
    return f"between {_time(rise.before.observed)} and {_time(rise.after.observed)}"


def _likely(seen: Observation, rises: list[Rise]) -> Iterator[str]:
    for record in seen.records():
        if record.state is ModelState.UNAVAILABLE and unwatched_kill(seen, record) in rises:
            yield f"by all appearances a stub of {record.key.name}, which failed to load"


def _to_come(seen: Observation, last: Rise) -> bool:
    """Whether the end of whom it hit may still be told: who held much takes seconds to die."""
    return last.told and seen.now.mono - last.after.observed.mono <= WINDOW


def _names(
    victims: list[Exit], deaths: dict[ProcessId, Obituary], likely: list[str], unknown: int, what: str
) -> str:
    named = [_name(each, deaths.get(each.id)) for each in victims]
    # Triton itself first: with it all is gone.
    named.sort(key=lambda each: not each.startswith(Role.SERVER.value))
    more = len(named) - _NAMED
    shown = [*named[:_NAMED], f"{more} more that were watched"] if more > 0 else named
    shown += likely
    if unknown > 0 or not shown:
        shown.append(f"a process that nobody {what}" if unknown <= 1 else f"{unknown} that nobody {what}")
    return ", ".join(shown)


def _name(event: Exit, death: Obituary | None) -> str:
    if death is None:
        return f"a process below a stub (pid {event.id.pid})"
    if death.role is Role.SERVER:
        return f"tritonserver (pid {death.id.pid})"
    of = f" of {death.arguments.name}" if death.role is Role.WORKER and death.arguments is not None else ""
    what = f"the {death.role.value} {death.name}" if death.name else UNNAMED
    return f"{what}{of} (pid {death.id.pid})"


def _time(moment: Instant) -> str:
    return moment.as_datetime().strftime("%Y-%m-%dT%H:%M:%SZ")
