"""What the kernel tells of Triton's container at once: OOM kills, and limits that somebody changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from probe.facts.container import OomCounts
from probe.facts.processes import ProcessId
from probe.kits.errands import Errand, OutstandingError
from probe.sources.container.held import Held, hold

RETRY = 30.0
"""Seconds until what could not be watched is tried again: want of descriptors passes, want of rights does not."""
REST, MOST_REST = 0.02, 0.1
"""Seconds for which nothing is read after an event.  A container at its limit changes ``memory.events`` a hundred
times a second (the kernel tells no more), for reclaim and not for kills: the rest doubles while that goes on."""
OPEN_DEADLINE = 2.0
"""Seconds to open the files; they lie behind file systems of the container's own, which may hang."""

_log = logging.getLogger("probe.container")


class ContainerWatch:
    """Watches one container; belongs to one event loop.

    Where the kernel tells nothing (version 1, no inotify left, no permission) nobody is called; what can be
    held open can be asked by ``counts`` all the same.
    """

    def __init__(
        self,
        on_oom: Callable[[OomCounts], None],
        on_limits: Callable[[], None],
        proc: Path = Path("/proc"),
    ) -> None:
        """Both are called in the loop.

        ``on_oom`` gets the counts once when a watch begins, to compare with, and whenever they have changed;
        ``on_limits`` is called after a limit was written, whether or not it is another one now.
        """
        self._on_oom = on_oom
        self._on_limits = on_limits
        self._proc = proc
        self._process: ProcessId | None = None
        self._held: Held | None = None
        self._last: tuple[int, int | None] | None = None
        self._errand: Errand | None = None
        self._opening: asyncio.Task[None] | None = None
        self._due = 0.0
        self._rest = REST
        self._resting: asyncio.TimerHandle | None = None
        self._rested = 0.0
        self._said = False

    @property
    def watched(self) -> str | None:
        """The file that is held open now, as the container calls it, or None."""
        return None if self._held is None else self._held.path

    def watch(self, process: ProcessId | None) -> None:
        """Watch the container of this process from now on, or none; does not wait.

        To be called again from time to time: what could not be opened, or was removed, is tried anew then.
        A process that is moved to another cgroup is watched where it was, until none was watched in between.
        """
        if process != self._process:
            self._release()
            self._process = process
            self._due = 0.0
        complete = self._held is not None and self._held.lacking is None
        moment = asyncio.get_running_loop().time()
        if process is None or complete or self._opening is not None or moment < self._due:
            return
        self._due = moment + RETRY
        self._opening = asyncio.get_running_loop().create_task(self._open(process), name="open-container")

    def counts(self) -> OomCounts | None:
        """The counts at this moment, read without a wait; None where they are not held, or make no sense."""
        if self._held is None:
            return None
        try:
            counts = self._held.read()
        except OSError:  # the cgroup was removed
            self._release()
            return None
        if counts is not None:
            self._last = (counts.kills, counts.group_kills)
        return counts

    def close(self) -> None:
        """Let go of everything; nobody is told any more."""
        self._process = None
        self._release()
        if self._opening is not None:
            self._opening.cancel()
        if self._errand is not None:
            self._errand.close()

    async def _open(self, process: ProcessId) -> None:
        self._errand = self._errand or Errand("open-container")
        try:
            held = await self._errand.run(lambda: hold(process, self._proc), OPEN_DEADLINE)
        except OutstandingError:
            return
        finally:
            self._opening = None
        # Its thread is of no use until something is opened again.
        self._errand.close()
        self._errand = None
        if process != self._process:
            if held is not None:
                held.close()
            self.watch(self._process)
        elif held is not None and self._same(held):
            held.close()
        elif held is not None:
            self._release()
            self._begin(held)

    def _same(self, held: Held) -> bool:
        # A second try that was told no more than the first.
        return self._held is not None and held.lacking is not None and held.path == self._held.path

    def _begin(self, held: Held) -> None:
        self._held, self._last = held, None
        if held.queue is not None:
            asyncio.get_running_loop().add_reader(held.queue.fileno(), self._told)
        elif held.lacking is not None and not self._said:
            self._said = True
            _log.warning(
                "no inotify for %s (%s): OOM kills are counted when a process exits, and every few seconds",
                held.path,
                held.lacking.strerror,
            )
        self._compare()

    def _told(self) -> None:
        held = self._held
        if held is None:
            return
        news = held.news()
        if news.limits:
            self._on_limits()
        if news.counts and self._held is held:
            self._compare()
        if self._held is held:
            if news.ended:
                self._release()
            else:
                self._take_rest(held)

    def _compare(self) -> None:
        before = self._last
        counts = self.counts()
        if counts is not None and self._last != before:
            self._on_oom(counts)

    def _take_rest(self, held: Held) -> None:
        loop = asyncio.get_running_loop()
        again = loop.time() - self._rested < MOST_REST
        self._rest = min(2 * self._rest, MOST_REST) if again else REST
        if held.queue is not None:
            loop.remove_reader(held.queue.fileno())
            self._resting = loop.call_later(self._rest, self._resume, held.queue.fileno())

    def _resume(self, descriptor: int) -> None:
        self._resting = None
        loop = asyncio.get_running_loop()
        self._rested = loop.time()
        loop.add_reader(descriptor, self._told)

    def _release(self) -> None:
        held, self._held = self._held, None
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if held is not None:
            if held.queue is not None:
                asyncio.get_running_loop().remove_reader(held.queue.fileno())
            held.close()
