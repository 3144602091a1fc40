"""The book of everything known now: one frozen record, one fold for each kind of reading."""

from __future__ import annotations

import msgspec

from probe.facts.canaries import CanaryOrder, CanaryOutcome, CanaryResult
from probe.facts.container import ContainerReading
from probe.facts.instants import Instant
from probe.facts.models import ModelVersion
from probe.facts.nvml import NvmlReading
from probe.facts.processes import Exit, ProcessId, ProcessReading
from probe.facts.triton import InquiryReading, TritonReading
from probe.ledgers.activity import Activity
from probe.ledgers.canaries import CanariesLedger
from probe.ledgers.evidence import EvidenceLedger
from probe.ledgers.models import ModelsLedger
from probe.ledgers.server import ServerLedger
from probe.ledgers.stubs import StubsLedger


class Book(msgspec.Struct, frozen=True):
    """All ledgers, folded in step.  ``container`` is the last look at Triton's container."""

    server: ServerLedger = ServerLedger()
    models: ModelsLedger = ModelsLedger()
    stubs: StubsLedger = StubsLedger()
    activity: Activity = Activity()
    canaries: CanariesLedger = CanariesLedger()
    evidence: EvidenceLedger = EvidenceLedger()
    processes: ProcessReading | None = None
    container: ContainerReading | None = None

    def with_processes(self, reading: ProcessReading) -> Book:
        """After a scan of processes."""
        book = self._turned(self.server.with_processes(reading))
        stubs = book.stubs.with_scan(reading, book.models)
        activity = book.activity.with_scan(reading)
        return _of_this_load(msgspec.structs.replace(book, stubs=stubs, activity=activity, processes=reading))

    def with_exit(self, event: Exit) -> Book:
        """After the kernel told of an exit."""
        server = self.server.with_exit(event)
        stubs = self.stubs.with_exit(event, self.models)
        return msgspec.structs.replace(self, server=server, stubs=stubs)

    def with_poll(self, reading: TritonReading) -> Book:
        """After a poll of Triton.  What a dead or earlier server answered teaches nothing of its models."""
        book = self._turned(self.server.with_poll(reading))
        if book.server.last is not reading or book.server.gone is not None:
            return book
        models = book.models.with_poll(reading)
        return _of_this_load(
            msgspec.structs.replace(book, models=models, stubs=book.stubs.with_models(models))
        )

    def with_answers(self, reading: InquiryReading) -> Book:
        """After an inquiry."""
        began = self.server.began
        if self.server.gone is not None or (began is not None and reading.observed.mono < began.mono):
            return self
        models = self.models.with_answers(reading)
        return msgspec.structs.replace(self, models=models, stubs=self.stubs.with_models(models))

    def with_models(self, models: ModelsLedger) -> Book:
        """After single models were asked about."""
        return _of_this_load(
            msgspec.structs.replace(self, models=models, stubs=self.stubs.with_models(models))
        )

    def believing(self, *exited: ProcessId) -> Book:
        """After Triton had its time to explain these exits."""
        stubs = self.stubs.believing(*exited).settled(self.models)
        return msgspec.structs.replace(self, stubs=stubs)

    def sending(self, order: CanaryOrder) -> Book:
        """While this canary is out: what Triton counts for it is nobody's traffic."""
        return msgspec.structs.replace(self, models=self.models.sending(order.key, order.touches))

    def with_canary(self, result: CanaryResult) -> Book:
        """After a canary came to its end."""
        models = self.models.canary_ended(result.key, result.outcome, result.ended)
        canaries = self.canaries.with_result(result)
        return _of_this_load(msgspec.structs.replace(self, models=models, canaries=canaries))

    def without_canary(self, key: ModelVersion, now: Instant) -> Book:
        """After a canary of which nobody can tell whether the model or the way to it failed."""
        models = self.models.canary_ended(key, CanaryOutcome.UNSENDABLE, now)
        return msgspec.structs.replace(self, models=models, canaries=self.canaries.postponing(key, now))

    def with_nvml(self, reading: NvmlReading, patience: float) -> Book:
        """After a look at NVML."""
        evidence = self.evidence.with_look(reading, self.processes, self.models, patience)
        return msgspec.structs.replace(self, evidence=evidence)

    def with_container(self, reading: ContainerReading) -> Book:
        """After a look at the container."""
        return msgspec.structs.replace(self, container=reading)

    def _turned(self, server: ServerLedger) -> Book:
        # A new epoch drops every verdict about the old server; counters go on.
        if self.server.epoch in (0, server.epoch):
            return msgspec.structs.replace(self, server=server)
        return msgspec.structs.replace(
            self,
            server=server,
            models=self.models.forgotten(),
            stubs=self.stubs.forgotten(),
            canaries=self.canaries.forgotten(),
            evidence=self.evidence.forgotten(),
            container=None,
        )


def age(now: Instant, then: Instant | None) -> float | None:
    """Seconds since then, or None where it never was."""
    return None if then is None else max(0.0, now.mono - then.mono)


def _of_this_load(book: Book) -> Book:
    # Canaries say nothing of a model that was loaded since.
    known = book.canaries.records.keys() | book.canaries.postponed.keys()
    kept = frozenset(key for key in known if not _loaded_since(book, key))
    return msgspec.structs.replace(book, canaries=book.canaries.only(kept)) if known != kept else book


def _loaded_since(book: Book, key: ModelVersion) -> bool:
    record = book.models.records.get(key)
    if record is None:
        return False
    if record.ready_since is None:
        return True
    canary = book.canaries.of(key)
    if canary is None:
        return False
    # A load that was never asked anything leaves no counter that falls: its new stubs tell.
    return record.ready_since.mono > canary.last.sent.mono or any(
        each.first_seen.mono > canary.last.ended.mono for each in book.stubs.of(key)
    )
