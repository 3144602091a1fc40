"""What happened to each GPU: the Xids that the driver reported, and its health from look to look."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from probe.facts import recoveries
from probe.facts.instants import Instant
from probe.facts.nvml import NvmlReading, NvmlState, Xid
from probe.facts.xids import FELL_OFF_THE_BUS, meaning
from probe.ledgers.gpu_records import Clients, GpuRecord, seen
from probe.ledgers.hurts import AFTER, Hurt, Incident, first_around

LASTING = 3600.0
"""Seconds for which something grave stands that nobody can ask about any more: long enough for whoever was called
to come, and not for ever on a GPU that may long have been repaired."""

SETTLED = 60.0
"""Seconds after which the driver's recovery action is taken for its last word on an Xid."""


class XidRecord(msgspec.Struct, frozen=True):
    """One code on one GPU: how often, when first and last, and what was known of us at the last.

    ``elsewhere``: it was on a MIG instance that is not shown here.  ``own`` and ``shared`` are the GPU's at that
    moment.  ``hurt`` is the first thing of ours that broke around it; it is kept for hardware's codes alone.
    """

    count: int
    first: Instant
    last: Instant
    elsewhere: bool = False
    own: bool | None = None
    shared: bool | None = None
    hurt: Hurt | None = None


class GpusLedger(msgspec.Struct, frozen=True):
    """By UUID: Xids by code, and the GPU itself.  Kept over epochs: a restarted tritonserver gets the same GPU."""

    xids: dict[str, dict[int, XidRecord]] = {}
    records: dict[str, GpuRecord] = {}

    def of(self, uuid: str) -> dict[int, XidRecord]:
        """The Xids of one GPU by code."""
        return self.xids.get(uuid, {})

    def parts(self, uuid: str) -> tuple[GpuRecord, ...]:
        """The MIG devices of this GPU that are shown here."""
        return tuple(each for each in self.records.values() if each.gpu.parent == uuid)

    def whole(self, uuid: str) -> GpuRecord | None:
        """The GPU itself, for a MIG device the one that it is part of; None where it was never shown."""
        record = self.records.get(uuid)
        parent = record.gpu.parent if record is not None else None
        return self.records.get(parent, record) if parent is not None else record

    def forgotten(self) -> GpusLedger:
        """At the start of an epoch."""
        records = {uuid: each.forgotten() for uuid, each in self.records.items()}
        return msgspec.structs.replace(self, records=records)

    def identified(self, reading: NvmlReading) -> NvmlReading:
        """The same look, with the name of a GPU that goes by its index where it can only be one.

        A helper that was begun anew beside a lost GPU was never told its UUID, and this GPU is missing instead.
        """
        listed = {gpu.uuid for gpu in reading.gpus}
        missing = [
            each.gpu
            for uuid, each in self.records.items()
            if uuid not in listed and each.gone_since is None and each.gpu.parent is None and each.gpu.named
        ]
        if len(missing) != 1 or sum(not gpu.named for gpu in reading.gpus) != 1:
            return reading
        (it,) = missing
        return msgspec.structs.replace(
            reading,
            gpus=tuple(
                gpu if gpu.named else msgspec.structs.replace(gpu, uuid=it.uuid, name=it.name, minor=it.minor)
                for gpu in reading.gpus
            ),
        )

    def with_look(self, reading: NvmlReading, clients: Clients) -> GpusLedger:
        """After a look at NVML.  One that failed tells nothing of any GPU."""
        if reading.state is not NvmlState.OK:
            return self
        listed = {gpu.uuid: seen(self.records.get(gpu.uuid), gpu, reading, clients) for gpu in reading.gpus}
        gone = {
            uuid: each.missing(reading.observed) for uuid, each in self.records.items() if uuid not in listed
        }
        records = {uuid: self._fallen(uuid, each) for uuid, each in {**gone, **listed}.items()}
        return msgspec.structs.replace(
            self, records={uuid: each for uuid, each in records.items() if _kept(each)}
        )

    def _fallen(self, uuid: str, record: GpuRecord) -> GpuRecord:
        # NVML calls a GPU lost that it still holds; after a driver's restart it is only missing.
        if record.gpu.error is None and record.gone_since is None:
            return record
        fell = self.of(uuid).get(FELL_OFF_THE_BUS)
        answered = record.answered
        if fell is None or (answered is not None and fell.last.mono < answered.mono):
            return record
        return record.fallen(fell.last)

    def before(self, event: Xid) -> XidRecord | None:
        """What is known of this code on the GPU, or on the MIG device, that this Xid is of."""
        return self.of(self._device(event)).get(event.code)

    def with_xid(self, event: Xid) -> GpusLedger:
        """After the driver reported one."""
        uuid = self._device(event)
        codes, record = self.of(uuid), self.records.get(uuid)
        before = codes.get(event.code)
        after = XidRecord(
            count=before.count + 1 if before is not None else 1,
            first=before.first if before is not None else event.observed,
            last=event.observed,
            elsewhere=event.gpu_instance is not None and (record is None or not record.gpu.mig),
            own=record.own if record is not None else None,
            shared=record.shared if record is not None else None,
            hurt=before.hurt if before is not None and not self._over(uuid, before, event.observed) else None,
        )
        return msgspec.structs.replace(self, xids={**self.xids, uuid: {**codes, event.code: after}})

    def _device(self, event: Xid) -> str:
        # An Xid of a MIG instance is that device's alone.
        if event.gpu_instance is None:
            return event.uuid
        inside = [each.gpu for each in self.parts(event.uuid) if each.gpu.gpu_instance == event.gpu_instance]
        # Compute instances share the memory of their GPU instance.
        inside.sort(key=lambda gpu: gpu.compute_instance != event.compute_instance)
        return inside[0].uuid if inside else event.uuid

    def _over(self, uuid: str, record: XidRecord, now: Instant) -> bool:
        if self.asked_since(uuid, record.last) == recoveries.NONE:
            return True
        return now.mono - record.last.mono > LASTING or self.renewed_since(uuid, record.last)

    def asked_since(self, uuid: str, moment: Instant) -> str | None:
        """Which recovery the driver asked for after an Xid of this moment; None where it did not say, or not yet."""
        whole = self.whole(uuid)
        if whole is None:
            return None
        if whole.needs is not None:
            return whole.needs
        settled = whole.answered is not None and whole.answered.mono - moment.mono >= SETTLED
        return whole.gpu.recovery_action if settled and whole.lost_since is None else None

    def renewed_since(self, uuid: str, moment: Instant) -> bool:
        """Whether the GPU was seen to have recovered after this moment."""
        whole = self.whole(uuid)
        return whole is not None and whole.renewed is not None and whole.renewed.mono > moment.mono

    def hurting(self, incidents: Callable[[], Iterable[Incident]]) -> GpusLedger:
        """After something was learned of our processes and models: what of it belongs to an Xid of the hardware."""
        if not self.unexplained:
            return self
        found = tuple(incidents())
        xids = dict(self.xids)
        for uuid, code in self.unexplained:
            record, gpu = xids[uuid][code], self.records.get(uuid)
            hurt = first_around(record.last, gpu.pids if gpu is not None else None, found)
            if hurt is not None:
                xids[uuid] = {**xids[uuid], code: msgspec.structs.replace(record, hurt=hurt)}
        return self if xids == self.xids else msgspec.structs.replace(self, xids=xids)

    @property
    def unexplained(self) -> tuple[tuple[str, int], ...]:
        """GPU and code of every recent Xid of the hardware around which nothing of ours is known to have broken."""
        return tuple(
            (uuid, code)
            for uuid, codes in self.xids.items()
            for code, each in codes.items()
            if each.hurt is None and meaning(code).kind.hardware and self._recent(uuid, each)
        )

    def _recent(self, uuid: str, record: XidRecord) -> bool:
        # What began to fail within the time around it may take as long again to show.
        gpu = self.records.get(uuid)
        return gpu is None or gpu.told.mono - record.last.mono <= 2 * AFTER


def _kept(record: GpuRecord) -> bool:
    since = record.gone_since
    if since is None:
        return True
    if not record.gpu.named:
        return False  # it is listed by its UUID now, or nobody will ever know which GPU it was
    # What is no longer listed and was not lost was taken from us, or partitioned anew.
    return record.lost_since is not None or record.told.mono - since.mono <= LASTING
