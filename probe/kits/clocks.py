"""The two clocks, read together."""

from __future__ import annotations

import time

from probe.facts.instants import Instant


def now() -> Instant:
    """This moment, on the monotonic and on the wall clock."""
    return Instant(time.monotonic(), time.time())
