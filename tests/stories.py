"""Stories of one python model's stubs with the truth kept beside what the probe sees.

A step changes the truth (load, unload, reload, death, restart) or lets somebody look; a :class:`Story` holds
both.  The kernel tells of an exit at once, as the engine hears it, or nobody does until a scan; then Triton
is asked what the exit was, as the engine asks.

An unload after a death may never end, and leaves the other stubs behind (release 24.10).  It does so only after
a request to the dead one failed, so everybody has looked by then.  A stub that lingers beside a new load after
a death that nobody noticed could not be told from one of that load: such stories are not told here, nor those of
a Triton that both leaves stubs behind and starts dead ones again, which is no release.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from hypothesis import strategies as st

from probe.facts.models import ModelState
from probe.facts.processes import ProcessId
from tests.worlds import World, entry, key, python_model, row, server, stub

NAME = "m"
KEY = key(NAME)
INSTANCES = ("m_0_0", "m_0_1")
CONFIG = python_model(NAME, len(INSTANCES))


class Story(msgspec.Struct, frozen=True):
    """The world, and what is true.

    ``serving`` is the stub of each instance of the present load, by name; ``deaths`` the stubs that died while
    their load was loaded; ``lingering`` those of an ended load that still run.  ``noticed`` are the stubs that a
    scan saw alive after Triton had told of their load; ``died`` the instances that ever had a death, ``murky``
    those of which one end was not seen at all, or not told by the kernel.
    """

    world: World
    loaded: bool = True
    serving: dict[str, int] = {}
    deaths: frozenset[int] = frozenset()
    scanned: frozenset[int] = frozenset()
    noticed: frozenset[int] = frozenset()
    died: frozenset[str] = frozenset()
    murky: frozenset[str] = frozenset()
    lingering: tuple[int, ...] = ()
    restarts: bool = False
    next_pid: int = 200
    success: int = 0

    @property
    def dead(self) -> dict[str, int]:
        """Instances of the present load whose stub died, with the pid that it had."""
        return {name: pid for name, pid in self.serving.items() if pid in self.deaths} if self.loaded else {}

    def but(self, **changes: object) -> Story:
        """The story with these changes."""
        return msgspec.structs.replace(self, **changes)

    def exits(self, pid: int, number: int, **how: int) -> Story:
        """A stub ends; the kernel tells, unless ``number`` says that nobody heard it."""
        if number % 4 == 0:
            named = {each.arguments.name for each in self.world.stubs if each.process.id.pid == pid}
            return self.but(world=self.world.without_stub(pid), murky=self.murky | named)
        told = self.but(world=self.world.exits(pid, **how)).explained(pid, violent=bool(any(how.values())))
        # The engine looks at processes and at Triton at once for each exit that it hears of.
        return _poll(_scan(told, 0), 0)

    def explained(self, pid: int, *, violent: bool) -> Story:
        """Triton is asked whether it still has the version, as the engine does for each exit."""
        dead = next((each for each in self.world.book.stubs.dead if each.id.pid == pid), None)
        if dead is None or dead.model is None:
            return self
        world = self.world
        if not self.loaded:
            models = world.book.models.without(KEY, world.now)
            return self.but(world=msgspec.structs.replace(world, book=world.book.with_models(models)))
        if not violent:
            return self
        if KEY not in world.book.models.records or not world.record(NAME).ready:
            world = world.polls()
        return self.but(world=world.believes(pid))


def _started(now: Story) -> Story:
    # New stubs of a load, not yet the one that serves.
    pids = range(now.next_pid, now.next_pid + len(INSTANCES))
    new = (stub(pid, name, NAME) for pid, name in zip(pids, INSTANCES, strict=True))
    return now.but(world=now.world.with_stub(*new), next_pid=now.next_pid + len(INSTANCES))


def _load(now: Story, number: int) -> Story:
    if now.loaded:
        return now
    first = now.next_pid
    now = _started(now)
    if number % 2:
        now = look(now, number)
    world = now.world.having(rows=(row(NAME),), configs=(CONFIG,))
    serving = {name: first + index for index, name in enumerate(INSTANCES)}
    return now.but(world=world, loaded=True, serving=serving, success=0)


def _lingers(now: Story, number: int) -> bool:
    seen = bool(now.dead) and set(now.dead.values()) <= now.noticed
    return seen and not now.restarts and number % 3 == 0


def _unload(now: Story, number: int) -> Story:
    if not now.loaded:
        return now
    lingers = _lingers(now, number)
    now = settled(now) if lingers else now
    ended = {pid for pid in now.serving.values() if pid not in now.deaths}
    now = now.but(world=now.world.having(rows=(), configs=()), loaded=False)
    if number % 2:
        now = look(now, number // 2)
    if lingers:
        return now.but(lingering=(*now.lingering, *ended))
    for index, pid in enumerate(sorted(ended)):
        now = now.exits(pid, number + index, code=0)
    return now


def _reload(now: Story, number: int) -> Story:
    """The new load's stubs start beside the old ones, which end when it serves: never "not ready"."""
    if not now.loaded:
        return now
    lingers = _lingers(now, number)
    now = settled(now) if lingers else now
    old = {pid for pid in now.serving.values() if pid not in now.deaths}
    first = now.next_pid
    now = _started(now)
    if number % 2:
        now = look(now, number // 2)
    serving = {name: first + index for index, name in enumerate(INSTANCES)}
    now = now.but(world=now.world.having(rows=(row(NAME),)), serving=serving, success=0)
    if lingers:
        return now.but(lingering=(*now.lingering, *old))
    for index, pid in enumerate(sorted(old)):
        now = now.exits(pid, number + index, code=0)
    return now


def _end_lingering(now: Story, number: int) -> Story:
    if not now.lingering:
        return now
    first, *rest = now.lingering
    return now.but(lingering=tuple(rest)).exits(first, number, code=0)


_ENDS: tuple[dict[str, int], ...] = ({"signal": 9}, {"signal": 11}, {"code": 1}, {"code": 0})


def _death(now: Story, number: int) -> Story:
    alive = sorted(pid for pid in now.serving.values() if pid not in now.deaths)
    if not now.loaded or not alive:
        return now
    pid = alive[number % len(alive)]
    if now.lingering and pid not in now.noticed:
        now = _scan(now, number)
    unseen = {name for name, each in now.serving.items() if each == pid and pid not in now.noticed}
    now = now.but(murky=now.murky | unseen)
    named = {name for name, each in now.serving.items() if each == pid}
    return now.but(deaths=now.deaths | {pid}, died=now.died | named).exits(
        pid, number // 2, **_ENDS[number % len(_ENDS)]
    )


def _restart(now: Story, _: int) -> Story:
    """Up to 24.05 a request starts a dead stub again, under the same name."""
    if not now.dead or now.lingering:
        return now
    name = min(now.dead)
    world = now.world.with_stub(stub(now.next_pid, name, NAME))
    return now.but(
        world=world, serving={**now.serving, name: now.next_pid}, next_pid=now.next_pid + 1, restarts=True
    )


def _reused(now: Story, _: int) -> Story:
    """The pid of a dead stub is given to a stub of another model's, which began later."""
    dead = sorted(now.deaths - {each.process.id.pid for each in now.world.stubs})
    if not dead:
        return now
    stranger = stub(dead[0], "other_0_0", "other", start=dead[0] * 10 + now.next_pid)
    return now.but(world=now.world.with_stub(stranger), next_pid=now.next_pid + 1)


def _traffic(now: Story, number: int) -> Story:
    if not now.loaded:
        return now
    success = now.success + 1 + number
    return now.but(world=now.world.having(rows=(row(NAME, success=success),)), success=success)


def _scan(now: Story, _: int) -> Story:
    # What a scan finds changed is followed by a poll, as the engine does it.
    seen = {each.process.id.pid for each in now.world.stubs if each.arguments.name in INSTANCES}
    world = now.world.scans()
    changed = world.book.stubs.live.keys() != now.world.book.stubs.live.keys()
    now = now.but(world=world, scanned=frozenset(seen))
    return _poll(now, 0) if changed else _noticing(now)


def _noticing(now: Story) -> Story:
    known = now.world.book.models.records.get(KEY)
    ready = now.loaded and known is not None and known.ready
    return now.but(noticed=now.noticed | now.scanned) if ready else now


def _poll(now: Story, _: int) -> Story:
    return _noticing(now.but(world=now.world.polls()))


def _ask(now: Story, _: int) -> Story:
    known = (entry(NAME, ModelState.READY if now.loaded else ModelState.UNAVAILABLE, "unloaded"),)
    return now.but(world=now.world.asks(index=known))


def look(now: Story, number: int) -> Story:
    """Somebody looks: at processes, at Triton, or asks it more."""
    return (_scan, _poll, _ask)[number % 3](now, number)


STEPS: dict[str, Callable[[Story, int], Story]] = {
    "load": _load,
    "unload": _unload,
    "reload": _reload,
    "lingering ends": _end_lingering,
    "death": _death,
    "restart": _restart,
    "pid reused": _reused,
    "traffic": _traffic,
    "scan": _scan,
    "poll": _poll,
    "ask": _ask,
}
STORY = st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 11)), max_size=25)


def begun() -> Story:
    """Both instances serve, and everything is read."""
    pids = {name: 100 + index for index, name in enumerate(INSTANCES)}
    world = World(
        server=server(),
        rows=(row(NAME),),
        configs=(CONFIG,),
        stubs=tuple(stub(pid, name, NAME) for name, pid in pids.items()),
    )
    return settled(Story(world, serving=pids))


def settled(now: Story) -> Story:
    """Everybody looks, as the engine does after every piece of news."""
    for each in (_scan, _poll, _ask, _scan, _poll, _scan):
        now = each(now, 0)
    return now


def identities(now: Story) -> set[ProcessId]:
    """Who runs, for a test that wants to know whom the ledger holds."""
    return {each.process.id for each in now.world.stubs}
