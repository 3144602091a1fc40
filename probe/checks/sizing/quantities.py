"""Figures as Kubernetes quantities, rounded up, and as people read them; pure."""

from __future__ import annotations

import math

from probe.checks.container import manifest
from probe.checks.container.manifest import MIB

HEADROOM = manifest.HEADROOM - 1
"""What is put on top of a figure; twice as much would be paid for and never used."""
GUESS = 0.5
"""On top of a figure that a limit held down: how much more it would have been nobody saw."""

_PARTS = 16
"""A size is rounded up to a step of this part of it at most."""
_CORE_STEPS = ((0.2, 10), (1.0, 50), (5.0, 100), (math.inf, 500))
"""Up to so many cores, steps of so many millicores."""


def with_headroom(size: float, *, at_least: bool) -> float:
    """The figure and what goes on top of it."""
    return size * (1 + (GUESS if at_least else HEADROOM))


def rounded_bytes(size: float, least: int = MIB) -> int:
    """The size rounded up to whole MiB, or a sixteenth of it where that is more; ``least`` bytes at least."""
    whole = max(math.ceil(size), least, 1)
    step = max(MIB, 1 << max(0, (whole // _PARTS).bit_length() - 1))
    return -(-whole // step) * step


def rounded_millicores(cores: float, least: int = 10) -> int:
    """Cores rounded up, in millicores."""
    step = next(each for limit, each in _CORE_STEPS if cores <= limit)
    return max(least, math.ceil(cores * 1000 / step) * step)


def cores(count: float) -> str:
    """Cores for people."""
    return f"{count:.2f} cores" if count < 1 else f"{count:.1f} cores"


def span(seconds: float) -> str:
    """Seconds for people."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    parts = (f"{minutes} min" if minutes else "", f"{rest} s" if rest or not minutes else "")
    return " ".join(filter(None, parts))
