"""A small vocabulary to say what the probe saw: moments, processes, models, answers, GPUs, and whole worlds.

Nouns are built by plain functions (``stub``, ``row``, ``config``, ``gpu`` …).  A :class:`World` folds
readings into a book in the order in which they are told; each word stamps its reading with ``now`` and
then lets a second pass, so that no two readings are of one moment::

    seen = serving(python_model("m", instances=2))          # up, polled, asked, scanned
    seen = seen.exits("m_0_1", signal=9).scans().polls()    # the kernel tells, then everybody looks
    assert seen.reasons() == ["StubDead"]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from probe.checks import roster
from probe.checks.observation import Observation, Staleness
from probe.facts.canaries import CanaryOrder, CanaryOrigin, CanaryOutcome, CanaryResult
from probe.facts.container import ContainerReading, OomCounts, ShmFile, ShmLevel, ShmUse
from probe.facts.findings import Claim
from probe.facts.instants import Instant
from probe.facts.models import (
    DeviceMemory,
    IndexEntry,
    InstanceGroup,
    InstanceKind,
    ModelConfig,
    ModelState,
    ModelStatistics,
    ModelVersion,
)
from probe.facts.nvml import Gpu, GpuBusy, GpuProcess, NvmlReading, NvmlState, Xid
from probe.facts.processes import (
    Exit,
    Process,
    ProcessId,
    ProcessReading,
    ProcessState,
    Server,
    Stub,
    StubArguments,
)
from probe.facts.triton import CallFailure, Failure, InquiryReading, TritonReading
from probe.ledgers.book import Book
from probe.ledgers.lives import LiveStub
from probe.ledgers.models import ModelRecord, ModelsLedger
from probe.settings import Settings

START = Instant(1000.0, 1_790_000_000.0)
"""The first moment of every world."""
SERVER_PID = 5
TRITON = "2.51.0"
"""The release that the real double is: dead stubs are never restarted, ModelReady knows nothing of them."""
GIB, MIB = 1 << 30, 1 << 20


def at(seconds: float) -> Instant:
    """The moment this many seconds after the first."""
    return START.shifted(seconds)


def key(name: str, version: str = "1") -> ModelVersion:
    """A model's version."""
    return ModelVersion(name, version)


# Processes


def process(
    pid: int,
    *,
    parent: int = SERVER_PID,
    name: str = "triton_python_b",
    state: ProcessState = ProcessState.SLEEPING,
    rss: int = 100 * MIB,
    ticks: int = 10,
    start: int | None = None,
    frozen: str = "",
    title: str = "",
) -> Process:
    """One process; its start time follows from its pid unless given; ``frozen`` is the cgroup that holds it."""
    begun = pid * 10 if start is None else start
    shown = ProcessState.FROZEN if frozen else state
    started = START.wall - 100 + begun / 1e6
    return Process(ProcessId(pid, begun), parent, name, shown, rss, ticks, started, frozen, title)


def worker(pid: int, title: str = "VLLM::EngineCore", **of_process: Any) -> Process:  # noqa: ANN401
    """A process below a stub, with the first 15 letters of its title as its name unless given."""
    return process(pid, **{"name": title[:15], "title": title, "rss": GIB, **of_process})


def server(
    *options: str,
    pid: int = SERVER_PID,
    start: int | None = None,
    state: ProcessState = ProcessState.SLEEPING,
    minors: tuple[int, ...] | None = (),
    visible: tuple[str, ...] | None = None,
    frozen: str = "",
    ticks: int = 10,
) -> Server:
    """A tritonserver with these command line options; ``minors``: the GPUs whose device nodes it has.

    ``visible`` are the UUIDs in its ``CUDA_VISIBLE_DEVICES``.
    """
    return Server(
        process(pid, parent=1, name="tritonserver", state=state, start=start, frozen=frozen, ticks=ticks),
        ("tritonserver", "--model-repository=/models", *options),
        minors,
        visible,
        root_readable=minors is not None,
    )


def stub(
    pid: int,
    name: str,
    model: str = "",
    *,
    version: str = "1",
    path: str | None = None,
    region: str | None = None,
    runtime: str = "DEFAULT",
    workers: Iterable[int | Process] = (),
    shm: int | None = MIB,
    **of_process: Any,  # noqa: ANN401
) -> Stub:
    """A stub process of the instance ``name``; the model is the name without ``_<group>_<i>`` unless given.

    ``workers`` are processes below it, a bare pid being a vLLM engine's; the rest goes to :func:`process`.
    """
    owner = model or name.rsplit("_", 2)[0]
    return Stub(
        process(pid, **of_process),
        StubArguments(
            model_path=path if path is not None else f"/models/{owner}/{version}/model.py",
            shm_region=region if region is not None else f"triton_python_backend_shm_region_{pid}",
            shm_default_bytes=MIB,
            shm_growth_bytes=MIB,
            parent_pid=SERVER_PID,
            name=name,
            runtime_dir=runtime,
        ),
        tuple(worker(each, parent=pid) if isinstance(each, int) else each for each in workers),
        shm,
    )


# Models


def group(name: str, kind: InstanceKind = InstanceKind.CPU, count: int = 1, *gpus: int) -> InstanceGroup:
    """One group of a resolved configuration."""
    return InstanceGroup(name, kind, count, gpus)


def config(
    name: str,
    *groups: InstanceGroup,
    version: str = "1",
    backend: str = "python",
    **more: Any,  # noqa: ANN401
) -> ModelConfig:
    """A resolved configuration; ``parameters`` may be given as a dict."""
    parameters = tuple(sorted(dict(more.pop("parameters", {})).items()))
    return ModelConfig(
        key(name, version), backend, more.pop("platform", ""), groups, parameters=parameters, **more
    )


def python_model(
    name: str,
    instances: int = 1,
    kind: InstanceKind = InstanceKind.CPU,
    gpus: tuple[int, ...] = (),
    **more: Any,  # noqa: ANN401
) -> ModelConfig:
    """A python model with one written group ``<name>_0``."""
    return config(name, group(f"{name}_0", kind, instances, *gpus), **more)


def ensemble(name: str, *steps: ModelVersion | str, version: str = "1") -> ModelConfig:
    """An ensemble of these steps; a bare name is its latest version."""
    named = tuple(key(step, "") if isinstance(step, str) else step for step in steps)
    return ModelConfig(key(name, version), "", "ensemble", (), steps=named)


def row(
    name: str,
    version: str = "1",
    *,
    success: int = 0,
    failure: int = 0,
    executions: int | None = None,
    last: float | None = None,
    compute_ns: int | None = None,
    success_ns: int | None = None,
    batch_ns: int = 0,
    memory: tuple[DeviceMemory, ...] = (),
) -> ModelStatistics:
    """One row of statistics; what is not given follows from ``success``.  ``last``: seconds on the wall clock."""
    ran = success if executions is None else executions
    wall = START.wall if last is None and ran else last or 0.0
    return ModelStatistics(
        key(name, version),
        success,
        failure,
        inferences=ran,
        executions=ran,
        last_inference_ms=int(wall * 1000),
        compute_infer_count=ran,
        compute_infer_ns=ran * 1_000_000 if compute_ns is None else compute_ns,
        success_ns=success * 2_000_000 if success_ns is None else success_ns,
        memory=memory,
        batch_infer_ns=batch_ns,
    )


def entry(name: str, state: ModelState, reason: str = "", version: str = "1") -> IndexEntry:
    """One line of the repository index."""
    return IndexEntry(key(name, version), state, reason)


# GPUs


def gpu(
    uuid: str = "GPU-a",
    processes: Mapping[int, int | None] | None = None,
    busy: Mapping[int, float] | None = None,
    **more: Any,  # noqa: ANN401
) -> Gpu:
    """A GPU with these processes (pid to bytes); None: its list could not be had.  ``busy``: pid to percent."""
    listed = None if processes is None else tuple(GpuProcess(*each) for each in processes.items())
    kept = None if busy is None else tuple(GpuBusy(*each) for each in busy.items())
    return Gpu(uuid, "NVIDIA H200", processes=listed, busy=kept, **more)


# Triton's silence


def failing(call: str, failure: Failure, detail: str = "") -> CallFailure:
    """A call that brought no answer."""
    return CallFailure(call, failure, detail or f"{call}: {failure.value}", 0.1)


class World(msgspec.Struct, frozen=True):
    """What was seen so far, and the moment that it is.  Every word returns the world after it."""

    book: Book = Book()
    settings: Settings = Settings()
    now: Instant = START
    stale: tuple[Staleness, ...] = ()
    server: Server | None = None
    rows: tuple[ModelStatistics, ...] = ()
    configs: tuple[ModelConfig, ...] = ()
    stubs: tuple[Stub, ...] = ()
    left: tuple[Process, ...] = ()
    """What outlived the stub that it was below, or its parent there."""

    # What the probe sees next.  What is not given is as it was.

    def scans(
        self,
        *,
        existing: Iterable[int] = (),
        others: int = 0,
        asked: Iterable[Process] = (),
        initial: bool = False,
        ticks: int | None = None,
    ) -> World:
        """The processes of this world are scanned; ``others``: tritonservers that are not the watched one.

        ``existing`` and ``asked``: what is found by the pids that NVML listed; ``initial``: in the machine's first
        pid namespace; ``ticks``: the moment as starts are counted.
        """
        found = tuple(asked)
        reading = ProcessReading(
            self.now,
            self.server,
            self.stubs,
            other_servers=others,
            existing_pids=frozenset(existing) | {each.id.pid for each in found},
            asked=found,
            kept=tuple(each for each in self._below() if each.id in self.book.families.members),
            initial_namespace=initial,
            ticks=ticks,
            scanned=1 + len(self.stubs),
        )
        return self._after(self.book.with_processes(reading))

    def _below(self) -> tuple[Process, ...]:
        return (*(each for one in self.stubs for each in one.descendants), *self.left)

    def polls(self, **reading: Any) -> World:  # noqa: ANN401
        """Triton is polled and answers what this world's rows say, unless the reading says otherwise."""
        return self._after(self.book.with_poll(self._poll(reading)))

    def polls_into(self, models: ModelsLedger, **reading: Any) -> ModelsLedger:  # noqa: ANN401
        """A ledger of models after the same poll, whatever the book holds."""
        return models.with_poll(self._poll(reading))

    def _poll(self, reading: dict[str, Any]) -> TritonReading:
        told = {
            "live": True,
            "ready": True,
            "http_live": True,
            "version": TRITON,
            "statistics": self.rows,
            **reading,
        }
        return TritonReading(self.now, **told)

    def fails(self, grpc: Failure, http: Failure | None = None, detail: str = "") -> World:
        """Triton is polled, gRPC fails so; HTTP likewise unless given."""
        failures = (failing("live", grpc, detail), failing("http_live", http or grpc))
        return self._after(self.book.with_poll(TritonReading(self.now, failures=failures)))

    def asks(self, **reading: Any) -> World:  # noqa: ANN401
        """Triton is asked and answers with this world's configurations, unless the reading says otherwise.

        The index names what is loaded unless ``index`` is given; ``index=None`` is no answer.
        """
        return self._after(self.book.with_answers(self._answers(reading)))

    def asks_into(self, models: ModelsLedger, **reading: Any) -> ModelsLedger:  # noqa: ANN401
        """A ledger of models after the same inquiry, whatever the book holds."""
        return models.with_answers(self._answers(reading))

    def _answers(self, reading: dict[str, Any]) -> InquiryReading:
        loaded = tuple(IndexEntry(each.key, ModelState.READY) for each in self.rows)
        return InquiryReading(self.now, **{"configs": self.configs, "index": loaded, **reading})

    def exits(self, who: str | int, *, signal: int | None = None, code: int | None = None) -> World:
        """The kernel tells that the stub of this instance name or pid (the first of them) exited."""
        gone = next(each for each in self.stubs if who in (each.arguments.name, each.process.id.pid))
        left = tuple(each for each in self.stubs if each is not gone)
        return self.tells_exit(gone.process.id, signal=signal, code=code).having(stubs=left)

    def worker_exits(self, pid: int, *, signal: int | None = None, code: int | None = None) -> World:
        """The kernel tells that this process, below a stub or left by one, exited."""
        gone = next(each for each in self._below() if each.id.pid == pid)
        return self.tells_exit(gone.id, signal=signal, code=code).without_worker(pid)

    def says(self, name: str) -> World:
        """Triton is asked, for the sake of an exit, which versions of this model it has loaded."""
        loaded = tuple(each.key for each in self.rows if each.key.name == name)
        return self._after(self.book.with_word(name, loaded, self.now))

    def explains(self, name: str) -> World:
        """All that the engine does for the exit of a worker of this model: scan, ask, read its configuration."""
        return self.scans().says(name).asks(index=None)

    def tells_exit(self, who: ProcessId, *, signal: int | None = None, code: int | None = None) -> World:
        """The kernel tells that this process exited, whatever is here."""
        status = signal if signal is not None else None if code is None else code << 8
        return self._after(self.book.with_exit(Exit(who, self.now, status)))

    def server_exits(self, *, signal: int | None = None, code: int | None = None) -> World:
        """The kernel tells that tritonserver exited."""
        if self.server is None:
            raise ValueError("this world has no tritonserver that could exit")
        return self.tells_exit(self.server.process.id, signal=signal, code=code).having(server=None)

    def believes(self, *pids: int) -> World:
        """Triton was asked about the exits of these pids and did not say that it was an unload."""
        mine = [each.id for each in self.book.stubs.dead if each.id.pid in pids]
        return self._after(self.book.believing(*mine))

    def looks(self, *gpus: Gpu, patience: float = 15.0, **reading: Any) -> World:  # noqa: ANN401
        """NVML is looked at and shows these GPUs; ``state`` and the like describe a failure."""
        told = {"state": NvmlState.OK, "gpus": gpus, "driver_version": "570.86", **reading}
        return self._after(self.book.with_nvml(NvmlReading(self.now, **told), patience))

    def oom(self, kills: int, *, path: str = "/c/memory.events", groups: int | None = None) -> World:
        """The kernel tells that the container's count of OOM kills is this now, and of whole-container kills."""
        return self._after(self.book.with_oom(OomCounts(self.now, path, kills, groups)))

    def xid(self, code: int, uuid: str = "GPU-a", *instance: int) -> World:
        """The driver reports an Xid; ``instance``: ids of the MIG instance that it was on."""
        return self._after(self.book.with_xid(Xid(self.now, uuid, code, *instance)))

    def sends(self, name: str, version: str = "1", **order: Any) -> World:  # noqa: ANN401
        """A canary goes out; ``touches`` and the like are the order's, that of an ensemble follows from it."""
        told = CanaryOrder(key(name, version), **{"origins": (CanaryOrigin.INPUTS,), **order})
        if "touches" not in order:
            told = msgspec.structs.replace(told, touches=((told.key, 1),))
        return self._after(self.book.sending(told))

    def canary(
        self,
        name: str,
        outcome: CanaryOutcome = CanaryOutcome.PASSED,
        detail: str = "",
        *,
        version: str = "1",
        seconds: float = 0.5,
    ) -> World:
        """A canary comes to its end that was out for so long."""
        result = CanaryResult(key(name, version), self.now.shifted(-seconds), self.now, outcome, detail)
        return self._after(self.book.with_canary(result))

    def contained(self, **reading: Any) -> World:  # noqa: ANN401
        """Triton's container is looked at."""
        return self._after(self.book.with_container(ContainerReading(self.now, **reading)))

    def shm(
        self,
        *regions: str | tuple[str, int],
        size: int = 64 * MIB,
        used: int | None = None,
        mapped: Iterable[str] = (),
        undecided: Iterable[str] = (),
        **use: Any,  # noqa: ANN401
    ) -> World:
        """``/dev/shm`` is looked at: the regions of this world's stubs, and these files (of a MiB unless given).

        Of the files that the probe asks about, somebody maps ``mapped``; of ``undecided`` it can not be told.
        """
        files = {each.arguments.shm_region: each.shm_bytes or 0 for each in self.stubs}
        files |= dict((each, MIB) if isinstance(each, str) else each for each in regions)
        asked = self.book.shm.suspects & files.keys()
        held, unsure = asked & frozenset(mapped), asked & frozenset(undecided)
        told: dict[str, Any] = {
            "size_bytes": size,
            "used_bytes": sum(files.values()) if used is None else used,
            "files": tuple(ShmFile(name, size, START.wall) for name, size in files.items()),
            "mapped": held,
            "undecided": unsure,
            "unmapped": asked - held - unsure,
            **use,
        }
        return self.contained(shm=ShmUse(**told))

    def shm_changes(self, used: int, size: int = 64 * MIB, **level: Any) -> World:  # noqa: ANN401
        """The kernel tells of a change in ``/dev/shm``, of which this much is in use now."""
        return self._after(self.book.with_shm(ShmLevel(self.now, size, used, **level)))

    # What changes outside without anybody looking.

    def having(self, **changes: Any) -> World:  # noqa: ANN401
        """The world with other ``server``, ``rows``, ``configs``, ``stubs``, ``settings`` or ``stale``."""
        return msgspec.structs.replace(self, **changes)

    def with_row(self, *rows: ModelStatistics) -> World:
        """These rows in place of those of the same versions."""
        named = {each.key for each in rows}
        return self.having(rows=(*(each for each in self.rows if each.key not in named), *rows))

    def with_config(self, *configs: ModelConfig) -> World:
        """These configurations in place of those of the same versions."""
        named = {each.key for each in configs}
        return self.having(configs=(*(each for each in self.configs if each.key not in named), *configs))

    def with_stub(self, *stubs: Stub) -> World:
        """These stubs in place of those of the same pids."""
        named = {each.process.id.pid for each in stubs}
        kept = (each for each in self.stubs if each.process.id.pid not in named)
        return self.having(stubs=(*kept, *stubs))

    def without_stub(self, *pids: int) -> World:
        """Without the stubs of these pids, and nobody told."""
        return self.having(stubs=tuple(each for each in self.stubs if each.process.id.pid not in pids))

    def with_worker(self, pid: int, *workers: Process) -> World:
        """These processes below the stub of this pid, in place of those of the same pids."""
        (of,) = (each for each in self.stubs if each.process.id.pid == pid)
        named = {each.id.pid for each in workers}
        kept = (each for each in of.descendants if each.id.pid not in named)
        return self.with_stub(msgspec.structs.replace(of, descendants=(*kept, *workers)))

    def without_worker(self, *pids: int) -> World:
        """Without the processes of these pids below stubs or left by them, and nobody told."""
        return self.having(
            stubs=tuple(
                msgspec.structs.replace(
                    one, descendants=tuple(each for each in one.descendants if each.id.pid not in pids)
                )
                for one in self.stubs
            ),
            left=tuple(each for each in self.left if each.id.pid not in pids),
        )

    def adopted(self, *pids: int) -> World:
        """These processes below stubs lost their parent: they run on, and no tree leads to them."""
        moved = tuple(each for each in self._below() if each.id.pid in pids)
        return self.without_worker(*pids).having(left=(*self.left, *moved))

    def without_model(self, *names: str) -> World:
        """Triton no longer has these models; their stubs still run."""
        return self.having(
            rows=tuple(each for each in self.rows if each.key.name not in names),
            configs=tuple(each for each in self.configs if each.key.name not in names),
        )

    def later(self, seconds: float) -> World:
        """Time passes, and nobody looks."""
        return msgspec.structs.replace(self, now=self.now.shifted(seconds))

    # What is concluded.

    @property
    def seen(self) -> Observation:
        """What a check is given."""
        return Observation(self.now, self.settings, self.book, self.stale)

    def claims(self, judge: Callable[[Observation], Iterable[Claim]] = roster.judge) -> tuple[Claim, ...]:
        """What this check, or all of them, says of this moment."""
        return tuple(judge(self.seen))

    def told(self) -> frozenset[tuple[object, ...]]:
        """What all checks say, without words and moments: reason, subject, spared gates, severity."""
        return frozenset((each.reason, each.subject, each.spares, each.severity) for each in self.claims())

    def reasons(self, judge: Callable[[Observation], Iterable[Claim]] = roster.judge) -> list[str]:
        """The reasons of its claims in their order."""
        return [claim.reason for claim in self.claims(judge)]

    def only(self, reason: str, judge: Callable[[Observation], Iterable[Claim]] = roster.judge) -> Claim:
        """The one claim of this reason."""
        (claim,) = (each for each in self.claims(judge) if each.reason == reason)
        return claim

    def record(self, name: str, version: str = "1") -> ModelRecord:
        """What the book holds of a model version."""
        return self.book.models.records[key(name, version)]

    def alive(self, name: str, version: str = "1") -> tuple[LiveStub, ...]:
        """Its live stubs."""
        return self.book.stubs.of(key(name, version))

    def _after(self, book: Book) -> World:
        return msgspec.structs.replace(self, book=book, now=self.now.shifted(1.0))


def stubs_of(configs: Iterable[ModelConfig], first_pid: int = 100) -> Iterator[Stub]:
    """One stub for each instance of each python model, numbered upwards."""
    pid = first_pid
    for each in configs:
        if each.backend != "python":
            continue
        for one in each.groups:
            for index in range(one.count):
                for _ in one.gpus or (0,):
                    yield stub(pid, f"{one.name}_{index}", each.key.name, version=each.key.version)
                    pid += 1


def serving(
    *configs: ModelConfig,
    server: Server | None = server(),  # noqa: B008  (frozen)
    settings: Settings = Settings(),  # noqa: B008
    first_pid: int = 100,
    rows: tuple[ModelStatistics, ...] | None = None,
    **poll: Any,  # noqa: ANN401
) -> World:
    """A Triton that is up with these models, everything read: scanned, polled, asked, scanned again.

    Every python model has a stub for each instance, with pids from ``first_pid``; ``server`` None is a
    Triton whose processes can not be seen.
    """
    world = World(
        settings=settings,
        server=server,
        rows=tuple(row(each.key.name, each.key.version) for each in configs) if rows is None else rows,
        configs=configs,
        stubs=tuple(stubs_of(configs, first_pid)) if server is not None else (),
    )
    return world.scans().polls(**poll).asks().scans()
