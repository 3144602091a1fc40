"""Does each model run where it is meant to run?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.expectations import Expectation, declared, expectation, is_explicit
from probe.checks.observation import Observation
from probe.checks.verdicts import placement_of
from probe.facts.findings import Claim, Subject, SubjectKind
from probe.facts.instants import Instant
from probe.facts.models import InstanceKind, ModelConfig
from probe.facts.nvml import NvmlReading
from probe.facts.placement import EvidenceMode, Expected, Placement, Verdict
from probe.ledgers.models import ModelRecord


def judge(seen: Observation) -> Iterator[Claim]:
    """The claims on every ready model whose configuration is known."""
    if not seen.watching:
        return
    for record in seen.records():
        config = record.config
        if not record.ready or config is None or config.ensemble:
            continue
        wanted = expectation(seen, record, config)
        placement = placement_of(seen, record)
        yield from _fallback(seen, record, config, wanted, placement)
        yield from _unused(seen, record, wanted, placement)
        if not is_explicit(config) and not wanted.indifferent:
            yield _implicit(seen, record, config, wanted)
        if placement.verdict is Verdict.UNKNOWN:
            yield Claim(
                "PlacementUnknown",
                _subject(record),
                f"Where it runs can not be told: {' '.join(placement.why)}",
                _unknown_remedy(seen),
                record.config_at or seen.now,
                {"mode": seen.book.evidence.evidence.mode.value, "declared": placement.declared},
            )


def _fallback(
    seen: Observation, record: ModelRecord, config: ModelConfig, wanted: Expectation, placement: Placement
) -> Iterator[Claim]:
    resolved_to_cpu = declared(config) == InstanceKind.CPU.value
    if wanted.expected is not Expected.GPU or not resolved_to_cpu or placement.verdict is not Verdict.CPU:
        return
    written = is_explicit(config)
    why = (
        "its instance_group says KIND_CPU"
        if written
        else "its config.pbtxt has no instance_group, and Triton saw no usable GPU when it loaded it"
    )
    line = f"instance_group [ {{ count: {_count(config)} kind: KIND_GPU }} ]"
    file = _config_file(seen, record)
    cure = f"Change the instance_group in {file} to: {line}" if written else f"Add to {file} the line: {line}"
    yield Claim(
        "CpuFallback",
        _subject(record),
        f"The model is meant for a GPU ({wanted.by}) and Triton loaded it on the CPU: {why}.",
        f"{cure} (then a load without a GPU fails instead of falling back), and see that Triton's container has a GPU "
        "(resources.limits: nvidia.com/gpu: 1) and that nvidia-smi works in it.",
        record.config_at or seen.now,
        {
            "declared": placement.declared,
            "explicit": placement.explicit,
            "expected_by": wanted.by,
            "instances": sum(group.instances for group in config.groups),
            "backend": config.backend,
            "pod_has_gpu": seen.has_gpu,
        },
    )


def _unused(
    seen: Observation, record: ModelRecord, wanted: Expectation, placement: Placement
) -> Iterator[Claim]:
    may_use = placement.declared in (InstanceKind.GPU.value, InstanceKind.MODEL.value)
    if wanted.expected is not Expected.GPU or not may_use or placement.verdict is not Verdict.CPU:
        return
    good = seen.book.evidence.good
    yield Claim(
        "GpuNotUsed",
        _subject(record),
        f"The model is declared on a GPU and has executed requests, and none of its "
        f"{len(seen.book.stubs.of(record.key))} stub processes is on any GPU.",
        "Make the model's code use the device that Triton gives it: args['model_instance_kind'] and "
        "args['model_instance_device_id'] in initialize(), e.g. .to(f'cuda:{device_id}').",
        _observed(good, seen.now),
        {
            "executions": record.statistics.executions if record.statistics is not None else None,
            "mode": seen.book.evidence.evidence.mode.value,
            "stub_pids": " ".join(str(each.stub.process.id.pid) for each in seen.book.stubs.of(record.key)),
        },
    )


def _observed(good: NvmlReading | None, otherwise: Instant) -> Instant:
    return good.observed if good is not None else otherwise


def _implicit(seen: Observation, record: ModelRecord, config: ModelConfig, wanted: Expectation) -> Claim:
    kind = declared(config) or "auto"
    # What policy wants is to be written down, not what a start without a GPU happened to give.
    meant = wanted.expected.value if wanted.expected is not Expected.ANY else kind
    return Claim(
        "PlacementImplicit",
        _subject(record),
        f"No instance_group is written for it; Triton resolved it to KIND_{kind.upper()} by what it saw when it "
        "loaded it, and the next start may place it elsewhere.",
        f"Write the placement down in {_config_file(seen, record)}: "
        f"instance_group [ {{ count: {_count(config)} kind: KIND_{meant.upper()} }} ]",
        record.config_at or seen.now,
        {"resolved": kind},
    )


def _unknown_remedy(seen: Observation) -> str:
    match seen.book.evidence.evidence.mode:
        case EvidenceMode.NO_NVML:
            return "Give the probe's container NVML (NVIDIA_VISIBLE_DEVICES=all, capability utility)."
        case EvidenceMode.BLIND | EvidenceMode.FOREIGN_PIDS:
            return (
                "Set shareProcessNamespace: true for the pod and use a driver from 565 on, whose process lists can "
                "be trusted there."
            )
        case _:
            return "Send the model a request: what it does then can be observed."


def _subject(record: ModelRecord) -> Subject:
    return Subject(SubjectKind.MODEL, model=record.key.name, version=record.key.version)


def _count(config: ModelConfig) -> int:
    return max(1, sum(group.count for group in config.groups))


def _config_file(seen: Observation, record: ModelRecord) -> str:
    stubs = seen.book.stubs.of(record.key)
    suffix = f"/{record.key.name}/{record.key.version}/"
    for stub in stubs:
        repository, found, _ = stub.stub.arguments.model_path.rpartition(suffix)
        if found:
            return f"{repository}/{record.key.name}/config.pbtxt"
    server = seen.book.server.server
    repositories = server.options("model-repository") if server is not None else ()
    root = repositories[0].rstrip("/") if repositories else "<model repository>"
    return f"{root}/{record.key.name}/config.pbtxt"
