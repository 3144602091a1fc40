"""The counts of OOM kills of one container, held open: read at any moment, also just before it is removed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from probe.facts.container import OomCounts
from probe.facts.processes import ProcessId
from probe.kits import inotify
from probe.kits.clocks import now
from probe.kits.inotify import Inotify
from probe.sources.container import cgroups
from probe.sources.container.accounts import Accounts
from probe.sources.container.files import Reader, entry, opened, readable
from probe.sources.processes.procfs import Procfs

_MOST_BYTES = 4096
_LIMITS = (b"memory.max", b"cpu.max", b"pids.max")


class News(msgspec.Struct, frozen=True):
    """What changed: the file with the counts, or a limit; ``ended``: the file with the counts is no more."""

    counts: bool
    limits: bool
    ended: bool


class Held:
    """An open ``memory.events`` (version 2) or ``memory.oom_control`` (version 1), and what tells of its changes.

    ``path`` is spelled as ``MemoryUse.oom_kills_path``.  ``queue`` is None where the kernel tells nothing:
    version 1 does not at all; of version 2, where it should, ``lacking`` says why.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        """Own the descriptor."""
        self.path = path
        self.queue: Inotify | None = None
        self.lacking: OSError | None = None
        self._descriptor = descriptor
        self._counting = 0

    def listen(self, limits: list[bytes]) -> None:
        """Be told when the counts change, or somebody writes one of these files."""
        try:
            self.queue = Inotify.open()
            # By the descriptor, so that what is watched is what is read.
            self._counting = self.queue.add(b"/proc/self/fd/%d" % self._descriptor, inotify.MODIFY)
        except OSError as error:
            self.lacking = error
            if self.queue is not None:
                self.queue.close()
                self.queue = None
            return
        for path in limits:
            with contextlib.suppress(OSError):  # the next look sees what changes there
                self.queue.add(path, inotify.MODIFY)

    def news(self) -> News:
        """What the kernel told since the last call."""
        events = self.queue.read() if self.queue is not None else []
        lost = any(mask & inotify.OVERFLOW for _, mask, _ in events)
        counting = [mask for watch, mask, _ in events if watch == self._counting]
        limits = any(watch != self._counting and mask & inotify.MODIFY for watch, mask, _ in events)
        return News(
            counts=lost or bool(counting),
            limits=lost or limits,
            ended=any(mask & (inotify.IGNORED | inotify.UNMOUNT) for mask in counting),
        )

    def read(self) -> OomCounts | None:
        """The counts now, None where they make no sense; raises OSError once the cgroup is removed (ENODEV)."""
        observed = now()
        text = os.pread(self._descriptor, _MOST_BYTES, 0)
        kills = entry(text, b"oom_kill")
        if kills is None:
            return None
        return OomCounts(observed, self.path, kills, entry(text, b"oom_group_kill"))

    def close(self) -> None:
        """Let go; twice is the same as once."""
        if self.queue is not None:
            self.queue.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        """Let go of what was opened so late that nobody waited for it any more."""
        self.close()


def hold(process: ProcessId, proc: Path) -> Held | None:
    """Open the counts of this process's container; blocks for as long as its file systems do.

    None where there are none, or they may not be read, or the process is gone or moved midway.
    """
    base = os.fsencode(proc) + b"/%d" % process.pid
    reader = Reader()
    membership = reader.take(base + b"/cgroup")
    known = cgroups.memberships(membership or b"")
    mounted = cgroups.mounts(reader.take(base + b"/mountinfo") or b"")
    place = cgroups.place(known, mounted, b"memory")
    if place is None:
        return None
    root = base + b"/root"
    file = Accounts(root, reader).kills_file(place)
    if file is None:
        return None
    try:
        held = Held(readable(file), opened(root + file))
    except OSError:
        return None
    if place.version != 1:
        held.listen([root + level + b"/" + name for level in place.levels() for name in _LIMITS])
    stat = Procfs(proc).stat(process.pid)
    # Between the scan and now the pid may have been given to another process.
    if (
        stat is None
        or stat.start_ticks != process.start_ticks
        or reader.take(base + b"/cgroup") != membership
    ):
        held.close()
        return None
    return held
