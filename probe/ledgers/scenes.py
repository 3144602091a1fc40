"""What the last looks at Triton's container showed, so that a death can be told with what surrounded it; pure."""

from __future__ import annotations

import msgspec

from probe.facts.container import ContainerReading, MemoryUse, ShmUse
from probe.facts.instants import Instant
from probe.facts.qos import QosClass, qos_of

KEPT = 3
"""Looks: an exit that is told late may lie before the last one."""


class Scene(msgspec.Struct, frozen=True):
    """One look at the container, without its lists of files.

    ``memory_stalled`` and ``cpu_throttled`` are shares of the time since the look before: in how much of it
    some task waited for memory (PSI ``some``), and how long the CPU limit held the container back.
    """

    observed: Instant
    memory: MemoryUse = MemoryUse()
    shm: ShmUse | None = None
    qos: QosClass | None = None
    node_memory_bytes: int | None = None
    memory_stalled: float | None = None
    cpu_throttled: float | None = None
    throttled_seconds: float | None = None


class ScenesLedger(msgspec.Struct, frozen=True):
    """The last looks that showed anything of the container, earliest first."""

    looks: tuple[Scene, ...] = ()

    def with_reading(self, reading: ContainerReading) -> ScenesLedger:
        """After a look; one that shows nothing, or that comes out of its turn, changes nothing."""
        memory, shm = reading.memory, reading.shm
        if memory.used_bytes is None and memory.limit is None and shm is None:
            return self
        last = self.looks[-1] if self.looks else None
        if last is not None and reading.observed.mono <= last.observed.mono:
            return self
        elapsed = reading.observed.mono - last.observed.mono if last is not None else 0.0
        throttled = reading.cpu.throttled_seconds
        scene = Scene(
            reading.observed,
            memory,
            ShmUse(shm.size_bytes, shm.used_bytes, shm.inodes_free, shm.inodes_total) if shm else None,
            qos_of(reading),
            reading.node_memory_bytes,
            _share(last.memory.stall_seconds if last else None, memory.stall_seconds, elapsed),
            _share(last.throttled_seconds if last else None, throttled, elapsed),
            throttled,
        )
        return ScenesLedger((*self.looks, scene)[-KEPT:])

    def before(self, moment: Instant) -> Scene | None:
        """The last look that began before this moment."""
        earlier = (each for each in reversed(self.looks) if each.observed.mono < moment.mono)
        return next(earlier, None)

    def after(self, moment: Instant) -> Scene | None:
        """The first look that began after this moment."""
        return next((each for each in self.looks if each.observed.mono > moment.mono), None)


def _share(before: float | None, after: float | None, elapsed: float) -> float | None:
    if before is None or after is None or elapsed <= 0 or after < before:
        return None
    return (after - before) / elapsed
