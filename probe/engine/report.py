"""From the book of everything known to the status that is told; pure."""

from __future__ import annotations

from collections.abc import Iterable

from probe.checks.observation import Observation
from probe.checks.outside import use_of
from probe.checks.stubs import believed_deaths
from probe.checks.verdicts import placement_of
from probe.facts.canaries import CanaryOutcome
from probe.facts.container import ContainerReading, Limit, ShmUse
from probe.facts.findings import Finding, Severity
from probe.facts.models import ModelState
from probe.facts.nvml import Gpu
from probe.facts.qos import qos_of
from probe.facts.releases import semantics
from probe.facts.status import (
    CanaryStatus,
    ContainerCpuStatus,
    ContainerMemoryStatus,
    ContainerPidsStatus,
    ContainerShmStatus,
    ContainerStatus,
    GpuStatus,
    InstancesStatus,
    ModelStatus,
    StubStatus,
    TrafficStatus,
    TritonStatus,
)
from probe.ledgers.lives import LiveStub
from probe.ledgers.models import ModelRecord
from probe.ledgers.shm import ShmLedger


def triton(seen: Observation) -> TritonStatus:
    """The server's part."""
    server = seen.book.server
    process = server.server
    meaning = semantics(server.version)
    last = server.last
    mode = None
    if process is not None:
        mode = process.option("model-control-mode") or "none"
    return TritonStatus(
        version=server.version,
        pid=server.process.pid if server.process is not None and server.gone is None else None,
        epoch=server.epoch,
        reachable=server.reachable,
        live=last.live if last is not None and server.gone is None else None,
        ready=server.ready if server.gone is None else None,
        control_mode=mode,
        readiness_semantics=meaning.text if meaning is not None else None,
    )


def models(seen: Observation) -> tuple[ModelStatus, ...]:
    """Every model version, in order of name and version."""
    records = seen.book.models.records
    return tuple(_model(seen, records[key]) for key in sorted(records) if _shown(records[key]))


def _shown(record: ModelRecord) -> bool:
    # What only its counters are kept of is nothing that is here now.
    return record.state is not ModelState.UNKNOWN or record.since is not None


def _model(seen: Observation, record: ModelRecord) -> ModelStatus:
    config = record.config
    return ModelStatus(
        name=record.key.name,
        version=record.key.version,
        state=record.state.value,
        backend=config.backend or None if config is not None else None,
        platform=config.platform or None if config is not None else None,
        ready=_ready(seen, record),
        placement=placement_of(seen, record),
        instances=_instances(seen, record),
        stubs=tuple(_stub(seen, each) for each in seen.book.stubs.of(record.key)),
        traffic=_traffic(seen, record),
        canary=_canary(seen, record),
        shm_bytes=_shm_bytes(seen, record),
    )


def _ready(seen: Observation, record: ModelRecord) -> bool | None:
    if record.state is ModelState.UNKNOWN:
        return None
    return record.ready and seen.told_unready(record) is None


def _instances(seen: Observation, record: ModelRecord) -> InstancesStatus:
    stubs = seen.book.stubs
    expected = stubs.expected(record.key, record.config) if record.ready else None
    if stubs.scanned is None or not seen.book.server.ever_seen:
        return InstancesStatus(expected, None, None, None)
    alive = stubs.of(record.key)
    if expected is None and not alive:
        return InstancesStatus(None, None, None, None)
    dead = len(believed_deaths(seen, record))
    frozen = sum(each.stopped_since is not None for each in alive)
    return InstancesStatus(expected, len(alive), dead, frozen)


def _stub(seen: Observation, live: LiveStub) -> StubStatus:
    stub = live.stub
    use = use_of(seen, stub)
    figures = use.memory.values()
    # Where a GPU is hidden from the probe, who is on no list may be there.
    known = bool(use.gpus) or seen.gap is None
    return StubStatus(
        pid=stub.process.id.pid,
        instance=stub.arguments.name,
        state=stub.process.state.value,
        rss_bytes=stub.process.rss_bytes,
        gpu_memory_bytes=sum(figures) if figures else (0 if known and not use.gpus else None),
        gpus=tuple(sorted(use.gpus)) if known else None,
        shm_region=stub.arguments.shm_region,
        shm_bytes=stub.shm_bytes,
        children=len(stub.descendants),
    )


def _shm_bytes(seen: Observation, record: ModelRecord) -> int | None:
    stubs, listed = seen.book.stubs.of(record.key), seen.book.shm.of(record.key)
    if not stubs and not listed:
        return None
    held = {name: each.held_bytes for name, each in listed.items()}
    for each in stubs:
        # A region that began since the last listing, or one where nothing can be listed.
        if each.stub.arguments.shm_region not in held:
            if each.stub.shm_bytes is None:
                return None
            held[each.stub.arguments.shm_region] = each.stub.shm_bytes
    return sum(held.values())


def _traffic(seen: Observation, record: ModelRecord) -> TrafficStatus:
    traffic = record.traffic
    known = record.statistics is not None or traffic.success > 0 or traffic.failure > 0
    last = traffic.last_success_wall
    return TrafficStatus(
        success_total=traffic.success if known else None,
        failure_total=traffic.failure if known else None,
        last_success_seconds_ago=max(0.0, seen.now.wall - last) if last is not None else None,
        compute_seconds_per_inference=traffic.compute_seconds_per_inference,
    )


def _canary(seen: Observation, record: ModelRecord) -> CanaryStatus | None:
    canary = seen.book.canaries.of(record.key)
    if canary is None:
        return None
    last = canary.last
    sent = last.outcome is not CanaryOutcome.UNSENDABLE
    return CanaryStatus(
        ok=last.outcome is CanaryOutcome.PASSED if sent else None,
        last_seconds_ago=max(0.0, seen.now.mono - last.ended.mono),
        duration_seconds=last.seconds if sent else None,
        error=last.detail or None,
    )


def gpus(seen: Observation, findings: Iterable[Finding] = ()) -> tuple[GpuStatus, ...]:
    """Every GPU that NVML shows, with what the findings say of it."""
    good = seen.book.evidence.good
    if good is None:
        return ()
    unwell = frozenset(
        each.subject.gpu_uuid
        for each in findings
        if each.severity is Severity.CRITICAL or each.reason in _UNUSABLE
    )
    return tuple(
        GpuStatus(
            uuid=gpu.uuid,
            name=gpu.name,
            minor=gpu.minor,
            mig=gpu.mig,
            memory_total_bytes=gpu.memory_total_bytes,
            memory_used_bytes=gpu.memory_used_bytes,
            recovery_action=gpu.recovery_action,
            xids={str(code): each.count for code, each in sorted(seen.book.gpus.of(gpu.uuid).items())},
            ok=_well(seen, gpu, told=bool(good.xids_told), unwell=unwell),
        )
        for gpu in good.gpus
    )


_UNUSABLE = ("GpuLost", "GpuResetRequired")
"""Whosever GPU it is."""


def _well(seen: Observation, gpu: Gpu, *, told: bool, unwell: frozenset[str]) -> bool | None:
    if gpu.uuid in unwell or gpu.parent in unwell:
        return False
    # A GPU in parts is asked as a whole.  Where the driver tells neither Xids nor a recovery action, an answer
    # alone is no health.
    whole = seen.book.gpus.whole(gpu.uuid)
    action = whole.gpu.recovery_action if whole is not None else None
    return None if gpu.error is not None or (action is None and not told) else True


def container(reading: ContainerReading | None, shm: ShmLedger = ShmLedger()) -> ContainerStatus:  # noqa: B008  (frozen)
    """Triton's container."""
    if reading is None:
        return ContainerStatus(None, None)
    memory, cpu, pids = reading.memory, reading.cpu, reading.pids
    return ContainerStatus(
        cgroup=reading.cgroup,
        qos=qos_of(reading),
        memory=ContainerMemoryStatus(
            limited=_limited(memory.limit),
            limit_bytes=_whole(memory.limit),
            used_bytes=memory.used_bytes,
            working_set_bytes=memory.working_set_bytes,
            peak_bytes=memory.peak_bytes,
            oom_kills=memory.oom_kills,
            stall_seconds=memory.stall_seconds,
            shmem_bytes=memory.shmem_bytes,
            active_file_bytes=memory.active_file_bytes,
            oom_group=memory.oom_group,
            oom_group_kills=memory.oom_group_kills,
        ),
        cpu=ContainerCpuStatus(
            limited=_limited(cpu.limit),
            limit_cores=cpu.limit.value if cpu.limit is not None else None,
            used_seconds=cpu.used_seconds,
            throttled_seconds=cpu.throttled_seconds,
            periods=cpu.periods,
            throttled_periods=cpu.throttled_periods,
            weight=cpu.weight,
            stall_seconds=cpu.stall_seconds,
        ),
        pids=ContainerPidsStatus(
            limited=_limited(pids.limit), limit=_whole(pids.limit), used=pids.used, refused=pids.refused
        ),
        shm=_shm(reading.shm, shm),
    )


def _shm(use: ShmUse | None, shm: ShmLedger) -> ContainerShmStatus:
    if use is None:
        return ContainerShmStatus()
    level, listed = shm.level, use.files is not None
    return ContainerShmStatus(
        size_bytes=level.size_bytes if level is not None else use.size_bytes,
        used_bytes=level.used_bytes if level is not None else use.used_bytes,
        orphan_bytes=shm.orphan_bytes if listed else None,
        peak_bytes=shm.peak.used_bytes if shm.peak is not None else None,
        inodes_free=use.inodes_free,
        regions=len(shm.regions) if listed else None,
        others=len(shm.files) - len(shm.regions) if listed else None,
    )


def _limited(limit: Limit | None) -> bool | None:
    return None if limit is None else limit.value is not None


def _whole(limit: Limit | None) -> int | None:
    return int(limit.value) if limit is not None and limit.value is not None else None
