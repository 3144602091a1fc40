"""Counters that the kernel only lets rise, over the last while: how far did each rise; pure.

A rate is told only of counters that were read at both ends of a window.  What began to count anew, or counts
something else now, begins a new window: no rise is ever taken across it.
"""

from __future__ import annotations

import msgspec

from probe.facts.instants import Instant

SECONDS = 15.0
"""Length of a window at least: a burst of a second is no state, and a rate of it no figure."""
APART = 1.0
"""Seconds between samples that are kept: looks that an exit causes come at any pace."""
FORGOTTEN = 60.0
"""Seconds without a figure after which what was read before is no longer measured from, or believed."""

Figures = tuple[float | None, ...]


class Sample(msgspec.Struct, frozen=True, gc=False):
    """The counters in one look; None could not be read."""

    observed: Instant
    figures: Figures


class Rise(msgspec.Struct, frozen=True):
    """By how much each counter rose from the one look to the other; None where that is not known."""

    began: Instant
    ended: Instant
    figures: Figures

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended.mono - self.began.mono

    def share(self, index: int) -> float | None:
        """A counter of seconds as a part of this time, 1 at most."""
        rose = self.figures[index]
        return None if rose is None else min(1.0, rose / self.seconds)


class Window(msgspec.Struct, frozen=True):
    """The samples of one set of counters, oldest first; ``source`` is what they count, and under which limit."""

    source: object = None
    samples: tuple[Sample, ...] = ()

    def with_sample(self, source: object, observed: Instant, figures: Figures) -> Window:
        """After a look; one that brought nothing changes nothing, until what is known is too old."""
        last = self.samples[-1] if self.samples else None
        if all(each is None for each in figures):
            old = last is not None and observed.mono - last.observed.mono > FORGOTTEN
            return Window() if old else self
        if last is not None and observed.mono <= last.observed.mono:
            return self
        sample = Sample(observed, figures)
        if source != self.source or self._began_anew(figures):
            return Window(source, (sample,))
        close = (
            len(self.samples) > 1
            and last is not None
            and (last.observed.mono - self.samples[-2].observed.mono < APART)
        )
        kept = (*(self.samples[:-1] if close else self.samples), sample)
        base = _base(kept)
        return Window(source, kept[base if base is not None else 0 :])

    @property
    def rise(self) -> Rise | None:
        """Over the shortest time of the last samples that makes a window; None while there is none."""
        base = _base(self.samples)
        if base is None:
            return None
        first, last = self.samples[base], self.samples[-1]
        return Rise(
            first.observed,
            last.observed,
            tuple(
                None if then is None or now is None else now - then
                for then, now in zip(first.figures, last.figures, strict=True)
            ),
        )

    def _began_anew(self, figures: Figures) -> bool:
        return any(
            then is not None and now is not None and now < then
            for sample in self.samples
            for then, now in zip(sample.figures, figures, strict=True)
        )


def _base(samples: tuple[Sample, ...]) -> int | None:
    # The newest from which a window has passed.
    ends = samples[-1].observed.mono if samples else 0.0
    return next(
        (i for i in range(len(samples) - 1, -1, -1) if ends - samples[i].observed.mono >= SECONDS), None
    )
