"""How hard Triton's container presses against its limits, from look to look; pure.

What fills up (memory, processes) is told from a single look; what is a rate (throttled periods, stalls) from a
window of them.  What was raised at one figure is let go of at a lower one: without a gap it would come and go.
"""

from __future__ import annotations

import msgspec

from probe.facts.container import ContainerReading, CpuUse, Limit
from probe.facts.instants import Instant
from probe.ledgers.trends import Trend
from probe.ledgers.windows import FORGOTTEN, Rise, Window

NEAR, NEAR_NO_MORE = 0.9, 0.85
"""Parts of a limit: a tenth is what one more request, or one more stub, takes."""
THROTTLED, THROTTLED_NO_MORE = 0.25, 0.15
"""Parts of the periods in which it ran: where every fourth is cut short, requests wait for it."""
PERIODS = 15
"""Periods at least in which it ran: a window of the longest that there are (1 s), and of the usual ones (100 ms) a
tenth of a window; fewer are a burst that nobody waits for."""
STALLED, STALLED_NO_MORE = 0.1, 0.05
"""Parts of the time for which some task waited for memory: reclaim of file cache at a load stays below."""
REFUSED_FOR = 300.0
"""Seconds for which a refused fork is told: who could not start a thread then may still be broken."""


class Fill(msgspec.Struct, frozen=True):
    """How full something with a limit is; ``since``: since when it is near the limit, None where it is not."""

    observed: Instant
    used: int
    limit: Limit
    since: Instant | None = None

    @property
    def share(self) -> float:
        """Use as a part of the limit; of a limit of nothing everything."""
        return self.used / self.limit.value if self.limit.value else 1.0


class Throttling(msgspec.Struct, frozen=True):
    """What a CPU limit did over a window.

    ``share`` is the part of the periods in which it held the container back or, where periods are not counted, of
    the CPU time that the limit allows.  ``since``: since when that is much, None where it is not.
    """

    window: Rise
    share: float
    periods: int | None
    throttled: int | None
    since: Instant | None = None


class Stall(msgspec.Struct, frozen=True):
    """The part of a window for which some task waited for memory; ``since`` as in :class:`Throttling`."""

    window: Rise
    share: float
    since: Instant | None = None


class Refusals(msgspec.Struct, frozen=True):
    """Forks that the limit refused: the ``count`` so far, and ``lately`` those of the present spell.

    A spell goes on while less than ``REFUSED_FOR`` passes between two looks that find more; the first such look
    was at ``since``, the last ``at``.
    """

    source: object
    count: int
    lately: int = 0
    at: Instant | None = None
    since: Instant | None = None


_PERIODS, _THROTTLED, _HELD_BACK, _USED, _CPU_STALL = range(5)


class StrainLedger(msgspec.Struct, frozen=True):
    """One epoch's looks at the container."""

    memory: Fill | None = None
    """Of the memory that the kernel can not take back: the working set less the file cache in it."""
    pids: Fill | None = None
    trend: Trend = Trend()
    cpu: Window = Window()
    waits: Window = Window()
    throttling: Throttling | None = None
    stall: Stall | None = None
    refusals: Refusals | None = None

    def with_reading(self, reading: ContainerReading) -> StrainLedger:
        """After a look; a figure that it lacks changes nothing, until the one before is too old."""
        at, memory, cpu, pids = reading.observed, reading.memory, reading.cpu, reading.pids
        fill = _filled(self.memory, at, unreclaimable(reading), memory.limit)
        cpu_window = self.cpu.with_sample((reading.path, cpu.limit), at, _counters(cpu))
        waits = self.waits.with_sample((reading.path, memory.limit), at, (memory.stall_seconds,))
        return StrainLedger(
            memory=fill,
            pids=_filled(self.pids, at, pids.used, pids.limit),
            trend=self.trend.with_sample(reading.path, at, unreclaimable(reading)),
            cpu=cpu_window,
            waits=waits,
            throttling=_throttling(self.throttling, cpu_window, cpu.limit),
            stall=_stall(self.stall, waits),
            refusals=_refusals(self.refusals, reading),
        )

    @property
    def cores(self) -> float | None:
        """CPU time by time over the last window; None while there is none."""
        rise = self.cpu.rise
        used = rise.figures[_USED] if rise is not None else None
        return used / rise.seconds if rise is not None and used is not None else None

    @property
    def cpu_stall(self) -> float | None:
        """The part of the last window for which some task waited for a CPU."""
        rise = self.cpu.rise
        return rise.share(_CPU_STALL) if rise is not None else None

    @property
    def held_back(self) -> float | None:
        """Seconds of the last window for which the CPU limit held tasks back, summed over CPUs."""
        rise = self.cpu.rise
        return rise.figures[_HELD_BACK] if rise is not None else None

    def refused_lately(self, now: Instant) -> Refusals | None:
        """The refused forks of the last minutes, None where none was seen to be refused."""
        found = self.refusals
        if found is None or found.at is None or now.mono - found.at.mono > REFUSED_FOR:
            return None
        return found


def unreclaimable(reading: ContainerReading) -> int | None:
    """Bytes of memory without file cache, which the kernel drops before it kills anybody; None unknown.

    The working set leaves out only the cache that was not used lately.
    """
    working_set = reading.memory.working_set_bytes
    if working_set is None:
        return None
    return max(0, working_set - (reading.memory.active_file_bytes or 0))


def _filled(before: Fill | None, at: Instant, used: int | None, limit: Limit | None) -> Fill | None:
    if used is None or limit is None:
        old = before is not None and at.mono - before.observed.mono > FORGOTTEN
        return None if old else before
    if limit.value is None:
        return None
    after = Fill(at, used, limit)
    same = before is not None and before.limit == limit
    since = before.since if before is not None and same else None
    near = after.share >= (NEAR if since is None else NEAR_NO_MORE)
    return msgspec.structs.replace(after, since=(since or at) if near else None)


def _counters(cpu: CpuUse) -> tuple[float | None, ...]:
    return cpu.periods, cpu.throttled_periods, cpu.throttled_seconds, cpu.used_seconds, cpu.stall_seconds


def _throttling(before: Throttling | None, window: Window, limit: Limit | None) -> Throttling | None:
    rise = window.rise
    if rise is None:
        return None
    periods, throttled, held_back = (rise.figures[each] for each in (_PERIODS, _THROTTLED, _HELD_BACK))
    if periods is not None and throttled is not None:
        # The kernel counts the one before the other: between them a look may fall.
        share = min(1.0, throttled / periods) if periods >= PERIODS else 0.0
    elif held_back is not None and limit is not None and limit.value is not None:
        # A sum over all CPUs that have tasks of it.
        share = min(1.0, held_back / rise.seconds / max(1.0, limit.value))
    else:
        old = before is not None and rise.ended.mono - before.window.ended.mono > FORGOTTEN
        return None if old else before
    since = before.since if before is not None else None
    much = share >= (THROTTLED if since is None else THROTTLED_NO_MORE)
    counted = periods is not None and throttled is not None
    return Throttling(
        rise,
        share,
        int(periods) if counted and periods is not None else None,
        int(throttled) if counted and throttled is not None else None,
        (since or rise.ended) if much else None,
    )


def _stall(before: Stall | None, window: Window) -> Stall | None:
    rise = window.rise
    if rise is None or (share := rise.share(0)) is None:
        return None
    since = before.since if before is not None else None
    much = share >= (STALLED if since is None else STALLED_NO_MORE)
    return Stall(rise, share, (since or rise.ended) if much else None)


def _refusals(before: Refusals | None, reading: ContainerReading) -> Refusals | None:
    refused = reading.pids.refused
    if refused is None:
        return before
    source, at = reading.path, reading.observed
    if before is None or before.source != source or refused < before.count:
        return Refusals(source, refused)
    if refused == before.count:
        return before
    lately = before.at is not None and at.mono - before.at.mono <= REFUSED_FOR
    rose = refused - before.count
    if lately:
        return msgspec.structs.replace(before, count=refused, lately=before.lately + rose, at=at)
    return Refusals(source, refused, rose, at, at)
