"""What the controllers of one cgroup say: memory, CPU, processes.

Files and units: Linux ``admin-guide/cgroup-v2.rst`` and ``admin-guide/cgroup-v1/``.
"""

from __future__ import annotations

from collections.abc import Callable

from probe.facts.container import CpuUse, Limit, MemoryUse, PidsUse
from probe.sources.container.cgroups import Place
from probe.sources.container.files import Reader, entry, readable, signed, stalled_microseconds, whole

_NO_LIMIT = 1 << 62
"""Version 1 writes "no limit" as the largest whole number of pages, which depends on the page size."""

_MICROSECONDS = 1e6
_NANOSECONDS = 1e9

Measure = Callable[[bytes], float | None]


class Accounts:
    """Reads the accounts of one process, seen through ``root``, its ``/proc/<pid>/root``."""

    def __init__(self, root: bytes, reader: Reader) -> None:
        """Read below ``root`` with this reader, which remembers a refusal."""
        self._root = root
        self._reader = reader

    def memory(self, place: Place | None) -> MemoryUse:
        """Memory in bytes, stalls in seconds; what can not be read is None."""
        if place is None:
            return MemoryUse()
        if place.version == 1:
            home, used = self._nearest(place, b"memory.usage_in_bytes")
            kills, at = self._kills(home, b"memory.oom_control")
            stat = self._take(home, b"memory.stat")
            return _memory(
                limit=self._smallest(place, b"memory.limit_in_bytes", self._v1_memory_limit),
                used=whole(used),
                inactive=entry(stat, b"total_inactive_file"),
                active=entry(stat, b"total_active_file"),
                peak=whole(self._take(home, b"memory.max_usage_in_bytes")),
                kills=kills,
                kills_path=at,
            )
        home, used = self._nearest(place, b"memory.current")
        kills, at = self._kills(home, b"memory.events")
        stat = self._take(home, b"memory.stat")
        return _memory(
            limit=self._smallest(place, b"memory.max", self._plain_limit),
            used=whole(used),
            inactive=entry(stat, b"inactive_file"),
            active=entry(stat, b"active_file"),
            peak=whole(self._take(home, b"memory.peak")),
            kills=kills,
            kills_path=at,
            stalled=stalled_microseconds(self._take(home, b"memory.pressure")),
        )

    def cpu(self, place: Place | None, used: Place | None) -> CpuUse:
        """CPU in cores and seconds; ``used`` is where version 1 counts time (``cpuacct``)."""
        _, stat = self._nearest(place, b"cpu.stat")
        if place is not None and place.version != 1:
            return CpuUse(
                limit=self._smallest(place, b"cpu.max", self._v2_cores),
                used_seconds=_over(entry(stat, b"usage_usec"), _MICROSECONDS),
                throttled_seconds=_over(entry(stat, b"throttled_usec"), _MICROSECONDS),
            )
        _, spent = self._nearest(used, b"cpuacct.usage")
        return CpuUse(
            limit=self._smallest(place, b"cpu.cfs_quota_us", self._v1_cores) if place is not None else None,
            used_seconds=_over(whole(spent), _NANOSECONDS),
            throttled_seconds=_over(entry(stat, b"throttled_time"), _NANOSECONDS),
        )

    def pids(self, place: Place | None) -> PidsUse:
        """Processes and threads; the files are the same in both versions."""
        if place is None:
            return PidsUse()
        _, used = self._nearest(place, b"pids.current")
        return PidsUse(limit=self._smallest(place, b"pids.max", self._plain_limit), used=whole(used))

    def _kills(self, directory: bytes | None, name: bytes) -> tuple[int | None, str]:
        count = entry(self._take(directory, name), b"oom_kill")
        if directory is None or count is None:
            return None, ""
        return count, readable(directory + b"/" + name)

    def _take(self, directory: bytes | None, name: bytes) -> bytes | None:
        return None if directory is None else self._reader.take(self._root + directory + b"/" + name)

    def _nearest(self, place: Place | None, name: bytes) -> tuple[bytes | None, bytes | None]:
        # The nearest directory that has the account at all: version 2 enables a controller only down to
        # some level, and a process may sit below it.
        for level in place.levels() if place is not None else ():
            try:
                return level, self._reader.read(self._root + level + b"/" + name)
            except FileNotFoundError:
                continue
            except OSError:
                break
        return None, None

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

    def _plain_limit(self, path: bytes) -> float | None:
        text = self._reader.read(path).strip()
        return None if text == b"max" else float(_sure(whole(text)))

    def _v1_memory_limit(self, path: bytes) -> float | None:
        value = _sure(whole(self._reader.read(path)))
        return None if value >= _NO_LIMIT else float(value)

    def _v2_cores(self, path: bytes) -> float | None:
        quota, _, period = self._reader.read(path).strip().partition(b" ")
        return None if quota == b"max" else _cores(_sure(whole(quota)), _sure(whole(period)))

    def _v1_cores(self, path: bytes) -> float | None:
        quota = _sure(signed(self._reader.read(path)))
        if quota < 0:
            return None
        period = whole(self._reader.read(path.removesuffix(b"quota_us") + b"period_us"))
        return _cores(quota, _sure(period))


def _memory(
    *,
    limit: Limit | None,
    used: int | None,
    inactive: int | None,
    active: int | None,
    peak: int | None,
    kills: int | None,
    kills_path: str,
    stalled: int | None = None,
) -> MemoryUse:
    working_set = None if used is None or inactive is None else max(0, used - inactive)
    stall = _over(stalled, _MICROSECONDS)
    return MemoryUse(limit, used, working_set, peak, kills, stall, kills_path, active_file_bytes=active)


def _over(value: int | None, divisor: float) -> float | None:
    return None if value is None else value / divisor


def _cores(quota: int, period: int) -> float:
    if period == 0:
        raise ValueError("a CPU quota over a period of 0 µs")
    return quota / period


def _sure(value: int | None) -> int:
    if value is None:
        raise ValueError("expected a number")
    return value
