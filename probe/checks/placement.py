"""Does each model run on the kind of device where it is meant to run?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks import inside, outside, policies
from probe.checks.config_files import config_file, count_of, group_line
from probe.checks.expectations import (
    Expectation,
    declared,
    declared_on_gpu,
    expectation,
    is_explicit,
    is_fallback_count,
    resolved_to_cpu,
)
from probe.checks.observation import Observation
from probe.checks.verdicts import observed, words
from probe.facts.findings import Claim, Subject, SubjectKind
from probe.facts.models import InstanceKind, ModelConfig
from probe.facts.placement import DEVICE_PARAMETER, Expected, Observed, Verdict
from probe.ledgers.models import ModelRecord


def judge(seen: Observation) -> Iterator[Claim]:
    """The claims on every ready model whose configuration is known."""
    if not seen.watching:
        return
    for record in seen.records():
        config = record.config
        if not record.ready or config is None:
            continue
        yield from _mistakes(seen, record, config)
        if config.ensemble:
            continue
        wanted, found = expectation(seen, record, config), observed(seen, record, config)
        yield from _fallback(seen, record, config, wanted, found)
        yield from _unused(seen, record, config, wanted, found)
        if not is_explicit(config) and not wanted.indifferent:
            yield _implicit(seen, record, config, wanted)
        if found.verdict is Verdict.UNKNOWN:
            yield _unknown(seen, record, config, found, wanted)


def _mistakes(seen: Observation, record: ModelRecord, config: ModelConfig) -> Iterator[Claim]:
    wrong = policies.mistakes(config)
    if not wrong:
        return
    said = "; ".join(f"{each.parameter} is {each.value!r}, expected {each.expected}" for each in wrong)
    yield Claim(
        "PolicyInvalid",
        _subject(record),
        f"What its config.pbtxt says of its placement can not be obeyed: {said}.",
        f'Correct it in {config_file(seen, record)}, e.g. parameters {{ key: "{wrong[0].parameter}" value {{ '
        f'string_value: "{"gpu" if wrong[0].parameter == DEVICE_PARAMETER else "GPU-…"}" }} }}; until then the '
        "probe's own settings (placement) hold.",
        record.config_at or seen.now,
        {each.parameter: each.value for each in wrong},
    )


def _fallback(
    seen: Observation, record: ModelRecord, config: ModelConfig, wanted: Expectation, found: Observed
) -> Iterator[Claim]:
    if wanted.expected is not Expected.GPU:
        return
    if resolved_to_cpu(config) and found.verdict is Verdict.CPU:
        yield _fell_back(seen, record, config, wanted)
        return
    least, may = policies.entry(seen, config).min_instances, declared_on_gpu(config)
    if least is None or may >= least or (resolved_to_cpu(config) and found.verdict is Verdict.UNKNOWN):
        return
    if _on_gpu(seen, record) >= least:
        return
    total = sum(group.instances for group in config.groups)
    yield Claim(
        "CpuFallback",
        _subject(record),
        f"{may} of its {total} instances are declared on a GPU, and at least {least} are meant to be "
        f"(placement.models.{record.key.name}.min_instances).",
        f"Raise the count of its KIND_GPU group in {config_file(seen, record)}, e.g. "
        f"{group_line(InstanceKind.GPU, least)} (instances are made for each GPU that the group has), or lower "
        "min_instances.",
        record.config_at or seen.now,
        {
            "declared": declared(config),
            "explicit": is_explicit(config),
            "expected_by": wanted.by,
            "instances": total,
            "instances_declared_on_gpu": may,
            "min_instances": least,
            "backend": config.backend,
        },
    )


def _fell_back(seen: Observation, record: ModelRecord, config: ModelConfig, wanted: Expectation) -> Claim:
    written = is_explicit(config)
    why = (
        "its instance_group says KIND_CPU, or was written without a kind while Triton saw no usable GPU"
        if written
        else "its config.pbtxt has no instance_group, and Triton saw no usable GPU when it loaded it"
    )
    if is_fallback_count(config):
        why += f"; two CPU instances are what it makes of {config.backend} then"
    line = group_line(InstanceKind.GPU, count_of(config))
    file = config_file(seen, record)
    cure = f"Change the instance_group in {file} to: {line}" if written else f"Add to {file} the line: {line}"
    return Claim(
        "CpuFallback",
        _subject(record),
        f"The model is meant for a GPU ({wanted.by}) and Triton loaded it on the CPU: {why}.",
        f"{cure} (then a load without a GPU fails instead of falling back), and see that Triton's container has a GPU "
        "(resources.limits: nvidia.com/gpu: 1) and that nvidia-smi works in it.",
        record.config_at or seen.now,
        {
            "declared": declared(config),
            "explicit": written,
            "expected_by": wanted.by,
            "instances": sum(group.instances for group in config.groups),
            "backend": config.backend,
            "pod_has_gpu": seen.has_gpu,
        },
    )


def _unused(
    seen: Observation, record: ModelRecord, config: ModelConfig, wanted: Expectation, found: Observed
) -> Iterator[Claim]:
    if wanted.expected is not Expected.GPU or resolved_to_cpu(config) or not declared_on_gpu(config):
        return
    if found.verdict is Verdict.CPU and inside.is_inside(seen, record):
        yield inside.unused(seen, record, config)
        return
    stubs, holding = seen.book.stubs.of(record.key), _on_gpu(seen, record)
    least = policies.entry(seen, config).min_instances
    if found.verdict is Verdict.CPU:
        message = (
            f"The model is declared on a GPU and has executed requests, and none of its {len(stubs)} stub processes is "
            "on any GPU."
        )
    elif least is not None and _provably_fewer(seen, record, config, holding, least):
        message = (
            f"{holding} of its {len(stubs)} stub processes are on a GPU after all have executed requests, and at least "
            f"{least} are meant to be (placement.models.{record.key.name}.min_instances)."
        )
    else:
        return
    good = seen.book.evidence.good
    yield Claim(
        "GpuNotUsed",
        _subject(record),
        message,
        _unused_remedy(seen, record, config),
        good.observed if good is not None else seen.now,
        {
            "executions": record.statistics.executions if record.statistics is not None else None,
            "mode": seen.book.evidence.evidence.mode.value,
            "stub_pids": " ".join(str(each.stub.process.id.pid) for each in stubs),
            **({"stubs_on_gpu": holding, "min_instances": least} if least is not None else {}),
        },
    )


def _unused_remedy(seen: Observation, record: ModelRecord, config: ModelConfig) -> str:
    cure = (
        "Make the model's code use the device that Triton gives it: args['model_instance_kind'] and "
        "args['model_instance_device_id'] in initialize(), e.g. .to(f'cuda:{device_id}')."
    )
    if is_explicit(config):
        return cure
    # Triton gives a GPU to every python model of which nobody said anything, to those that only prepare data too.
    line = group_line(InstanceKind.CPU, count_of(config))
    return f"{cure} Where it needs no GPU, write that down in {config_file(seen, record)}: {line}"


def _on_gpu(seen: Observation, record: ModelRecord) -> int:
    return sum(bool(outside.use_of(seen, each.stub).gpus) for each in seen.book.stubs.of(record.key))


def _provably_fewer(
    seen: Observation, record: ModelRecord, config: ModelConfig, holding: int, least: int
) -> bool:
    stubs = seen.book.stubs.of(record.key)
    # With a stub missing there is another finding, and the missing one may be the one on the GPU.
    complete = len(stubs) == sum(group.instances for group in config.groups)
    return (
        0 < holding < least <= declared_on_gpu(config)
        and complete
        and seen.gap is None
        and not seen.strays
        and outside.all_exercised(seen, record, config)
    )


def _implicit(seen: Observation, record: ModelRecord, config: ModelConfig, wanted: Expectation) -> Claim:
    kind = declared(config) or "auto"
    # What policy wants is to be written down, not what a start without a GPU happened to give.
    meant = wanted.expected.value if wanted.expected is not Expected.ANY else kind
    return Claim(
        "PlacementImplicit",
        _subject(record),
        f"No instance_group is written for it; Triton resolved it to KIND_{kind.upper()} by what it saw when it "
        "loaded it, and the next start may place it elsewhere. (A written group that carries the model's own name "
        "looks the same from here.)",
        f"Write the placement down in {config_file(seen, record)}, under no name or another than the model's: "
        f"{group_line(meant, count_of(config))}",
        record.config_at or seen.now,
        {"resolved": kind},
    )


def _unknown(
    seen: Observation, record: ModelRecord, config: ModelConfig, found: Observed, wanted: Expectation
) -> Claim:
    why = " ".join((*found.why, *words(seen, config, wanted)))
    return Claim(
        "PlacementUnknown",
        _subject(record),
        f"Where it runs can not be told: {why}",
        found.remedy,
        record.config_at or seen.now,
        {"mode": seen.book.evidence.evidence.mode.value, "declared": declared(config)},
    )


def _subject(record: ModelRecord) -> Subject:
    return Subject(SubjectKind.MODEL, model=record.key.name, version=record.key.version)
