"""Which canary is due now: pure, and sparing, for a canary takes a model's time and may never come back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from probe.checks.observation import Observation
from probe.facts.canaries import CanaryOrder, CanaryOrigin, CanaryOutcome
from probe.facts.instants import Instant
from probe.facts.models import ModelConfig, ModelVersion
from probe.facts.processes import Server
from probe.facts.status import CanaryTally
from probe.ledgers.book import Book, age
from probe.ledgers.canaries import NO_TALLY, CanaryRecord
from probe.ledgers.models import ModelRecord
from probe.settings import CanarySettings, Settings

PARAMETER = "triton_probe.canary"
"""The parameter of ``config.pbtxt`` by which a model speaks for itself: ``warmup``, ``generate`` or ``off``."""
PAUSE = 0.1
"""Seconds between two canaries: 1,000 idle models are asked over minutes, not all at once."""
SOON = 1.0
"""Seconds after a first failure at most: the second look follows with the next poll."""
BACK_OFF_AT_MOST = 300.0
"""Seconds between canaries of a model that keeps failing: each that timed out may wait in its queue for ever."""
UNSENDABLE_AGAIN = 60.0
"""Seconds after which a canary that could not be made is tried again: a file may have been mended."""

_DEPTH = 16
_STEPS_AT_MOST = 1000
_DOUBLINGS_AT_MOST = 20
_WORDS = {"warmup": CanaryOrigin.WARMUP, "generate": CanaryOrigin.GENERATED}


def due(book: Book, settings: Settings, now: Instant) -> CanaryOrder | None:
    """The one canary to send now, if any: never to a model whose requests, or whose server, speak already."""
    if not _fresh(book, settings, now):
        return None
    ready = [each for each in book.models.records.values() if each.ready]
    orders = {each.key: order for each in ready if (order := order_of(each, book, settings)) is not None}
    proven = _proven_by_ensembles(book, orders)
    waiting = [
        (moment, each.key)
        for each in ready
        if each.key in orders
        and (moment := _moment(book, settings, each, orders[each.key], proven.get(each.key))) <= now.mono
    ]
    # The longest waiting first; an ensemble shortly before its steps, for what answers for it has answered.
    first = min(
        waiting,
        key=lambda each: (each[0] - settings.interval * (len(orders[each[1]].touches) > 1), each[1]),
        default=None,
    )
    return orders[first[1]] if first is not None else None


def order_of(record: ModelRecord, book: Book, settings: Settings) -> CanaryOrder | None:
    """What to send to this model version, or None where nobody asked for a canary."""
    name, config = record.key.name, record.config
    if config is None or name in settings.models.ignore:
        return None
    own = _own_word(config)
    told = settings.canary.get(name)
    if own == "off" or (told is None and not own):
        return None
    told = told or CanarySettings()
    given = bool(told.inputs)
    if own in _WORDS:
        origins: tuple[CanaryOrigin, ...] = (_WORDS[own],)
    elif given:
        origins = (CanaryOrigin.INPUTS,)
    elif told.generate:
        origins = (CanaryOrigin.WARMUP, CanaryOrigin.GENERATED)
    else:
        origins = (CanaryOrigin.WARMUP,)
    return CanaryOrder(
        record.key,
        origins,
        inputs=told.inputs,
        # What is expected for the file's inputs is not what other inputs bring.
        expected={} if own in _WORDS and given else told.expected,
        tolerance=told.tolerance,
        deadline=told.deadline,
        folders=tuple(_folders(book.server.server, name)),
        touches=tuple(_touches(book, record).items()),
        misspelt=own if own and own not in _WORDS else "",
    )


def tallies(seen: Observation) -> dict[str, CanaryTally]:
    """The counters of every model that has a canary, from zero, and of those here that had one."""
    counted = seen.book.canaries.tallies
    ignored = frozenset(seen.settings.models.ignore)
    own = {
        each.key.name
        for each in seen.records()
        if each.config is not None and _own_word(each.config) not in ("", "off")
    }
    wanted = (seen.settings.canary.keys() - ignored) | own | (counted.keys() & seen.book.models.known)
    return {name: counted.get(name, NO_TALLY) for name in sorted(wanted)}


def _own_word(config: ModelConfig) -> str:
    return (config.parameter(PARAMETER) or "").strip().casefold()


def _fresh(book: Book, settings: Settings, now: Instant) -> bool:
    server = book.server
    if not server.up or server.gone is not None or server.last is None or not server.last.live:
        return False
    # Only what was just counted says that a model is idle.
    seconds = age(now, book.models.statistics_at)
    return seconds is not None and seconds <= settings.interval + settings.triton.timeout + 1.0


def _moment(
    book: Book, settings: Settings, record: ModelRecord, order: CanaryOrder, proven: Instant | None
) -> float:
    """From when on it is due, on the monotonic clock."""
    told = settings.canary.get(record.key.name) or CanarySettings()
    period = max(told.idle, settings.interval)
    moments = [record.others.busy_at.mono + told.idle if record.others.busy_at is not None else float("inf")]
    canary = book.canaries.of(record.key)
    if canary is not None:
        moments.append(canary.last.ended.mono + _pause(canary, period, settings.interval))
    if proven is not None and not order.expected and (canary is None or not canary.failed_in_a_row):
        moments.append(proven.mono + period)
    tried = book.canaries.postponed.get(record.key)
    if tried is not None:
        moments.append(tried.mono + settings.interval)
    return max(moments)


def _pause(canary: CanaryRecord, period: float, interval: float) -> float:
    if canary.last.outcome is CanaryOutcome.PASSED:
        return period
    if canary.last.outcome is CanaryOutcome.UNSENDABLE:
        return max(period, UNSENDABLE_AGAIN)
    if canary.failed_in_a_row <= 1:
        return min(SOON, interval / 2)
    doubled: int = 1 << min(canary.failed_in_a_row - 1, _DOUBLINGS_AT_MOST)
    return min(BACK_OFF_AT_MOST, max(interval, SOON) * doubled)


def _proven_by_ensembles(book: Book, orders: dict[ModelVersion, CanaryOrder]) -> dict[ModelVersion, Instant]:
    """When a canary of an ensemble last passed, for each of its steps: it went through all of them."""
    proven: dict[ModelVersion, Instant] = {}
    for key, order in orders.items():
        canary = book.canaries.of(key)
        if canary is None or canary.passed_at is None:
            continue
        for step, _ in order.touches:
            if step != key and (step not in proven or proven[step] < canary.passed_at):
                proven[step] = canary.passed_at
    return proven


def _touches(book: Book, record: ModelRecord) -> dict[ModelVersion, int]:
    counts = {record.key: 1}
    for step in itertools.islice(_steps(book, record, frozenset((record.key,))), _STEPS_AT_MOST):
        counts[step] = counts.get(step, 0) + 1
    return counts


def _steps(book: Book, record: ModelRecord, above: frozenset[ModelVersion]) -> Iterator[ModelVersion]:
    for step in record.config.steps if record.config is not None else ():
        meant = book.models.meant(step)
        if meant is None or meant.key in above or len(above) > _DEPTH:
            continue
        yield meant.key
        yield from _steps(book, meant, above | {meant.key})


def _folders(server: Server | None, model: str) -> Iterator[str]:
    """Where the files of its warmup may be read: as Triton sees them, then as the probe does."""
    if server is None:
        return
    inside = f"/proc/{server.process.id.pid}"
    for path in (*server.options("model-repository"), *server.options("model-store")):
        if "://" in path:
            continue
        if path.startswith("/"):
            yield f"{inside}/root{path}/{model}/warmup"
            yield f"{path}/{model}/warmup"
        else:
            yield f"{inside}/cwd/{path}/{model}/warmup"
