"""Was the stub of a load that nobody saw begin one of those that the kernel had killed by then?"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from probe.checks.container.manifest import size_of
from probe.checks.deaths.around import memory_evidence, memory_remedy
from probe.checks.load_failures import Told, classify
from probe.checks.observation import Observation
from probe.facts.models import ModelState
from probe.ledgers.models import ModelRecord


def killed_earlier(seen: Observation, record: ModelRecord, unexplained: Iterable[ModelRecord]) -> Told | None:
    """The cause of such a load, where the container's count can be laid to it; else None.

    The count is of this container's life, and so are the failures: they are laid to each other only where there is a
    kill for each of the ``unexplained`` (in which nobody was seen to die), and for each stub that is missing besides.
    """
    if record.since is None or not _began_unseen(record):
        return None
    kills = seen.book.kills.unexplained(None, record.since)
    if not kills:
        return None
    spare = kills - _missing(seen)
    # One load too many settles it: a thousand may have failed together.
    failed = len(list(islice(filter(_began_unseen, unexplained), max(0, spare) + 1)))
    return _told(seen, kills) if failed <= spare else None


def _began_unseen(record: ModelRecord) -> bool:
    # What the first answers already show as failed was tried nobody knows when.
    failed = record.state is ModelState.UNAVAILABLE and record.tried_after is None
    return failed and classify(record.reason).cause == "stub_unhealthy"


def _missing(seen: Observation) -> int:
    """Stubs of loaded models that are not there and were not seen to end."""
    stubs = seen.book.stubs
    called_for = {
        each.key: stubs.expected(each.key, each.config) or 0 for each in seen.records() if each.ready
    }
    there = {key: len(stubs.of(key)) + len(stubs.deaths_of(key)) for key in called_for}
    return sum(max(0, count - there[key]) for key, count in called_for.items())


def _told(seen: Observation, kills: int) -> Told:
    last = seen.book.kills.last
    path = last.path if last is not None and last.path else "the container"
    of = "kills of which it is not known whom" if kills > 1 else "kill of which it is not known whom"
    rests = f"oom_kill of {path} counts {kills} {of}, and nobody else is missing"
    looks = seen.book.scenes.looks
    scene = looks[-1] if looks else None
    peak = scene.memory.peak_bytes if scene is not None else None
    reached = f"; the container's peak was {size_of(peak)}" if peak else ""
    held = memory_evidence(scene, scene.observed) if scene is not None else {}
    figures = {**held, "container_peak_bytes": peak, "container_seconds_before": None}
    return Told(
        "stub_oom_killed",
        f" By all appearances the kernel killed its stub process for want of memory: {rests}{reached}.",
        f"{memory_remedy(seen, None, scene)} Then load the model again.",
        {
            "cause_rests_on": rests,
            "oom_kills": kills,
            **{name: value for name, value in figures.items() if value is not None},
        },
    )
