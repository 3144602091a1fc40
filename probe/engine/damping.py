"""Findings that come and go: how often each failed a gate lately, and how long it is kept therefore; pure."""

from __future__ import annotations

import msgspec

from probe.facts.findings import Key, SubjectKind
from probe.facts.instants import Instant

WITHIN = 600.0
"""Seconds over which comings are counted: a readinessProbe at its default of 10 s asks 60 times in them, and a
pod that went out of its Service and back three times in so short a time was of no use in between."""
OFTEN = 3
"""Comings within that time that make a finding one that comes and goes.  Two may be one trouble and its cure."""
KEPT = 30.0
"""Seconds for which it is first kept: three readinessProbes at their default, so that one toggle is hidden."""
KEPT_AT_MOST = 300.0
"""Seconds for which it is kept at most: half of the time that is looked back on, so that the damping of what
has healed ends by itself."""
REMEMBERED = 64
"""Comings remembered of one finding, and a bound on memory: beyond them the count is "or more"."""
FINDINGS_REMEMBERED = 2_000
"""Findings remembered at most, the latest: names of models may come and go for ever."""


class Damping(msgspec.Struct, frozen=True):
    """When each finding last came and failed a gate, on the monotonic clock."""

    comings: dict[Key, tuple[float, ...]] = {}

    def with_coming(self, key: Key, now: Instant) -> Damping:
        """After this finding came, and held long enough to fail a gate."""
        others = {other: times for other, times in self.comings.items() if _recent(times, now)}
        times = (*_recent(others.pop(key, ()), now), now.mono)[-REMEMBERED:]
        return Damping(dict(list({**others, key: times}.items())[-FINDINGS_REMEMBERED:]))

    def without(self, kinds: frozenset[SubjectKind]) -> Damping:
        """With nothing remembered of subjects of these kinds."""
        return Damping({key: times for key, times in self.comings.items() if key[1].kind not in kinds})

    def patience(self, key: Key, now: Instant) -> float:
        """For how many seconds this finding is kept when it goes at this moment; 0 for one that came rarely."""
        beyond = len(_recent(self.comings.get(key, ()), now)) - OFTEN
        # The exponent is bounded before the power is taken.
        return 0.0 if beyond < 0 else min(KEPT_AT_MOST, KEPT * 2.0 ** min(beyond, REMEMBERED))

    def note(self, key: Key, now: Instant) -> str:
        """What the message of a finding that is kept says beside."""
        times = len(_recent(self.comings.get(key, ()), now))
        often = f"{times} times" if times < REMEMBERED else f"{times} times or more"
        return (
            f" (came and went {often} in {WITHIN / 60:.0f} min; kept until "
            f"{self.patience(key, now):.0f} s have passed without it)"
        )


def _recent(times: tuple[float, ...], now: Instant) -> tuple[float, ...]:
    return tuple(each for each in times if now.mono - each < WITHIN)
