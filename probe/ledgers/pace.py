"""How fast a model computes against how fast it did before, within one load; pure."""

from __future__ import annotations

import msgspec

from probe.facts.instants import Instant
from probe.facts.models import ModelStatistics

WINDOW = 10
"""Inferences that make one figure: fewer are an anecdote, and a slow model would need hours for more."""
LEARNING = 20
"""Figures before anything is compared: a model's first executions compile, allocate and warm caches."""
KEPT = 32
"""Figures kept of a load, at even distances over all of it: a decline over minutes, or hours, must not become
the usual."""
SLOW = 4.0
"""Times the usual from which on a model is slow: half of it is another kind of input, or a busy neighbour."""
SWIFT = 3.0
"""Times the usual below which a slow model is slow no more: without a gap it would come and go."""
FLOOR_SECONDS = 0.001
"""Above the usual at least: what takes microseconds takes many times as long whenever the machine is busy."""


class Figure(msgspec.Struct, frozen=True, gc=False):
    """Compute seconds of one window.

    ``per_request`` grows with the batch that a request is part of, ``per_inference`` (an execution's time
    divided by what it served) shrinks with it: only a model that became slower raises both.
    """

    per_request: float
    per_inference: float

    def beyond(self, usual: Figure, times: float) -> bool:
        """Whether both parts are above so many times the usual, and above the floor."""
        return all(
            now > before * times and now > before + FLOOR_SECONDS
            for now, before in (
                (self.per_request, usual.per_request),
                (self.per_inference, usual.per_inference),
            )
        )


class Pace(msgspec.Struct, frozen=True):
    """One load's figures.

    ``usual`` is the median of those kept, None while too few were seen; while the model is slow nothing is
    learned.  ``slow_since`` and ``slow_until`` are the first and the last of a run of slow windows, and
    ``latest`` is the last window's figure.
    """

    usual: Figure | None = None
    latest: Figure | None = None
    slow_since: Instant | None = None
    slow_until: Instant | None = None
    kept: tuple[Figure, ...] = ()
    seen: int = 0
    stride: int = 1
    mark: ModelStatistics | None = None
    """The counters at which the present window began."""

    @property
    def slow_seconds(self) -> float:
        """How long it has been slow, from the first slow window to the last."""
        if self.slow_since is None or self.slow_until is None:
            return 0.0
        return self.slow_until.mono - self.slow_since.mono

    def after(self, was: ModelStatistics, row: ModelStatistics, observed: Instant) -> Pace:
        """After a poll of the same load; ``was`` are the counters of the poll before."""
        mark = self.mark or was
        if row.failure != mark.failure:
            # The time of failed executions is in the one sum and not in the other.
            return msgspec.structs.replace(self, mark=row)
        inferences = row.inferences - mark.inferences
        requests = row.compute_infer_count - mark.compute_infer_count
        if inferences < WINDOW or requests <= 0:
            return self if mark is self.mark else msgspec.structs.replace(self, mark=mark)
        figure = Figure(
            (row.compute_infer_ns - mark.compute_infer_ns) / requests / 1e9,
            (row.batch_infer_ns - mark.batch_infer_ns) / inferences / 1e9,
        )
        return msgspec.structs.replace(self._measured(figure, observed), mark=row, latest=figure)

    def _measured(self, figure: Figure, observed: Instant) -> Pace:
        if self.usual is not None:
            if figure.beyond(self.usual, SLOW if self.slow_since is None else SWIFT):
                since = self.slow_since or observed
                return msgspec.structs.replace(self, slow_since=since, slow_until=observed)
            if self.slow_since is not None:
                return msgspec.structs.replace(self, slow_since=None, slow_until=None)
        return self._learned(figure)

    def _learned(self, figure: Figure) -> Pace:
        seen = self.seen + 1
        if self.seen % self.stride:
            return msgspec.structs.replace(self, seen=seen)
        kept, stride = (*self.kept, figure), self.stride
        if len(kept) > KEPT:
            kept, stride = kept[::2], stride * 2
        usual = _median(kept) if seen >= LEARNING else None
        return msgspec.structs.replace(self, usual=usual, kept=kept, seen=seen, stride=stride)


def _median(figures: tuple[Figure, ...]) -> Figure:
    middle = len(figures) // 2
    return Figure(
        sorted(each.per_request for each in figures)[middle],
        sorted(each.per_inference for each in figures)[middle],
    )
