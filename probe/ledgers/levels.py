"""How high one figure rose: while models load, and minute by minute while they serve; pure.

Loading is a time of its own: frameworks hold a model twice, and compile on every core.  Of serving only the
highest figures of a few minutes are kept, so that a level costs the same after a year as after an hour.
"""

from __future__ import annotations

import msgspec

from probe.facts.instants import Instant

SLOT_SECONDS = 60.0
"""Seconds of a slot at least."""
SLOT_LOOKS = 5
"""Looks that a slot holds at least: of fewer, its highest figure says little."""
SPIKES = 2
"""Slots that are set aside as spikes: one spike can lie over the border of two."""
SPIKES_FROM = 20
"""Slots from which on any are set aside: in less time a spike can not be told from what is usual."""


class Tops(msgspec.Struct, frozen=True, gc=False):
    """The highest figures of all slots of one kind, highest first, and how many slots there were."""

    highest: tuple[float, ...] = ()
    slots: int = 0

    def with_slot(self, value: float) -> Tops:
        """After one more slot, whose highest figure this is."""
        kept = sorted((*self.highest, value), reverse=True)[: SPIKES + 1]
        return Tops(tuple(kept), self.slots + 1)

    @property
    def steady(self) -> float | None:
        """What more slots than a spike covers came up to; None without any."""
        if not self.highest:
            return None
        return self.highest[SPIKES if self.slots >= SPIKES_FROM else 0]


class Level(msgspec.Struct, frozen=True):
    """One figure over time, in whatever unit it has.

    ``load`` is the highest while a model was loading, ``present`` the highest of the slot that is open.  Slots
    in which requests came to their end are ``busy``: hours of idleness say nothing of what a request takes.
    """

    load: float | None = None
    present: float | None = None
    busy: Tops = Tops()
    idle: Tops = Tops()

    def loading(self, value: float) -> Level:
        """After a look while a model was loading."""
        if self.load is not None and value <= self.load:
            return self
        return msgspec.structs.replace(self, load=value)

    def serving(self, value: float) -> Level:
        """After a look while all models served."""
        if self.present is not None and value <= self.present:
            return self
        return msgspec.structs.replace(self, present=value)

    def closed(self, *, busy: bool) -> Level:
        """After the end of the open slot."""
        if self.present is None:
            return self
        if busy:
            return msgspec.structs.replace(self, present=None, busy=self.busy.with_slot(self.present))
        return msgspec.structs.replace(self, present=None, idle=self.idle.with_slot(self.present))

    def steady(self, *, busy: bool) -> float | None:
        """What serving comes up to but for spikes; ``busy`` says of which kind the open slot is."""
        now = self.closed(busy=busy)
        told = [each for each in (now.busy.steady, now.idle.steady) if each is not None]
        return max(told, default=None)

    @property
    def highest(self) -> float | None:
        """The highest of all, spikes and loads too."""
        told = (self.load, self.present, *self.busy.highest[:1], *self.idle.highest[:1])
        return max((each for each in told if each is not None), default=None)


class Slot(msgspec.Struct, frozen=True, gc=False):
    """The slot that is open: since when, how many looks it holds, and whether requests came to their end in it."""

    opened: float
    looks: int = 0
    busy: bool = False

    def with_look(self, *, busy: bool) -> Slot:
        """After a look while all models served."""
        return Slot(self.opened, self.looks + 1, self.busy or busy)

    def over(self, moment: Instant) -> bool:
        """Whether it has lasted long enough and holds enough."""
        return self.looks >= SLOT_LOOKS and moment.mono - self.opened >= SLOT_SECONDS


def risen(level: Level, value: float | None, *, loading: bool) -> Level:
    """The level after a look that brought this figure, or none."""
    if value is None:
        return level
    return level.loading(value) if loading else level.serving(value)
