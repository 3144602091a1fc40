"""How busy the processes of each stub are, from one scan to the next; pure."""

from __future__ import annotations

import msgspec

from probe.facts.instants import Instant
from probe.facts.processes import ProcessId, ProcessReading

SPAN = 1.0
"""Seconds between the two scans of a figure at least: a tick is 10 ms, and a short span would be all rounding."""


class Activity(msgspec.Struct, frozen=True):
    """CPU time of every stub with the processes below it, as of the last two scans."""

    cores: dict[ProcessId, float] = {}
    began: Instant | None = None
    """When the first of the two scans was."""
    ticks: dict[ProcessId, int] = {}
    scanned: Instant | None = None

    def of(self, stub: ProcessId, since: Instant) -> float | None:
        """How many cores the stub and the processes below it kept busy; None where nothing is known after ``since``."""
        return self.cores.get(stub) if self.began is not None and self.began.mono >= since.mono else None

    def with_scan(self, reading: ProcessReading) -> Activity:
        """After a scan of processes."""
        seconds = None if self.scanned is None else reading.observed.mono - self.scanned.mono
        if seconds is not None and 0.0 <= seconds < SPAN:
            return self
        ticks = {
            each.process.id: each.process.cpu_ticks + sum(below.cpu_ticks for below in each.descendants)
            for each in reading.stubs
        }
        if seconds is None or seconds < 0.0:
            return Activity(ticks=ticks, scanned=reading.observed)
        # A process below that ended takes its ticks along: then nothing is known.
        cores = {
            process: (now - self.ticks[process]) / reading.ticks_per_second / seconds
            for process, now in ticks.items()
            if now >= self.ticks.get(process, now + 1)
        }
        return Activity(cores, self.scanned, ticks, reading.observed)
