"""Stub processes over time: who lives, who died, of which model, and whether that was a death."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import msgspec

from probe.facts.instants import Instant
from probe.facts.models import ModelConfig, ModelState, ModelVersion
from probe.facts.processes import (
    Exit,
    ExitCause,
    ProcessId,
    ProcessReading,
    ProcessState,
    Stub,
)
from probe.ledgers.models import ModelRecord, ModelsLedger
from probe.ledgers.ownership import copies, likely_model, owner


class LiveStub(msgspec.Struct, frozen=True):
    """A stub that runs.  ``model`` None: not one of a loaded model (yet), or an auto-complete stub.

    ``orphaned``: it is older than tritonserver, so it is what an earlier server left behind.
    """

    stub: Stub
    model: ModelVersion | None
    first_seen: Instant
    orphaned: bool = False
    stopped_since: Instant | None = None
    """Since when every scan saw it stopped, or in uninterruptible sleep without a tick of CPU."""
    stopped_looks: int = 0
    served: bool = False
    """Triton had its model ready while it lived."""
    wounded: bool = False
    """Another stub of the same load died beside it."""
    retired: bool = False
    """Its load has ended and it lingers: an unload waits for ever for an instance whose stub died after it
    failed a request, and keeps the other stubs of that load (seen in release 24.10)."""


class DeadStub(msgspec.Struct, frozen=True):
    """A stub that exited.

    ``believed`` says that its model was still loaded after the exit, so that it was a death and no
    unload: Triton said so at a later moment, or the exit was violent and Triton did not answer in time.
    """

    id: ProcessId
    model: ModelVersion | None
    instance: str
    exit: Exit
    last: Stub
    believed: bool = False


class StubsLedger(msgspec.Struct, frozen=True, dict=True):
    """Who lives and who died.  ``exits`` counts settled exits by model and cause, over epochs."""

    live: dict[ProcessId, LiveStub] = {}
    dead: tuple[DeadStub, ...] = ()
    exits: dict[tuple[str, str], int] = {}
    scanned: Instant | None = None

    def of(self, model: ModelVersion) -> tuple[LiveStub, ...]:
        """The live stubs of this version's present load, by instance name."""
        return self._serving.get(model, ())

    @cached_property
    def _serving(self) -> dict[ModelVersion, tuple[LiveStub, ...]]:
        # Asked several times for every model in every judgement.
        found: dict[ModelVersion, tuple[LiveStub, ...]] = {}
        for each in sorted(self.live.values(), key=_by_instance):
            if each.model is not None and not each.retired:
                found[each.model] = (*found.get(each.model, ()), each)
        return found

    def deaths_of(self, model: ModelVersion) -> tuple[DeadStub, ...]:
        """Its dead, latest first."""
        return tuple(each for each in reversed(self.dead) if each.model == model)

    def forgotten(self) -> StubsLedger:
        """At the start of an epoch: the old server's stubs are nobody's, the counters go on."""
        return StubsLedger(exits=self.exits)

    def with_scan(self, reading: ProcessReading, models: ModelsLedger) -> StubsLedger:
        """After a scan of processes."""
        running = {each.process.id: each for each in reading.stubs if not each.process.gone}
        # An exit that the kernel told after the scan began stands.  One that only an earlier scan
        # concluded, from not finding the process, was no exit if it is here now.
        dead = [
            each
            for each in self.dead
            if each.id not in running or each.exit.observed.mono >= reading.observed.mono
        ]
        known_dead = {each.id for each in dead}
        ended = {
            process: _death(gone, Exit(process, reading.observed))
            for process, gone in self.live.items()
            if process not in running
        }
        dead += (each for process, each in ended.items() if not self.live[process].retired)
        late = [each for process, each in ended.items() if self.live[process].retired]
        begun = reading.server.process.id.start_ticks if reading.server is not None else 0
        live = {
            process: _seen(self.live.get(process), stub, reading.observed, models, begun)
            for process, stub in running.items()
            if process not in known_dead
        }
        exits = _counted(self.exits, late)
        scanned = StubsLedger(live=live, dead=tuple(dead), exits=exits, scanned=reading.observed)
        return scanned.with_models(models)

    def with_exit(self, event: Exit, models: ModelsLedger) -> StubsLedger:
        """After the kernel told of an exit."""
        gone = self.live.get(event.id)
        if gone is None:
            # A scan found it gone first; how it ended only the kernel tells.
            return self.told(event)
        live = {process: each for process, each in self.live.items() if process != event.id}
        death = _death(_named(gone, models), event)
        if gone.retired:
            return msgspec.structs.replace(self, live=live, exits=_counted(self.exits, [death]))
        return msgspec.structs.replace(self, live=live, dead=(*self.dead, death))

    def told(self, event: Exit) -> StubsLedger:
        """After more was learned of an exit: how it ended, or what the count of OOM kills did."""
        dead = tuple(_explained(each, event) for each in self.dead)
        return msgspec.structs.replace(self, dead=dead)

    def with_models(self, models: ModelsLedger) -> StubsLedger:
        """After more was learned of the models: stubs find their models, exits their meaning."""
        live = {process: _named(each, models) for process, each in self.live.items()}
        told = tuple(each.id for each in self.dead if not each.believed and self._confirmed(each, models))
        return msgspec.structs.replace(self, live=live).believing(*told).retiring(models).settled(models)

    def believing(self, *exited: ProcessId) -> StubsLedger:
        """After Triton was given its time to say that these exits were an unload, and did not."""
        dead = tuple(
            msgspec.structs.replace(each, believed=True) if each.id in exited else each for each in self.dead
        )
        newly = [
            each
            for each, before in zip(dead, self.dead, strict=True)
            if not before.believed and each.believed
        ]
        live = {
            process: msgspec.structs.replace(each, wounded=True)
            if any(death.model == each.model and _older(each, death.exit.observed) for death in newly)
            else each
            for process, each in self.live.items()
        }
        return msgspec.structs.replace(self, live=live, dead=dead, exits=_counted(self.exits, newly))

    def retiring(self, models: ModelsLedger) -> StubsLedger:
        """With the stubs of ended loads told apart from those of the present one."""
        live = {
            process: msgspec.structs.replace(
                each,
                served=each.served or _has_served(each, models),
                retired=each.retired or self._load_ended(each, models),
            )
            for process, each in self.live.items()
        }
        return msgspec.structs.replace(self, live=live)

    def _load_ended(self, stub: LiveStub, models: ModelsLedger) -> bool:
        if stub.model is None:
            return False
        record = models.records.get(stub.model)
        if stub.served and (record is None or not record.ready):
            return True
        # A reload between two looks: after a death the whole load is replaced, and this is what is left.
        younger = sum(
            each.model == stub.model
            and each.stub.arguments.name == stub.stub.arguments.name
            and each.first_seen.mono > stub.first_seen.mono
            for each in self.live.values()
        )
        return stub.wounded and younger >= copies(
            stub.stub.arguments.name, record.config if record is not None else None
        )

    def settled(self, models: ModelsLedger) -> StubsLedger:
        """Without the dead that mean nothing any more: unloaded, replaced, or never an instance."""
        kept = tuple(each for each in self.dead if self._means_something(each, models))
        unloaded = [each for each in self.dead if each not in kept and not each.believed]
        return msgspec.structs.replace(self, dead=kept, exits=_counted(self.exits, unloaded))

    def _confirmed(self, death: DeadStub, models: ModelsLedger) -> bool:
        # Triton has the model loaded at a later moment, and a later scan shows who is left: a reload
        # starts the new stubs first and never says that the model is not ready.
        record = models.records.get(death.model) if death.model is not None else None
        return (
            record is not None
            and record.statistics_at is not None
            and record.ready
            and record.statistics_at.mono > death.exit.observed.mono
            and self.scanned is not None
            and self.scanned.mono >= death.exit.observed.mono
            # An exit without violence may be of an instance that the configuration no longer calls for.
            and (death.exit.violent or record.config_at is None or _read_since(death, record))
            and not self._shrunk(death, record)
        )

    def _means_something(self, death: DeadStub, models: ModelsLedger) -> bool:
        if death.model is None:
            return False
        record = models.records.get(death.model)
        if record is None:
            return False
        if not record.ready:
            # A stub that began to load may be one of a model that became ready since the last look.
            since = record.since.mono if record.since is not None else 0.0
            undecided = record.state in (ModelState.LOADING, ModelState.UNKNOWN)
            return undecided and not death.believed and death.exit.observed.mono > since
        if self._shrunk(death, record):
            return False
        same = sum(each.stub.arguments.name == death.instance for each in self.of(death.model))
        return same < copies(death.instance, record.config)

    def _shrunk(self, death: DeadStub, record: ModelRecord) -> bool:
        # A change of the count alone removes instances in place and names those that are left anew in the
        # configuration only: what was read of it since the exit calls for no more than there are.
        expected = self.expected(record.key, record.config)
        return _read_since(death, record) and expected is not None and len(self.of(record.key)) >= expected

    def expected(self, model: ModelVersion, config: ModelConfig | None) -> int | None:
        """How many stubs the configuration calls for; None where it calls for none, or is not known.

        A backend other than ``python`` that is itself written in python has one stub an instance too;
        it is known by the stubs it was seen with.
        """
        if config is None or config.ensemble:
            return None
        if config.backend != "python" and not self.of(model) and not self.deaths_of(model):
            return None
        return sum(group.instances for group in config.groups)


def _read_since(death: DeadStub, record: ModelRecord) -> bool:
    return record.config_at is not None and record.config_at.mono > death.exit.observed.mono


def _named(live: LiveStub, models: ModelsLedger) -> LiveStub:
    model = None if live.orphaned else owner(live.stub.arguments, models)
    return live if model == live.model or model is None else msgspec.structs.replace(live, model=model)


def _seen(
    before: LiveStub | None, stub: Stub, observed: Instant, models: ModelsLedger, begun: int
) -> LiveStub:
    if before is None:
        orphaned = stub.process.id.start_ticks < begun
        first = _named(LiveStub(stub, None, observed, orphaned=orphaned), models)
        return _paused(first, None, stub, observed)
    named = _named(msgspec.structs.replace(before, stub=stub), models)
    return _paused(named, before, stub, observed)


def _paused(live: LiveStub, before: LiveStub | None, stub: Stub, observed: Instant) -> LiveStub:
    state = stub.process.state
    # Any disk access shows as uninterruptible for a moment: only two looks without a tick are a state.
    stuck = (
        state is ProcessState.UNINTERRUPTIBLE
        and before is not None
        and before.stub.process.cpu_ticks == stub.process.cpu_ticks
        and before.stub.process.state is ProcessState.UNINTERRUPTIBLE
    )
    if state is not ProcessState.STOPPED and not stuck:
        return msgspec.structs.replace(live, stopped_since=None, stopped_looks=0)
    since = live.stopped_since or observed
    return msgspec.structs.replace(live, stopped_since=since, stopped_looks=live.stopped_looks + 1)


def _death(gone: LiveStub, event: Exit) -> DeadStub:
    return DeadStub(event.id, gone.model, gone.stub.arguments.name, event, gone.stub)


def _explained(death: DeadStub, event: Exit) -> DeadStub:
    # What was told first stands.
    if death.id != event.id:
        return death
    status = death.exit.status if death.exit.status is not None else event.status
    told = msgspec.structs.replace(death.exit, status=status, oom=death.exit.oom or event.oom)
    return msgspec.structs.replace(death, exit=told)


def _by_instance(live: LiveStub) -> tuple[str, ProcessId]:
    return live.stub.arguments.name, live.stub.process.id


def _has_served(stub: LiveStub, models: ModelsLedger) -> bool:
    record = models.records.get(stub.model) if stub.model is not None else None
    return (
        record is not None
        and record.ready
        and record.statistics_at is not None
        and record.statistics_at.mono > stub.first_seen.mono
    )


def _older(stub: LiveStub, moment: Instant) -> bool:
    return stub.first_seen.mono <= moment.mono


def _counted(exits: dict[tuple[str, str], int], settled: Iterable[DeadStub]) -> dict[tuple[str, str], int]:
    counted = dict(exits)
    for each in settled:
        cause = _cause(each)
        if each.model is None and cause is ExitCause.UNLOAD:
            # An auto-complete stub that did its work.
            continue
        named = (_guess(each) if each.model is None else each.model.name, cause)
        counted[named] = counted.get(named, 0) + 1
    return counted


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
