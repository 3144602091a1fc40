"""Where does a model run that has no process of its own: inside tritonserver, beside all others?

NVML knows processes alone, so that no one thing proves it.  Signs of different weight are put together: where those
that count contradict each other, or none counts, nothing is concluded.
"""

from __future__ import annotations

from collections.abc import Iterable

from probe.checks.expectations import resolved_to_cpu
from probe.checks.observation import Observation
from probe.checks.signs import Sign, Weight, reported, signs_of
from probe.facts.backends import GPU_ONLY, OF_PLATFORM
from probe.facts.findings import Claim, Subject, SubjectKind
from probe.facts.models import InstanceKind, ModelConfig
from probe.facts.placement import EvidenceMode, Observed, Verdict
from probe.ledgers.models import ModelRecord

_TRACKING = frozenset(("onnxruntime", "tensorrt"))
"""Backends that count a model's memory where they are told to."""
_TRACKER = "triton-backend-memory-tracker"


def of_server(seen: Observation, record: ModelRecord, config: ModelConfig) -> Observed:
    """What can be told of one model that shares tritonserver's pid."""
    if resolved_to_cpu(config):
        held = tuple(each for each in reported(seen, record) if each.side is Verdict.GPU)
        if held:
            return _found(Verdict.GPU, held)
        return Observed(Verdict.CPU, (), None, ("Triton resolved all of its instances to KIND_CPU.",))
    signs = signs_of(seen, record)
    gpu, cpu = _most(signs, Verdict.GPU), _most(signs, Verdict.CPU)
    if gpu >= Weight.MEDIUM > cpu:
        return _found(Verdict.GPU, signs)
    # Engines of these are code for a GPU: whatever the CPU does beside, a model of theirs does not run there.  So
    # TensorRT-LLM's tritonserver may but wait for workers of its own, and with MPI it spins while it does.
    alone = _known_as(config) in GPU_ONLY
    if gpu < Weight.MEDIUM <= cpu and (cpu >= Weight.STRONG or not gpu) and not alone:
        return _found(Verdict.CPU, signs)
    if not signs:
        intro = (
            f"It runs inside tritonserver (backend {_backend(config)}), whose GPU memory all models share, and Triton "
            "reports no memory of its own for it."
        )
    elif alone and gpu < Weight.MEDIUM <= cpu:
        intro = (
            f"Its backend ({_backend(config)}) computes on GPUs alone, and what was seen speaks for the CPU."
        )
    elif min(gpu, cpu) >= Weight.MEDIUM:
        intro = "What was seen of it contradicts itself."
    else:
        intro = (
            f"It runs inside tritonserver (backend {_backend(config)}), and nothing that was seen decides it."
        )
    whys = (intro, *(each.why for each in signs))
    return Observed(Verdict.UNKNOWN, (), None, whys, remedy=_remedy(seen, config))


def _most(signs: Iterable[Sign], side: Verdict) -> int:
    return max((each.weight for each in signs if each.side is side), default=0)


def _found(verdict: Verdict, signs: tuple[Sign, ...]) -> Observed:
    ours = [each for each in signs if each.side is verdict and each.weight >= Weight.MEDIUM]
    # Of a sign without a name for its GPU nothing is known but that it has one.
    gpus = tuple(sorted({uuid for each in ours for uuid in each.gpus}))
    whys = tuple(each.why for each in signs)
    figure = next((each for each in ours if each.memory_bytes is not None), None)
    if figure is None:
        return Observed(verdict, gpus, None, whys)
    whys = (*whys, f"The memory that is told of it is {figure.figure}.")
    return Observed(verdict, gpus, figure.memory_bytes, whys, figure.by_gpu)


def _backend(config: ModelConfig) -> str:
    return config.backend or config.platform


def _known_as(config: ModelConfig) -> str:
    # Configurations may name a backend by its platform.
    return OF_PLATFORM.get(_backend(config), _backend(config))


def is_inside(seen: Observation, record: ModelRecord) -> bool:
    """Whether the model is one of those that :func:`of_server` speaks of."""
    config = record.config
    return config is not None and config.backend != "python" and not seen.book.stubs.of(record.key)


def _remedy(seen: Observation, config: ModelConfig) -> str:
    # What would let it be told where the model runs.
    ways = []
    tracking, server, gap = _known_as(config), seen.book.server.server, seen.gap
    given = server.options("backend-config") if server is not None else ()
    if tracking in _TRACKING and not any(_TRACKER in each for each in given):
        ways.append(
            f"Start Triton with --backend-config={tracking},{_TRACKER}=true (from release 23.06 on): the statistics "
            "then tell the memory of each model; it excludes other profilers from the process."
        )
    if gap is not None:
        ways.append(gap.remedy)
    elif seen.book.evidence.evidence.mode is EvidenceMode.FULL:
        ways.append(
            "Send it requests for some ten seconds while the other models inside tritonserver are idle, or load it "
            "while the probe watches and nothing else is loaded: what the GPU and the CPU do then tells."
        )
    else:
        ways.append(
            "Use a driver from 570 on: older ones give neither the memory nor the busy time of a process here."
        )
    return " ".join(ways)


def unused(seen: Observation, record: ModelRecord, config: ModelConfig) -> Claim:
    """GpuNotUsed of a model that was found on the CPU."""
    idle, good = seen.book.exertion.idle.get(record.key), seen.book.evidence.good
    proven = idle if idle is not None and idle.proven else None
    against = " ".join(each.why for each in signs_of(seen, record) if each.side is Verdict.CPU)
    return Claim(
        "GpuNotUsed",
        Subject(SubjectKind.MODEL, model=record.key.name, version=record.key.version),
        f"The model is declared on a GPU and has executed requests, and it computes on the CPU. {against}",
        _unused_remedy(config),
        good.observed if proven is not None and good is not None else record.statistics_at or seen.now,
        {
            "executions": record.statistics.executions if record.statistics is not None else None,
            "mode": seen.book.evidence.evidence.mode.value,
            "execution_seconds": round(proven.seconds, 1) if proven is not None else None,
            "cpu_seconds": round(proven.cpu_seconds, 1) if proven is not None else None,
            "windows": proven.windows if proven is not None else None,
        },
    )


def _unused_remedy(config: ModelConfig) -> str:
    backend = _backend(config)
    if backend.startswith("onnxruntime"):
        return (
            "ONNX Runtime gives to the CPU every node for which its CUDA provider has no kernel, without an error: "
            "start Triton with --log-verbose=1 and look for 'placed on [CPUExecutionProvider]' and 'Force fallback "
            "to CPU execution'. Export the model with operators and types that the provider has (float16 or float32; "
            "not float64, nor int8 in QDQ form), or have TensorRT take it: optimization { execution_accelerators { "
            'gpu_execution_accelerator [ { name: "tensorrt" } ] } }.'
        )
    if backend.startswith("pytorch"):
        model = any(group.kind is InstanceKind.MODEL for group in config.groups)
        kind = (
            "KIND_MODEL loads the model onto the device that its file names: save it on a GPU, or write KIND_GPU. "
            if model
            else ""
        )
        return (
            f"{kind}What was a constant when the model was traced on a CPU stays there: register such tensors as "
            "buffers, and trace or script the model on a GPU."
        )
    return f"See in the log of the backend {backend}, with --log-verbose=1, on which device it puts the model and why."
