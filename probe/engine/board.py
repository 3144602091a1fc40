"""The board: the latest snapshot, replaced whole by the engine and read by every surface.

Reading takes no lock and waits for nobody: a reader holds one immutable snapshot, and the engine only
ever swaps a reference, which CPython does atomically.
"""

from __future__ import annotations

from probe.facts.status import Snapshot


class Board:
    """Where the engine publishes and surfaces read; safe across threads."""

    def __init__(self, first: Snapshot, *, stalled_after: float) -> None:
        """Start with a first snapshot; ``stalled_after``: seconds without a turn that stall the loop."""
        self.latest = first
        self.heartbeat = first.taken.mono
        self.stalled_after = stalled_after

    def publish(self, snapshot: Snapshot) -> None:
        """Replace the snapshot (engine only)."""
        self.latest = snapshot

    def beat(self, mono: float) -> None:
        """Say that the engine's loop turned at this moment of the monotonic clock (engine only)."""
        self.heartbeat = mono

    def loop_age(self, mono: float) -> float:
        """Seconds since the engine's loop last turned."""
        return max(0.0, mono - self.heartbeat)

    def stalled(self, mono: float) -> bool:
        """Whether the engine's loop has not turned for too long."""
        return self.loop_age(mono) > self.stalled_after
