"""What the engine's tasks share: the book, the bells that wake them, and how each source does.

They run in one event loop and fold readings in between awaits, so nothing is locked.
"""

from __future__ import annotations

from collections.abc import Callable

from probe.engine.eyes import Eyes
from probe.engine.tracking import Track
from probe.facts.instants import Instant
from probe.facts.models import ModelVersion
from probe.kits.tasks import Bell
from probe.ledgers.book import Book
from probe.settings import Settings

SOURCES = ("triton", "nvml", "processes", "container")


class Desk:
    """Belongs to one event loop; every task of one engine works at it."""

    def __init__(self, settings: Settings, eyes: Eyes, clock: Callable[[], Instant]) -> None:
        """With an empty book."""
        self.settings = settings
        self.eyes = eyes
        self.clock = clock
        self.book = Book()
        self.tracks = {name: Track(clock()) for name in SOURCES}
        self.stirred = Bell()
        """Something changed that somebody may be waiting for: judge."""
        self.wake = {name: Bell() for name in SOURCES}
        """Look at once with this source."""
        self.news = Bell()
        """A look came back, whatever it brought, or everything was judged anew; the healer waits for it."""

    def look_again(self) -> None:
        """Have what is known of processes and models renewed and judged at once."""
        self.wake["processes"].ring()
        self.wake["triton"].ring()
        self.stirred.ring()

    def ready(self, model: ModelVersion) -> bool:
        """Whether Triton, when it was last polled, had this version ready."""
        record = self.book.models.records.get(model)
        return record is not None and record.ready

    def track(self, name: str, began: Instant, *, ok: bool, delivered: bool, error: str | None) -> None:
        """Note how a look went that began then."""
        moment = self.clock()
        self.tracks[name] = self.tracks[name].looked(
            moment, moment.mono - began.mono, ok=ok, delivered=delivered, error=error
        )
        self.news.ring()
