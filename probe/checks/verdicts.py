"""Where each model runs: what is declared, what policy expects, what can be observed.

Three things are told apart: *declared* (the resolved configuration), *expected* (policy), and *observed*
(process evidence), and what can not be observed here is never concluded.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from probe.checks.observation import Observation
from probe.facts.models import InstanceKind, ModelConfig, ModelVersion
from probe.facts.nvml import NvmlReading
from probe.facts.placement import Expected, Placement, Verdict
from probe.ledgers.lives import LiveStub
from probe.ledgers.models import ModelRecord
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
        policy, by = placement.default, named(placement.default)
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


def named(policy: Policy) -> str:
    """The default policy as it is written."""
    return f"placement.default: {policy.value}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
