"""Does every instance of a loaded python model have a stub process that lives and is not stopped?"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from probe.checks.deaths.around import cure_of, evidence, surroundings
from probe.checks.deaths.causes import Cause, cause_of
from probe.checks.observation import Observation
from probe.facts.findings import Claim, Scalar, Subject, SubjectKind
from probe.facts.gates import Gate
from probe.facts.instants import Instant
from probe.facts.processes import ProcessState
from probe.facts.releases import semantics
from probe.ledgers.deaths import DeadStub
from probe.ledgers.lives import LiveStub
from probe.ledgers.models import ModelRecord

_BY_REQUEST = (
    "Send the model a request: this release of Triton starts the stub again with it. Where no traffic comes while "
    "/readyz fails, nobody does: send one from inside the pod, or reload the model."
)


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
    lasting = tuple(each for each in deaths if each.unreaped and seen.book.stubs.lasts(each, record))
    others = tuple(each for each in deaths if each not in lasting)
    left = max(0, expected - len(lasting) - len(seen.book.stubs.of(record.key)))
    return (*lasting, *others[:left])


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
    if expected is not None:
        # Stubs of a reload that serves nobody yet may be there too.
        alive = max(0, min(alive, expected - len(believed_deaths(seen, record))))
    comes_back = _restarted(seen, record)
    cause = cause_of(seen, death.exit)
    cure = _BY_REQUEST if comes_back else seen.loss_remedy(record.key.name)
    obituary = seen.book.obituaries.of(death.id)
    manifest = cure_of(seen, obituary)
    if manifest:
        cure = f"{manifest} Then: {cure}"
    around = surroundings(obituary, cause) if obituary is not None else ""
    says = "says so too" if record.told_ready is False else "still says that the model is ready"
    share = f"{alive} of {expected} instances are left" if expected is not None else f"{alive} are left"
    return Claim(
        "StubDead",
        _instance(record, death.instance),
        f"Its stub process (pid {death.id.pid}) exited, {cause.says}, while the model stayed loaded; "
        f"{share}. Triton {says}, and "
        + (
            "starts the stub again with the next request that the instance gets."
            if comes_back
            else "the dead instance's share of requests fails."
        )
        + (f" {around}" if around else ""),
        cure,
        death.exit.observed,
        _evidence(seen, death, cause, alive, expected),
        # Only where Triton is known never to start it again is a restart the cure.
        spares=frozenset() if comes_back is False else frozenset((Gate.LIVE,)),
        event_at=death.exit.observed,
        action=seen.reload_action,
    )


def _restarted(seen: Observation, record: ModelRecord) -> bool | None:
    # Up to 24.05 by the next request, but never for a decoupled model (python_backend 27f04d1).
    if record.config is not None and record.config.decoupled:
        return False
    meaning = semantics(seen.book.server.version)
    return None if meaning is None else meaning.restarts_stubs


def _evidence(
    seen: Observation, death: DeadStub, cause: Cause, alive: int, expected: int | None
) -> dict[str, Scalar]:
    stub, counted = death.last, seen.book.kills.last
    return {
        "pid": death.id.pid,
        **cause.evidence(death.exit),
        "instances_alive": alive,
        "instances_expected": expected,
        "last_rss_bytes": stub.process.rss_bytes,
        "shm_region": stub.arguments.shm_region,
        "container_oom_kills": counted.kills if counted is not None else None,
        **evidence(seen.book.obituaries.of(death.id)),
    }


def _stopped_long(stub: LiveStub) -> bool:
    # One look at a stopped process is a fact; one in uninterruptible sleep is disk access.
    return stub.stub.process.paused or stub.stopped_looks > 1


_AFTER_A_PAUSE = (
    "After a pause in execute it can abort all of Triton as it goes on: restart the Triton container."
)
_PAUSED = {
    ProcessState.STOPPED: ("is stopped", f"Find who stopped it (a debugger, a profiler). {_AFTER_A_PAUSE}"),
    ProcessState.FROZEN: (
        "is held by a frozen cgroup",
        (
            "Find who froze the cgroup (docker pause, a checkpoint, an agent of the node) and let it thaw: docker "
            f"unpause, or THAWED in its freezer.state, or 0 in its cgroup.freeze. {_AFTER_A_PAUSE}"
        ),
    ),
}
_STUCK = (
    "hangs in the kernel (state D)",
    (
        "It waits for a device or a file system: look at the node's kernel log and storage, then restart the "
        "Triton container."
    ),
)


def _frozen(seen: Observation, record: ModelRecord, stub: LiveStub) -> Claim:
    process = stub.stub.process
    how, remedy = _PAUSED.get(process.state, _STUCK)
    which = f", {process.frozen_cgroup}," if process.frozen_cgroup else ""
    since = stub.stopped_since or seen.now
    evidence: dict[str, Scalar] = {"pid": process.id.pid, "state": process.state.value}
    if process.frozen_cgroup:
        evidence["cgroup"] = process.frozen_cgroup
    return Claim(
        "StubFrozen",
        _instance(record, stub.stub.arguments.name),
        f"Its stub process (pid {process.id.pid}) {how}{which} since {max(0.0, seen.now.mono - since.mono):.0f} s; "
        "requests that reach it wait.",
        remedy,
        seen.book.stubs.scanned or since,
        evidence,
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
    alive, unsettled = len(stubs.of(record.key)), len(stubs.deaths_of(record.key)) - explained
    missing = expected - alive - explained - unsettled
    # Only a scan that began after Triton said "ready" can miss a stub.
    if missing <= 0 or stubs.scanned.mono <= told:
        return None
    if any(_may_be_of(each, record) for each in stubs.live.values()):
        # A stub that no model could be found for may be the one: then nothing is known to be missing.
        return None
    return Claim(
        "InstancesMissing",
        Subject(SubjectKind.MODEL, model=record.key.name, version=record.key.version),
        f"The model calls for {expected} instance{'s' if expected != 1 else ''} and has {alive or 'no'} live stub "
        f"process{'es' if alive != 1 else ''}; no exit was witnessed.",
        seen.loss_remedy(record.key.name),
        stubs.scanned,
        {"expected": expected, "alive": alive, "missing": missing},
        action=seen.reload_action,
    )
