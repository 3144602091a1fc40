"""What do the stubs need of ``/dev/shm``: what they hold, one step more for each, and those that are missing."""

from __future__ import annotations

from collections import Counter

import msgspec

from probe.checks.observation import Observation
from probe.facts.models import ModelVersion
from probe.ledgers.lives import LiveStub
from probe.ledgers.ownership import group_of, likely_model
from probe.ledgers.regions import RegionSizes, sizes_of

_NAMED = 3
"""Models that a message names."""


class Need(msgspec.Struct, frozen=True):
    """In bytes: what live stubs hold, a step of growth for each, what missing ones begin with, and the rest.

    ``step_bytes`` is the largest step by which one of them grows; ``other_bytes`` are files of others and regions
    that nobody owns.
    """

    stubs: int = 0
    missing: int = 0
    held_bytes: int = 0
    growth_bytes: int = 0
    missing_bytes: int = 0
    other_bytes: int = 0
    step_bytes: int = 0
    models: tuple[tuple[str, int], ...] = ()
    """The stubs that are there or missing by model, most first."""

    @property
    def total_bytes(self) -> int:
        """All of it together."""
        return self.held_bytes + self.growth_bytes + self.missing_bytes + self.other_bytes

    @property
    def named(self) -> str:
        """The models with the most stubs, in a few words."""
        told = ", ".join(f"{name} {count}" for name, count in self.models[:_NAMED])
        more = len(self.models) - _NAMED
        return told + (f" and {more} more models" if more > 0 else "")


def need_of(seen: Observation) -> Need:
    """What all of them need at this moment.

    Of a model with more stubs than its configuration calls for, as during a reload, the largest count: the
    others are about to end.
    """
    stubs, files = seen.book.stubs, seen.book.shm.files
    by_model: dict[ModelVersion | None, list[LiveStub]] = {}
    for each in stubs.live.values():
        # An auto-complete stub, which has no number, ends before its model is loaded.
        if not each.retired and group_of(each.stub.arguments.name) != each.stub.arguments.name:
            by_model.setdefault(each.model, []).append(each)

    def held(each: LiveStub) -> int:
        listed = files.get(each.stub.arguments.shm_region)
        known = listed.held_bytes if listed is not None else each.stub.shm_bytes
        return max(known or 0, each.stub.arguments.shm_default_bytes)

    counted: list[LiveStub] = []
    missing = 0
    called_for: Counter[str] = Counter()
    for model in {*by_model, *(record.key for record in seen.records() if record.ready)}:
        alive = sorted(by_model.get(model, ()), key=held, reverse=True)
        record = seen.book.models.records.get(model) if model is not None else None
        expected = stubs.expected(record.key, record.config) if record is not None and record.ready else None
        counted += alive[:expected]
        missing += max(0, (expected or 0) - len(alive))
        if model is not None:
            called_for[model.name] += len(alive) if expected is None else expected
        else:  # it is loading: the command lines alone tell whose they are
            called_for.update(likely_model(each.stub.arguments) for each in alive)
    sizes = _sizes(seen, counted)
    return Need(
        stubs=len(counted),
        missing=missing,
        held_bytes=sum(held(each) for each in counted),
        growth_bytes=sum(each.stub.arguments.shm_growth_bytes for each in counted),
        missing_bytes=missing * (sizes.default_bytes + sizes.growth_bytes),
        other_bytes=seen.book.shm.others_bytes + sum(each.held_bytes for each in seen.book.shm.orphans),
        step_bytes=max((each.stub.arguments.shm_growth_bytes for each in counted), default=0),
        models=tuple(sorted((+called_for).items(), key=lambda pair: (-pair[1], pair[0]))),
    )


def _sizes(seen: Observation, counted: list[LiveStub]) -> RegionSizes:
    # All stubs of one server begin with the same.
    for each in counted:
        told = each.stub.arguments
        return RegionSizes(told.shm_default_bytes, told.shm_growth_bytes)
    return sizes_of(seen.book.server.server, seen.book.server.version)
