"""Pids in NVML's lists that are nobody here, by which another namespace's pids give themselves away; pure."""

from __future__ import annotations

import msgspec

from probe.facts.nvml import NvmlReading
from probe.facts.processes import Process, ProcessReading


class Strangers(msgspec.Struct, frozen=True):
    """What looking listed pids up has shown so far.

    ``pids`` are those that two looks list, and that between the two did not exist here, or were another
    process than when they were first listed.  ``looked_up``: a scan between two looks has looked them up.
    ``starts`` are the starts, in ticks, of the processes that the last scan found by the numbers listed.
    """

    pids: frozenset[int] = frozenset()
    looked_up: bool = False
    starts: dict[int, int] = {}

    def with_look(
        self, before: NvmlReading | None, reading: NvmlReading, processes: ProcessReading | None
    ) -> Strangers:
        """After a good look; ``before`` is the good one before it, ``processes`` the last scan.

        Nothing new is known where no scan went between the two.  A pid of one look may be a process that has
        just begun or ended.
        """
        if before is None or processes is None or processes.observed.mono < before.observed.mono:
            return self
        here = {each.id.pid: each for each in (*processes.asked, *_family(processes))}
        both = before.pids & reading.pids
        strange = frozenset(pid for pid in both if self._strange(pid, here, processes, before))
        return Strangers(
            strange, looked_up=True, starts={pid: here[pid].id.start_ticks for pid in both if pid in here}
        )

    def _strange(
        self, pid: int, here: dict[int, Process], processes: ProcessReading, before: NvmlReading
    ) -> bool:
        process = here.get(pid)
        if process is None:
            # One that exists and whose files are closed to us is no stranger.
            return pid not in processes.existing_pids
        if processes.began_after(process, before.observed):
            return True
        return self.starts.get(pid, process.id.start_ticks) != process.id.start_ticks


def _family(processes: ProcessReading) -> tuple[Process, ...]:
    server = (processes.server.process,) if processes.server is not None else ()
    return (*server, *(each for stub in processes.stubs for each in (stub.process, *stub.descendants)))
