"""What the controllers of one cgroup say: memory, CPU, processes.

Files and units: Linux ``admin-guide/cgroup-v2.rst`` and ``admin-guide/cgroup-v1/``.
"""

from __future__ import annotations

from probe.facts.container import CpuUse, MemoryUse, PidsUse
from probe.sources.container.cgroups import Place
from probe.sources.container.files import Reader, entry, readable, stalled_microseconds, whole
from probe.sources.container.levels import Levels

_MICROSECONDS = 1e6
_NANOSECONDS = 1e9

# By version.  The first says where memory is accounted: every cgroup with the controller has it.
_USED = {1: b"memory.usage_in_bytes", 2: b"memory.current"}
_KILLS = {1: b"memory.oom_control", 2: b"memory.events"}
_PEAK = {1: b"memory.max_usage_in_bytes", 2: b"memory.peak"}
_OF_ALL = {1: b"total_", 2: b""}  # version 1 counts the cgroups below in entries of their own

_SHARES = (2, 1 << 18)
_WEIGHTS = (1, 10_000)


class Accounts:
    """Reads the accounts of one process, seen through ``root``, its ``/proc/<pid>/root``."""

    def __init__(self, root: bytes, reader: Reader) -> None:
        """Read below ``root`` with this reader, which remembers a refusal."""
        self._files = Levels(root, reader)

    def memory(self, place: Place | None) -> MemoryUse:
        """Memory in bytes, stalls in seconds; what can not be read is None."""
        if place is None:
            return MemoryUse()
        home, text = self._files.nearest(place, _USED[place.version])
        second = home if place.version == 2 else None  # noqa: PLR2004
        used = whole(text)
        stat = self._files.take(home, b"memory.stat")
        inactive = entry(stat, _OF_ALL[place.version] + b"inactive_file")
        events = self._files.take(home, _KILLS[place.version])
        kills = entry(events, b"oom_kill")
        stalled = stalled_microseconds(self._files.take(second, b"memory.pressure"))
        return MemoryUse(
            limit=self._files.memory_limit(place),
            used_bytes=used,
            working_set_bytes=None if used is None or inactive is None else max(0, used - inactive),
            peak_bytes=whole(self._files.take(home, _PEAK[place.version])),
            oom_kills=kills,
            oom_kills_path="" if home is None or kills is None else readable(_kills_file(home, place)),
            stall_seconds=_over(stalled, _MICROSECONDS),
            shmem_bytes=entry(stat, _OF_ALL[place.version] + b"shmem"),
            oom_group_kills=entry(events, b"oom_group_kill"),
            oom_group=_switch(self._files.take(second, b"memory.oom.group")),
            active_file_bytes=entry(stat, _OF_ALL[place.version] + b"active_file"),
        )

    def kills_file(self, place: Place) -> bytes | None:
        """The file with the count of OOM kills, as the container calls it, or None where there is none."""
        home, _ = self._files.nearest(place, _USED[place.version])
        return None if home is None else _kills_file(home, place)

    def cpu(self, place: Place | None, spending: Place | None) -> CpuUse:
        """CPU in cores and seconds; ``spending`` is where version 1 counts time (``cpuacct``)."""
        if place is not None and place.version != 1:
            return self._second_cpu(place)
        home, shares = self._cpu_home(place, b"cpu.shares")
        stat = self._files.take(home, b"cpu.stat")
        _, spent = self._files.nearest(spending, b"cpuacct.usage")
        return CpuUse(
            limit=self._files.cpu_limit(place) if place is not None else None,
            used_seconds=_over(whole(spent), _NANOSECONDS),
            throttled_seconds=_over(entry(stat, b"throttled_time"), _NANOSECONDS),
            periods=entry(stat, b"nr_periods"),
            throttled_periods=entry(stat, b"nr_throttled"),
            weight=_weight_of_shares(whole(shares)),
        )

    def _second_cpu(self, place: Place) -> CpuUse:
        home, weight = self._cpu_home(place, b"cpu.weight")
        stat = self._files.take(home, b"cpu.stat")
        stalled = stalled_microseconds(self._files.take(home, b"cpu.pressure"))
        return CpuUse(
            limit=self._files.cpu_limit(place),
            used_seconds=_over(entry(stat, b"usage_usec"), _MICROSECONDS),
            throttled_seconds=_over(entry(stat, b"throttled_usec"), _MICROSECONDS),
            periods=entry(stat, b"nr_periods"),
            throttled_periods=entry(stat, b"nr_throttled"),
            # 0 is shown while the cgroup is idle (cpu.idle) and has no weight.
            weight=_within(_WEIGHTS, whole(weight)),
            stall_seconds=_over(stalled, _MICROSECONDS),
        )

    def _cpu_home(self, place: Place | None, weight: bytes) -> tuple[bytes | None, bytes | None]:
        # Version 2 gives every cgroup a cpu.stat; a weight is only where the controller is enabled, and the
        # periods of a limit are counted there.  The top of a hierarchy has no weight.
        home, text = self._files.nearest(place, weight)
        return (home, text) if home is not None else (self._files.nearest(place, b"cpu.stat")[0], None)

    def pids(self, place: Place | None) -> PidsUse:
        """Processes and threads; the files are the same in both versions."""
        if place is None:
            return PidsUse()
        home, used = self._files.nearest(place, b"pids.current")
        return PidsUse(
            limit=self._files.pids_limit(place),
            used=whole(used),
            refused=entry(self._files.take(home, b"pids.events"), b"max"),
        )


def _kills_file(home: bytes, place: Place) -> bytes:
    return home + b"/" + _KILLS[place.version]


def _weight_of_shares(shares: int | None) -> int | None:
    # As container runtimes did until 2025 (runc 1.3.1, libcontainer, ConvertCPUSharesToCgroupV2Value); since,
    # they follow a curve through the same ends and (1024, 100).
    known = _within(_SHARES, shares)
    return None if known is None else 1 + (known - _SHARES[0]) * 9999 // 262142


def _within(bounds: tuple[int, int], value: int | None) -> int | None:
    return value if value is not None and bounds[0] <= value <= bounds[1] else None


def _switch(text: bytes | None) -> bool | None:
    number = whole(text)
    return bool(number) if number in (0, 1) else None


def _over(value: int | None, divisor: float) -> float | None:
    return None if value is None else value / divisor
