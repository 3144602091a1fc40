"""OOM kills over time: which exit does a rise of the container's count explain; pure.

The kernel counts a kill before it sends the SIGKILL (Linux, ``mm/oom_kill.c``, ``__oom_kill_process``), so
that a look after the exit surely shows it, and a process that frees much memory dies seconds after it was
counted.  Nothing names the victim to somebody without privileges: a kill goes to the first process that
ended by SIGKILL, or nobody knows how, after the last look that did not show it.
"""

from __future__ import annotations

import math
import signal

import msgspec

from probe.facts.container import ContainerReading
from probe.facts.instants import Instant
from probe.facts.processes import Exit, OomCount, ProcessId
from probe.ledgers.scenes import Scene

WINDOW = 10.0
"""Seconds between a look at the count and an exit beyond which neither explains the other."""
WAITING_AT_MOST = 1000
"""Exits that wait for a look: a flood of them is no reason to grow."""
RISES_AT_MOST = 100


class Count(msgspec.Struct, frozen=True):
    """The count of OOM kills in one look, and of those that took the whole container.

    ``grouped`` says whether one would (``memory.oom.group``), None where this look did not tell.
    """

    observed: Instant
    path: str
    kills: int
    groups: int | None = None
    grouped: bool | None = None


class Rise(msgspec.Struct, frozen=True):
    """Two looks between which the count rose, and the exits that it explains.

    ``scene`` is the last look at the container before it was seen; ``told`` says that the kernel told of it, at the
    moment of ``after``.  ``over``: its container, or that Triton, is not there any more.
    """

    before: Count
    after: Count
    victims: tuple[Exit, ...] = ()
    scene: Scene | None = None
    told: bool = False
    over: bool = False

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return self.after.kills - self.before.kills

    @property
    def unclaimed(self) -> int:
        """How many of them no exit explains."""
        return max(0, self.kills - len(self.victims))

    @property
    def whole(self) -> bool:
        """Whether every process of the container was killed.

        The kernel counts the first of them before it counts that it takes all (``oom_kill_process``), so that a
        look in between shows one kill of a container in which it never stays at one.
        """
        before, after = self.before.groups, self.after.groups
        return (before is not None and after is not None and after > before) or self.after.grouped is True

    @property
    def event_at(self) -> Instant | None:
        """The moment of the kill, where somebody told it; a look that only found the higher count does not."""
        exits = [each.observed for each in self.victims]
        return min((self.after.observed, *exits) if self.told else exits, default=None)

    @property
    def free(self) -> bool:
        """Whether it can explain one exit more."""
        return self.unclaimed > 0 or self.whole

    def fits(self, event: Exit) -> bool:
        """Whether the exit can have been one of these kills, by its moment."""
        moment = event.observed.mono
        return (
            not self.over
            and moment > self.before.observed.mono
            and abs(moment - self.after.observed.mono) <= WINDOW
        )

    def continues(self, other: Rise) -> bool:
        """Whether it can be a later one of the same container, whose count never falls."""
        return self.before.path == other.after.path and self.before.kills >= other.after.kills

    def claimed_by(self, process: ProcessId) -> bool:
        """Whether the end of this process is one that it explains."""
        return any(each.id == process for each in self.victims)

    def claimed(self, event: Exit) -> Rise:
        """After this exit took one of its kills."""
        return msgspec.structs.replace(self, victims=(*self.victims, event))

    def without(self, process: ProcessId) -> Rise:
        """After this process turned out to have ended in another way."""
        if not self.claimed_by(process):
            return self
        return msgspec.structs.replace(
            self, victims=tuple(each for each in self.victims if each.id != process)
        )

    def explained(self, event: Exit) -> Exit:
        """The exit, with what this tells of it."""
        after = self.after
        told = OomCount(after.path, self.before.kills, after.kills, after.observed, whole=self.whole)
        return msgspec.structs.replace(event, oom=told)


class KillsLedger(msgspec.Struct, frozen=True):
    """The last count, the rises of it, and exits of which it has not told yet.

    Rises are kept after they can explain nothing more, over epochs too: they are what there is to tell.
    """

    last: Count | None = None
    rises: tuple[Rise, ...] = ()
    waiting: tuple[Exit, ...] = ()
    first: Count | None = None
    """The first of this container: nobody knows when what it had counted by then was killed."""

    def unexplained(self, began: Instant | None, ended: Instant) -> int:
        """How many kills of this container no exit explains that may lie between these moments.

        ``began`` is None where nobody knows it.
        """
        start = began.mono if began is not None else -math.inf
        found = sum(
            each.unclaimed
            for each in self.rises
            if not each.over and each.after.observed.mono > start and each.before.observed.mono < ended.mono
        )
        first = self.first
        return found + (first.kills if first is not None and first.observed.mono > start else 0)

    def told_since(self, moment: Instant) -> bool:
        """Whether a look at the count has begun since this moment."""
        return self.last is not None and self.last.observed.mono >= moment.mono

    def forgotten(self) -> KillsLedger:
        """At the start of an epoch: the next count is the first of its container."""
        return KillsLedger(rises=self._over())

    def _over(self) -> tuple[Rise, ...]:
        return tuple(msgspec.structs.replace(each, over=True) for each in self.rises)

    def with_exit(self, event: Exit) -> tuple[KillsLedger, tuple[Exit, ...]]:
        """After an exit; it comes back first, with the kill that explains it, where one was already counted.

        Who is known to be killed takes it from one of whom nobody knows how it ended, which then comes back too.
        """
        # A scan may have found it gone first, and how it ended is told only now.
        others = tuple(each for each in self.waiting if each.id != event.id)
        return msgspec.structs.replace(self, waiting=others)._explained(event)  # noqa: SLF001

    def _explained(self, event: Exit) -> tuple[KillsLedger, tuple[Exit, ...]]:
        if not suspicious(event):
            rises = tuple(each.without(event.id) for each in self.rises)
            return msgspec.structs.replace(self, rises=rises), (event,)
        known = next((each for each in self.rises if each.claimed_by(event.id)), None)
        if known is not None:
            return self._with(known, known.without(event.id).claimed(event)), (known.explained(event),)
        # The latest rise that fits: an older one may be the kill of a process that nobody watches.
        fitting = [each for each in reversed(self.rises) if each.fits(event)]
        found = next((each for each in fitting if each.free), None)
        if found is not None:
            return self._with(found, found.claimed(event)), (found.explained(event),)
        taken = self._taking(event, fitting)
        if taken is not None:
            return taken
        if self.told_since(event.observed):
            # A look after it showed no kill that is left for it: what comes later is another's.
            return self, (event,)
        return msgspec.structs.replace(self, waiting=(*self.waiting, event)[-WAITING_AT_MOST:]), (event,)

    def _taking(self, event: Exit, fitting: list[Rise]) -> tuple[KillsLedger, tuple[Exit, ...]] | None:
        for each in fitting if event.status is not None else ():
            doubtful = next((one for one in each.victims if one.status is None), None)
            if doubtful is not None:
                rise = each.without(doubtful.id).claimed(event)
                none = OomCount(each.after.path, each.after.kills, each.after.kills, each.after.observed)
                displaced = msgspec.structs.replace(doubtful, oom=none)
                return self._with(each, rise), (each.explained(event), displaced)
        return None

    def _with(self, before: Rise, after: Rise) -> KillsLedger:
        rises = tuple(after if each is before else each for each in self.rises)
        return msgspec.structs.replace(self, rises=rises)

    def with_reading(
        self, reading: ContainerReading, scene: Scene | None = None
    ) -> tuple[KillsLedger, tuple[Exit, ...]]:
        """After a look at the container; the exits of which it tells come back with what it tells.

        A look that could not read the count tells nothing.
        """
        memory = reading.memory
        if memory.oom_kills is None:
            return self, ()
        count = Count(
            reading.observed,
            memory.oom_kills_path,
            memory.oom_kills,
            memory.oom_group_kills,
            memory.oom_group,
        )
        return self.with_count(count, scene)

    def with_count(
        self, count: Count, scene: Scene | None = None, *, told: bool = False
    ) -> tuple[KillsLedger, tuple[Exit, ...]]:
        """After the count was read; the exits of which it tells come back with what it tells.

        ``scene`` is the last look at the container before it; ``told``: the kernel said that the count changed.
        """
        last = self.last
        if last is not None and count.observed.mono <= last.observed.mono:
            return self, ()
        if last is None or last.path != count.path or count.kills < last.kills:
            # Another cgroup: what was counted in the one before is no measure for it.
            return KillsLedger(count, self._over(), _after(self.waiting, count), count), ()
        if count.grouped is None:
            count = msgspec.structs.replace(count, grouped=last.grouped)
        rises = list(self.rises)
        if count.kills > last.kills:
            rises.append(Rise(last, count, scene=scene, told=told))
        none = OomCount(count.path, count.kills, count.kills, count.observed)
        answers: list[Exit] = []
        # Who is known to have been killed comes before those of whom nobody knows how they ended.
        for event in sorted(self.waiting, key=lambda each: (each.status is None, each.observed.mono)):
            index = next((i for i, each in enumerate(rises) if each.free and each.fits(event)), None)
            if index is not None:
                answers.append(rises[index].explained(event))
                rises[index] = rises[index].claimed(event)
            elif 0 <= count.observed.mono - event.observed.mono <= WINDOW:
                answers.append(msgspec.structs.replace(event, oom=none))
        waiting = _after(
            tuple(each for each in self.waiting if each.id not in {one.id for one in answers}), count
        )
        return KillsLedger(count, tuple(rises[-RISES_AT_MOST:]), waiting, self.first), tuple(answers)


def suspicious(event: Exit) -> bool:
    """Whether an OOM kill would look like this: SIGKILL, or nobody can tell."""
    return event.status is None or event.signal == signal.SIGKILL


def _after(waiting: tuple[Exit, ...], count: Count) -> tuple[Exit, ...]:
    return tuple(each for each in waiting if each.observed.mono > count.observed.mono)
