"""OOM kills over time: which exit does a rise of the container's count explain; pure.

The kernel counts a kill before it sends the SIGKILL (Linux, ``mm/oom_kill.c``, ``__oom_kill_process``), so
that a look after the exit surely shows it, and a process that frees much memory dies seconds after it was
counted.  Nothing names the victim to somebody without privileges: a kill goes to the first process that
ended by SIGKILL, or nobody knows how, after the last look that did not show it.
"""

from __future__ import annotations

import signal

import msgspec

from probe.facts.container import ContainerReading
from probe.facts.instants import Instant
from probe.facts.processes import Exit, OomCount

WINDOW = 10.0
"""Seconds between a look at the count and an exit beyond which neither explains the other."""
WAITING_AT_MOST = 1000
"""Exits that wait for a look: a flood of them is no reason to grow."""


class Count(msgspec.Struct, frozen=True):
    """The count of OOM kills in one look."""

    observed: Instant
    path: str
    kills: int


class Rise(msgspec.Struct, frozen=True):
    """Two looks between which the count rose, and how many of those kills no exit has claimed."""

    before: Count
    after: Count
    unclaimed: int

    def explains(self, event: Exit) -> bool:
        """Whether the exit can have been one of these kills."""
        moment = event.observed.mono
        return (
            self.unclaimed > 0
            and moment > self.before.observed.mono
            and abs(moment - self.after.observed.mono) <= WINDOW
        )

    def claimed(self) -> Rise:
        """After an exit took one of its kills."""
        return msgspec.structs.replace(self, unclaimed=self.unclaimed - 1)

    def told(self) -> OomCount:
        """What an exit that claims it can say."""
        return OomCount(self.after.path, self.before.kills, self.after.kills, self.after.observed)


class KillsLedger(msgspec.Struct, frozen=True):
    """The last count, kills that nobody has claimed, and exits of which the count has not told yet."""

    last: Count | None = None
    rises: tuple[Rise, ...] = ()
    waiting: tuple[Exit, ...] = ()

    def told_since(self, moment: Instant) -> bool:
        """Whether a look at the count has begun since this moment."""
        return self.last is not None and self.last.observed.mono >= moment.mono

    def with_exit(self, event: Exit) -> tuple[KillsLedger, Exit]:
        """After an exit; it comes back with the kill that explains it, where one was already counted."""
        if not suspicious(event):
            return self, event
        # The latest rise that fits: an older one may be the kill of a process that nobody watches.
        found = next((each for each in reversed(self.rises) if each.explains(event)), None)
        if found is not None:
            rises = tuple(each.claimed() if each is found else each for each in self.rises)
            return msgspec.structs.replace(self, rises=rises), _explained(event, found.told())
        if self.told_since(event.observed):
            # A look after it showed no kill that is left for it: what comes later is another's.
            return self, event
        others = tuple(each for each in self.waiting if each.id != event.id)
        return msgspec.structs.replace(self, waiting=(*others, event)[-WAITING_AT_MOST:]), event

    def with_reading(self, reading: ContainerReading) -> tuple[KillsLedger, tuple[Exit, ...]]:
        """After a look at the container; the exits of which it tells come back with what it tells.

        A look that could not read the count tells nothing.
        """
        if reading.memory.oom_kills is None:
            return self, ()
        return self.with_count(
            Count(reading.observed, reading.memory.oom_kills_path, reading.memory.oom_kills)
        )

    def with_count(self, count: Count) -> tuple[KillsLedger, tuple[Exit, ...]]:
        """After the count was read; the exits of which it tells come back with what it tells."""
        last = self.last
        if last is not None and count.observed.mono <= last.observed.mono:
            return self, ()
        if last is None or last.path != count.path or count.kills < last.kills:
            # Another cgroup: what was counted in the one before is no measure for it.
            return KillsLedger(count, waiting=_after(self.waiting, count)), ()
        rises = [each for each in self.rises if count.observed.mono - each.after.observed.mono <= WINDOW]
        if count.kills > last.kills:
            rises.append(Rise(last, count, count.kills - last.kills))
        none = OomCount(count.path, count.kills, count.kills, count.observed)
        told: list[Exit] = []
        for event in sorted(self.waiting, key=lambda each: each.observed.mono):
            index = next((i for i, each in enumerate(rises) if each.explains(event)), None)
            if index is not None:
                told.append(_explained(event, rises[index].told()))
                rises[index] = rises[index].claimed()
            elif 0 <= count.observed.mono - event.observed.mono <= WINDOW:
                told.append(_explained(event, none))
        waiting = _after(
            tuple(each for each in self.waiting if each.id not in {one.id for one in told}), count
        )
        return KillsLedger(count, tuple(rises), waiting), tuple(told)


def suspicious(event: Exit) -> bool:
    """Whether an OOM kill would look like this: SIGKILL, or nobody can tell."""
    return event.status is None or event.signal == signal.SIGKILL


def _after(waiting: tuple[Exit, ...], count: Count) -> tuple[Exit, ...]:
    return tuple(each for each in waiting if each.observed.mono > count.observed.mono)


def _explained(event: Exit, oom: OomCount) -> Exit:
    return msgspec.structs.replace(event, oom=oom)
