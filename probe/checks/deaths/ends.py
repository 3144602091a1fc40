"""Was Triton itself killed for want of memory, alone or with its whole container, and by whose growth?"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from probe.checks.container.manifest import size_of
from probe.checks.deaths.around import evidence, memory_remedy, memory_says
from probe.checks.deaths.causes import cause_of
from probe.checks.observation import Observation
from probe.facts.findings import Scalar
from probe.facts.instants import Instant
from probe.ledgers.obituaries import Obituary, Role

TOGETHER = 10.0
"""Seconds between the ends of processes that one kill took: what frees much memory takes seconds to die."""
UNNAMED = "a stub that had told no name yet"
"""A process that has just become a stub has its name for some instants before its arguments."""
_NAMED = 3


class End(msgspec.Struct, frozen=True):
    """What is to be said of Triton's end beside how it ended; empty where memory had no part in it."""

    says: str = ""
    remedy: str = ""
    evidence: dict[str, Scalar] = {}


class Tree(msgspec.Struct, frozen=True):
    """A stub with all below it: its size at the last scan, and how much of that came within the last minute."""

    name: str
    bytes: int
    grown: int


def end_of_server(seen: Observation) -> End:
    """Of the tritonserver that is gone now."""
    process = seen.book.server.process
    death = seen.book.obituaries.of(process) if process is not None else None
    if death is None or not death.exit.oom_killed:
        return End()
    cause = cause_of(seen, death.exit)
    whole = death.exit.oom is not None and death.exit.oom.whole
    says = (
        "The kernel killed Triton's whole container for want of memory: memory.oom.group is set, so that one process "
        "too large takes all with it"
        if whole
        else "The kernel killed it for want of memory"
    )
    trees = trees_at(seen, death.exit.observed, death.epoch)
    parts = (
        f" {says} ({cause.rests_on}).",
        memory_says(death.before, death.exit.observed, death.after),
        largest(trees),
    )
    return End(
        " ".join(each for each in parts if each),
        memory_remedy(seen, death.before, death.after, 0 if whole else death.rss_bytes),
        {**cause.evidence(death.exit), "whole_container": whole, **evidence(death), **of_trees(trees)},
    )


def trees_at(seen: Observation, moment: Instant, epoch: int) -> tuple[Tree, ...]:
    """The stubs that lived until this moment, by how much they had grown, then by size."""
    found = {each.id: _tree(each) for each in seen.book.obituaries.kept if _together(each, moment, epoch)}
    if epoch == seen.book.server.epoch:
        sizes = seen.book.obituaries.sizes
        found |= {
            process: Tree(live.stub.arguments.name, sizes[process].bytes, sizes[process].grown)
            for process, live in seen.book.stubs.live.items()
            if process in sizes
        }
    return tuple(sorted(found.values(), key=lambda each: (-each.grown, -each.bytes, each.name)))


def largest(trees: tuple[Tree, ...]) -> str:
    """Who was probably too large, as a sentence; empty where no stub was seen."""
    if not trees:
        return ""
    told = ", ".join(_told(trees[:_NAMED]))
    how = "grown most" if trees[0].grown else "held most"
    return f"By the last scan these stubs, with what runs below them, had {how}: {told}."


def of_trees(trees: tuple[Tree, ...]) -> dict[str, Scalar]:
    """The first of them, as evidence."""
    if not trees:
        return {}
    first = trees[0]
    return {
        "largest_stub": first.name or None,
        "largest_stub_bytes": first.bytes,
        "largest_stub_grown_bytes": first.grown,
    }


def _together(death: Obituary, moment: Instant, epoch: int) -> bool:
    near = abs(death.exit.observed.mono - moment.mono) <= TOGETHER
    # One that the kernel killed alone had died before, and what it held was free again.
    alone = death.exit.oom_killed and death.exit.oom is not None and not death.exit.oom.whole
    return death.role is Role.STUB and death.epoch == epoch and near and not alone


def _tree(death: Obituary) -> Tree:
    return Tree(death.name, death.tree_bytes, death.grown_bytes or 0)


def _told(trees: tuple[Tree, ...]) -> Iterator[str]:
    for each in trees:
        grown = f", {size_of(each.grown)} of it within a minute" if each.grown else ""
        yield f"{each.name or UNNAMED} with {size_of(each.bytes)}{grown}"
