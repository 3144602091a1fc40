"""Does every instance of a loaded python model have a stub process that lives and is not stopped?"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from probe.checks.causes import Cause, cause_of, memory_remedy
from probe.checks.observation import Observation
from probe.facts.findings import Claim, Scalar, Subject, SubjectKind
from probe.facts.gates import Gate
from probe.facts.instants import Instant
from probe.facts.processes import ProcessState
from probe.facts.releases import semantics
from probe.ledgers.models import ModelRecord
from probe.ledgers.stubs import DeadStub, LiveStub


class Lost(msgspec.Struct, frozen=True):
    """Instances of a loaded model that have no live stub; ``observed`` when that was last seen."""

    count: int
    expected: int
    observed: Instant


def judge(seen: Observation) -> Iterator[Claim]:
    """A claim for each death, each stopped stub, and each model with fewer stubs than instances."""
    if not seen.watching:
        return
    for record in seen.records():
        if not record.ready:
            continue
        deaths = believed_deaths(seen, record)
        for death in deaths:
            yield _dead(seen, record, death)
        for stub in seen.book.stubs.of(record.key):
            if stub.stopped_since is not None and _stopped_long(stub):
                yield _frozen(seen, record, stub)
        missing = _unexplained(seen, record, len(deaths))
        if missing is not None:
            yield missing


def believed_deaths(seen: Observation, record: ModelRecord) -> tuple[DeadStub, ...]:
    """The deaths that leave an instance without a stub, latest first."""
    deaths = tuple(each for each in seen.book.stubs.deaths_of(record.key) if each.believed)
    expected = seen.book.stubs.expected(record.key, record.config)
    if expected is None:
        return deaths
    return deaths[: max(0, expected - len(seen.book.stubs.of(record.key)))]


def lost_instances(seen: Observation, record: ModelRecord) -> Lost | None:
    """How many instances of a ready model have witnessed deaths, or None for none."""
    deaths = believed_deaths(seen, record)
    if not deaths:
        return None
    expected = seen.book.stubs.expected(record.key, record.config)
    alive = len(seen.book.stubs.of(record.key))
    return Lost(
        len(deaths), expected if expected is not None else alive + len(deaths), deaths[0].exit.observed
    )


def _instance(record: ModelRecord, name: str) -> Subject:
    return Subject(SubjectKind.INSTANCE, model=record.key.name, version=record.key.version, instance=name)


def _dead(seen: Observation, record: ModelRecord, death: DeadStub) -> Claim:
    alive = len(seen.book.stubs.of(record.key))
    expected = seen.book.stubs.expected(record.key, record.config)
    meaning = semantics(seen.book.server.version)
    # Only where Triton never starts a stub again is a restart the cure: 24.06 and later, and decoupled
    # models of every release (python_backend 27f04d1).
    decoupled = record.config is not None and record.config.decoupled
    stays = decoupled or (meaning is not None and meaning.restarts_stubs is False)
    cause = cause_of(seen, death.exit)
    cure = seen.reload_remedy(record.key.name)
    if cause.oom:
        cure = f"{memory_remedy(seen, death.last.process.rss_bytes)} Then: {cure}"
    says = "says so too" if record.told_ready is False else "still says that the model is ready"
    share = f"{alive} of {expected} instances are left" if expected is not None else f"{alive} are left"
    return Claim(
        "StubDead",
        _instance(record, death.instance),
        f"Its stub process (pid {death.id.pid}) exited, {cause.says}, while the model stayed loaded; "
        f"{share}. Triton {says}, and the dead instance's share of requests fails.",
        cure,
        death.exit.observed,
        _evidence(seen, death, cause, alive, expected),
        spares=frozenset() if stays else frozenset((Gate.LIVE,)),
        event_at=death.exit.observed,
    )


def _evidence(
    seen: Observation, death: DeadStub, cause: Cause, alive: int, expected: int | None
) -> dict[str, Scalar]:
    stub, container = death.last, seen.book.container
    return {
        "pid": death.id.pid,
        **cause.evidence(death.exit),
        "instances_alive": alive,
        "instances_expected": expected,
        "last_rss_bytes": stub.process.rss_bytes,
        "shm_region": stub.arguments.shm_region,
        "container_oom_kills": container.memory.oom_kills if container is not None else None,
    }


def _stopped_long(stub: LiveStub) -> bool:
    # One look at a stopped process is a fact; one in uninterruptible sleep is disk access.
    return stub.stub.process.state is ProcessState.STOPPED or stub.stopped_looks > 1


def _frozen(seen: Observation, record: ModelRecord, stub: LiveStub) -> Claim:
    stopped = stub.stub.process.state is ProcessState.STOPPED
    pid = stub.stub.process.id.pid
    since = stub.stopped_since or seen.now
    return Claim(
        "StubFrozen",
        _instance(record, stub.stub.arguments.name),
        f"Its stub process (pid {pid}) {'is stopped' if stopped else 'hangs in the kernel (state D)'} since "
        f"{max(0.0, seen.now.mono - since.mono):.0f} s; requests that reach it wait.",
        "Find who stopped it (a debugger, a profiler, a frozen cgroup). After a pause in execute the stub can "
        "abort all of Triton when it goes on, so restart the Triton container."
        if stopped
        else "It waits for a device or a file system: look at the node's kernel log and storage, then restart the "
        "Triton container.",
        seen.book.stubs.scanned or since,
        {"pid": pid, "state": stub.stub.process.state.value},
    )


def _may_be_of(stub: LiveStub, record: ModelRecord) -> bool:
    if stub.model is not None or stub.orphaned or record.config is None:
        return False
    group = stub.stub.arguments.name.rpartition("_")[0]
    return not stub.stub.arguments.name or any(each.name == group for each in record.config.groups)


def _unexplained(seen: Observation, record: ModelRecord, explained: int) -> Claim | None:
    stubs = seen.book.stubs
    expected = stubs.expected(record.key, record.config)
    if expected is None or stubs.scanned is None or record.ready_since is None or not seen.book.server.alive:
        return None
    told = max(record.ready_since.mono, record.config_since.mono if record.config_since else 0.0)
    unsettled = len(stubs.deaths_of(record.key)) - explained
    missing = expected - len(stubs.of(record.key)) - explained - unsettled
    # Only a scan that began after Triton said "ready" can miss a stub.
    if missing <= 0 or stubs.scanned.mono <= told:
        return None
    if any(_may_be_of(each, record) for each in stubs.live.values()):
        # A stub that no model could be found for may be the one: then nothing is known to be missing.
        return None
    return Claim(
        "InstancesMissing",
        Subject(SubjectKind.MODEL, model=record.key.name, version=record.key.version),
        f"The model calls for {expected} instances and has {len(stubs.of(record.key))} live stub processes; "
        "no exit was witnessed.",
        seen.reload_remedy(record.key.name),
        stubs.scanned,
        {"expected": expected, "alive": len(stubs.of(record.key)), "missing": missing},
    )
