"""Which machine this is, and how quiet: figures without these two say little."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import time
from pathlib import Path

from bench.harness import MILLISECONDS, Machine, Noise, percentile
from probe import __version__
from probe.sandbox.wheel import PYTRITON_VERSION

_LOOPS = 25
_WORK = 100_000
_WAKEUPS = 200
_NAP = 0.001
_PACKAGES = ("grpcio", "uvicorn", "msgspec", "nvidia-ml-py")


def describe() -> Machine:
    """Describe this machine."""
    return Machine(
        cpu=_found(r"^model name\s*:\s*(.+)$", "/proc/cpuinfo") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_mib=int(_found(r"^MemTotal:\s+(\d+) kB$", "/proc/meminfo") or 0) // 1024,
        kernel=platform.release(),
        versions={
            "probe": __version__,
            "python": platform.python_version(),
            "triton": f"nvidia-pytriton {PYTRITON_VERSION}",
            **{each: importlib.metadata.version(each) for each in _PACKAGES},
        },
    )


def noise() -> Noise:
    """Measure for about half a second how steadily this machine runs one thread."""
    loops = [_seconds_of_work() * MILLISECONDS for _ in range(_LOOPS)]
    late = [_seconds_late() * MILLISECONDS for _ in range(_WAKEUPS)]
    return Noise(
        load_1_minute=load(),
        loop_fastest_ms=min(loops),
        loop_median_ms=percentile(loops, 50),
        wakeup_late_p50_ms=percentile(late, 50),
        wakeup_late_p99_ms=percentile(late, 99),
    )


def load() -> float:
    """Processes that ran or waited to run, averaged over the last minute."""
    return os.getloadavg()[0]


def _seconds_of_work() -> float:
    began = time.perf_counter()
    total = 0
    for each in range(_WORK):
        total += each
    return time.perf_counter() - began


def _seconds_late() -> float:
    began = time.perf_counter()
    time.sleep(_NAP)
    return time.perf_counter() - began - _NAP


def _found(pattern: str, path: str) -> str | None:
    found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    return found[1].strip() if found else None
