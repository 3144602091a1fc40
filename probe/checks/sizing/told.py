"""What is told of sizes: what was watched, the peaks, and the proposal."""

from __future__ import annotations

from probe.checks.container.shm_needs import need_of
from probe.checks.observation import Observation
from probe.checks.sizing.memory import memory_lines, peak_bytes, shm_line
from probe.checks.sizing.processors import cpu_lines, gpu_line
from probe.checks.sizing.quantities import HEADROOM
from probe.checks.sizing.watch import missing
from probe.facts.models import ModelVersion
from probe.facts.sizing import ContainerPeak, ModelPeak, SizeLine, SizingStatus
from probe.ledgers.container_peaks import ContainerPeaks
from probe.ledgers.model_peaks import ModelPeaks


def sizing(seen: Observation) -> SizingStatus:
    """Everything that ``/status`` tells of sizes.  Figures that rest on little are told too, and called so."""
    peaks = seen.book.peaks
    why_not = tuple(missing(seen))
    models = tuple(_model(key, peaks.models.records[key]) for key in sorted(peaks.models.records))
    minutes, busy = peaks.container.minutes
    return SizingStatus(
        since=peaks.since.as_datetime() if peaks.since is not None else None,
        watched_seconds=peaks.container.watched_seconds,
        minutes=minutes,
        busy_minutes=busy,
        enough=not why_not,
        why_not=why_not,
        headroom=HEADROOM,
        container=_container(peaks.container, peaks.gpus),
        models=models,
        proposal=_proposal(seen, models),
    )


def _proposal(seen: Observation, models: tuple[ModelPeak, ...]) -> tuple[SizeLine, ...]:
    book = seen.book
    peaks, reading = book.peaks.container, book.container
    stubs = [each.stub for each in book.stubs.live.values() if not each.orphaned]
    server, good = book.server, book.evidence.good
    given = len(server.gpu_uuids) or (len(server.server.gpu_minors or ()) if server.server is not None else 0)
    on = server.gpu_uuids | book.peaks.gpus.keys()
    return (
        *cpu_lines(peaks, reading),
        *memory_lines(peaks, reading),
        *gpu_line(
            given,
            book.peaks.gpus,
            models,
            divided=good is not None and any(gpu.mig and gpu.uuid in on for gpu in good.gpus),
        ),
        *shm_line(
            peaks,
            reading,
            len(stubs),
            sum(each.arguments.shm_growth_bytes for each in stubs),
            # What nobody owns goes with the pod that the proposal replaces.
            need_of(seen).total_bytes - (book.shm.orphan_bytes or 0),
        ),
    )


def _container(peaks: ContainerPeaks, gpus: dict[str, int]) -> ContainerPeak:
    return ContainerPeak(
        memory_bytes=peak_bytes(peaks),
        memory_steady_bytes=_whole(peaks.memory.steady(busy=peaks.busy)),
        memory_load_bytes=_whole(peaks.memory.load),
        memory_kernel_bytes=peaks.witness_bytes,
        memory_life_bytes=_whole(peaks.life_bytes),
        cpu_cores=peaks.cores.highest,
        cpu_steady_cores=peaks.cores.steady(busy=peaks.busy),
        cpu_load_cores=peaks.cores.load,
        shm_bytes=_whole(peaks.shm.highest),
        gpu_memory_bytes=gpus,
    )


def _model(key: ModelVersion, peaks: ModelPeaks) -> ModelPeak:
    return ModelPeak(
        name=key.name,
        version=key.version,
        memory_bytes=_whole(peaks.memory.highest),
        memory_steady_bytes=_whole(peaks.memory.steady(busy=peaks.busy)),
        memory_load_bytes=_whole(peaks.memory.load),
        cpu_cores=peaks.cores.highest,
        cpu_steady_cores=peaks.cores.steady(busy=peaks.busy),
        shm_bytes=_whole(peaks.shm.highest),
        gpu_memory_bytes=peaks.gpus,
    )


def _whole(figure: float | None) -> int | None:
    return None if figure is None else int(figure)
