"""The files of a cgroup and of those above it: the nearest that has an account, the smallest of all limits."""

from __future__ import annotations

from collections.abc import Callable

from probe.facts.container import Limit
from probe.sources.container.cgroups import Place
from probe.sources.container.files import Reader, readable, signed, whole

_NO_LIMIT = 1 << 62
"""Version 1 writes "no limit" as the largest whole number of pages, which depends on the page size."""

Measure = Callable[[bytes], float | None]


class Levels:
    """Reads cgroup files below ``root``, a process's ``/proc/<pid>/root``."""

    def __init__(self, root: bytes, reader: Reader) -> None:
        """Read with this reader, which remembers a refusal."""
        self._root = root
        self._reader = reader

    def take(self, directory: bytes | None, name: bytes) -> bytes | None:
        """The file of this name, or None where there is no such directory, or it can not be read."""
        return None if directory is None else self._reader.take(self._root + directory + b"/" + name)

    def nearest(self, place: Place | None, name: bytes) -> tuple[bytes | None, bytes | None]:
        """The nearest directory that has this file, and what it says; None and None where none can be read.

        Version 2 enables a controller only down to some level, and a process may sit below it.
        """
        for level in place.levels() if place is not None else ():
            try:
                return level, self._reader.read(self._root + level + b"/" + name)
            except FileNotFoundError:
                continue
            except OSError:
                break
        return None, None

    def memory_limit(self, place: Place) -> Limit | None:
        """In bytes."""
        if place.version == 1:
            return self._smallest(place, b"memory.limit_in_bytes", self._v1_memory)
        return self._smallest(place, b"memory.max", self._plain)

    def cpu_limit(self, place: Place) -> Limit | None:
        """In cores."""
        if place.version == 1:
            return self._smallest(place, b"cpu.cfs_quota_us", self._v1_cores)
        return self._smallest(place, b"cpu.max", self._v2_cores)

    def pids_limit(self, place: Place) -> Limit | None:
        """In processes and threads; the files are the same in both versions."""
        return self._smallest(place, b"pids.max", self._plain)

    def _smallest(self, place: Place, name: bytes, measure: Measure) -> Limit | None:
        found: Limit | None = None
        sure = True
        for level in place.levels():
            path = level + b"/" + name
            try:
                value = measure(self._root + path)
            except FileNotFoundError:
                continue
            except (OSError, ValueError):
                sure = False
                continue
            if found is None or (value is not None and (found.value is None or value < found.value)):
                found = Limit(value, readable(path))
        # "No limit" is said only where every level was asked: one that did not answer may have one.
        return found if sure or (found is not None and found.value is not None) else None

    def _plain(self, path: bytes) -> float | None:
        text = self._reader.read(path).strip()
        return None if text == b"max" else float(_sure(whole(text)))

    def _v1_memory(self, path: bytes) -> float | None:
        value = _sure(whole(self._reader.read(path)))
        return None if value >= _NO_LIMIT else float(value)

    def _v2_cores(self, path: bytes) -> float | None:
        text, _, rest = self._reader.read(path).strip().partition(b" ")
        period = _sure(whole(rest))
        return None if text == b"max" else _cores(_sure(whole(text)), period)

    def _v1_cores(self, path: bytes) -> float | None:
        quota = _sure(signed(self._reader.read(path)))
        if quota == -1:
            return None
        return _cores(quota, _sure(whole(self._reader.read(path.removesuffix(b"quota_us") + b"period_us"))))


def _cores(quota: int, period: int) -> float:
    # The kernel takes neither below 1 ms (Linux, kernel/sched/core.c, min_cfs_quota_period).
    if quota <= 0 or period <= 0:
        raise ValueError(f"a CPU quota of {quota} µs in {period} µs")
    return quota / period


def _sure(value: int | None) -> int:
    if value is None:
        raise ValueError("expected a number")
    return value
