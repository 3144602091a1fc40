"""What the models inside tritonserver did from one poll to the next; pure.

Models of ONNX Runtime, TensorRT or PyTorch share tritonserver's process, and NVML knows processes alone.  What
the process does can be laid to one of them only while it is known that the others did nothing.
"""

from __future__ import annotations

import msgspec

from probe.facts.instants import Instant
from probe.facts.models import ModelState, ModelStatistics, ModelVersion
from probe.facts.triton import TritonReading
from probe.ledgers.models import ModelRecord, ModelsLedger


class Move(msgspec.Struct, frozen=True, gc=False):
    """A model that came to the end of requests.  ``seconds``: of its executions, each counted once."""

    key: ModelVersion
    executions: int
    seconds: float


class Stretch(msgspec.Struct, frozen=True):
    """From one poll that brought statistics to the next.

    ``began`` and ``polled`` are when the two polls began, ``ended`` when the second one ended: what is told here
    happened between ``began`` and ``ended``.  A model that was loaded anew is in ``loaded`` and in ``left``;
    ``stirring`` are those that load or unload, or failed to.  ``quiet``: there are none of these at the second
    poll, as far as Triton told.
    """

    began: Instant
    polled: Instant
    ended: Instant
    quiet: bool = True
    loaded: tuple[ModelVersion, ...] = ()
    left: tuple[ModelVersion, ...] = ()
    stirring: tuple[ModelVersion, ...] = ()
    moved: tuple[Move, ...] = ()

    @property
    def still(self) -> bool:
        """Whether no model came or went, or was about to."""
        return self.quiet and not self.loaded and not self.left

    @property
    def clear(self) -> bool:
        """Whether at most one model executed, and none came or went."""
        return self.still and len(self.moved) <= 1

    @property
    def solo(self) -> Move | None:
        """The only one that executed, where that is so."""
        return self.moved[0] if self.clear and self.moved else None


def stretch_of(
    before: ModelsLedger, after: ModelsLedger, reading: TritonReading, outside: frozenset[ModelVersion]
) -> Stretch | None:
    """What a poll told, by the ledgers before and after it; None where it brought no statistics, or the first.

    ``outside``: models that have processes of their own.  So has every model of the python backend, and an
    ensemble executes nothing itself; one whose configuration is not read yet may be inside.
    """
    if before.statistics_at is None or after is before:
        return None
    loaded, left, stirring, moved = [], [], [], []
    since, old = before.statistics_at.mono, before.records
    for key, record in after.records.items():
        was = old.get(key)
        row, counted = record.statistics, was.statistics if was is not None else None
        if row is None:
            failed = record.since is not None and record.since.mono >= since
            if (failed or record.state is not ModelState.UNAVAILABLE) and is_inside(record, outside):
                stirring.append(key)
                if counted is not None:
                    left.append(key)
        elif was is None or counted is None or was.ready_since != record.ready_since:
            if is_inside(record, outside):
                loaded.append(key)
                if counted is not None:
                    left.append(key)
        elif _ran(counted, row) and is_inside(record, outside):
            seconds = max(0, row.batch_infer_ns - counted.batch_infer_ns) / 1e9
            moved.append(Move(key, row.executions - counted.executions, seconds))
    # A server that is ready has nothing loading, unless --strict-readiness=false; one that is not may have been
    # so for ever since a load failed, and then the index tells.
    told = reading.ready or (after.index_at is not None and after.index_at.mono >= since)
    return Stretch(
        before.statistics_at,
        reading.observed,
        reading.ended,
        quiet=not stirring and bool(told),
        loaded=tuple(loaded),
        left=tuple(left),
        stirring=tuple(stirring),
        moved=tuple(moved),
    )


def is_inside(record: ModelRecord, outside: frozenset[ModelVersion]) -> bool:
    """Whether the model may run in tritonserver's own process."""
    config = record.config
    if config is not None and (config.ensemble or config.backend == "python"):
        return False
    return record.key not in outside


def _ran(was: ModelStatistics, row: ModelStatistics) -> bool:
    return (row.executions, row.success, row.failure) != (was.executions, was.success, was.failure)
