"""Was enough watched to tell a size?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.models import UNLOADED
from probe.checks.observation import Observation
from probe.checks.sizing.quantities import span
from probe.facts.models import ModelState
from probe.ledgers.models import ModelRecord
from probe.ledgers.peaks import PeaksLedger

WATCHED_SECONDS = 600.0
"""Seconds of serving at least: caches, pools and regions grow for some minutes."""
LOOKS = 30
"""Looks at the container at least."""
BUSY_MINUTES = 5
"""Minutes with requests at least: idleness says nothing of load."""
NAMED = 5


def missing(seen: Observation) -> Iterator[str]:
    """What is missing, a sentence each; nothing where enough was watched."""
    peaks = seen.book.peaks
    container = peaks.container
    if container.memory.highest is None:
        yield _unread(seen)
        return
    if peaks.gone:
        yield f"{_named(peaks.gone)} left for good and held much: the figures begin anew with that."
    if container.watched_seconds < WATCHED_SECONDS:
        yield (
            f"It has watched Triton serve for {span(container.watched_seconds)}: {span(WATCHED_SECONDS)} at least."
        )
    if container.looks < LOOKS:
        yield f"It has looked {container.looks} times: {LOOKS} at least."
    minutes, busy = container.minutes
    if busy < BUSY_MINUTES:
        yield f"Requests came in {busy} of {minutes} minutes: {BUSY_MINUTES} at least."
    if container.memory.load is None:
        yield "No model was seen to load: what a load takes at its highest is not among the figures."
    yield from _not_loaded(seen)
    yield from _unasked(seen, peaks)


def _unread(seen: Observation) -> str:
    reading = seen.book.container
    if reading is not None and reading.denied:
        return "What Triton's container takes may not be read: nothing can be told of its size."
    if seen.book.server.up or reading is not None:
        return "What Triton's container takes was not read yet, or can not be seen from here."
    return "Triton has not been seen to serve yet."


def _not_loaded(seen: Observation) -> Iterator[str]:
    names = [str(each.key) for each in seen.records() if _lacks(seen, each)]
    if names:
        yield f"Triton has not loaded {_named(tuple(names))}: what they take is not among the figures."


def _lacks(seen: Observation, record: ModelRecord) -> bool:
    failed = record.state is ModelState.UNAVAILABLE and record.reason not in ("", UNLOADED)
    loading = record.state is ModelState.LOADING
    return (failed or loading) and not seen.has_ready_version(record.key.name)


def _unasked(seen: Observation, peaks: PeaksLedger) -> Iterator[str]:
    names = [
        str(each.key)
        for each in seen.records()
        if each.ready
        and not (each.config is not None and each.config.ensemble)
        and not peaks.seen_requests(each)
    ]
    if names:
        yield f"Nobody asked {_named(tuple(names))} since the probe watches: what they take for it is not known."


def _named(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
