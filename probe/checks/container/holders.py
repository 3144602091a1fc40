"""Who takes most of what the container has: tritonserver, or the stubs of a model with all below them."""

from __future__ import annotations

from collections.abc import Callable

from probe.checks.observation import Observation
from probe.facts.processes import Process

_NAMED = 3
"""Holders that a message names."""


def largest(seen: Observation, figure: Callable[[Process], int | None]) -> list[tuple[str, int]]:
    """The names of the largest holders and the sums of this figure over their processes; unknown is left out."""
    held: dict[str, int] = {}
    for live in seen.book.stubs.live.values():
        name = str(live.model) if live.model is not None else live.stub.arguments.name
        for each in (live.stub.process, *live.stub.descendants):
            held[name] = held.get(name, 0) + (figure(each) or 0)
    server = seen.book.server.server
    if server is not None:
        held["tritonserver"] = figure(server.process) or 0
    most = sorted(held.items(), key=lambda each: (-each[1], each[0]))
    return [(name, amount) for name, amount in most[:_NAMED] if amount]
