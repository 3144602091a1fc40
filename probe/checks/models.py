"""Has Triton each model ready, and if not, why?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.deaths.load_deaths import lost_while_loading, told_of
from probe.checks.observation import Observation
from probe.facts.findings import Action, Claim, Subject, SubjectKind
from probe.facts.gates import Gate
from probe.facts.instants import Instant
from probe.facts.models import ModelState
from probe.ledgers.book import age
from probe.ledgers.models import ModelRecord

UNLOADED = "unloaded"
"""The index's reason for a version that was unloaded on demand: no fault of its own."""


def judge(seen: Observation) -> Iterator[Claim]:
    """One claim a model version that is not as it should be, and one for each required model without any."""
    if not seen.watching:
        return
    required = seen.required
    for record in seen.records():
        yield from _stuck(seen, record)
        wanted = record.key.name in required
        if record.ready:
            yield from _told_unready(seen, record)
        elif record.state is ModelState.LOADING and not seen.has_ready_version(record.key.name):
            yield _loading(seen, record, wanted=wanted)
        elif record.state is ModelState.UNAVAILABLE and record.reason not in ("", UNLOADED):
            yield _failed(seen, record)
        elif wanted and not seen.has_ready_version(record.key.name):
            yield from _absent(seen, record)
    yield from _missing(seen, required)


def _subject(record: ModelRecord) -> Subject:
    return Subject(SubjectKind.MODEL, model=record.key.name, version=record.key.version)


def _observed(record: ModelRecord) -> Instant:
    return record.since or Instant(0.0, 0.0)


def _loading(seen: Observation, record: ModelRecord, *, wanted: bool) -> Claim:
    seconds = age(seen.now, record.since) or 0.0
    # A model that nobody requires may load beside those that serve.
    spares = frozenset() if wanted else frozenset((Gate.READY,))
    lost, cure = lost_while_loading(seen, record)
    return Claim(
        "ModelLoading",
        _subject(record),
        f"Triton is loading it, for {seconds:.0f} s so far, and no version of it is ready.{lost}",
        f"{cure} Triton says within seconds that the load failed, or waits for ever."
        if cure
        else "Wait; a load that never ends shows in Triton's log (a python model's initialize() has no deadline).",
        _observed(record),
        {"required": wanted},
        spares=spares,
    )


_STUCK = {
    ModelState.LOADING: (
        "ModelStuckLoading",
        "loading",
        (
            "A load has no deadline: initialize() may hang (a download, a lock, an import), and a python model "
            "without its model.py loads for ever. Triton's log tells how far it came. It can not be unloaded: restart "
            "the Triton container once the cause is mended."
        ),
    ),
    ModelState.UNLOADING: (
        "ModelStuckUnloading",
        "unloading",
        (
            "An unload waits for every request to end, and for ever where an instance hangs in execute() or its stub "
            "died. Loading it again works all the same (seen in 24.10); what the old load holds (memory, /dev/shm, "
            "processes) comes back with a restart of the Triton container."
        ),
    ),
}


def _stuck(seen: Observation, record: ModelRecord) -> Iterator[Claim]:
    told = _STUCK.get(record.state)
    seconds = age(seen.now, record.since) or 0.0
    if told is None or seconds < seen.settings.models.stuck_after:
        return
    reason, doing, remedy = told
    serves = seen.has_ready_version(record.key.name)
    also = " Another version of it serves meanwhile." if serves else ""
    lost, cure = lost_while_loading(seen, record) if record.state is ModelState.LOADING else ("", "")
    yield Claim(
        reason,
        _subject(record),
        f"Triton has been {doing} it for {seconds:.0f} s, longer than models.stuck_after "
        f"({seen.settings.models.stuck_after:g} s).{lost}{also}",
        f"{cure} {remedy}".lstrip(),
        seen.book.models.index_at or _observed(record),
        {"seconds": round(seconds, 1), "state": record.state.value, "another_version_ready": serves},
    )


def _failed(seen: Observation, record: ModelRecord) -> Claim:
    told = told_of(seen, record)
    serving = seen.has_ready_version(record.key.name)
    also = " Another version of it serves." if serving else ""
    text = record.reason if record.reason.endswith(".") else f"{record.reason}."
    return Claim(
        "ModelLoadFailed",
        _subject(record),
        f"Triton gave up loading it ({told.cause}): {text}{told.beside}{also}",
        told.remedy,
        _observed(record),
        {"cause": told.cause, "triton": record.reason, **told.evidence},
        spares=frozenset((Gate.READY,)) if serving else frozenset(),
    )


_ABSENT = {
    ModelState.UNAVAILABLE: "Triton has unloaded it",
    ModelState.UNLOADING: "Triton is unloading it",
    ModelState.UNKNOWN: "Triton has it ready no longer; why, its repository index does not tell",
}


def _absent(seen: Observation, record: ModelRecord) -> Iterator[Claim]:
    asked = seen.book.models.asked
    if record.state is ModelState.UNKNOWN and asked is not None and asked.mono <= _observed(record).mono:
        # It left the statistics, and nobody asked the index yet: it may be loading.
        return
    yield Claim(
        "ModelNotReady",
        _subject(record),
        f"The model is required and {_ABSENT[record.state]}.",
        "Load it again (POST /v2/repository/models/<model>/load), or take it out of models.required.",
        _observed(record),
        {"state": record.state.value, "triton": record.reason},
        action=Action.RELOAD_MODEL,
    )


def _told_unready(seen: Observation, record: ModelRecord) -> Iterator[Claim]:
    told = seen.told_unready(record)
    if told is None or seen.book.stubs.deaths_of(record.key):
        # Of a death StubDead says the same, with the cause.
        return
    seconds = record.readiness_seconds
    why = (
        f"it took {seconds:.1f} s, so that its is_ready() is slow, or gave no answer within 5 s, as while its stub "
        "executes a request."
        if seconds
        else "its is_ready() says no, or one of its instances is dead."
    )
    yield Claim(
        "ModelNotReady",
        _subject(record),
        f"Triton has the model loaded and answers ModelReady with false: {why}",
        seen.reload_remedy(record.key.name),
        told,
        {"triton_version": seen.book.server.version, "seconds": seconds or None},
        action=seen.reload_action,
    )


def _missing(seen: Observation, required: frozenset[str]) -> Iterator[Claim]:
    models = seen.book.models
    told = models.index_at or models.asked
    if told is None:
        return
    for name in sorted(required - set(seen.settings.models.ignore)):
        if models.named(name):
            continue
        subject = Subject(SubjectKind.MODEL, model=name)
        if models.index_at is None:
            yield Claim(
                "ModelNotReady",
                subject,
                "The model is required, Triton does not have it ready, and its repository index, which would tell "
                "why, is not answered.",
                "See probe.sources in /status for why Triton does not answer RepositoryIndex.",
                told,
                {"state": ModelState.UNKNOWN.value},
            )
        elif name in models.known:
            yield Claim(
                "ModelNotReady",
                subject,
                "The model is required, is in the model repository, and was never loaded.",
                f"Load it: start Triton with --load-model={name}, or POST /v2/repository/models/{name}/load.",
                told,
                {"state": "never loaded"},
                action=Action.RELOAD_MODEL,
            )
        else:
            yield Claim(
                "ModelMissing",
                subject,
                "The model is required by configuration and Triton's repository has no model of this name.",
                "Put it into the model repository that Triton was started with (--model-repository), or mend "
                "models.required.",
                told,
                {"repositories": _repositories(seen)},
            )


def _repositories(seen: Observation) -> str | None:
    server = seen.book.server.server
    if server is None:
        return None
    return " ".join((*server.options("model-repository"), *server.options("model-store"))) or None
