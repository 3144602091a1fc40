"""The book of everything known now: one frozen record, one fold for each kind of reading."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from probe.facts.canaries import CanaryOrder, CanaryOutcome, CanaryResult
from probe.facts.container import ContainerReading, OomCounts, ShmLevel
from probe.facts.instants import Instant
from probe.facts.models import ModelVersion
from probe.facts.nvml import NvmlReading, NvmlState, Xid
from probe.facts.processes import Exit, ProcessId, ProcessReading
from probe.facts.triton import InquiryReading, TritonReading
from probe.ledgers import mourning
from probe.ledgers.activity import Activity
from probe.ledgers.canaries import CanariesLedger
from probe.ledgers.evidence import EvidenceLedger
from probe.ledgers.exercise import ExerciseLedger
from probe.ledgers.exertion import ExertionLedger
from probe.ledgers.families import FamiliesLedger
from probe.ledgers.footprints import footprint
from probe.ledgers.gpu_records import Clients
from probe.ledgers.gpus import GpusLedger
from probe.ledgers.growth import GrowthLedger
from probe.ledgers.hurts import incidents
from probe.ledgers.kills import Count, KillsLedger
from probe.ledgers.models import ModelsLedger
from probe.ledgers.obituaries import ObituariesLedger, Obituary
from probe.ledgers.orphans import OrphansLedger
from probe.ledgers.peaks import PeaksLedger
from probe.ledgers.scenes import ScenesLedger
from probe.ledgers.server import ServerLedger
from probe.ledgers.shm import ShmLedger
from probe.ledgers.strain import StrainLedger
from probe.ledgers.stretches import is_inside, stretch_of
from probe.ledgers.stubs import StubsLedger
from probe.ledgers.workers import WorkersLedger


class Book(msgspec.Struct, frozen=True):
    """All ledgers, folded in step.  ``container`` is the last look at Triton's container."""

    server: ServerLedger = ServerLedger()
    models: ModelsLedger = ModelsLedger()
    stubs: StubsLedger = StubsLedger()
    activity: Activity = Activity()
    exercise: ExerciseLedger = ExerciseLedger()
    families: FamiliesLedger = FamiliesLedger()
    workers: WorkersLedger = WorkersLedger()
    orphans: OrphansLedger = OrphansLedger()
    kills: KillsLedger = KillsLedger()
    scenes: ScenesLedger = ScenesLedger()
    obituaries: ObituariesLedger = ObituariesLedger()
    shm: ShmLedger = ShmLedger()
    canaries: CanariesLedger = CanariesLedger()
    evidence: EvidenceLedger = EvidenceLedger()
    gpus: GpusLedger = GpusLedger()
    growth: GrowthLedger = GrowthLedger()
    exertion: ExertionLedger = ExertionLedger()
    peaks: PeaksLedger = PeaksLedger()
    processes: ProcessReading | None = None
    container: ContainerReading | None = None
    strain: StrainLedger = StrainLedger()

    def with_processes(self, reading: ProcessReading) -> Book:
        """After a scan of processes."""
        missing = tuple(mourning.missing(reading, self.server, self.stubs))
        book = self._turned(self.server.with_processes(reading), missing)
        stubs = book.stubs.with_scan(reading, book.models)
        families = book.families.with_scan(reading, stubs, book.models)
        workers = book.workers.with_scan(reading.observed, families, stubs).settled(stubs, book.models)
        before = _exits(self.stubs, self.workers)
        exertion = book.exertion
        if reading.server is not None and reading.server.process.id == book.server.process:
            exertion = exertion.with_scan(reading.server.process, reading.observed, reading.ticks_per_second)
        after = msgspec.structs.replace(
            book,
            stubs=stubs,
            families=families,
            workers=workers,
            orphans=book.orphans.with_scan(reading, families),
            shm=book.shm.with_scan(reading, book.models),
            activity=book.activity.with_scan(reading),
            exertion=exertion,
            peaks=book.peaks.with_scan(reading, book.server, stubs, book.models),
            processes=reading,
            # An earlier epoch's are mourned already, and known.
            obituaries=book._mourning(*missing).obituaries.with_scan(reading),  # noqa: SLF001
        )
        missed = {process: each for process, each in _exits(stubs, workers).items() if process not in before}
        if book.server.epoch == self.server.epoch:
            missed.update({each.id: each.exit for each in missing if each.id not in before})
        lost = (
            mourning.of_worker(each.last, each.exit, book.server.epoch)
            for each in workers.dead
            if each.exit.id in missed
        )
        return _hurting(_of_this_load(after._mourning(*lost)._counting(*missed.values())))  # noqa: SLF001

    def with_exit(self, event: Exit) -> Book:
        """After the kernel told of an exit."""
        server = self.server.with_exit(event)
        stubs = self.stubs.with_exit(event, self.models)
        member = self.families.known(event.id)
        workers = self.workers.told(event)
        if member is not None:
            workers = workers.with_exit(event, member, stubs)
        after = msgspec.structs.replace(
            self,
            server=server,
            stubs=stubs,
            families=self.families.with_exit(event),
            workers=workers.settled(stubs, self.models),
        )
        if member is None and not self._known(event.id):
            return _hurting(after)
        death = mourning.told(event, self.server, self.stubs, self.families, workers)
        mourned = after if death is None else after._mourning(death)  # noqa: SLF001
        return _hurting(mourned._counting(event))  # noqa: SLF001

    def _known(self, process: ProcessId) -> bool:
        # Whether it is one of ours, that lives or that a scan found gone.
        return (
            process in self.stubs.live
            or process == self.server.process
            or self.obituaries.of(process) is not None
        )

    def _mourning(self, *deaths: Obituary) -> Book:
        return msgspec.structs.replace(self, obituaries=self.obituaries.mourning(*deaths, scenes=self.scenes))

    def _counting(self, *exits: Exit) -> Book:
        # What the count of OOM kills says of these exits, as far as it was read.
        kills, told = self.kills, list[Exit]()
        for each in exits:
            kills, explained = kills.with_exit(each)
            told.extend(explained)
        return self._explained(kills, told)

    def _explained(self, kills: KillsLedger, exits: Collection[Exit]) -> Book:
        stubs, workers = self.stubs, self.workers
        for each in exits:
            stubs, workers = stubs.told(each), workers.told(each)
        obituaries = self.obituaries.told(exits, self.scenes)
        return msgspec.structs.replace(self, kills=kills, stubs=stubs, workers=workers, obituaries=obituaries)

    def with_poll(self, reading: TritonReading) -> Book:
        """After a poll of Triton.  What a dead or earlier server answered teaches nothing of its models."""
        book = self._turned(self.server.with_poll(reading))
        if book.server.last is not reading or book.server.gone is not None:
            return book
        after = book._stretched(book.models.with_poll(reading), reading)  # noqa: SLF001
        if book.models.statistics_at is not None or after.models.statistics_at is None:
            return after
        peaks = after.peaks.with_first_poll(after.server, after.models)
        return msgspec.structs.replace(after, peaks=peaks)

    def _stretched(self, models: ModelsLedger, reading: TritonReading) -> Book:
        # What the models inside tritonserver did since the poll before; those outside have stubs.
        outside = frozenset(each.model for each in self.stubs.live.values() if each.model is not None)
        stretch = stretch_of(self.models, models, reading, outside)
        after = self.with_models(models)
        if stretch is None:
            return after
        growth = self.growth.with_stretch(stretch, models, lambda each: is_inside(each, outside))
        exertion = self.exertion.with_stretch(stretch)
        return msgspec.structs.replace(after, growth=growth, exertion=exertion)

    def with_answers(self, reading: InquiryReading) -> Book:
        """After an inquiry."""
        began = self.server.began
        if self.server.gone is not None or (began is not None and reading.observed.mono < began.mono):
            return self
        return self.with_models(self.models.with_answers(reading))

    def with_models(self, models: ModelsLedger) -> Book:
        """After more was learned of models."""
        stubs = self.stubs.with_models(models)
        workers = self.workers.settled(stubs, models)
        exercise = self.exercise.with_models(models, stubs)
        after = msgspec.structs.replace(self, models=models, stubs=stubs, workers=workers, exercise=exercise)
        return _hurting(_of_this_load(after))

    def believing(self, *exited: ProcessId) -> Book:
        """After Triton had its time to explain these exits."""
        stubs = self.stubs.believing(*exited).settled(self.models)
        return msgspec.structs.replace(self, stubs=stubs)

    def with_word(self, name: str, versions: Iterable[ModelVersion], observed: Instant) -> Book:
        """After Triton said which versions of a model it had loaded at this moment, asked for a worker's exit."""
        workers = self.workers.with_word(name, versions, observed)
        return msgspec.structs.replace(self, workers=workers.settled(self.stubs, self.models))

    def taken_over(self, name: str, moment: Instant) -> Book:
        """After a load of this model that began then has ended well, and brought processes of its own."""
        stubs = self.stubs.taken_over(name, moment, self.models)
        workers = self.workers.settled(stubs, self.models)
        return msgspec.structs.replace(self, stubs=stubs, workers=workers)

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
        reading = self.gpus.identified(reading)
        evidence = self.evidence.with_look(reading, self.processes, self.models, patience)
        server = self.server.process if self.server.gone is None else None
        mode = evidence.evidence.mode
        shown = footprint(reading, mode, server.pid if server is not None else None)
        peaks = self.peaks
        if reading.state is NvmlState.OK:
            peaks = peaks.with_nvml(reading, mode, self.processes, self.stubs, self.families.pids)
        return msgspec.structs.replace(
            self,
            evidence=evidence,
            gpus=self.gpus.with_look(reading, Clients.of(self.processes, evidence.evidence)),
            growth=self.growth.with_look(shown),
            exertion=self.exertion.with_look(shown),
            peaks=peaks,
        )

    def with_xid(self, event: Xid) -> Book:
        """After the driver reported an Xid."""
        return _hurting(msgspec.structs.replace(self, gpus=self.gpus.with_xid(event)))

    def with_container(self, reading: ContainerReading) -> Book:
        """After a look at the container; its count of OOM kills may explain exits."""
        if self._void(reading.observed):
            return self
        kills, told = self.kills.with_reading(reading, self.scenes.before(reading.observed))
        scenes = self.scenes.with_reading(reading)
        after = msgspec.structs.replace(
            self,
            container=reading,
            scenes=scenes,
            shm=self.shm.with_look(reading),
            strain=self.strain.with_reading(reading),
            peaks=self.peaks.with_container(reading, self.server, self.models),
        )
        after = after._explained(kills, told)  # noqa: SLF001
        if scenes is self.scenes:
            return after
        obituaries = after.obituaries.with_scene(scenes.looks[-1], self.server.epoch)
        return msgspec.structs.replace(after, obituaries=obituaries)

    def with_shm(self, level: ShmLevel) -> Book:
        """After the kernel told that something changed in Triton's ``/dev/shm``."""
        return msgspec.structs.replace(self, shm=self.shm.with_level(level))

    def with_oom(self, counts: OomCounts) -> Book:
        """After the kernel told that Triton's container lost a process for want of memory."""
        if self._void(counts.observed):
            return self
        count = Count(counts.observed, counts.path, counts.kills, counts.group_kills)
        kills, told = self.kills.with_count(count, self.scenes.before(counts.observed), told=True)
        peaks = self.peaks.with_oom(counts)
        return msgspec.structs.replace(self, kills=kills, peaks=peaks)._explained(kills, told)  # noqa: SLF001

    def _void(self, observed: Instant) -> bool:
        # What was read of the container before this tritonserver began was another one's.
        server = self.server
        return server.process is not None and server.began is not None and observed.mono < server.began.mono

    def _turned(self, server: ServerLedger, missing: tuple[Obituary, ...] = ()) -> Book:
        # A new epoch drops every verdict about the old server; counters go on, and so does the memory of deaths.
        if self.server.epoch in (0, server.epoch):
            return msgspec.structs.replace(self, server=server)
        last = self._mourning(*missing)._counting(*(each.exit for each in missing))  # noqa: SLF001
        return msgspec.structs.replace(
            last,
            server=server,
            models=self.models.forgotten(),
            stubs=self.stubs.forgotten(),
            workers=WorkersLedger(),
            exercise=ExerciseLedger(),
            kills=last.kills.forgotten(),
            scenes=ScenesLedger(),
            shm=self.shm.forgotten(),
            canaries=self.canaries.forgotten(),
            evidence=self.evidence.forgotten(),
            growth=GrowthLedger(),
            exertion=ExertionLedger(),
            gpus=self.gpus.forgotten(),
            peaks=self.peaks.in_new_epoch(),
            container=None,
            strain=StrainLedger(),
        )


def _exits(stubs: StubsLedger, workers: WorkersLedger) -> dict[ProcessId, Exit]:
    exits = (*(each.exit for each in stubs.dead), *(each.exit for each in workers.dead))
    return {each.id: each for each in exits}


def age(now: Instant, then: Instant | None) -> float | None:
    """Seconds since then, or None where it never was."""
    return None if then is None else max(0.0, now.mono - then.mono)


def _hurting(book: Book) -> Book:
    # What of ours breaks around an Xid tells whom it concerns; the ledgers of the broken forget it soon.
    gpus = book.gpus.hurting(lambda: incidents(book.server, book.stubs, book.workers, book.models))
    return msgspec.structs.replace(book, gpus=gpus) if gpus is not book.gpus else book


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
