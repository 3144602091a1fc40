"""What tritonserver exerts while one model inside it executes: a GPU, or the CPU; pure.

NVML tells how busy a process kept a GPU between two looks, ``/proc`` how much CPU time it took, Triton how long each
model executed between two polls.  These moments do not fall together: a window is used only where it is covered
from end to end by the others.  What is concluded stands until the model is loaded anew, or shown otherwise.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

from probe.facts.instants import Instant
from probe.facts.models import ModelVersion
from probe.facts.processes import Process
from probe.ledgers.footprints import Footprint
from probe.ledgers.stretches import Move, Stretch
from probe.ledgers.tallies import Idle, Use

LONGEST_SPAN = 12.0
"""Seconds between two looks at most: the driver keeps its samples for some seconds only, and what is older than
those is in no figure.  With ``interval`` above this nothing is told."""
KEPT = 12
"""Spans and stretches that wait for each other to be covered."""
SCANS_KEPT = 40
"""Scans of processes that are remembered, at 2 s or less from one to the next: longer than any window waits."""

USED_PERCENT = 5.0
"""How busy a GPU must be: copies of inputs and other models' rests are less."""
USED_SHARE = 0.1
"""What part of the model's execution time the GPU must have been busy for."""
USED_SECONDS = 0.5
"""Execution in a window at least: the driver's samples are up to a second apart."""

IDLE_SHARE = 0.1
"""What part of a window the model must have executed for: of less, a GPU's part could round to the 0 of a driver
that tells whole percents."""
CPU_SHARE = 0.7
"""CPU time against execution time at least: a thread that computes takes all of it, less what scans 2 s apart
leave uncertain.  One that waits for anything else, a GPU or a network, takes next to none unless it spins."""


class Span(msgspec.Struct, frozen=True):
    """From one look to the next; ``busy`` by UUID, ``idle`` where no GPU that tritonserver is on was busy."""

    began: Instant
    ended: Instant
    busy: dict[str, float]
    idle: bool

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.ended.mono - self.began.mono


class ExertionLedger(msgspec.Struct, frozen=True):
    """One epoch.  ``used`` and ``idle`` are what is known of each model; the rest waits for its cover.

    ``spans`` are judged up to ``spans_until``, ``stretches`` up to ``stretches_until``; ``scans`` are moments
    and the CPU seconds that tritonserver had taken by then.
    """

    used: dict[ModelVersion, dict[str, Use]] = {}
    idle: dict[ModelVersion, Idle] = {}
    looked: Instant | None = None
    spans: tuple[Span, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    scans: tuple[tuple[float, float], ...] = ()
    spans_until: float = float("-inf")
    stretches_until: float = float("-inf")

    def uses(self, model: ModelVersion) -> dict[str, Use]:
        """The GPUs that it was seen to use, by UUID."""
        return {uuid: each for uuid, each in self.used.get(model, {}).items() if each.known}

    def with_scan(self, server: Process, observed: Instant, ticks_per_second: int) -> ExertionLedger:
        """After a scan that found tritonserver."""
        scan = (observed.mono, server.cpu_ticks / ticks_per_second)
        if self.scans and scan[0] <= self.scans[-1][0]:
            return self
        return msgspec.structs.replace(self, scans=(*self.scans, scan)[-SCANS_KEPT:])

    def with_look(self, shown: Footprint | None) -> ExertionLedger:
        """After a look at the GPUs; None where it proved nothing."""
        if shown is None:
            return msgspec.structs.replace(self, looked=None)
        spans = self.spans
        if self.looked is not None and 0.0 < shown.observed.mono - self.looked.mono <= LONGEST_SPAN:
            idle = shown.whole and not any(shown.busy.values())
            spans = (*spans, Span(self.looked, shown.observed, shown.busy, idle))[-KEPT:]
        return msgspec.structs.replace(self, looked=shown.observed, spans=spans)._judged()  # noqa: SLF001

    def with_stretch(self, stretch: Stretch) -> ExertionLedger:
        """After a poll."""
        gone = {*stretch.loaded, *stretch.left}
        used, idle = self.used, self.idle
        if not gone.isdisjoint(used) or not gone.isdisjoint(idle):
            used = {key: each for key, each in used.items() if key not in gone}
            idle = {key: each for key, each in idle.items() if key not in gone}
        for move in stretch.moved:
            if not _short(move, stretch):
                used = _without(used, move, stretch)
        stretches = (*self.stretches, stretch)[-KEPT:]
        return msgspec.structs.replace(self, used=used, idle=idle, stretches=stretches)._judged()  # noqa: SLF001

    def _judged(self) -> ExertionLedger:
        after = self
        polled = self.stretches[-1].polled.mono if self.stretches else float("-inf")
        for span in self.spans:
            if self.spans_until < span.ended.mono <= polled:
                after = after._busy(span)
        looked = self.spans[-1].ended.mono if self.spans else float("-inf")
        scanned = self.scans[-1][0] if self.scans else float("-inf")
        for stretch in self.stretches:
            if self.stretches_until < stretch.ended.mono <= min(looked, scanned):
                after = after._idle(stretch)  # noqa: SLF001
        return after

    def _busy(self, span: Span) -> ExertionLedger:
        after = msgspec.structs.replace(self, spans_until=span.ended.mono)
        over = _over(self.stretches, span)
        solo = {each.solo.key for each in over if each.solo is not None}
        if len(solo) != 1 or not all(each.clear for each in over):
            return after
        (key,) = solo
        if key in self.idle and any(span.busy.values()):
            # What is concluded must hold for all that it does.
            idle = {each: told for each, told in self.idle.items() if each != key}
            after = msgspec.structs.replace(after, idle=idle)
        # The first stretch is there to show that nobody else came to an end just before.
        within = over[1:]
        moves = [(each.solo, each) for each in within if each.solo is not None]
        seconds = sum(move.seconds for move, _ in moves)
        if seconds < USED_SECONDS or not all(_short(move, each) for move, each in moves):
            return after
        known = dict(self.used.get(key, {}))
        for uuid, told in span.busy.items():
            percent = min(told, 100.0)
            if percent >= USED_PERCENT and percent / 100 * span.seconds >= USED_SHARE * seconds:
                use = Use(1, percent, span.seconds, span.began, span.ended)
                known[uuid] = use.and_before(known.get(uuid))
        return msgspec.structs.replace(after, used={**self.used, key: known}) if known else after

    def _idle(self, stretch: Stretch) -> ExertionLedger:
        after = msgspec.structs.replace(self, stretches_until=stretch.ended.mono)
        move, cpu = stretch.solo, self._cpu(stretch)
        if move is None or cpu is None or not _short(move, stretch) or not self._unused(stretch):
            return after
        long = stretch.ended.mono - stretch.began.mono
        if move.seconds < IDLE_SHARE * long or cpu < CPU_SHARE * move.seconds:
            return after
        idle = Idle(1, move.seconds, cpu, stretch.began, stretch.ended).and_before(self.idle.get(move.key))
        return msgspec.structs.replace(after, idle={**self.idle, move.key: idle})

    def _unused(self, stretch: Stretch) -> bool:
        # No GPU that tritonserver is on was busy, from before the stretch to after it.
        began, ended = stretch.began.mono, stretch.ended.mono
        spans = [each for each in self.spans if each.ended.mono > began and each.began.mono < ended]
        return (
            bool(spans)
            and all(each.idle for each in spans)
            and spans[0].began.mono <= began
            and spans[-1].ended.mono >= ended
            and all(one.ended == other.began for one, other in pairwise(spans))
        )

    def _cpu(self, stretch: Stretch) -> float | None:
        began, ended = self._taken(stretch.began.mono), self._taken(stretch.ended.mono)
        return ended - began if began is not None and ended is not None else None

    def _taken(self, moment: float) -> float | None:
        # CPU seconds taken by then, on the straight line between the scans around it.
        for (then, had), (now, has) in pairwise(self.scans):
            if then <= moment <= now and now - then <= LONGEST_SPAN:
                return had + (has - had) * (moment - then) / (now - then)
        return None


def _over(stretches: tuple[Stretch, ...], span: Span) -> list[Stretch]:
    # Those that cover the span from end to end, with the one before them; none where they leave a gap.
    found: list[Stretch] = []
    for each in stretches:
        if each.began.mono >= span.ended.mono:
            break
        if each.ended.mono > span.began.mono:
            found.append(each)
        else:
            found = [each]
    joined = all(one.polled == other.began for one, other in pairwise(found))
    whole = len(found) > 1 and found[1].began.mono <= span.began.mono
    return found if joined and whole and found[-1].polled.mono >= span.ended.mono else []


def _short(move: Move, stretch: Stretch) -> bool:
    # One that takes as long as half a stretch may have run before it as well.
    return move.seconds <= max(1, move.executions) * (stretch.ended.mono - stretch.began.mono) / 2


def _without(
    used: dict[ModelVersion, dict[str, Use]], move: Move, stretch: Stretch
) -> dict[ModelVersion, dict[str, Use]]:
    # A long execution shows only when it ends: what was laid to others in the meantime may have been its work.
    began = stretch.began.mono - move.seconds / max(1, move.executions)
    return {
        key: {uuid: use for uuid, use in uses.items() if key == move.key or use.first.mono < began}
        for key, uses in used.items()
    }
