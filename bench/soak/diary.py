"""What was done when, so that a wrong move can be told with what was going on; the last few hundred only."""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Iterator

_KEPT = 500


class _Entry:
    def __init__(self, began: float, what: str) -> None:
        self.began = began
        self.ended: float | None = None
        self.what = what


class Diary:
    """Written by several threads; times are seconds since the Unix epoch."""

    def __init__(self) -> None:
        self._entries: collections.deque[_Entry] = collections.deque(maxlen=_KEPT)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Note what is begun now, and when it ends."""
        entry = _Entry(time.time(), what)
        with self._lock:
            self._entries.append(entry)
        try:
            yield
        finally:
            entry.ended = time.time()

    def note(self, what: str) -> None:
        """Note what happens now."""
        with self.doing(what):
            pass

    def before(self, at: float, seconds: float = 3.0) -> tuple[str, ...]:
        """Return what was done in the last seconds before this time, oldest first."""
        with self._lock:
            entries = tuple(self._entries)
        return tuple(
            f"{_span(each, at)} {each.what}"
            for each in entries
            if each.began <= at and (each.ended is None or each.ended >= at - seconds)
        )


def _span(entry: _Entry, at: float) -> str:
    began = f"{entry.began - at:+.2f}"
    return f"[{began}…]" if entry.ended is None else f"[{began}…{entry.ended - at:+.2f}]"
