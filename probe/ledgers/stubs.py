"""Stub processes over time: who lives, who died, of which model, and whether that was a death."""

from __future__ import annotations

from collections.abc import Container
from functools import cached_property

import msgspec

from probe.facts.instants import Instant
from probe.facts.models import ModelConfig, ModelState, ModelVersion
from probe.facts.processes import (
    Exit,
    ProcessId,
    ProcessReading,
)
from probe.ledgers.deaths import DeadStub, counted, counting, explained, in_doubt, succeeds, violent
from probe.ledgers.lives import LiveStub, by_instance, has_served, named, older, seen
from probe.ledgers.models import ModelRecord, ModelsLedger
from probe.ledgers.ownership import copies, group_of

SHARES = 10
"""Successes in a row for each instance that show that no dead one is asked: a share is missed once in 22,000."""


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
        for each in sorted(self.live.values(), key=by_instance):
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
            process: self._death(gone, Exit(process, reading.observed), models, running)
            for process, gone in self.live.items()
            if process not in running
        }
        dead += (each for process, each in ended.items() if not self.live[process].retired)
        zombies = {each.process.id for each in reading.stubs if each.process.gone}
        dead = [msgspec.structs.replace(each, unreaped=each.id in zombies) for each in dead]
        late = [each for process, each in ended.items() if self.live[process].retired]
        begun = reading.server.process.id.start_ticks if reading.server is not None else 0
        live = {
            process: seen(self.live.get(process), stub, reading.observed, models, begun)
            for process, stub in running.items()
            if process not in known_dead
        }
        exits = counted(self.exits, late)
        scanned = StubsLedger(live=live, dead=tuple(dead), exits=exits, scanned=reading.observed)
        return scanned.with_models(models)

    def with_exit(self, event: Exit, models: ModelsLedger) -> StubsLedger:
        """After the kernel told of an exit."""
        gone = self.live.get(event.id)
        if gone is None:
            # A scan found it gone first; how it ended only the kernel tells.
            return self.told(event)
        live = {process: each for process, each in self.live.items() if process != event.id}
        death = self._death(named(gone, models), event, models, live)
        if gone.retired:
            return msgspec.structs.replace(self, live=live, exits=counted(self.exits, [death]))
        return msgspec.structs.replace(self, live=live, dead=(*self.dead, death))

    def _death(
        self, gone: LiveStub, event: Exit, models: ModelsLedger, left: Container[ProcessId]
    ) -> DeadStub:
        name = gone.stub.arguments.name
        record = models.records.get(gone.model) if gone.model is not None else None
        newcomer = False
        if record is not None and record.ready_since is not None:
            # Where a reload fails, the load before it goes on: of a load that took over, the counters tell.
            elder = sum(
                each.stub.process.id in left
                and each.stub.arguments.name == name
                and each.first_seen.mono < gone.first_seen.mono
                for each in self.of(record.key)
            )
            began = gone.first_seen.mono > record.ready_since.mono
            newcomer = began and elder >= copies(name, record.config)
        return DeadStub(event.id, gone.model, name, event, gone.stub, newcomer=newcomer)

    def told(self, event: Exit) -> StubsLedger:
        """After more was learned of an exit: how it ended, or what the count of OOM kills did."""
        dead = tuple(explained(each, event) for each in self.dead)
        return msgspec.structs.replace(self, dead=dead)

    def with_models(self, models: ModelsLedger) -> StubsLedger:
        """After more was learned of the models: stubs find their models, exits their meaning."""
        live = {process: named(each, models) for process, each in self.live.items()}
        told = tuple(each.id for each in self.dead if not each.believed and self._confirmed(each, models))
        dead = tuple(counting(each, models) for each in self.dead)
        after = msgspec.structs.replace(self, live=live, dead=dead)
        return after.believing(*told).retiring(models).settled(models)

    def taken_over(self, name: str, moment: Instant, models: ModelsLedger) -> StubsLedger:
        """After a load of this model that began then has ended well: who had died by then served another."""
        dead = tuple(
            msgspec.structs.replace(each, superseded=True)
            if each.model is not None and each.model.name == name and each.exit.observed.mono <= moment.mono
            else each
            for each in self.dead
        )
        return msgspec.structs.replace(self, dead=dead).retiring(models).settled(models)

    @property
    def succession(self) -> Instant | None:
        """When the youngest stub was first seen that stands beside a dead one of its name, None without any."""
        dead = {(each.model, each.instance) for each in self.dead}
        beside = (
            each.first_seen
            for each in self.live.values()
            if not each.retired and (each.model, each.stub.arguments.name) in dead
        )
        return max(beside, default=None)

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
        # One that ended quietly and has one of its name again may have been taken out, and another put in.
        wounds = [
            each for each in newly if not each.newcomer and (violent(each) or not self._succeeded(each))
        ]
        live = {
            process: msgspec.structs.replace(each, wounded=True)
            if any(death.model == each.model and older(each, death.exit.observed) for death in wounds)
            else each
            for process, each in self.live.items()
        }
        return msgspec.structs.replace(self, live=live, dead=dead, exits=counted(self.exits, newly))

    def _succeeded(self, death: DeadStub) -> bool:
        return any(
            each.stub.arguments.name == death.instance and not older(each, death.exit.observed)
            for each in self.live.values()
            if each.model == death.model and not each.retired
        )

    def retiring(self, models: ModelsLedger) -> StubsLedger:
        """With the stubs of ended loads told apart from those of the present one."""
        live = {
            process: msgspec.structs.replace(
                each,
                served=each.served or has_served(each, models),
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
        if not stub.wounded:
            return False
        # A reload between two looks: after a death the whole load is replaced, and this is what is left.
        name = stub.stub.arguments.name
        younger = [
            each.stub.arguments.name
            for each in self.live.values()
            if each.model == stub.model and each.first_seen.mono > stub.first_seen.mono
        ]
        # Every load numbers its instances from 0; one that is only added in place comes after those that stay.
        if f"{group_of(name)}_0" not in younger:
            return False
        replaced = younger.count(name) >= copies(name, record.config if record is not None else None)
        return replaced and not any(self.lasts(each, record) for each in self.dead)

    def settled(self, models: ModelsLedger) -> StubsLedger:
        """Without the dead that mean nothing any more: unloaded, replaced, or never an instance."""
        kept = tuple(each for each in self.dead if self._means_something(each, models))
        unloaded = [each for each in self.dead if each not in kept and not each.believed]
        return msgspec.structs.replace(self, dead=kept, exits=counted(self.exits, unloaded))

    def _confirmed(self, death: DeadStub, models: ModelsLedger) -> bool:
        # Triton has the model loaded at a later moment, and a later scan shows who is left: a reload
        # starts the new stubs first and never says that the model is not ready.
        record = models.records.get(death.model) if death.model is not None else None
        if record is None or not record.ready or record.statistics_at is None or self.scanned is None:
            return False
        # Of a load that became ready only after the exit, a scan from before it may have seen no stub yet.
        ready = record.ready_since.mono if record.ready_since is not None else 0.0
        exited = death.exit.observed.mono
        return (
            record.statistics_at.mono > exited
            and self.scanned.mono >= max(exited, ready)
            and not in_doubt(death, record)
            and not self._surplus(death, record)
        )

    def _surplus(self, death: DeadStub, record: ModelRecord) -> bool:
        # It ended quietly, nobody took its place, and all that the configuration calls for are there.
        serving = self.of(record.key)
        expected = self.expected(record.key, record.config)
        return (
            not violent(death)
            and expected is not None
            and len(serving) >= expected
            and all(each.stub.arguments.name != death.instance for each in serving)
        )

    def lasts(self, death: DeadStub, record: ModelRecord | None) -> bool:
        """Whether a death stands although stubs of its name live: they belong to a load that serves nobody yet.

        Nothing that Triton says tells when a reload takes over but counters that begin anew.  Beside them, it
        then reaps the old load's dead, unless one had failed a request (release 24.10); and requests that all
        succeed, so many that the dead one must have had its share, are served by others.
        """
        if record is None or death.model != record.key or not violent(death):
            return False
        if death.superseded or death.newcomer:
            return False
        if record.ready_since is not None and record.ready_since.mono > death.exit.observed.mono:
            return False
        enough = SHARES * (self.expected(record.key, record.config) or 1)
        clean = death.clean_since is not None and record.traffic.success - death.succeeded >= enough
        if clean or self._answered(death, record):
            return False
        unseen = self.scanned is None or self.scanned.mono <= death.exit.observed.mono
        return death.unreaped or unseen

    def _answered(self, death: DeadStub, record: ModelRecord) -> bool:
        # An unload waits for ever for a stub that died and then failed a request, and never reaps it.  Where no
        # counter fell, for none had risen, an answer still tells of the new load: none of the old one is left.
        served = record.others.served_since
        if served is None or served.mono <= death.exit.observed.mono:
            return False
        return not any(older(each, death.exit.observed) for each in self.of(record.key))

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
        if self.lasts(death, record):
            return True
        serving = self.of(death.model)
        expected = self.expected(death.model, record.config)
        if expected is not None and len(serving) >= expected:
            # All are there: it was replaced, or it was one too many.
            return False
        same = sum(each.stub.arguments.name == death.instance for each in serving)
        # Who died in its place was there after it: then this one was its predecessor, that a reload ended.
        same += sum(succeeds(each, death) for each in self.dead)
        return same < copies(death.instance, record.config)

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
