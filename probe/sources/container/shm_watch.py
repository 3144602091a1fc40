"""The kernel's word that something changed in Triton's ``/dev/shm``: a region came, went, or grew.

inotify(7) on the folder tells of new, removed and renamed files, and of ``ftruncate`` and ``fallocate``, by which
a region grows; what is written through a mapping it does not tell.  So a file system that fills while a model
loads, and is empty again once the load has failed, is seen between two looks.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

from probe.facts.container import ShmLevel
from probe.facts.processes import ProcessId
from probe.kits import inotify
from probe.kits.clocks import now
from probe.kits.errands import Errand, OutstandingError
from probe.sources.container import shm
from probe.sources.container.files import Reader
from probe.sources.processes.procfs import Procfs

PAUSE = 0.1
"""Seconds between two words at least: a client may make and remove files with each request."""
FLOOD = 3.0
"""Seconds of changes without a pause after which they are no load of a model any more."""
LONGEST_PAUSE = 1.0
"""Seconds between two words in such a flood."""

OPEN_DEADLINE = 2.0
"""Seconds for the way to the folder, which leads through the root of a container that may lie anywhere."""

_WANTED = (
    inotify.CREATE
    | inotify.DELETE
    | inotify.MOVED_FROM
    | inotify.MOVED_TO
    | inotify.MODIFY
    | inotify.CLOSE_WRITE
    | inotify.ONLY_FOLDER
)
_ENDED = inotify.IGNORED | inotify.UNMOUNT
_CAME = inotify.CREATE | inotify.MOVED_TO
_REGION = b"_shm_region_"
"""In the name of a region unless somebody chose another prefix (python_backend, ``python_be.cc``): of what clients
make and remove with each request, nobody is to be stirred."""


class ShmWatch:
    """Watches the ``/dev/shm`` of one process at a time; belongs to one event loop."""

    def __init__(
        self,
        on_change: Callable[[ShmLevel], None],
        proc: Path = Path("/proc"),
        own_shm: Path = Path("/dev/shm"),
    ) -> None:
        """``on_change`` is called in the loop with how full it is, at the first change and then not too often."""
        self._on_change = on_change
        self._proc = proc
        self._own_shm = own_shm
        self._process: ProcessId | None = None
        self._queue: inotify.Inotify | None = None
        self._folder = -1
        self._errand: Errand | None = None
        self._opening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rested = 0.0
        self._pause = PAUSE
        self._busy_since = 0.0

    @property
    def watching(self) -> bool:
        """Whether the kernel tells."""
        return self._queue is not None

    def watch(self, process: ProcessId | None) -> None:
        """Watch the file system of this process from now on, or none; does not wait.

        To be called again from time to time: what can not be reached now (no permission, no more watches, gone)
        is tried again, and until then only looks tell.
        """
        if process != self._process:
            self._release()
            self._process = process
        if process is not None and not self.watching and self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open(process), name="open-shm")

    def close(self) -> None:
        """Let go of all; nobody is told any more."""
        self._process = None
        self._release()
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self._errand is not None:
            self._errand.close()
            self._errand = None

    async def _open(self, process: ProcessId) -> None:
        self._errand = self._errand or Errand("open-shm")
        late = threading.Event()

        def opened() -> tuple[int, inotify.Inotify]:
            folder, queue = _opened(process, self._proc, self._own_shm)
            if late.is_set():  # nobody waits for them any more
                queue.close()
                os.close(folder)
            return folder, queue

        try:
            folder, queue = await self._errand.run(opened, OPEN_DEADLINE)
        except OutstandingError:
            late.set()  # its thread stays, and is asked again
            return
        except OSError:
            self._rest()
            return
        finally:
            self._opening = None
        self._rest()
        if process != self._process:
            queue.close()
            os.close(folder)
            self.watch(self._process)
            return
        self._folder, self._queue = folder, queue
        asyncio.get_running_loop().add_reader(queue.fileno(), self._stirred)

    def _rest(self) -> None:
        # Its thread is of no use until something is opened again.
        if self._errand is not None:
            self._errand.close()
            self._errand = None

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._queue is not None:
            asyncio.get_running_loop().remove_reader(self._queue.fileno())
            self._queue.close()
            self._queue = None
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    def _stirred(self) -> None:
        if self._queue is None:
            return
        loop = asyncio.get_running_loop()
        # Until they are read, events cost nobody a turn of the loop.
        loop.remove_reader(self._queue.fileno())
        self._timer = loop.call_at(max(loop.time(), self._rested), self._tell)

    def _tell(self) -> None:
        self._timer = None
        if self._queue is None:
            return
        loop = asyncio.get_running_loop()
        moment = loop.time()
        if moment - self._rested > self._pause:
            self._busy_since = moment
        self._pause = LONGEST_PAUSE if moment - self._busy_since > FLOOD else PAUSE
        self._rested = moment + self._pause
        events = self._queue.read()
        if any(mask & _ENDED for _, mask, _ in events):
            self._release()
            return
        try:
            seen = shm.use_of(self._folder)
        except OSError:
            self._release()
            return
        loop.add_reader(self._queue.fileno(), self._stirred)
        if seen is not None:
            self._on_change(
                ShmLevel(
                    now(),
                    seen.size_bytes,
                    seen.used_bytes,
                    seen.inodes_free,
                    seen.inodes_total,
                    region_came=any(mask & _CAME and _REGION in name for _, mask, name in events),
                )
            )


def _opened(process: ProcessId, proc: Path, own_shm: Path) -> tuple[int, inotify.Inotify]:
    """The folder and a watch on it; raises OSError where it can not be reached, or the process is another one."""
    base = os.fsencode(proc) + b"/%d" % process.pid
    folder = shm.reached(base, Reader().take(base + b"/mountinfo") or b"", own_shm)
    # Between the scan and this call the pid may have been given to another process.
    stat = Procfs(proc).stat(process.pid)
    try:
        if stat is None or stat.start_ticks != process.start_ticks:
            raise ProcessLookupError(process.pid)
        queue = inotify.Inotify.open()
        try:
            # By the descriptor, so that what is watched is what is measured.
            queue.add(b"/proc/self/fd/%d" % folder, _WANTED)
        except OSError:
            queue.close()
            raise
    except OSError:
        os.close(folder)
        raise
    return folder, queue
