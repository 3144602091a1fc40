"""What to ask Triton beyond the poll: pure, and sparing, for each question is work on Triton's one thread."""

from __future__ import annotations

from collections.abc import Iterator

from probe.facts.instants import Instant
from probe.facts.models import ModelState, ModelVersion
from probe.facts.releases import ModelReady, semantics
from probe.facts.triton import Inquiry
from probe.ledgers.book import Book, age
from probe.ledgers.deaths import in_doubt
from probe.ledgers.models import ModelRecord
from probe.settings import Settings

INDEX_AGE = 60.0
"""Seconds after which the repository index is read again although nothing calls for it."""
CONFIG_AGE = 60.0
"""Seconds after which a configuration is read again: a reload without traffic shows nowhere else."""
CONFIGS_AT_MOST = 200
READINESS_AT_MOST = 100
"""Questions in one go: 0.13 ms of Triton's thread each (release 24.10)."""

REST = 10.0
"""Times its own length that a slow question on readiness is left alone: at most a tenth of Triton's thread."""

_WITH_STUBS = ("python", "vllm")
_TRUE = ("true", "1", "on")
_REMOTE = ("s3://", "gs://", "as://")


def agenda(book: Book, settings: Settings, suspects: frozenset[str], now: Instant) -> Inquiry:
    """The questions due now.

    ``suspects``: models with a critical finding, or whose stubs changed; what is known of them is read
    again at every look, so that a cure shows at once.  So is that of a model with a stub that may have been
    taken away with a lower count of instances.
    """
    if not book.server.up or book.server.gone is not None or book.models.statistics_at is None:
        return Inquiry()
    return Inquiry(
        configs=tuple(_configs(book, suspects, now))[:CONFIGS_AT_MOST],
        readiness=tuple(_readiness(book, now))[:READINESS_AT_MOST],
        index=_index(book, settings, now),
    )


def _configs(book: Book, suspects: frozenset[str], now: Instant) -> Iterator[ModelVersion]:
    # What was never read comes first and the oldest next, so that the cap delays a model and starves none.
    ready = sorted(
        (each for each in book.models.records.values() if each.ready),
        key=lambda each: each.config_at.mono if each.config_at is not None else float("-inf"),
    )
    unknown = [each.key for each in ready if each.config_at is None or _reloaded(each, each.config_at)]
    yield from unknown
    doubted = {
        death.model
        for death in book.stubs.dead
        if death.model is not None
        and not death.believed
        and (record := book.models.records.get(death.model)) is not None
        and in_doubt(death, record)
    }
    suspected = [
        each.key
        for each in ready
        if (each.key.name in suspects or each.key in doubted) and each.key not in unknown
    ]
    yield from suspected
    # One of the others a look: 20 models are read again every 100 s at 5 s a look.
    others = (each for each in ready if each.key not in unknown and each.key not in suspected)
    oldest = next(others, None)
    if oldest is not None and (age(now, oldest.config_at) or 0.0) > CONFIG_AGE:
        yield oldest.key


def _reloaded(record: ModelRecord, read: Instant) -> bool:
    return record.ready_since is not None and read.mono < record.ready_since.mono


def _readiness(book: Book, now: Instant) -> Iterator[ModelVersion]:
    meaning = semantics(book.server.version)
    if meaning is None or meaning.model_ready is ModelReady.LIFECYCLE:
        # ModelReady is the lifecycle's state, which the statistics told already.
        return
    asked = [each for each in book.models.records.values() if _can_be_unready(book, each)]
    if meaning.server_ready_sees_instances and book.server.ready and _strict(book):
        # A ready server has asked every model itself; only doubts are left to clear.
        asked = [each for each in asked if each.told_ready is False]
    # A slow is_ready() comes last, for it may use up the time of all others, and seldom.
    due = [each for each in asked if not _rests(each, now)]
    yield from (each.key for each in sorted(due, key=_turn))


def _turn(record: ModelRecord) -> tuple[float, float]:
    return record.readiness_seconds, record.told_ready_at.mono if record.told_ready_at else 0.0


def _can_be_unready(book: Book, record: ModelRecord) -> bool:
    # Of all backends only the python backend answers for its instances (python_backend 395a780), and so do
    # those that are written in python on top of it, which are known by their stubs.
    if not record.ready or record.config is None:
        return False
    return record.config.backend in _WITH_STUBS or bool(book.stubs.of(record.key))


def _strict(book: Book) -> bool:
    # With --strict-readiness=false the server's word says nothing of its models; an unseen option may be that.
    server = book.server.server
    if server is None or not server.arguments:
        return False
    return (server.option("strict-readiness") or "true").casefold() in _TRUE


def _rests(record: ModelRecord, now: Instant) -> bool:
    # While Triton asks the model it answers nobody else (server, ``grpc_server.cc``: one thread for all).
    since = age(now, record.readiness_asked)
    return since is not None and since < record.readiness_seconds * REST


def _index(book: Book, settings: Settings, now: Instant) -> bool:
    since = age(now, book.models.index_at)
    if since is None:
        return True
    # Reading the index lists the repository's folders; in an object store that is many requests, on the
    # thread that answers everybody's health checks (server issue 4715).
    if since < (INDEX_AGE if _remote(book) else settings.interval * 0.9):
        return False
    unsettled = any(
        each.state in (ModelState.LOADING, ModelState.UNLOADING) for each in book.models.records.values()
    )
    absent = any(not book.models.named(name) for name in settings.models.required)
    return (
        bool(book.models.vanished) or unsettled or absent or book.server.ready is False or since > INDEX_AGE
    )


def _remote(book: Book) -> bool:
    server = book.server.server
    return server is not None and any(path.startswith(_REMOTE) for path in server.options("model-repository"))
