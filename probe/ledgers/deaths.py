"""A stub that exited: what is known of its end, and what that may mean; pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from probe.facts.instants import Instant
from probe.facts.models import ModelVersion
from probe.facts.processes import Exit, ExitCause, ProcessId, Stub
from probe.ledgers.models import ModelRecord, ModelsLedger
from probe.ledgers.ownership import likely_model


class DeadStub(msgspec.Struct, frozen=True):
    """A stub that exited.

    ``believed`` says that its model was still loaded after the exit, so that it was a death and no
    unload: Triton said so at a later moment, or the exit was violent and Triton did not answer in time.
    ``unreaped``: the last scan found it a zombie.  Triton reaps a dead stub when it takes the load down, when
    an older release starts the stub again, and from 25.12 on when it is asked whether the model is ready.
    ``newcomer``: it was one of a load that did not serve yet, beside the stubs of the load that does.
    """

    id: ProcessId
    model: ModelVersion | None
    instance: str
    exit: Exit
    last: Stub
    believed: bool = False
    unreaped: bool = False
    superseded: bool = False
    """Another load of its model is known to have taken over."""
    clean_since: Instant | None = None
    """Since this poll no request of the model has failed."""
    succeeded: int = 0
    """Requests of the model that had succeeded by then."""
    newcomer: bool = False


def violent(death: DeadStub) -> bool:
    """Whether it was killed or failed, and did not end by itself."""
    return death.exit.violent or death.exit.oom_killed


def in_doubt(death: DeadStub, record: ModelRecord) -> bool:
    """Whether its model's configuration has to be read again before the exit can be told for a death.

    Where only the number of instances was lowered, Triton ends the stubs that are too many while the model
    stays loaded (seen in release 24.10): they exit with code 0, or are reaped before anybody saw how.
    """
    told = record.config_at
    return not violent(death) and told is not None and told.mono <= death.exit.observed.mono


def counting(death: DeadStub, models: ModelsLedger) -> DeadStub:
    """The death, after a poll may have told since when no request of its model has failed."""
    record = models.records.get(death.model) if death.model is not None else None
    if record is None or record.statistics_at is None or not record.ready:
        return death
    polled, failed = record.statistics_at, record.failed_at
    if polled.mono <= death.exit.observed.mono:
        return death
    since = death.clean_since
    if since is not None and (failed is None or failed.mono <= since.mono):
        return death
    return msgspec.structs.replace(
        death, clean_since=max(polled, failed or polled), succeeded=record.traffic.success
    )


def succeeds(later: DeadStub, death: DeadStub) -> bool:
    """Whether the other death is of one that had taken the place of this one."""
    return (
        later.believed
        and (later.model, later.instance) == (death.model, death.instance)
        and later.id.start_ticks > death.id.start_ticks
    )


def explained(death: DeadStub, event: Exit) -> DeadStub:
    """The death, after more was learned of its exit."""
    # How it ended is told once; a kill may turn out to be another's.
    if death.id != event.id:
        return death
    status = death.exit.status if death.exit.status is not None else event.status
    told = msgspec.structs.replace(death.exit, status=status, oom=event.oom or death.exit.oom)
    return msgspec.structs.replace(death, exit=told)


def counted(exits: dict[tuple[str, str], int], settled: Iterable[DeadStub]) -> dict[tuple[str, str], int]:
    """The exits by model and cause, with these settled ones."""
    tally = dict(exits)
    for each in settled:
        cause = _cause(each)
        if each.model is None and cause is ExitCause.UNLOAD:
            # An auto-complete stub that did its work.
            continue
        named = (_guess(each) if each.model is None else each.model.name, cause)
        tally[named] = tally.get(named, 0) + 1
    return tally


def _guess(death: DeadStub) -> str:
    # It ended before its model was ever ready.
    return likely_model(death.last.arguments)


def _cause(death: DeadStub) -> ExitCause:
    if death.exit.oom_killed:
        return ExitCause.OOM_KILLED
    if death.exit.signal is not None:
        return ExitCause.SIGNAL
    if death.exit.code:
        return ExitCause.ERROR
    return ExitCause.UNKNOWN if death.believed else ExitCause.UNLOAD
