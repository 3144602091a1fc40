"""Does a figure grow steadily, and how fast; pure.

Only what rose from sample to sample, and about as fast in the later half as in the earlier, is called steady: a
load that ends, or a cache that is full, says nothing of what comes.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

from probe.facts.instants import Instant

APART = 10.0
"""Seconds between samples that are kept."""
KEPT = 13
"""Samples kept: two minutes at that distance."""
FEWEST = 7
"""Samples at least: a minute."""
ALIKE = 2.0
"""Times by which the later half may be faster or slower than the earlier."""


class Trend(msgspec.Struct, frozen=True):
    """Samples of a figure (monotonic seconds and value), oldest first, and of what it is."""

    source: object = None
    samples: tuple[tuple[float, float], ...] = ()

    def with_sample(self, source: object, observed: Instant, value: float | None) -> Trend:
        """After a look; one without the figure changes nothing."""
        if value is None:
            return self
        sample = (observed.mono, value)
        if source != self.source or not self.samples:
            return Trend(source, (sample,))
        if observed.mono - self.samples[-1][0] < APART:
            return self
        return Trend(source, (*self.samples, sample)[-KEPT:])

    @property
    def per_second(self) -> float | None:
        """How fast it grows, where it does so steadily; else None."""
        samples = self.samples
        if len(samples) < FEWEST or any(now <= then for (_, then), (_, now) in pairwise(samples)):
            return None
        middle = samples[len(samples) // 2]
        early, late = _slope(samples[0], middle), _slope(middle, samples[-1])
        if max(early, late) > ALIKE * min(early, late):
            return None
        return _slope(samples[0], samples[-1])


def _slope(then: tuple[float, float], now: tuple[float, float]) -> float:
    return (now[1] - then[1]) / (now[0] - then[0])
