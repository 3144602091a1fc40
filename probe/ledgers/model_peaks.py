"""What each model's own processes took at their highest; pure, and in memory only.

A model has processes of its own where it has stubs: of the python backend, vLLM, and whatever else is written in
python.  What the models inside tritonserver take is tritonserver's, and can not be told apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from probe.facts.instants import Instant
from probe.facts.models import ModelState, ModelVersion
from probe.facts.processes import ProcessId, ProcessReading
from probe.ledgers.levels import Level, Slot, risen
from probe.ledgers.lives import LiveStub
from probe.ledgers.models import ModelRecord, ModelsLedger
from probe.ledgers.stubs import StubsLedger

SPAN = 5.0
"""Seconds over which CPU time is laid to a model at least, as long as from one look at the container to the next."""
SETTLE = 10.0
"""Seconds after it became ready for which a model is still taken to load: what it took for that is given back late."""
LOADS_AT_MOST = 600.0
"""Seconds of loading after which the rest is taken to serve: one model that is stuck must not hide all others."""

_STIRRING = (ModelState.LOADING, ModelState.UNLOADING, ModelState.UNKNOWN)


class ModelPeaks(msgspec.Struct, frozen=True):
    """One model version; over reloads and restarts of Triton, until it is gone for good.

    ``memory``: bytes resident in its stubs and every process below them, added up, so that pages which they share
    count more than once.  ``shm``: bytes of its stubs' regions in ``/dev/shm``.  ``cores``: of all these processes,
    over 5 s or more.  ``gpus``: bytes on each GPU by UUID, at their highest.
    """

    memory: Level = Level()
    shm: Level = Level()
    cores: Level = Level()
    gpus: dict[str, int] = {}
    slot: Slot | None = None
    requests: int = 0

    @property
    def busy(self) -> bool:
        """Whether requests came to their end in the slot that is open."""
        return self.slot is not None and self.slot.busy

    def counted(self, moment: Instant, requests: int) -> ModelPeaks:
        """After a look while it served; ``requests`` came to their end by then."""
        busy = requests > self.requests
        slot = (self.slot or Slot(moment.mono)).with_look(busy=busy)
        if not slot.over(moment):
            return msgspec.structs.replace(self, slot=slot, requests=requests)
        return msgspec.structs.replace(
            self,
            memory=self.memory.closed(busy=slot.busy),
            shm=self.shm.closed(busy=slot.busy),
            cores=self.cores.closed(busy=slot.busy),
            slot=None,
            requests=requests,
        )


class ModelsPeaks(msgspec.Struct, frozen=True):
    """By model version.  ``loading`` are those that loaded at the last scan, ``stirred`` when the last one did.

    ``ticks`` and ``unsettled`` are the CPU ticks of every process at ``ticked``, and who loaded at a scan since.
    """

    records: dict[ModelVersion, ModelPeaks] = {}
    loading: frozenset[ModelVersion] = frozenset()
    stirred: float = float("-inf")
    ticks: dict[ProcessId, int] = {}
    ticked: Instant | None = None
    unsettled: frozenset[ModelVersion] = frozenset()
    waiting: dict[ProcessId, int] = {}
    """Bytes at their highest of each stub that nobody could lay to a model yet: Triton names none while it loads."""

    def without(self, gone: Iterable[ModelVersion]) -> ModelsPeaks:
        """Without these, which are gone for good."""
        names = frozenset(gone)
        return msgspec.structs.replace(
            self, records={key: each for key, each in self.records.items() if key not in names}
        )

    def with_scan(
        self, reading: ProcessReading, stubs: StubsLedger, models: ModelsLedger, informed: float
    ) -> ModelsPeaks:
        """After a scan.  What was seen to begin after the moment ``informed`` was seen to load."""
        moment = reading.observed
        trees: dict[ModelVersion, list[LiveStub]] = {}
        stirring, waiting = False, dict[ProcessId, int]()
        for live in stubs.live.values():
            if live.model is not None:
                trees.setdefault(live.model, []).append(live)
            elif not live.orphaned and live.first_seen.mono > informed:
                stirring = stirring or moment.mono - live.first_seen.mono < LOADS_AT_MOST
                own = live.stub.process.id
                waiting[own] = max(self.waiting.get(own, 0), _resident((live,)))
        records = dict(self.records)
        loading = set()
        for key, tree in trees.items():
            record = models.records.get(key)
            begins = record is None or is_loading(record, moment, informed)
            begins = begins or _beside(tree, record, stubs, moment, informed)
            if begins:
                loading.add(key)
            before = records.get(key) or ModelPeaks(requests=_requests(record))
            after = _taken(before, tree, loading=begins)
            if early := sum(self.waiting.get(live.stub.process.id, 0) for live in tree):
                after = msgspec.structs.replace(after, memory=after.memory.loading(early))
            records[key] = after if begins else after.counted(moment, _requests(record))
        after_scan = msgspec.structs.replace(
            self,
            records=records,
            loading=frozenset(loading),
            waiting=waiting,
            unsettled=self.unsettled | loading,
            stirred=moment.mono if stirring or loading else self.stirred,
        )
        return after_scan._ticked(reading, trees)  # noqa: SLF001

    def _ticked(self, reading: ProcessReading, trees: Mapping[ModelVersion, list[LiveStub]]) -> ModelsPeaks:
        seconds = None if self.ticked is None else reading.observed.mono - self.ticked.mono
        if seconds is not None and 0.0 <= seconds < SPAN:
            return self
        ticks = {
            process.id: process.cpu_ticks
            for tree in trees.values()
            for live in tree
            for process in (live.stub.process, *live.stub.descendants)
        }
        records = dict(self.records)
        for key, tree in trees.items() if seconds is not None and seconds > 0.0 else ():
            # A process that ended takes along what it did since the scan before.
            spent = sum(
                max(0, process.cpu_ticks - self.ticks.get(process.id, 0))
                for live in tree
                if self.ticked is not None and live.first_seen.mono <= self.ticked.mono
                for process in (live.stub.process, *live.stub.descendants)
            )
            cores = spent / reading.ticks_per_second / (seconds or SPAN)
            before = records[key]
            level = risen(before.cores, cores, loading=key in self.unsettled)
            if level is not before.cores:
                records[key] = msgspec.structs.replace(before, cores=level)
        return msgspec.structs.replace(
            self, records=records, ticks=ticks, ticked=reading.observed, unsettled=self.loading
        )

    def on_gpus(self, held: Mapping[ModelVersion, Mapping[str, int]]) -> ModelsPeaks:
        """After a look at the GPUs: bytes by UUID of each model's processes."""
        records = dict(self.records)
        for key, figures in held.items():
            before = records.get(key)
            if before is not None and any(size > before.gpus.get(uuid, 0) for uuid, size in figures.items()):
                records[key] = msgspec.structs.replace(before, gpus=highest(before.gpus, figures))
        return msgspec.structs.replace(self, records=records)


def highest(known: Mapping[str, int], figures: Mapping[str, int]) -> dict[str, int]:
    """Of each GPU the higher of both figures."""
    return {uuid: max(known.get(uuid, 0), figures.get(uuid, 0)) for uuid in (*known, *figures)}


def is_loading(record: ModelRecord, moment: Instant, informed: float) -> bool:
    """Whether Triton says that it loads or unloads, or it has done so just now."""
    if record.state in _STIRRING:
        return record.since is not None and moment.mono - record.since.mono < LOADS_AT_MOST
    ready = record.ready_since
    return ready is not None and ready.mono > informed and moment.mono - ready.mono < SETTLE


def _beside(
    tree: list[LiveStub], record: ModelRecord | None, stubs: StubsLedger, moment: Instant, informed: float
) -> bool:
    # A reload starts the new stubs beside the old ones, and Triton says nothing of it.
    began = (each.first_seen.mono for each in tree)
    if any(each > informed and moment.mono - each < SETTLE for each in began):
        return True
    expected = None if record is None else stubs.expected(record.key, record.config)
    youngest = max(each.first_seen.mono for each in tree)
    return expected is not None and len(tree) > expected and moment.mono - youngest < LOADS_AT_MOST


def _taken(before: ModelPeaks, tree: list[LiveStub], *, loading: bool) -> ModelPeaks:
    regions = [live.stub.shm_bytes for live in tree if live.stub.shm_bytes is not None]
    memory = risen(before.memory, _resident(tree), loading=loading)
    shm = risen(before.shm, sum(regions) if regions else None, loading=loading)
    if memory is before.memory and shm is before.shm:
        return before
    return msgspec.structs.replace(before, memory=memory, shm=shm)


def _resident(tree: Iterable[LiveStub]) -> int:
    return sum(process.rss_bytes for live in tree for process in (live.stub.process, *live.stub.descendants))


def _requests(record: ModelRecord | None) -> int:
    return 0 if record is None else record.traffic.success + record.traffic.failure
