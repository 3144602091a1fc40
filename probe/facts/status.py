"""What the engine publishes: one immutable snapshot, which every surface reads.

:class:`Status` is ``/status`` to the letter; :class:`Snapshot` adds what metrics, events and gates need
beside it.  Unknown is ``None``, never a made-up zero.
"""

from __future__ import annotations

import datetime

import msgspec

from probe.facts.findings import Finding
from probe.facts.gates import Gate
from probe.facts.instants import Instant
from probe.facts.placement import Evidence, Placement
from probe.facts.sizing import SizingStatus


class SourceStatus(msgspec.Struct, frozen=True):
    """How one source is doing: its last look, and how long ago it last delivered."""

    ok: bool | None
    age_seconds: float | None
    error: str | None
    duration_seconds: float | None


class ProbeStatus(msgspec.Struct, frozen=True):
    """The probe itself."""

    version: str
    started_at: datetime.datetime
    uptime_seconds: float
    loop_age_seconds: float
    sources: dict[str, SourceStatus]


class TritonStatus(msgspec.Struct, frozen=True):
    """The server; ``epoch`` counts the tritonservers seen since the probe started."""

    version: str | None
    pid: int | None
    epoch: int
    reachable: bool | None
    live: bool | None
    ready: bool | None
    control_mode: str | None
    readiness_semantics: str | None


class GateStatus(msgspec.Struct, frozen=True):
    """One gate and what fails it."""

    ok: bool
    since: datetime.datetime
    findings: tuple[Finding, ...] = ()


class InstancesStatus(msgspec.Struct, frozen=True):
    """Instances of a model that live in stub processes; ``expected`` None where it has none."""

    expected: int | None
    alive: int | None
    dead: int | None
    frozen: int | None


class StubStatus(msgspec.Struct, frozen=True):
    """One stub process."""

    pid: int
    instance: str
    state: str
    rss_bytes: int | None
    gpu_memory_bytes: int | None
    gpus: tuple[str, ...] | None
    shm_region: str
    shm_bytes: int | None
    children: int


class TrafficStatus(msgspec.Struct, frozen=True):
    """Requests of one model version since the probe first saw it, over reloads."""

    success_total: int | None
    failure_total: int | None
    last_success_seconds_ago: float | None
    compute_seconds_per_inference: float | None


class ModelStatus(msgspec.Struct, frozen=True):
    """One model version."""

    name: str
    version: str
    state: str
    backend: str | None
    platform: str | None
    ready: bool | None
    placement: Placement
    instances: InstancesStatus
    stubs: tuple[StubStatus, ...]
    traffic: TrafficStatus
    canary: CanaryStatus | None = None
    shm_bytes: int | None = None
    """What the regions of its stubs hold, those of dead ones too as long as they are there."""


class CanaryStatus(msgspec.Struct, frozen=True):
    """The last canary of one model version; ``ok`` None for one that could not be sent."""

    ok: bool | None
    last_seconds_ago: float
    duration_seconds: float | None
    error: str | None


class GpuStatus(msgspec.Struct, frozen=True):
    """One GPU as NVML shows it; ``ok`` None where its health is not known."""

    uuid: str
    name: str
    minor: int | None
    mig: bool
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    recovery_action: str | None
    xids: dict[str, int]
    ok: bool | None


class ContainerMemoryStatus(msgspec.Struct, frozen=True):
    """Memory in bytes; ``limit_bytes`` None with ``limited`` False is "no limit", with None "unknown"."""

    limited: bool | None = None
    limit_bytes: int | None = None
    used_bytes: int | None = None
    working_set_bytes: int | None = None
    peak_bytes: int | None = None
    oom_kills: int | None = None
    stall_seconds: float | None = None
    shmem_bytes: int | None = None
    active_file_bytes: int | None = None
    oom_group: bool | None = None
    oom_group_kills: int | None = None


class ContainerCpuStatus(msgspec.Struct, frozen=True):
    """CPU in cores and seconds; ``weight`` as cgroup version 2 counts it."""

    limited: bool | None = None
    limit_cores: float | None = None
    used_seconds: float | None = None
    throttled_seconds: float | None = None
    periods: int | None = None
    throttled_periods: int | None = None
    weight: int | None = None
    stall_seconds: float | None = None


class ContainerPidsStatus(msgspec.Struct, frozen=True):
    """Processes and threads, and how many of them a limit ``refused``."""

    limited: bool | None = None
    limit: int | None = None
    used: int | None = None
    refused: int | None = None


class ContainerShmStatus(msgspec.Struct, frozen=True):
    """``/dev/shm`` in bytes; ``peak_bytes`` since this tritonserver began, ``regions`` and ``others`` are files."""

    size_bytes: int | None = None
    used_bytes: int | None = None
    orphan_bytes: int | None = None
    peak_bytes: int | None = None
    inodes_free: int | None = None
    regions: int | None = None
    others: int | None = None


class ContainerStatus(msgspec.Struct, frozen=True):
    """Triton's container."""

    cgroup: int | None
    qos: str | None
    memory: ContainerMemoryStatus = ContainerMemoryStatus()
    cpu: ContainerCpuStatus = ContainerCpuStatus()
    pids: ContainerPidsStatus = ContainerPidsStatus()
    shm: ContainerShmStatus = ContainerShmStatus()


class Status(msgspec.Struct, frozen=True):
    """The whole of ``/status``."""

    schema: int
    probe: ProbeStatus
    triton: TritonStatus
    gates: dict[Gate, GateStatus]
    findings: tuple[Finding, ...]
    models: tuple[ModelStatus, ...]
    gpus: tuple[GpuStatus, ...]
    container: ContainerStatus
    evidence: Evidence
    sizing: SizingStatus | None = None
    """None of a single look, which saw no peaks."""


class Transition(msgspec.Struct, frozen=True):
    """Something that changed: a finding came or went, a gate moved, an epoch began.

    ``kind`` is ``finding_raised``, ``finding_cleared``, ``gate_opened``, ``gate_failed``, ``epoch`` or
    ``heal`` (what the probe itself did).
    ``delay_seconds``: from the event's own time to this transition, where the event has a time.
    """

    at: datetime.datetime
    kind: str
    subject: str
    message: str
    reason: str | None = None
    severity: str | None = None
    gate: Gate | None = None
    epoch: int = 0
    remedy: str | None = None
    delay_seconds: float | None = None


class Histogram(msgspec.Struct, frozen=True):
    """Counts of observations: ``counts[i]`` of those at most ``bounds[i]``, the last beyond all bounds."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float = 0.0

    def observed(self, value: float) -> Histogram:
        """The histogram with one more observation."""
        slot = next((i for i, bound in enumerate(self.bounds) if value <= bound), len(self.bounds))
        counts = (*self.counts[:slot], self.counts[slot] + 1, *self.counts[slot + 1 :])
        return Histogram(self.bounds, counts, self.total + value)

    @classmethod
    def empty(cls, bounds: tuple[float, ...]) -> Histogram:
        """A histogram without observations; ``bounds`` rise, without infinity."""
        return cls(bounds, (0,) * (len(bounds) + 1))


class SourceTally(msgspec.Struct, frozen=True):
    """What a source did since the probe started."""

    durations: Histogram
    last_success_wall: float | None = None


class CanaryTally(msgspec.Struct, frozen=True):
    """The canaries of one model, all versions: how long each was out, and how many did not pass."""

    durations: Histogram
    failures: int = 0


class Tallies(msgspec.Struct, frozen=True):
    """Counters that go on over epochs, for the metrics."""

    gate_transitions: dict[Gate, int] = {}
    findings: dict[str, int] = {}
    stub_exits: dict[tuple[str, str], int] = {}
    """By model and cause."""
    heals: dict[tuple[str, str], int] = {}
    """Reloads by the probe itself, by model and outcome."""
    xids: dict[tuple[str, str], int] = {}
    """By GPU UUID and Xid."""
    sources: dict[str, SourceTally] = {}
    delays: dict[str, Histogram] = {}
    """Detection delay in seconds, by reason."""
    canaries: dict[str, CanaryTally] = {}
    """By model: those that have a canary now, and those here that had one."""
    last_success_wall: dict[tuple[str, str], float] = {}
    """When a model and version last answered a request, seconds since the Unix epoch."""


class Snapshot(msgspec.Struct, frozen=True):
    """All that surfaces may know.  Made by the engine, replaced whole, never changed.

    ``known_models`` are all names Triton or configuration speaks of, for ``?model=``.
    """

    taken: Instant
    status: Status
    tallies: Tallies
    transitions: tuple[Transition, ...] = ()
    """The last 500, newest first."""
    known_models: frozenset[str] = frozenset()
    repository_told: bool = False
    """Whether Triton has listed its repository in this epoch: before, a name can not be called unknown."""
