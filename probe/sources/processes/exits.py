"""A pidfd on each watched process, so that its exit wakes the engine at once."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import resource
import select
import struct
import sys
from collections.abc import Callable, Iterable

from probe.facts.processes import Exit, ProcessId
from probe.kits.clocks import now
from probe.sources.processes.procfs import Procfs

# PIDFD_GET_INFO (linux/pidfd.h): _IOWR(0xFF, 11, struct pidfd_info) with the 64-byte struct of 6.13;
# the exit status came with 6.15 and is given once the parent has reaped the process.
_PIDFD_GET_INFO = 0xC000_0000 | (64 << 16) | (0xFF << 8) | 11
_PIDFD_INFO_EXIT = 1 << 3
_INFO_BYTES = 64
_EXIT_STATUS_OFFSET = 60


def most_watched() -> int:
    """How many processes may be watched: half of the files that this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft // 2 if soft != resource.RLIM_INFINITY else sys.maxsize


class ExitWatch:
    """Watches processes by pidfd; belongs to one event loop."""

    def __init__(self, on_exit: Callable[[Exit], None], proc: Procfs | None = None) -> None:
        """``on_exit`` is called in the loop for each watched process that exits, once."""
        self._on_exit = on_exit
        self._proc = proc or Procfs()
        self._descriptors: dict[ProcessId, int] = {}
        self._at_most = most_watched()

    @property
    def watched(self) -> frozenset[ProcessId]:
        """Whom a pidfd is held on now."""
        return frozenset(self._descriptors)

    def watch(self, wanted: Iterable[ProcessId]) -> None:
        """Watch exactly these from now on, the first of them where they are too many.

        One that is gone already, or that no descriptor can be had for, is left to the next scan.
        """
        wanted = dict.fromkeys(itertools.islice(wanted, self._at_most))
        for process in self.watched - wanted.keys():
            if _ended(self._descriptors[process]):
                # A scan saw the end before this loop was told: only the descriptor knows how it ended.
                self._exited(process)
            else:
                self._release(process)
        for process in wanted:
            if process not in self._descriptors:
                self._take(process)

    def close(self) -> None:
        """Let go of every descriptor; nobody is told any more."""
        for process in self.watched:
            self._release(process)

    def _take(self, process: ProcessId) -> None:
        try:
            descriptor = os.pidfd_open(process.pid)
        except OSError:
            # Gone, or out of descriptors, or a kernel before 5.3: scanning still finds the exit.
            return
        # Between the scan and this call the pid may have been given to another process.
        stat = self._proc.stat(process.pid)
        if stat is None or stat.start_ticks != process.start_ticks:
            os.close(descriptor)
            return
        self._descriptors[process] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._exited, process)

    def _exited(self, process: ProcessId) -> None:
        observed = now()
        descriptor = self._descriptors[process]
        status = exit_status(process, descriptor, self._proc)
        self._release(process)
        self._on_exit(Exit(process, observed, status))

    def _release(self, process: ProcessId) -> None:
        descriptor = self._descriptors.pop(process)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


def _ended(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def exit_status(process: ProcessId, descriptor: int, proc: Procfs) -> int | None:
    """The wait status of a process that exited, or None where the kernel does not tell.

    A zombie's ``stat`` tells it to whoever has ptrace access (the same uid and gid); to others it shows
    0, which therefore is believed only from the pidfd, that kernels from 6.15 on answer after the reaping.
    """
    stat = proc.stat(process.pid)
    if stat is not None and stat.start_ticks == process.start_ticks and stat.exit_status:
        return stat.exit_status
    info = bytearray(_INFO_BYTES)
    struct.pack_into("=Q", info, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(descriptor, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    (mask,) = struct.unpack_from("=Q", info, 0)
    if not mask & _PIDFD_INFO_EXIT:
        return None
    (status,) = struct.unpack_from("=i", info, _EXIT_STATUS_OFFSET)
    return int(status)
