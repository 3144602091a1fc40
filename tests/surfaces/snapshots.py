"""Snapshots to render: a plain one, one that shows everything, a hostile one, and a client for the server."""

from __future__ import annotations

import datetime
import http.client
from dataclasses import dataclass

from probe.engine.board import Board
from probe.facts.catalogue import CATALOGUE
from probe.facts.findings import Action, Finding, Severity, Subject, SubjectKind
from probe.facts.gates import Gate
from probe.facts.instants import Instant
from probe.facts.placement import Evidence, EvidenceMode, Expected, Placement, Verdict
from probe.facts.status import (
    CanaryTally,
    ContainerCpuStatus,
    ContainerMemoryStatus,
    ContainerPidsStatus,
    ContainerShmStatus,
    ContainerStatus,
    GateStatus,
    GpuStatus,
    Histogram,
    InstancesStatus,
    ModelStatus,
    ProbeStatus,
    Snapshot,
    SourceStatus,
    SourceTally,
    Status,
    StubStatus,
    Tallies,
    TrafficStatus,
    Transition,
    TritonStatus,
)
from probe.surfaces.http import HttpServer

TAKEN = Instant(1000.0, 1_790_000_000.0)
SEEN = TAKEN.as_datetime()
GPU = "GPU-8f0e1c2d-0000-4000-8000-000000000001"
HOSTILE_NAMES = (
    'quote " and \\ backslash',
    "new\nline",
    "carriage\r\nreturn",
    "</script><script>alert(1)</script>",
    "null\0byte",
    "emoji \U0001f525 and \u2028 separator",
    "lone \udc80 surrogate",
    "x" * 5000,
    "",
    "{}=,#",
)


def finding(
    reason: str,
    model: str = "",
    gates: tuple[Gate, ...] | None = None,
    *,
    message: str = "this is seen for 3 s.",
    subject: Subject | None = None,
) -> Finding:
    """A finding of the catalogue that fails the catalogue's gates unless told otherwise."""
    known = CATALOGUE[reason]
    about = Subject(SubjectKind.MODEL, model=model, version="1") if model else Subject(SubjectKind.SERVER)
    return Finding(
        reason=reason,
        severity=known.severity,
        subject=subject or about,
        gates=tuple(each for each, _ in known.fails) if gates is None else gates,
        message=message,
        remedy="Do what the runbook says.",
        action=known.action,
        evidence={"seconds": 3.0},
        since=SEEN,
        observed_at=SEEN,
    )


def model(name: str = "resnet", version: str = "1", *, success: int | None = 12) -> ModelStatus:
    """A ready python model with two stubs on one GPU."""
    return ModelStatus(
        name=name,
        version=version,
        state="ready",
        backend="python",
        platform="",
        ready=True,
        placement=Placement(
            Verdict.GPU,
            Expected.GPU,
            "gpu",
            explicit=True,
            gpus=(GPU,),
            gpu_memory_bytes=3 << 30,
            why=(),
            memory_bytes_by_gpu={GPU: 3 << 30},
        ),
        instances=InstancesStatus(expected=2, alive=2, dead=0, frozen=0),
        stubs=tuple(
            StubStatus(
                pid=100 + index,
                instance=f"{name}_0_{index}",
                state="running",
                rss_bytes=200 << 20,
                gpu_memory_bytes=3 << 29,
                gpus=(GPU,),
                shm_region=f"triton_python_backend_shm_region_{index}",
                shm_bytes=1 << 20,
                children=0,
            )
            for index in range(2)
        ),
        traffic=TrafficStatus(success, 1, 2.5, 0.004),
        shm_bytes=2 << 20,
    )


def gpu(uuid: str = GPU) -> GpuStatus:
    """A healthy GPU with one Xid behind it."""
    return GpuStatus(
        uuid,
        "NVIDIA H200",
        0,
        mig=False,
        memory_total_bytes=141 << 30,
        memory_used_bytes=4 << 30,
        recovery_action="none",
        xids={"31": 1},
        ok=True,
    )


def snapshot(
    *findings: Finding,
    models: tuple[ModelStatus, ...] = (),
    gpus: tuple[GpuStatus, ...] = (),
    container: ContainerStatus = ContainerStatus(None, None),  # noqa: B008  (frozen)
    tallies: Tallies = Tallies(),  # noqa: B008  (frozen)
    transitions: tuple[Transition, ...] = (),
    sources: dict[str, SourceStatus] | None = None,
    reachable: bool | None = True,
) -> Snapshot:
    """A snapshot whose gates follow from the findings."""
    gates = {}
    for gate in Gate:
        failing = tuple(each for each in findings if gate in each.gates)
        gates[gate] = GateStatus(not failing, SEEN, failing)
    status = Status(
        schema=1,
        probe=ProbeStatus("1.2.3", SEEN, 60.0, 0.5, sources or {}),
        triton=TritonStatus(
            "2.51.0",
            7,
            1,
            reachable,
            live=True,
            ready=True,
            control_mode="none",
            readiness_semantics="legacy",
        ),
        gates=gates,
        findings=findings,
        models=models,
        gpus=gpus,
        container=container,
        evidence=Evidence(EvidenceMode.FULL, "pids and memory agree."),
    )
    known = frozenset(each.name for each in models) | {each.subject.model for each in findings} - {""}
    return Snapshot(TAKEN, status, tallies, transitions, known, repository_told=True)


def _everything() -> Snapshot:
    down = finding("StubDead", "resnet", (Gate.READY,), message="stub 101 of resnet_0_1 ended 3.2 s ago.")
    on_gpu = finding("NvmlHung", subject=Subject(SubjectKind.GPU, gpu_uuid=GPU))
    memory = ContainerMemoryStatus(
        limited=True,
        limit_bytes=8 << 30,
        used_bytes=3 << 30,
        working_set_bytes=2 << 30,
        peak_bytes=5 << 30,
        oom_kills=1,
        stall_seconds=0.25,
    )
    container = ContainerStatus(
        2,
        "Burstable",
        memory,
        ContainerCpuStatus(
            limited=True,
            limit_cores=2.5,
            used_seconds=100.5,
            throttled_seconds=1.5,
            periods=900,
            throttled_periods=45,
            weight=79,
            stall_seconds=3.5,
        ),
        ContainerPidsStatus(limited=True, limit=4096, used=63, refused=2),
        ContainerShmStatus(64 << 20, 2 << 20, 0),
    )
    durations = Histogram.empty((0.005, 0.05, 1.0)).observed(0.004).observed(0.06).observed(7.5)
    tallies = Tallies(
        gate_transitions={Gate.READY: 3, Gate.LIVE: 0, Gate.STARTUP: 1},
        findings={"StubDead": 1},
        stub_exits={("resnet", "signal"): 1, ("gone", "unload"): 4},
        heals={("resnet", "ok"): 2, ("resnet", "failed"): 0, ("gone", "ok"): 1},
        xids={(GPU, "31"): 1},
        sources={"triton": SourceTally(durations, 1_789_999_999.5), "nvml": SourceTally(durations)},
        delays={"StubDead": Histogram.empty((0.01, 0.1)).observed(0.02)},
        canaries={"resnet": CanaryTally(durations, 2)},
        last_success_wall={("resnet", "1"): 1_789_999_997.5},
    )
    moved = Transition(
        SEEN,
        "gate_failed",
        "readyz",
        down.message,
        "StubDead",
        "critical",
        Gate.READY,
        1,
        "Reload the model.",
        0.02,
    )
    sources = {
        "triton": SourceStatus(ok=True, age_seconds=1.0, error=None, duration_seconds=0.06),
        "nvml": SourceStatus(ok=False, age_seconds=None, error="no library", duration_seconds=None),
        "processes": SourceStatus(ok=None, age_seconds=None, error=None, duration_seconds=None),
    }
    return snapshot(
        down,
        on_gpu,
        models=(model(), model("bert", "3", success=None)),
        gpus=(gpu(),),
        container=container,
        tallies=tallies,
        transitions=(moved,),
        sources=sources,
    )


def _hostile() -> Snapshot:
    """Every name is out to break a format; label sets collide; counts are not finite."""
    names = HOSTILE_NAMES + HOSTILE_NAMES[:1]
    return snapshot(
        *(finding("StubDead", each, message=each) for each in names if each),
        models=tuple(model(each, each[:20]) for each in names),
        gpus=tuple(gpu(each) for each in names),
        tallies=Tallies(
            stub_exits={(each, "signal"): 1 for each in names},
            xids={(each, "31"): 1 for each in names},
            sources={each: SourceTally(Histogram((), (0,), float("nan")), float("inf")) for each in names},
            canaries={each: CanaryTally(Histogram((), (0,), float("nan"))) for each in names},
            last_success_wall={(each, each[:20]): float("-inf") for each in names},
        ),
        sources={
            each: SourceStatus(ok=True, age_seconds=1.0, error=each, duration_seconds=1.0) for each in names
        },
    )


EVERYTHING = _everything()
HOSTILE = _hostile()


def initializing() -> Snapshot:
    """What the engine publishes before the first complete observation."""
    start = Finding(
        reason="Initializing",
        severity=Severity.INFO,
        subject=Subject(SubjectKind.SERVER),
        gates=(Gate.READY, Gate.STARTUP),
        message="no complete observation yet.",
        remedy="Wait.",
        action=Action.WAIT,
        evidence={},
        since=SEEN,
        observed_at=SEEN,
    )
    return snapshot(start, reachable=None)


@dataclass
class Served:
    """A running server and its board."""

    board: Board
    server: HttpServer

    def connection(self, timeout: float = 60.0) -> http.client.HTTPConnection:
        """A connection to the server, not yet made."""
        return http.client.HTTPConnection(*self.server.address[:2], timeout=timeout)

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        """One request on a connection of its own: the answer and its body."""
        connection = self.connection()
        try:
            connection.request(
                method, path, headers={name.replace("_", "-"): each for name, each in headers.items()}
            )
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()


def utc(text: str) -> datetime.datetime:
    """A moment of RFC 3339."""
    return datetime.datetime.fromisoformat(text)
