"""Is the same said of the same deaths, in whatever order the kernel, Triton and the looks tell of them?

A story is what happened at one moment: who was killed for want of memory, who ended in another way beside it, and
whether the container dies as a whole.  Everything that tells of it comes within the next seconds, in any order.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from probe.facts.container import Limit, MemoryUse, ShmUse
from probe.facts.models import IndexEntry, ModelState
from probe.facts.processes import ProcessId
from tests.worlds import GIB, MIB, SERVER_PID, World, entry, python_model, serving, stub

UNHEALTHY = "Internal: Stub process 'n_0_0' is not healthy."
PATH = "/c/memory.events"
BEFORE = 3
"""Kills that were counted before the probe came."""
ENDS: tuple[dict[str, int], ...] = ({"signal": 9}, {"signal": 11}, {"code": 1}, {"code": 0})
PIDS = (100, 101, 102, 200)
"""Three stubs that serve, and one whose model loads."""


class Truth(msgspec.Struct, frozen=True):
    """What happened: who was killed for want of memory, and how others ended, by pid."""

    victims: frozenset[int] = frozenset()
    others: tuple[tuple[int, int], ...] = ()
    whole: bool = False

    @property
    def ends(self) -> dict[int, dict[str, int]]:
        """How each of the dead ended."""
        if self.whole:
            return {pid: {"signal": 9} for pid in (*PIDS, SERVER_PID)}
        told = {pid: ENDS[how] for pid, how in self.others if pid not in self.victims}
        return {**told, **{pid: {"signal": 9} for pid in self.victims}}

    @property
    def kills(self) -> int:
        """What the kernel counted."""
        return len(self.ends) if self.whole else len(self.victims)


def looked(world: World, kills: int, groups: int) -> World:
    """The container is looked at, while Triton's process is there."""
    if world.server is None:
        return world.contained()
    memory = MemoryUse(
        Limit(2.0 * GIB, "max"), GIB, GIB, oom_kills=kills, oom_kills_path=PATH, oom_group_kills=groups
    )
    return world.contained(memory=memory, shm=ShmUse(GIB, MIB))


def before() -> World:
    """Everything was seen: a model with three stubs serves, another loads with one."""
    world = serving(python_model("m", 3)).with_stub(stub(200, "n_0_0", "n")).scans()
    index = (entry("m", ModelState.READY), entry("n", ModelState.LOADING))
    return looked(world.asks(index=index), BEFORE, 0).later(3.0)


def happened(world: World, truth: Truth) -> dict[str, Callable[[World], World]]:
    """After it happened: everybody who tells of it, by name."""
    alive = {each.process.id.pid: each.process.id for each in world.stubs}
    alive[SERVER_PID] = ProcessId(SERVER_PID, SERVER_PID * 10)
    kills, groups = BEFORE + truth.kills, int(truth.whole)
    tellers: dict[str, Callable[[World], World]] = {
        "oom": lambda now: now.oom(kills, path=PATH, groups=groups),
        "look": lambda now: looked(now, kills, groups),
        "scan": World.scans,
        "poll": World.polls,
        "ask": lambda now: now.asks(index=_index(truth)),
    }

    def exits(pid: int) -> Callable[[World], World]:
        return lambda now: now.tells_exit(alive[pid], **truth.ends[pid])

    return {**tellers, **{f"exit {pid}": exits(pid) for pid in truth.ends}}


def _index(truth: Truth) -> tuple[IndexEntry, ...]:
    state = ModelState.UNAVAILABLE if 200 in truth.ends else ModelState.LOADING
    return entry("m", ModelState.READY), entry("n", state, UNHEALTHY if 200 in truth.ends else "")


def told(world: World, truth: Truth, order: list[str]) -> World:
    """The world after all have told, in this order; each a tenth of a second after the one before."""
    tellers = happened(world, truth)
    stubs = tuple(each for each in world.stubs if each.process.id.pid not in truth.ends)
    moment = world.now
    world = world.having(stubs=stubs, server=None if SERVER_PID in truth.ends else world.server)
    for number, name in enumerate(order):
        world = tellers[name](world.having(now=moment.shifted(0.1 * number)))
    # In the end everybody looks again.
    world = looked(world.having(now=moment.shifted(3)), BEFORE + truth.kills, int(truth.whole))
    return world.believes(*truth.ends).scans().polls().asks(index=_index(truth))


def verdicts(world: World) -> dict[tuple[str, str], object]:
    """What is said of whom, without moments."""
    found: dict[tuple[str, str], object] = {}
    for claim in world.claims():
        cause: object = claim.evidence.get("cause")
        if claim.reason == "OomKilled":
            names = str(claim.evidence["victims"]).split(", ")
            cause = (claim.evidence["kills"], tuple(sorted(names)), claim.evidence["whole_container"])
        found[claim.reason, str(claim.subject)] = cause
    return found


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    """Anything that can happen at once."""
    if draw(st.booleans()):
        return Truth(whole=True)
    victims = draw(st.frozensets(st.sampled_from(PIDS), max_size=3))
    # A SIGKILL by somebody else beside a kill for want of memory can not be told from it.
    ends = st.integers(1 if victims else 0, len(ENDS) - 1)
    others = draw(
        st.lists(st.tuples(st.sampled_from(PIDS), ends), max_size=3, unique_by=lambda each: each[0])
    )
    return Truth(victims, tuple(others))


@given(truth=truths(), data=st.data())
def test_the_order_of_telling_changes_nothing(truth: Truth, data: st.DataObject) -> None:
    """Once all have told, with their status, the same causes are told of the same processes."""
    world = before()
    names = list(happened(world, truth))
    order = data.draw(st.permutations(names))
    seen = told(world, truth, order)
    assert verdicts(seen) == verdicts(told(world, truth, names))
    by_pid = {each.id.pid: each.exit for each in seen.book.obituaries.kept}
    assert set(by_pid) == set(truth.ends)
    victims = set(truth.ends) if truth.whole else set(truth.victims)
    assert {pid for pid, event in by_pid.items() if event.oom_killed} == victims


@given(
    truth=truths(),
    kills=st.integers(0, 3),
    data=st.data(),
)
def test_never_more_victims_than_kills_and_none_without_a_rise(
    truth: Truth, kills: int, data: st.DataObject
) -> None:
    """Whatever part of it is told: exits without their status, a count that is another than the deaths."""
    world = before()
    tellers = happened(world, truth)
    tellers["oom"] = lambda now: now.oom(BEFORE + kills, path=PATH, groups=0)
    tellers["look"] = lambda now: looked(now, BEFORE + kills, 0)
    order = data.draw(st.lists(st.sampled_from(sorted(tellers)), unique=True))
    stubs = tuple(each for each in world.stubs if each.process.id.pid not in truth.ends)
    world = world.having(stubs=stubs, server=None if SERVER_PID in truth.ends else world.server)
    for name in order:
        world = tellers[name](world)
    killed = [each for each in world.book.obituaries.kept if each.exit.oom_killed]
    assert len(killed) <= kills
    assert all(each.exit.oom is not None and each.exit.oom.rose for each in killed)
    if kills == 0:
        assert not any("OomKilled" in key for key in verdicts(world))
