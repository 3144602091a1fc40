"""A Triton, its processes, its GPUs and its container as the engine's eyes show them, on the loop's time.

The doubles stand at the engine's own seam, :mod:`probe.engine.eyes`: what they show is a small stage that
a test changes (kill a stub, hang a source), and all engine code above runs as shipped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
import pytest

from probe.engine import container_looks, looks
from probe.engine.engine import Engine
from probe.engine.eyes import Eyes
from probe.facts.canaries import CanaryOrder, CanaryOutcome, CanaryResult
from probe.facts.container import (
    ContainerReading,
    Limit,
    MemoryUse,
    OomCounts,
    ShmFile,
    ShmLevel,
    ShmUse,
)
from probe.facts.findings import Finding
from probe.facts.gates import Gate
from probe.facts.instants import Instant
from probe.facts.models import IndexEntry, ModelConfig, ModelState, ModelVersion
from probe.facts.nvml import NvmlReading, NvmlState, Xid
from probe.facts.processes import Exit, Process, ProcessId, ProcessReading, Server, Stub
from probe.facts.status import Snapshot
from probe.facts.triton import CallFailure, Failure, Inquiry, InquiryReading, TritonReading
from probe.kits.errands import OutstandingError
from probe.kits.tasks import Bell, guarded
from probe.settings import Settings
from tests.worlds import GIB, MIB, START, at, entry, failing, gpu, key, python_model, row, server, stub

T = TypeVar("T")
KILLED = 9
"""The wait status of a process that SIGKILL ended."""
SILENT = "silent"
UNLOADED = "unloaded"


def loop_clock() -> Instant:
    """The running loop's time, which is virtual under looptime."""
    return at(asyncio.get_running_loop().time())


class HangError(Exception):
    """A blocking look that does not come back before ``released`` says so."""

    def __init__(self, released: Callable[[], bool]) -> None:
        super().__init__("hangs")
        self.released = released


class InstantErrand:
    """An errand on virtual time: work is instant, or raises HangError and is outstanding from then on.

    Real threads take real time, in which a virtual clock would jump to the deadline; they have tests of
    their own on the real clock.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._hung: HangError | None = None
        self._since = 0.0

    async def run(self, work: Callable[[], T], deadline: float) -> T:
        """Do it at once, as :meth:`probe.kits.errands.Errand.run` would."""
        loop = asyncio.get_running_loop()
        if self._hung is not None and not self._hung.released():
            raise OutstandingError(self.name, loop.time() - self._since)
        try:
            return work()
        except HangError as error:
            self._hung, self._since = error, loop.time()
        await asyncio.sleep(deadline)
        raise OutstandingError(self.name, deadline)

    def close(self) -> None:
        """Nothing to end."""


@dataclass
class Stage:
    """What there is to see, and how each eye fares: names in ``hung`` never answer, in ``broken`` raise."""

    clock: Callable[[], Instant] = loop_clock
    server: Server | None = server(pid=10)  # noqa: RUF009  (frozen)
    up: bool = True
    ready: bool = True
    version: str = "2.51.0"
    configs: dict[str, ModelConfig] = field(default_factory=lambda: {"echo": python_model("echo", 2)})
    index: tuple[IndexEntry, ...] = ()
    stubs: tuple[Stub, ...] = (stub(11, "echo_0_0"), stub(12, "echo_0_1"))
    left: tuple[Process, ...] = ()
    """What outlived its stub."""
    executions: int = 0
    mute: bool = False
    """Triton lets every gRPC call time out."""
    word: str | CallFailure = ""
    """What Triton says of a model whose stub exited; empty: what its statistics say."""
    nvml: NvmlReading | None = None
    oom_kills: int = 0
    oom_group_kills: int | None = None
    held: bool = False
    """The counts of OOM kills can be read at any moment; else only by a look."""
    memory_limit: int = 8 * GIB
    oom_path: str = ""
    """Where the counts are: another path is another cgroup, into which Triton was moved."""
    shm_left: tuple[str, ...] = ()
    """Files in ``/dev/shm`` that no process maps."""
    shm_watched: list[ProcessId | None] = field(default_factory=list)
    on_shm: Callable[[ShmLevel], None] | None = None
    hung: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    inquiry_seconds: float = 0.0
    calls: Counter[str] = field(default_factory=Counter)
    canary: CanaryOutcome | None = CanaryOutcome.PASSED
    """What becomes of canaries; None: nobody can tell."""
    canaries: list[tuple[Instant, CanaryOrder]] = field(default_factory=list)
    polls: list[Instant] = field(default_factory=list)
    inquiries: list[Inquiry] = field(default_factory=list)
    asked_pids: list[frozenset[int]] = field(default_factory=list)
    asked_container: list[int | None] = field(default_factory=list)
    watched: frozenset[ProcessId] = frozenset()
    closed: set[str] = field(default_factory=set)
    watched_container: ProcessId | None = None
    on_exit: Callable[[Exit], None] | None = None
    on_oom: Callable[[OomCounts], None] | None = None
    on_limits: Callable[[], None] | None = None
    on_xid: Callable[[Xid], None] | None = None
    orders: list[tuple[str, str]] = field(default_factory=list)
    """``load`` or ``reload``, and of which model."""
    obey: Callable[[str, str], Awaitable[CallFailure | None]] | None = None
    """What such an order does; nothing unless given."""

    def eyes(self) -> Eyes:
        """The eyes on this stage."""
        return Eyes(
            TritonDouble(self),
            NvmlDouble(self),
            ProcessDouble(self),
            ContainerDouble(self),
            self._exits,
            self._events,
            shm=self._shm,
        )

    def _shm(self, on_shm: Callable[[ShmLevel], None]) -> ShmWatchDouble:
        self.on_shm = on_shm
        return ShmWatchDouble(self)

    def exit(self, pid: int, status: int | None = KILLED) -> None:
        """End a watched process; the kernel tells at once."""
        told = self.on_exit
        assert told is not None, "nobody watches exits"
        gone = next(each for each in self.watched if each.pid == pid)
        self.stubs = tuple(
            msgspec.structs.replace(
                each, descendants=tuple(one for one in each.descendants if one.id != gone)
            )
            for each in self.stubs
            if each.process.id != gone
        )
        if self.server is not None and self.server.process.id == gone:
            self.server, self.up = None, False
        told(Exit(gone, self.clock(), status))

    def oom(self, kills: int, groups: int | None = None) -> None:
        """Have the kernel tell at once that the counts of OOM kills are these now."""
        assert self.on_oom is not None, "nobody watches the container"
        self.oom_kills, self.oom_group_kills = kills, groups
        self.on_oom(OomCounts(self.clock(), self.oom_path, kills, groups))

    def limit(self, memory: int) -> None:
        """Have somebody write another memory limit, in bytes; the kernel tells at once."""
        assert self.on_limits is not None, "nobody watches the container"
        self.memory_limit = memory
        self.on_limits()

    def xid(self, uuid: str, code: int, *instance: int) -> None:
        """Have the driver report an Xid, at once; ``instance``: ids of the MIG instance that it was on."""
        assert self.on_xid is not None, "nobody listens"
        self.on_xid(Xid(self.clock(), uuid, code, *instance))

    def met(self, name: str) -> None:
        """One blocking look with this eye."""
        self.calls[name] += 1
        if name in self.broken:
            raise RuntimeError(f"{name} is broken")
        if name in self.hung:
            raise HangError(lambda: name not in self.hung)

    async def asked(self, name: str) -> None:
        """One asynchronous look with this eye."""
        self.calls[name] += 1
        if name in self.broken:
            raise RuntimeError(f"{name} is broken")
        while name in self.hung:  # noqa: ASYNC110  (a set that tests change tells no event)
            await asyncio.sleep(0.5)

    def _exits(self, on_exit: Callable[[Exit], None]) -> ExitDouble:
        self.on_exit = on_exit
        return ExitDouble(self)

    def _events(
        self, on_oom: Callable[[OomCounts], None], on_limits: Callable[[], None]
    ) -> ContainerEventDouble:
        self.on_oom, self.on_limits = on_oom, on_limits
        return ContainerEventDouble(self)


class TritonDouble:
    """Answers as the stage says."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def poll(self) -> TritonReading:
        """One poll."""
        stage = self._stage
        observed = stage.clock()
        stage.polls.append(observed)
        await stage.asked("triton")
        if stage.mute:
            failures = (failing("live", Failure.TIMEOUT), failing("http_live", Failure.TIMEOUT))
            return TritonReading(observed, failures=failures)
        if not stage.up:
            failures = (failing("live", Failure.REFUSED), failing("http_live", Failure.REFUSED))
            return TritonReading(observed, failures=failures)
        statistics = tuple(row(name, success=stage.executions) for name in stage.configs)
        return TritonReading(
            observed,
            live=True,
            ready=stage.ready,
            http_live=True,
            version=stage.version,
            statistics=statistics,
            pending=(),
        )

    async def inquire(self, inquiry: Inquiry, *, budget: float) -> InquiryReading:
        """Answer everything that is asked."""
        assert budget > 0
        stage = self._stage
        stage.inquiries.append(inquiry)
        observed = stage.clock()
        await asyncio.sleep(stage.inquiry_seconds)
        configs = tuple(stage.configs[each.name] for each in inquiry.configs if each.name in stage.configs)
        ready = tuple(entry(name, ModelState.READY) for name in stage.configs)
        return InquiryReading(
            observed,
            configs,
            tuple((each, True) for each in inquiry.readiness),
            (*ready, *stage.index) if inquiry.index else None,
        )

    async def still_ready(self, name: str) -> tuple[Instant, tuple[ModelVersion, ...]] | CallFailure:
        """What ``word`` says, or the truth of the statistics."""
        stage = self._stage
        stage.calls["word"] += 1
        observed = stage.clock()
        if isinstance(stage.word, CallFailure):
            return stage.word
        if stage.word == SILENT:
            await asyncio.Event().wait()
        await asyncio.sleep(0.001)
        if stage.word == UNLOADED or name not in stage.configs:
            return observed, ()
        return observed, (key(name),)

    async def canary(self, order: CanaryOrder) -> CanaryResult | None:
        """What ``canary`` on the stage says of it."""
        stage = self._stage
        sent = stage.clock()
        stage.canaries.append((sent, order))
        await stage.asked("canary")
        outcome = stage.canary
        if outcome is CanaryOutcome.TIMEOUT:
            await asyncio.sleep(order.deadline)
        if outcome is None:
            return None
        return CanaryResult(order.key, sent, stage.clock(), outcome, outcome.value)

    async def load_model(self, name: str, seconds: float) -> CallFailure | None:
        """Do as the stage says."""
        return await self._order("load", name, seconds)

    async def reload_model(self, name: str, seconds: float) -> CallFailure | None:
        """Do as the stage says."""
        return await self._order("reload", name, seconds)

    async def _order(self, what: str, name: str, seconds: float) -> CallFailure | None:
        assert seconds > 0
        self._stage.orders.append((what, name))
        return None if self._stage.obey is None else await self._stage.obey(what, name)

    async def close(self) -> None:
        """Let go, unless this hangs too."""
        await self._stage.asked("triton-close")
        self._stage.closed.add("triton")


class NvmlDouble:
    """Shows the stage's reading, or a machine without NVML."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def look(self) -> NvmlReading:
        """One look."""
        await self._stage.asked("nvml")
        told = self._stage.nvml or NvmlReading(START, NvmlState.NO_LIBRARY, "no library")
        return msgspec.structs.replace(told, observed=self._stage.clock())

    def listen(self, on_xid: Callable[[Xid], None]) -> None:
        """Have the stage tell."""
        self._stage.on_xid = on_xid

    async def close(self) -> None:
        """Let go, unless this hangs too."""
        await self._stage.asked("nvml-close")
        self._stage.closed.add("nvml")


class ProcessDouble:
    """Scans the stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def scan(self, asked: Iterable[int] = (), kept: Iterable[ProcessId] = ()) -> ProcessReading:
        """One scan."""
        stage = self._stage
        stage.met("processes")
        asked = frozenset(asked)
        stage.asked_pids.append(asked)
        here = {each.process.id.pid for each in stage.stubs}
        below = (*(each for one in stage.stubs for each in one.descendants), *stage.left)
        wanted = frozenset(kept)
        return ProcessReading(
            stage.clock(),
            stage.server,
            stage.stubs,
            existing_pids=asked & here,
            kept=tuple(each for each in below if each.id in wanted),
        )


class ContainerDouble:
    """A container with a memory limit."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def look(self, pid: int | None, suspects: frozenset[str] = frozenset()) -> ContainerReading:
        """One look."""
        self._stage.met("container")
        self._stage.asked_container.append(pid)
        seen = container(self._stage.clock())
        memory = msgspec.structs.replace(
            seen.memory,
            limit=Limit(float(self._stage.memory_limit), "/x/y/memory.max"),
            oom_kills=self._stage.oom_kills,
            oom_group_kills=self._stage.oom_group_kills,
            oom_kills_path=self._stage.oom_path,
        )
        files = tuple(ShmFile(name, MIB, 0.0) for name in self._stage.shm_left)
        left = suspects & frozenset(self._stage.shm_left)
        shm = ShmUse(GIB, MIB, files=files, unmapped=left)
        return msgspec.structs.replace(seen, memory=memory, shm=shm)


class ShmWatchDouble:
    """Remembers whose ``/dev/shm`` is watched."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def watch(self, process: ProcessId | None) -> None:
        """Watch this one's."""
        self._stage.shm_watched.append(process)

    def close(self) -> None:
        """Watch none."""
        self._stage.closed.add("shm")


class ContainerEventDouble:
    """Remembers whose container is watched, and where, and tells the counts where they are held."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._path = ""

    def watch(self, process: ProcessId | None) -> None:
        """Watch its container, where it is now, from the first call for it on."""
        stage = self._stage
        if process != stage.watched_container:
            self._path, stage.watched_container = stage.oom_path, process

    def counts(self) -> OomCounts | None:
        """The counts now."""
        stage = self._stage
        stage.calls["counts"] += 1
        if not stage.held:
            return None
        return OomCounts(stage.clock(), self._path, stage.oom_kills, stage.oom_group_kills)

    def close(self) -> None:
        """Watch none."""
        self._stage.watched_container = None
        self._stage.closed.add("events")


class ExitDouble:
    """Remembers who is watched."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def watch(self, wanted: Iterable[ProcessId]) -> None:
        """Watch these."""
        self._stage.watched = frozenset(wanted)

    def close(self) -> None:
        """Watch nobody."""
        self._stage.watched = frozenset()
        self._stage.closed.add("exits")


def container(observed: Instant) -> ContainerReading:
    """A container with a memory limit, on cgroup v2."""
    return ContainerReading(
        observed,
        cgroup=2,
        memory=MemoryUse(Limit(float(8 * GIB), "/x/y/memory.max"), 3 * GIB, 2 * GIB, 4 * GIB, 0, 0.5),
        shm=ShmUse(GIB, MIB),
        oom_score_adj=996,
    )


def gpu_reading(*pids: int) -> NvmlReading:
    """One GPU with these processes on it, a GiB each."""
    shown = gpu("GPU-1", dict.fromkeys(pids, GIB), memory_total_bytes=141 * GIB, memory_used_bytes=2 * GIB)
    return NvmlReading(START, NvmlState.OK, driver_version="570.1", gpus=(shown,))


@dataclass
class Watch:
    """A running engine, all snapshots it published, and what its tasks complained of."""

    engine: Engine
    stage: Stage
    snapshots: list[Snapshot]
    complaints: list[tuple[str, Exception]]
    tasks: dict[str, asyncio.Task[None]]
    stirred: Bell
    """Rung at each snapshot."""

    @property
    def latest(self) -> Snapshot:
        """What surfaces read now."""
        return self.engine.board.latest

    @property
    def now(self) -> float:
        """Seconds of the loop."""
        return asyncio.get_running_loop().time()

    def ok(self, gate: Gate) -> bool:
        """Whether the gate is open now."""
        return self.latest.status.gates[gate].ok

    def finding(self, reason: str) -> Finding | None:
        """The first finding of this reason now."""
        return next((each for each in self.latest.status.findings if each.reason == reason), None)

    def reasons(self) -> set[str]:
        """The reasons of everything that stands now."""
        return {each.reason for each in self.latest.status.findings}

    def ever(self, reason: str) -> bool:
        """Whether any snapshot had a finding of this reason."""
        return any(each.reason == reason for one in self.snapshots for each in one.status.findings)

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> float:
        """Wait for a condition; the moment at which it held.  Fails when it does not within the time."""
        end = self.now + seconds
        while not condition():
            assert self.now < end, f"not within {seconds} s; standing: {sorted(self.reasons())}"
            # Most conditions are about snapshots; others may be seen a moment late.
            await self.stirred.wait(0.1)
        return self.now

    async def opened(self) -> Watch:
        """Wait until every gate is open."""
        await self.until(lambda: all(map(self.ok, Gate)))
        return self


@contextlib.asynccontextmanager
async def watching(stage: Stage, settings: Settings | None = None) -> AsyncIterator[Watch]:
    """Run an engine on this stage, as the daemon does."""
    snapshots: list[Snapshot] = []
    complaints: list[tuple[str, Exception]] = []
    stirred = Bell()

    def keep(snapshot: Snapshot) -> None:
        snapshots.append(snapshot)
        stirred.ring()

    engine = Engine(settings or Settings(), stage.eyes(), "1.2.3", clock=stage.clock, on_snapshot=keep)

    def complain(name: str, error: Exception) -> None:
        complaints.append((name, error))

    tasks = {
        name: asyncio.create_task(guarded(name, work, complain), name=name) for name, work in engine.tasks()
    }
    try:
        yield Watch(engine, stage, snapshots, complaints, tasks, stirred)
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        await engine.close()


@pytest.fixture
def instant_errands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the engine's blocking looks in the loop, so that they agree with virtual time."""
    monkeypatch.setattr(looks, "Errand", InstantErrand)
    monkeypatch.setattr(container_looks, "Errand", InstantErrand)
