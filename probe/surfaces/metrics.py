"""``/metrics``: every metric, and what the snapshot says of it.

Names and labels are a public contract.  What is not known is absent; a series goes when its subject
goes, because every scrape is written anew from one snapshot.
"""

from __future__ import annotations

from probe.facts.catalogue import CATALOGUE
from probe.facts.gates import Gate
from probe.facts.models import ModelState
from probe.facts.placement import Verdict
from probe.facts.status import GpuStatus, ModelStatus, Snapshot
from probe.surfaces import exposition
from probe.surfaces.exposition import Sheet


def render(snapshot: Snapshot, content_type: str = exposition.TEXT) -> bytes:
    """Render ``/metrics``; takes long with many models, so not on a loop that answers others."""
    sheet = Sheet()
    _probe(sheet, snapshot)
    _findings(sheet, snapshot)
    for model in snapshot.status.models:
        _model(sheet, model, snapshot)
    _models_of_old(sheet, snapshot)
    for gpu in snapshot.status.gpus:
        _gpu(sheet, gpu)
    for (uuid, xid), count in snapshot.tallies.xids.items():
        sheet.put("gpu_xid_total", (uuid, xid), count)
    for name, canary in snapshot.tallies.canaries.items():
        sheet.put_histogram("canary_duration_seconds", (name,), canary.durations)
        sheet.put("canary_failures_total", (name,), canary.failures)
    _container(sheet, snapshot)
    return exposition.rendered(sheet, content_type)


def _probe(sheet: Sheet, snapshot: Snapshot) -> None:
    status, tallies = snapshot.status, snapshot.tallies
    sheet.put("build_info", (status.probe.version,), 1)
    sheet.put("evidence_info", (status.evidence.mode,), 1)
    if status.triton.version is not None:
        sheet.put("triton_info", (status.triton.version, str(status.triton.epoch)), 1)
    for gate in Gate:
        if (held := status.gates.get(gate)) is not None:
            sheet.put("gate", (gate,), held.ok)
        sheet.put("gate_transitions_total", (gate,), tallies.gate_transitions.get(gate, 0))
    for name, source in status.probe.sources.items():
        sheet.put("source_up", (name,), source.ok)
    for name, tally in tallies.sources.items():
        sheet.put_histogram("source_duration_seconds", (name,), tally.durations)
        sheet.put("source_last_success_timestamp_seconds", (name,), tally.last_success_wall)
    for reason, delays in tallies.delays.items():
        sheet.put_histogram("detection_delay_seconds", (reason,), delays)


def _findings(sheet: Sheet, snapshot: Snapshot) -> None:
    for each in snapshot.status.findings:
        about = each.subject
        sheet.put("finding", (each.reason, each.severity, about.model, about.gpu_uuid), 1)
    # Every reason from the start, at zero: a counter that appears with its first event hides it from rate().
    for name in CATALOGUE:
        sheet.put("findings_total", (name,), 0)
    for name, count in snapshot.tallies.findings.items():
        sheet.put("findings_total", (name,), count)


def _model(sheet: Sheet, model: ModelStatus, snapshot: Snapshot) -> None:
    who = (model.name, model.version)
    sheet.put("model_ready", who, model.ready)
    for state in ModelState:
        sheet.put("model_state", (*who, state), model.state == state)
    placement = model.placement
    for verdict in Verdict:
        sheet.put("model_placement", (*who, verdict), placement.verdict is verdict)
    explicit = "" if placement.explicit is None else str(placement.explicit).lower()
    policy = (placement.expected, placement.declared or "", explicit)
    sheet.put("model_placement_expected_info", (*who, *policy), 1)
    for uuid, used in placement.memory_bytes_by_gpu.items():
        sheet.put("model_gpu_memory_bytes", (*who, uuid), used)
    for state_name in ("expected", "alive", "dead", "frozen"):
        count: int | None = getattr(model.instances, state_name)
        sheet.put("model_instances", (*who, state_name), count)
    sheet.put("model_stub_memory_bytes", who, _whole([each.rss_bytes for each in model.stubs]))
    sheet.put("model_shm_bytes", who, model.shm_bytes)
    sheet.put("model_requests_total", (*who, "success"), model.traffic.success_total)
    sheet.put("model_requests_total", (*who, "failure"), model.traffic.failure_total)
    last = snapshot.tallies.last_success_wall.get((model.name, model.version))
    sheet.put("model_last_success_timestamp_seconds", who, last)


def _models_of_old(sheet: Sheet, snapshot: Snapshot) -> None:
    """Counters that outlive a model's stubs, for as long as anybody still speaks of the model."""
    present = snapshot.known_models | {each.name for each in snapshot.status.models}
    for (model, cause), count in snapshot.tallies.stub_exits.items():
        if model in present:
            sheet.put("stub_exits_total", (model, cause), count)
    for (model, outcome), count in snapshot.tallies.heals.items():
        if model in present:
            sheet.put("heals_total", (model, outcome), count)


def _gpu(sheet: Sheet, gpu: GpuStatus) -> None:
    who = (gpu.uuid,)
    sheet.put("gpu_memory_total_bytes", who, gpu.memory_total_bytes)
    sheet.put("gpu_memory_used_bytes", who, gpu.memory_used_bytes)
    sheet.put("gpu_ok", who, gpu.ok)


def _container(sheet: Sheet, snapshot: Snapshot) -> None:
    container = snapshot.status.container
    memory, cpu, pids, shm = container.memory, container.cpu, container.pids, container.shm
    for name, value in (
        ("container_memory_limit_bytes", memory.limit_bytes),
        ("container_memory_working_set_bytes", memory.working_set_bytes),
        ("container_memory_peak_bytes", memory.peak_bytes),
        ("container_oom_kills_total", memory.oom_kills),
        ("container_memory_stall_seconds_total", memory.stall_seconds),
        ("container_cpu_limit_cores", cpu.limit_cores),
        ("container_cpu_seconds_total", cpu.used_seconds),
        ("container_cpu_throttled_seconds_total", cpu.throttled_seconds),
        ("container_cpu_periods_total", cpu.periods),
        ("container_cpu_throttled_periods_total", cpu.throttled_periods),
        ("container_cpu_stall_seconds_total", cpu.stall_seconds),
        ("container_pids", pids.used),
        ("container_pids_limit", pids.limit),
        ("container_pids_refused_total", pids.refused),
        ("shm_size_bytes", shm.size_bytes),
        ("shm_used_bytes", shm.used_bytes),
        ("shm_orphan_bytes", shm.orphan_bytes),
    ):
        sheet.put(name, (), value)


def _whole(parts: list[int | None]) -> int | None:
    """Sum, or None where there is no part or one is not known: a part of a sum is a wrong sum."""
    known = [each for each in parts if each is not None]
    return sum(known) if parts and len(known) == len(parts) else None
