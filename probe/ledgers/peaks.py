"""What Triton took at its highest, the container and each model, for a proposal of its size; pure, in memory only.

A model that is gone for good counts no more: where it held much, all figures begin anew, and only the highest of
the container's whole life stays known.  A Triton that restarts in its pod is the same one for this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from probe.facts.container import ContainerReading, OomCounts
from probe.facts.instants import Instant
from probe.facts.models import ModelState, ModelVersion
from probe.facts.nvml import NvmlReading
from probe.facts.placement import EvidenceMode
from probe.facts.processes import ProcessId, ProcessReading
from probe.ledgers.container_peaks import ContainerPeaks
from probe.ledgers.levels import SLOT_SECONDS
from probe.ledgers.model_peaks import SETTLE, ModelsPeaks, highest, is_loading
from probe.ledgers.models import ModelRecord, ModelsLedger
from probe.ledgers.server import ServerLedger
from probe.ledgers.stubs import StubsLedger

GONE_SECONDS = 600.0
"""Seconds after which a model that left is not taken to come back."""
MUCH = 0.1
"""What part of the container's memory a model must have held for all figures to begin anew without it."""
YOUNG = 5.0
"""Seconds: a tritonserver that was no older when the probe first saw it was watched from its start."""


class PeaksLedger(msgspec.Struct, frozen=True):
    """``since`` is when the figures begin, ``gone`` whose end made them begin anew.

    ``gpus`` are the bytes of Triton and everything below it on each GPU by UUID, ``earlier`` the requests of each
    model before the probe saw it.
    """

    container: ContainerPeaks = ContainerPeaks()
    models: ModelsPeaks = ModelsPeaks()
    gpus: dict[str, int] = {}
    since: Instant | None = None
    gone: tuple[str, ...] = ()
    earlier: dict[ModelVersion, int] | None = None
    requests: int | None = None
    informed: float = float("inf")
    """What is seen to begin after this moment is seen to load: what was there at the first poll loaded before."""
    present: frozenset[ModelVersion] = frozenset()
    left: dict[ModelVersion, float] = {}
    checked: float = float("-inf")

    def in_new_epoch(self) -> PeaksLedger:
        """At the start of an epoch: all figures go on, and nothing is known yet of who loads."""
        models = msgspec.structs.replace(self.models, ticked=None, ticks={})
        return msgspec.structs.replace(self, models=models, informed=float("inf"))

    def with_first_poll(self, server: ServerLedger, models: ModelsLedger) -> PeaksLedger:
        """After the first poll of an epoch that brought statistics."""
        told = max((each.counted_at.mono for each in models.records.values() if each.counted_at), default=0.0)
        if self.earlier is not None:
            return msgspec.structs.replace(self, informed=_informed(server, told))
        # Of a Triton that was watched from its start, all requests were seen.
        young = is_young(server)
        earlier = {} if young else {key: _requests(each) for key, each in models.records.items()}
        return msgspec.structs.replace(self, earlier=earlier, informed=_informed(server, told))

    def seen_requests(self, record: ModelRecord) -> int:
        """How many requests to this model came to their end while the probe watched."""
        return max(0, _requests(record) - (self.earlier or {}).get(record.key, 0))

    def with_scan(
        self, reading: ProcessReading, server: ServerLedger, stubs: StubsLedger, models: ModelsLedger
    ) -> PeaksLedger:
        """After a scan of processes, with what it told folded already."""
        informed = _informed(server, self.informed)
        if informed == float("inf"):
            return self
        scanned = self.models.with_scan(reading, stubs, models, informed)
        after = msgspec.structs.replace(self, models=scanned)
        if reading.observed.mono - self.checked < SLOT_SECONDS or not server.up or server.gone is not None:
            return after
        return after._without_the_gone(reading.observed, models)  # noqa: SLF001

    def _without_the_gone(self, moment: Instant, models: ModelsLedger) -> PeaksLedger:
        here = frozenset(
            key
            for key, each in models.records.items()
            if each.state is not ModelState.UNAVAILABLE and not _takes_nothing(each)
        )
        known = self.present | self.models.records.keys()
        left = {key: self.left.get(key, moment.mono) for key in known - here}
        for_good = frozenset(key for key, since in left.items() if moment.mono - since >= GONE_SECONDS)
        after = msgspec.structs.replace(
            self,
            present=(self.present | here) - for_good,
            left={key: since for key, since in left.items() if key not in for_good},
            checked=moment.mono,
        )
        if not for_good:
            return after
        # A version that another one replaced is no model that is gone.
        names = frozenset(key.name for key in for_good) - {key.name for key in here}
        much = any(key.name in names and self._held_much(key) for key in for_good)
        after = msgspec.structs.replace(after, models=self.models.without(for_good))
        return after._begun_anew(moment, names) if much else after  # noqa: SLF001

    def _held_much(self, key: ModelVersion) -> bool:
        # What a model inside tritonserver held nobody can tell: it may have been most of it.
        known, whole = self.models.records.get(key), self.container.memory.highest
        if known is None or whole is None:
            return True
        return (known.memory.highest or 0.0) >= MUCH * whole or bool(known.gpus)

    def _begun_anew(self, moment: Instant, names: Iterable[str]) -> PeaksLedger:
        return msgspec.structs.replace(
            self,
            container=self.container.begun_anew(),
            gpus={},
            since=moment,
            gone=tuple(sorted(names)),
        )

    def with_container(
        self, reading: ContainerReading, server: ServerLedger, models: ModelsLedger
    ) -> PeaksLedger:
        """After a look at the container; one at a Triton of which nothing is known yet teaches nothing."""
        informed = _informed(server, self.informed)
        if informed == float("inf") or server.gone is not None:
            return self
        requests, stirring = 0, not server.up
        for record in models.records.values():
            requests += _requests(record)
            stirring = stirring or is_loading(record, reading.observed, informed)
        last = self.container.last
        since = last.observed.mono if last is not None else reading.observed.mono - SETTLE
        container = self.container.with_look(
            reading,
            loading=stirring or self.models.stirred >= since,
            busy=self.requests is not None and requests > self.requests,
        )
        told = reading.observed if container.last is not None else None
        return msgspec.structs.replace(self, container=container, requests=requests, since=self.since or told)

    def with_oom(self, counts: OomCounts) -> PeaksLedger:
        """After the kernel told of a kill for want of memory."""
        return msgspec.structs.replace(self, container=self.container.with_oom(counts))

    def with_nvml(
        self,
        reading: NvmlReading,
        mode: EvidenceMode,
        processes: ProcessReading | None,
        stubs: StubsLedger,
        families: Mapping[ProcessId, frozenset[int]],
    ) -> PeaksLedger:
        """After a look at the GPUs, whose figures by process are believed in evidence mode ``full`` alone."""
        if mode is not EvidenceMode.FULL or processes is None or processes.server is None:
            return self
        on = _on_gpus(reading)
        total, held = dict(on.get(processes.server.process.id.pid, {})), dict[ModelVersion, dict[str, int]]()
        for live in stubs.live.values():
            pids = live.stub.pids | families.get(live.stub.process.id, frozenset())
            for pid in pids & on.keys():
                _add(total, on[pid])
                if live.model is not None:
                    _add(held.setdefault(live.model, {}), on[pid])
        return msgspec.structs.replace(
            self,
            gpus=highest(self.gpus, total),
            models=self.models.on_gpus(held) if held else self.models,
        )


def is_young(server: ServerLedger) -> bool:
    """Whether the probe saw this tritonserver from its start, so that it saw what it loaded."""
    if server.server is None or server.began is None:
        return False
    return server.began.wall - server.server.process.started_at <= YOUNG


def _informed(server: ServerLedger, polled: float) -> float:
    return float("-inf") if is_young(server) else polled


def _takes_nothing(record: ModelRecord) -> bool:
    return record.config is not None and record.config.ensemble


def _requests(record: ModelRecord) -> int:
    return record.traffic.success + record.traffic.failure


def _on_gpus(reading: NvmlReading) -> dict[int, dict[str, int]]:
    # A GPU in parts lists what its parts list.
    divided = {gpu.parent for gpu in reading.gpus}
    found: dict[int, dict[str, int]] = {}
    for gpu in reading.gpus:
        for each in gpu.processes or () if gpu.uuid not in divided else ():
            if each.used_bytes:
                found.setdefault(each.pid, {})[gpu.uuid] = each.used_bytes
    return found


def _add(total: dict[str, int], figures: Mapping[str, int]) -> None:
    for uuid, size in figures.items():
        total[uuid] = total.get(uuid, 0) + size
