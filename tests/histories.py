"""Histories of a Triton for properties: what happens outside, who looks, and looks that bring nothing.

A history is a list of events, each a word of :data:`EVENTS` and a number that says to whom it happens.
Every event has its moment, so that noise in between moves nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from hypothesis import strategies as st

from probe.facts.canaries import CanaryOutcome
from probe.facts.models import IndexEntry, InstanceKind, ModelConfig, ModelState
from probe.facts.nvml import NvmlState
from probe.facts.processes import ProcessState
from probe.facts.triton import Failure
from tests.worlds import (
    GIB,
    SERVER_PID,
    World,
    at,
    config,
    ensemble,
    entry,
    failing,
    gpu,
    group,
    python_model,
    row,
    server,
    stubs_of,
)

CONFIGS: tuple[ModelConfig, ...] = (
    python_model("a", 2, InstanceKind.GPU, (0,)),
    python_model("b", 1, InstanceKind.GPU, (0, 1)),
    config("c", group("c")),
    python_model("c", version="2"),
    ensemble("e", "a", "c"),
    config("o", group("o"), backend="onnxruntime"),
)
STEP = 10.0
"""Seconds from one event to the next."""


class History(msgspec.Struct, frozen=True):
    """The world, and what Triton's index would say of models that are not ready."""

    world: World
    index: dict[str, IndexEntry] = {}
    next_pid: int = 1000
    number: int = 0

    def but(self, world: World, **more: object) -> History:
        """The same history with another world."""
        return msgspec.structs.replace(self, world=world, **more)


def begin(*, visible: bool) -> History:
    """Triton has just opened its ports, all models loaded; nothing but a refusal was seen."""
    world = World(
        server=server() if visible else None,
        rows=tuple(row(each.key.name, each.key.version) for each in CONFIGS),
        configs=CONFIGS,
        stubs=tuple(stubs_of(CONFIGS)) if visible else (),
    )
    return History(world.scans().fails(Failure.REFUSED))


def _scan(now: History, _: int) -> History:
    pids = (SERVER_PID, *(each.process.id.pid for each in now.world.stubs))
    return now.but(now.world.scans(existing=pids))


def _poll(now: History, _: int) -> History:
    return now.but(now.world.polls())


def _traffic(now: History, which: int) -> History:
    rows = list(now.world.rows)
    if rows:
        before = rows[which % len(rows)]
        wall = now.world.now.wall
        rows[which % len(rows)] = row(
            before.key.name, before.key.version, success=before.success + 1 + which, last=wall
        )
    return now.but(now.world.having(rows=tuple(rows)))


def _queue(now: History, which: int) -> History:
    return now.but(now.world.polls(pending=tuple((each.key, which) for each in now.world.rows)))


def _errors(now: History, which: int) -> History:
    rows = [
        msgspec.structs.replace(each, failure=each.failure + 5) if index == which else each
        for index, each in enumerate(now.world.rows)
    ]
    return now.but(now.world.having(rows=tuple(rows)).polls(pending=()))


def _ask(now: History, _: int) -> History:
    loaded = tuple(entry(each.key.name, ModelState.READY, "", each.key.version) for each in now.world.rows)
    return now.but(now.world.asks(index=(*loaded, *now.index.values())))


def _look(now: History, which: int) -> History:
    pids = [each.process.id.pid for each in now.world.stubs]
    listed = dict.fromkeys((SERVER_PID, *pids[: which % (len(pids) + 1)]), GIB)
    return now.but(now.world.looks(gpu(processes=listed if which % 5 else None)))


def _refuse(now: History, _: int) -> History:
    return now.but(now.world.fails(Failure.REFUSED))


def _exit(now: History, which: int) -> History:
    return now if now.world.server is None else now.but(now.world.server_exits(signal=which % 3 * 4 or None))


def _restart(now: History, _: int) -> History:
    if not now.world.book.server.ever_seen:
        return now
    world = now.world.having(
        server=server(pid=now.next_pid, start=now.next_pid * 10),
        stubs=tuple(stubs_of(CONFIGS, now.next_pid + 1)),
        rows=tuple(row(each.key.name, each.key.version) for each in CONFIGS),
        configs=CONFIGS,
    )
    return now.but(world, index={}, next_pid=now.next_pid + 100)


def _stub_exits(now: History, which: int) -> History:
    stubs = now.world.stubs
    if not stubs:
        return now
    pid = stubs[which % len(stubs)].process.id.pid
    return now.but(now.world.exits(pid, signal=9) if which % 3 else now.world.exits(pid, code=which % 2))


def _stub_vanishes(now: History, which: int) -> History:
    stubs = now.world.stubs
    return now.but(now.world.without_stub(stubs[which % len(stubs)].process.id.pid)) if stubs else now


def _stub_stops(now: History, which: int) -> History:
    stubs = list(now.world.stubs)
    if stubs:
        chosen = stubs[which % len(stubs)]
        stopped = chosen.process.state is ProcessState.STOPPED
        state = ProcessState.SLEEPING if stopped else ProcessState.STOPPED
        process = msgspec.structs.replace(chosen.process, state=state)
        stubs[which % len(stubs)] = msgspec.structs.replace(chosen, process=process)
    return now.but(now.world.having(stubs=tuple(stubs)))


def _stub_starts(now: History, which: int) -> History:
    if now.world.server is None:
        return now
    new = tuple(stubs_of(CONFIGS, now.next_pid))
    chosen = new[which % len(new)]
    return now.but(now.world.having(stubs=(*now.world.stubs, chosen)), next_pid=now.next_pid + 100)


def _ended(now: History, which: int, state: ModelState, reason: str) -> History:
    chosen = CONFIGS[which % len(CONFIGS)].key
    world = now.world.having(
        rows=tuple(each for each in now.world.rows if each.key != chosen),
        configs=tuple(each for each in now.world.configs if each.key != chosen),
        stubs=tuple(
            each
            for each in now.world.stubs
            if f"/{chosen.name}/{chosen.version}/" not in each.arguments.model_path
        ),
    )
    told = entry(chosen.name, state, reason, chosen.version)
    return now.but(world, index={**now.index, str(chosen): told})


def _unload(now: History, which: int) -> History:
    return _ended(now, which, ModelState.UNAVAILABLE, "unloaded")


def _fail(now: History, which: int) -> History:
    return _ended(now, which, ModelState.UNAVAILABLE, "Internal: Stub process 'a_0_0' is not healthy.")


def _loading(now: History, which: int) -> History:
    return _ended(now, which, ModelState.LOADING, "")


def _load(now: History, which: int) -> History:
    # Loaded over what is there: a reload.
    chosen = CONFIGS[which % len(CONFIGS)]
    without = _ended(now, which, ModelState.UNAVAILABLE, "unloaded").world
    stubs = tuple(stubs_of([chosen], now.next_pid)) if now.world.server is not None else ()
    world = without.having(
        rows=(*without.rows, row(chosen.key.name, chosen.key.version)),
        configs=(*without.configs, chosen),
        stubs=(*without.stubs, *stubs),
    )
    index = {name: each for name, each in now.index.items() if name != str(chosen.key)}
    return now.but(world, index=index, next_pid=now.next_pid + 100)


def _canary(now: History, which: int) -> History:
    # Sent to a model that is ready, and come to whatever end it may.
    chosen = CONFIGS[which % len(CONFIGS)].key
    record = now.world.book.models.records.get(chosen)
    if record is None or not record.ready or now.world.book.server.gone is not None:
        return now
    outcome = list(CanaryOutcome)[which % len(CanaryOutcome)]
    sent = now.world.sends(chosen.name, chosen.version)
    return now.but(sent.canary(chosen.name, outcome, version=chosen.version))


EVENTS: dict[str, Callable[[History, int], History]] = {
    "scan": _scan,
    "poll": _poll,
    "ask": _ask,
    "look": _look,
    "traffic": _traffic,
    "queue": _queue,
    "errors": _errors,
    "refuse": _refuse,
    "exit": _exit,
    "restart": _restart,
    "stub exits": _stub_exits,
    "stub vanishes": _stub_vanishes,
    "stub stops": _stub_stops,
    "stub starts": _stub_starts,
    "unload": _unload,
    "load": _load,
    "loading": _loading,
    "fail": _fail,
    "canary": _canary,
}

_SILENT = {"live": None, "ready": None, "http_live": None, "version": None, "statistics": None}


def _garbled(failure: Failure, **more: object) -> Callable[[World], World]:
    told = {**_SILENT, "failures": (failing("live", failure),), **more}
    return lambda world: world.polls(**told)


def _timed_out(world: World) -> World:
    # Where HTTP never answered, gRPC's silence alone is a miss.
    return world.fails(Failure.TIMEOUT, Failure.ERROR) if world.book.server.http_up else world


def _without_statistics(world: World) -> World:
    # Only of a Triton that answered at its last poll this brings nothing.
    told = world.book.server.told
    if told is None or not told.live or world.book.server.gone is not None:
        return world
    return world.polls(statistics=None, version=None, failures=(failing("statistics", Failure.TIMEOUT),))


NOISE: dict[str, Callable[[World], World]] = {
    "gRPC times out, HTTP errs": _timed_out,
    "gRPC times out, HTTP answers": _garbled(Failure.TIMEOUT, http_live=True),
    "error": lambda world: world.fails(Failure.ERROR),
    "garbage": lambda world: world.fails(Failure.GARBAGE),
    "unimplemented": _garbled(Failure.UNIMPLEMENTED),
    "no statistics": _without_statistics,
    "NVML errs": lambda world: world.looks(state=NvmlState.ERROR, patience=1e9),
    "NVML hangs": lambda world: world.looks(state=NvmlState.HUNG, outstanding_seconds=9.0, patience=1e9),
    "NVML 999": lambda world: world.looks(state=NvmlState.UNKNOWN_ERROR, code=999, patience=1e9),
}
"""Looks that bring nothing: they may neither raise nor clear what is not about themselves."""


def happens(now: History, event: str, which: int) -> History:
    """The next event, at its own moment."""
    moment = at(STEP * (now.number + 1))
    after = EVENTS[event](now.but(now.world.having(now=moment)), which)
    return after.but(after.world, number=now.number + 1)


def disturbed(now: History, noises: list[str]) -> History:
    """The same moment of the same history, with these looks in between."""
    world = now.world
    for noise in noises:
        world = NOISE[noise](world)
    return now.but(world)


_NUMBERS = st.integers(0, 11)
EVENT = st.tuples(st.sampled_from(sorted(EVENTS)), _NUMBERS)
SEEN = st.sampled_from([("scan", 0), ("poll", 0), ("ask", 0), ("look", 3)])
"""Without frequent looks nothing of a history is known."""
HISTORY = st.lists(EVENT | SEEN, max_size=40)
NOISES = st.lists(st.sampled_from(sorted(NOISE)), max_size=3)


def started(*, visible: bool) -> History:
    """A history whose first looks are done."""
    now = begin(visible=visible)
    for event in ("poll", "ask", "scan", "look", "poll"):
        now = happens(now, event, 3)
    return now
