"""What Triton's container took at its highest: memory, CPU, ``/dev/shm``; pure, and in memory only.

The working set is use less inactive file cache, as the kubelet counts it.  Looks are seconds apart, and the load
of a model may take its memory for a moment alone: where the kernel's own peak rose between two looks, that
moment is known all the same, but for the file cache that lay in it.
"""

from __future__ import annotations

import msgspec

from probe.facts.container import ContainerReading, CpuUse, MemoryUse, OomCounts
from probe.ledgers.levels import Level, Slot, risen

SPAN = 1.0
"""Seconds between two looks at least: a rate over less is all rounding."""
LONGEST_GAP = 60.0
"""Seconds between two looks of which it is said that the time between them was watched."""
THROTTLED_SHARE = 0.05
"""What part of the time between two looks the CPU limit must hold the container back for it to count."""


class ContainerPeaks(msgspec.Struct, frozen=True):
    """Since the probe began, or since a model left for good that held much; over restarts of Triton.

    ``memory`` and ``shm`` are in bytes, ``cores`` in cores from look to look.  ``watched_seconds`` and ``looks``
    are those of serving; ``busy_slots`` of ``slots`` had requests.  ``throttled_looks`` of ``rated_looks`` found
    that the CPU limit had held the container back.
    """

    memory: Level = Level()
    shm: Level = Level()
    cores: Level = Level()
    earlier_bytes: int | None = None
    """The working set at its highest before the first look: the kernel's peak then, less the file cache then."""
    witness_bytes: int | None = None
    """The kernel's own peak: a bound from above, for it counts all file cache."""
    life_bytes: float | None = None
    """The working set at its highest since the probe began, whoever held it."""
    oom_kills: int = 0
    """Processes that the kernel killed for want of memory, those before the first look too."""
    throttled_looks: int = 0
    rated_looks: int = 0
    watched_seconds: float = 0.0
    looks: int = 0
    slots: int = 0
    busy_slots: int = 0
    slot: Slot | None = None
    last: ContainerReading | None = None

    @property
    def busy(self) -> bool:
        """Whether requests came to their end in the slot that is open."""
        return self.slot is not None and self.slot.busy

    @property
    def minutes(self) -> tuple[int, int]:
        """Slots of serving and those of them with requests, the open one too."""
        return self.slots + (self.slot is not None), self.busy_slots + self.busy

    def begun_anew(self) -> ContainerPeaks:
        """With nothing left but what is known of its whole life."""
        return ContainerPeaks(life_bytes=self.life_bytes, last=self.last)

    def with_look(self, reading: ContainerReading, *, loading: bool, busy: bool) -> ContainerPeaks:
        """After a look; ``busy``: requests came to their end since the one before."""
        if reading.memory == MemoryUse() and reading.cpu == CpuUse() and reading.shm is None:
            return self
        before = self.last if self.last is not None and _goes_on(self.last, reading) else None
        memory = risen(self.memory, _working_set(before, reading), loading=loading)
        shm = risen(self.shm, reading.shm.used_bytes if reading.shm is not None else None, loading=loading)
        told = (memory.highest, self.life_bytes)
        after = msgspec.structs.replace(
            self,
            memory=memory,
            shm=shm,
            life_bytes=max((each for each in told if each is not None), default=None),
            witness_bytes=_higher(self.witness_bytes, reading.memory.peak_bytes),
            oom_kills=self.oom_kills + _kills(before, reading),
        )
        if before is None:
            earlier = _higher(self.earlier_bytes, _earlier(reading))
            return msgspec.structs.replace(after, earlier_bytes=earlier, last=reading)
        if reading.observed.mono - before.observed.mono < SPAN:
            # An exit had it read out of turn: the next rate is from the look before.
            return msgspec.structs.replace(after, last=_with_kills(before, reading))
        rated = after._rated(before, reading, loading=loading)  # noqa: SLF001
        return rated if loading else rated._counted(before, reading, busy=busy)  # noqa: SLF001

    def with_oom(self, counts: OomCounts) -> ContainerPeaks:
        """After the kernel told of a kill: of a container that is killed whole there may be no other look."""
        last = self.last
        if last is None or last.memory.oom_kills is None or counts.kills <= last.memory.oom_kills:
            return self
        memory = msgspec.structs.replace(last.memory, oom_kills=counts.kills)
        return msgspec.structs.replace(
            self,
            oom_kills=self.oom_kills + counts.kills - last.memory.oom_kills,
            last=msgspec.structs.replace(last, memory=memory),
        )

    def _rated(self, before: ContainerReading, reading: ContainerReading, *, loading: bool) -> ContainerPeaks:
        seconds = reading.observed.mono - before.observed.mono
        used = _rise(before.cpu.used_seconds, reading.cpu.used_seconds)
        cores = risen(self.cores, None if used is None else used / seconds, loading=loading)
        held = _rise(before.cpu.throttled_seconds, reading.cpu.throttled_seconds)
        rated = held is not None and not loading
        return msgspec.structs.replace(
            self,
            cores=cores,
            last=reading,
            rated_looks=self.rated_looks + rated,
            throttled_looks=self.throttled_looks + (rated and (held or 0.0) >= THROTTLED_SHARE * seconds),
        )

    def _counted(self, before: ContainerReading, reading: ContainerReading, *, busy: bool) -> ContainerPeaks:
        moment = reading.observed
        slot = (self.slot or Slot(before.observed.mono)).with_look(busy=busy)
        gap = min(LONGEST_GAP, moment.mono - before.observed.mono)
        after = msgspec.structs.replace(
            self, slot=slot, looks=self.looks + 1, watched_seconds=self.watched_seconds + gap
        )
        if not slot.over(moment):
            return after
        return msgspec.structs.replace(
            after,
            memory=after.memory.closed(busy=slot.busy),
            shm=after.shm.closed(busy=slot.busy),
            cores=after.cores.closed(busy=slot.busy),
            slots=after.slots + 1,
            busy_slots=after.busy_slots + slot.busy,
            slot=None,
        )


def _goes_on(before: ContainerReading, now: ContainerReading) -> bool:
    # A container that was made anew may have the same path: then its counts fall.
    if before.path != now.path or now.observed.mono <= before.observed.mono:
        return False
    pairs = (
        (before.cpu.used_seconds, now.cpu.used_seconds),
        (before.memory.peak_bytes, now.memory.peak_bytes),
        (before.memory.oom_kills, now.memory.oom_kills),
    )
    return all(was is None or now_is is None or now_is >= was for was, now_is in pairs)


def _working_set(before: ContainerReading | None, now: ContainerReading) -> int | None:
    seen, cached, peak = now.memory.working_set_bytes, _cached(now), now.memory.peak_bytes
    if seen is None or cached is None or peak is None or before is None:
        return seen
    peaked, cached_before = before.memory.peak_bytes, _cached(before)
    if peaked is None or cached_before is None or peak <= peaked:
        return seen
    # The peak is of a moment between the two looks; the cache in it is taken at its larger, so that a file that
    # was read is not taken for memory that was needed.
    return max(seen, peak - max(cached, cached_before))


def _cached(reading: ContainerReading) -> int | None:
    memory = reading.memory
    if memory.used_bytes is None or memory.working_set_bytes is None:
        return None
    return max(0, memory.used_bytes - memory.working_set_bytes)


def _earlier(reading: ContainerReading) -> int | None:
    cached, peak = _cached(reading), reading.memory.peak_bytes
    return None if cached is None or peak is None else max(0, peak - cached)


def _kills(before: ContainerReading | None, now: ContainerReading) -> int:
    count = now.memory.oom_kills
    if count is None:
        return 0
    known = before.memory.oom_kills if before is not None else 0
    # What was not readable before is of no known moment.
    return 0 if known is None else max(0, count - known)


def _with_kills(before: ContainerReading, now: ContainerReading) -> ContainerReading:
    if now.memory.oom_kills is None:
        return before
    memory = msgspec.structs.replace(before.memory, oom_kills=now.memory.oom_kills)
    return msgspec.structs.replace(before, memory=memory)


def _rise(was: float | None, now: float | None) -> float | None:
    return None if was is None or now is None or now < was else now - was


def _higher(one: int | None, other: int | None) -> int | None:
    told = [each for each in (one, other) if each is not None]
    return max(told, default=None)
