"""Does each model run where it is meant to run?

Three things are told apart: *declared* (the resolved configuration), *expected* (policy), and *observed*
(process evidence), and what can not be observed here is never concluded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from probe.checks.observation import Observation
from probe.facts.findings import Claim, Subject, SubjectKind
from probe.facts.instants import Instant
from probe.facts.models import InstanceKind, ModelConfig, ModelVersion
from probe.facts.nvml import NvmlReading
from probe.facts.placement import EvidenceMode, Expected, Placement, Verdict
from probe.ledgers.models import ModelRecord
from probe.ledgers.stubs import LiveStub
from probe.settings import Policy

_GPU_WITHOUT_KIND_GPU = frozenset(("tensorrtllm",))
"""Backends that take GPUs although their groups say KIND_CPU (tensorrtllm_backend, docs/llmapi.md)."""
_CPU_ONLY = frozenset(("openvino",))
"""Backends that refuse KIND_GPU; openvino's TARGET_DEVICE=GPU means another vendor's (``openvino.cc``)."""
_MULTI_GPU = frozenset(("vllm", "tensorrtllm", "pytorch", "tensorflow"))
"""Backends whose KIND_MODEL groups choose GPUs themselves."""
_OF_POLICY = {Policy.GPU: Expected.GPU, Policy.CPU: Expected.CPU, Policy.ANY: Expected.ANY}
_DEPTH = 16


class Expectation(msgspec.Struct, frozen=True):
    """Where policy wants a model, and which policy said so."""

    expected: Expected
    by: str
    indifferent: bool = False
    """Somebody wrote ``any``: the place is not even worth a warning."""


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


def placement_of(
    seen: Observation, record: ModelRecord, above: frozenset[ModelVersion] = frozenset()
) -> Placement:
    """The verdict on one model version, with its evidence in sentences.

    ``above``: the ensembles that led here, which are not followed again.
    """
    config = record.config
    if config is None:
        entry = seen.settings.placement.models.get(record.key.name)
        policy = (
            entry.device
            if entry is not None and entry.device is not None
            else seen.settings.placement.default
        )
        return Placement(
            Verdict.UNKNOWN,
            _OF_POLICY.get(policy, Expected.ANY),
            None,
            None,
            (),
            None,
            ("Its configuration has not been read yet.",),
        )
    wanted = expectation(seen, record, config)
    if config.ensemble:
        return _of_ensemble(seen, config, wanted, above | {record.key})
    verdict, gpus, used, why = _observe(seen, record, config)
    return Placement(
        verdict,
        wanted.expected,
        declared(config),
        is_explicit(config),
        gpus,
        used,
        (*why, f"Expected: {wanted.by}."),
    )


def expectation(seen: Observation, record: ModelRecord, config: ModelConfig) -> Expectation:
    """Where policy wants it: the model's own parameter, then the file's entry, then the default."""
    placement = seen.settings.placement
    own = (config.parameter("triton_probe.device") or "").casefold()
    entry = placement.models.get(record.key.name)
    if own in [each.value for each in Policy]:
        policy, by = Policy(own), f"triton_probe.device: {own} in its config.pbtxt"
    elif entry is not None and entry.device is not None:
        policy, by = entry.device, f"placement.models.{record.key.name}.device: {entry.device.value}"
    else:
        policy, by = placement.default, _named(placement.default)
    if config.ensemble:
        return Expectation(Expected.ANY, "an ensemble runs where its steps run")
    if policy is not Policy.AUTO:
        return Expectation(_OF_POLICY[policy], by, indifferent=policy is Policy.ANY)
    return _automatic(seen, config)


def _automatic(seen: Observation, config: ModelConfig) -> Expectation:
    given = seen.has_gpu
    if config.backend in _CPU_ONLY:
        return Expectation(Expected.CPU, f"auto: the backend {config.backend} runs on the CPU")
    if not is_explicit(config):
        if given is None:
            return Expectation(
                Expected.ANY, "auto: no instance_group, and whether this pod has a GPU is unknown"
            )
        expected = Expected.GPU if given else Expected.CPU
        return Expectation(
            expected, f"auto: no instance_group, and this pod has {'a' if given else 'no'} GPU"
        )
    kinds = {group.kind for group in config.groups}
    if InstanceKind.GPU in kinds:
        return Expectation(Expected.GPU, "auto: an explicit KIND_GPU group")
    if config.backend in _GPU_WITHOUT_KIND_GPU:
        return Expectation(
            Expected.GPU, f"auto: the backend {config.backend} uses GPUs whatever its kind says"
        )
    if InstanceKind.MODEL in kinds:
        if config.backend in _MULTI_GPU and given:
            return Expectation(Expected.GPU, f"auto: KIND_MODEL of the backend {config.backend}")
        return Expectation(Expected.ANY, "auto: KIND_MODEL leaves the device to the model")
    return Expectation(Expected.CPU, "auto: an explicit KIND_CPU group")


def declared(config: ModelConfig) -> str | None:
    """What the resolved configuration declares, in the words of ``/status``."""
    if config.ensemble:
        return "ensemble"
    kinds = [group.kind for group in config.groups]
    for kind in (InstanceKind.GPU, InstanceKind.MODEL, InstanceKind.CPU):
        if kind in kinds:
            return kind.value
    return None


def is_explicit(config: ModelConfig) -> bool:
    """Whether its author wrote an instance_group.

    A group that Triton made itself carries the bare model name; a written one is ``<model>_<n>`` or
    named by its author (core, ``model_config_utils.cc``, ``NormalizeInstanceGroup``).
    """
    return bool(config.groups) and not all(group.name == config.key.name for group in config.groups)


def gpu_use(reading: NvmlReading | None, pids: Iterable[int]) -> dict[str, int | None]:
    """Bytes that these processes hold on each GPU they are listed on; None where no figure is given."""
    wanted = frozenset(pids)
    found: dict[str, int | None] = {}
    for gpu in reading.gpus if reading is not None else ():
        mine = [each for each in gpu.processes or () if each.pid in wanted]
        if mine:
            told = [each.used_bytes for each in mine if each.used_bytes]
            found[gpu.uuid] = sum(told) if told else None
    return found


Observed = tuple[Verdict, tuple[str, ...], int | None, tuple[str, ...]]


def _observe(seen: Observation, record: ModelRecord, config: ModelConfig) -> Observed:
    stubs = seen.book.stubs.of(record.key)
    if stubs or config.backend == "python":
        return _of_stubs(seen, record, config)
    reported = (
        sum(each.bytes for each in record.statistics.memory if each.kind == "GPU") if record.statistics else 0
    )
    if reported:
        why = f"Triton's statistics report {_mib(reported)} of GPU memory for it."
        return Verdict.GPU, (), reported, (why,)
    kind = declared(config)
    if kind == InstanceKind.CPU.value and config.backend not in _GPU_WITHOUT_KIND_GPU:
        return Verdict.CPU, (), None, ("Triton resolved all of its instances to KIND_CPU.",)
    why = (
        f"It runs inside tritonserver (backend {config.backend or config.platform}), whose GPU memory all models "
        "share, and Triton reports no memory of its own for it."
    )
    return Verdict.UNKNOWN, (), None, (why,)


def _of_stubs(seen: Observation, record: ModelRecord, config: ModelConfig) -> Observed:
    evidence, good = seen.book.evidence.evidence, seen.book.evidence.good
    stubs = seen.book.stubs.of(record.key)
    kind = declared(config)
    cpu_only = kind == InstanceKind.CPU.value and config.backend not in _GPU_WITHOUT_KIND_GPU
    shown = good is not None and evidence.lists_prove_absence
    uses = [gpu_use(good, each.stub.pids) for each in stubs] if shown else []
    holding = sum(bool(use) for use in uses)
    if holding:
        kinds = {group.kind for group in config.groups}
        mixed = holding < len(stubs) and kinds == {InstanceKind.GPU, InstanceKind.CPU}
        gpus = tuple(sorted({uuid for use in uses for uuid in use}))
        figures = [used for use in uses for used in use.values() if used]
        total = sum(figures) if figures else None
        size = f" with {_mib(total)}" if total is not None else ""
        why = f"{holding} of {len(stubs)} stub processes are in NVML's list of {', '.join(gpus)}{size}."
        return Verdict.MIXED if mixed else Verdict.GPU, gpus, total, (why,)
    listless = [gpu.uuid for gpu in good.gpus if gpu.processes is None] if good is not None else []
    if good is None or not shown or listless:
        unlisted = f"NVML gives no process list of {', '.join(listless)}." if shown else evidence.why
        if not cpu_only:
            return Verdict.UNKNOWN, (), None, (unlisted,)
        if is_explicit(config) and seen.has_gpu:
            why = "It is declared KIND_CPU; its own code may use a GPU all the same, which can not be seen here."
            return Verdict.UNKNOWN, (), None, (why, unlisted)
        return Verdict.CPU, (), None, ("Triton resolved all of its instances to KIND_CPU.",)
    if cpu_only:
        why = "Triton resolved all of its instances to KIND_CPU, and NVML lists none of its processes."
        return Verdict.CPU, (), None, (why,)
    if stubs and _exercised_before(record, stubs, good):
        why = f"It has executed requests, and NVML lists none of its {len(stubs)} stub processes on any GPU."
        return Verdict.CPU, (), None, (why,)
    why = (
        "NVML lists none of its processes, and it has executed nothing since they began: a framework takes the "
        "GPU with its first use."
    )
    return Verdict.UNKNOWN, (), None, (why,)


def _exercised_before(record: ModelRecord, stubs: Iterable[LiveStub], good: NvmlReading) -> bool:
    since, rows = record.exercised_since, record.statistics
    if since is None or rows is None or since.mono >= good.observed.mono:
        return False
    # A stub that was started again since the model last executed has had no occasion to take a GPU.
    return all(each.stub.process.started_at < rows.last_inference_ms / 1000 for each in stubs)


def _of_ensemble(
    seen: Observation, config: ModelConfig, wanted: Expectation, above: frozenset[ModelVersion]
) -> Placement:
    verdicts = set()
    for step in dict.fromkeys(config.steps):
        record = seen.meant(step)
        if record is None or record.key in above or len(above) > _DEPTH:
            verdicts.add(Verdict.UNKNOWN)
        else:
            verdicts.add(placement_of(seen, record, above).verdict)
    if Verdict.UNKNOWN in verdicts or not verdicts:
        verdict = Verdict.UNKNOWN
    else:
        verdict = verdicts.pop() if len(verdicts) == 1 else Verdict.MIXED
    names = ", ".join(step.name for step in config.steps)
    return Placement(
        verdict, wanted.expected, "ensemble", None, (), None, (f"It runs where its steps run: {names}.",)
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


def _named(policy: Policy) -> str:
    return f"placement.default: {policy.value}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
