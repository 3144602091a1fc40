"""Which kinds, GPUs and accelerators would Triton refuse, or pass over?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.audit.backends import (
    ORT_ACCELERATORS,
    WITH_ACCELERATORS,
    WITHOUT_ACCELERATORS,
    backend_of,
)
from probe.checks.audit.placement import group_line
from probe.checks.audit.terms import Terms, finding
from probe.facts.audits import AuditFinding
from probe.facts.backends import CPU_ONLY
from probe.facts.models import InstanceKind
from probe.facts.repository import RepositoryModel, WrittenAccelerator, WrittenGroup

_GPU, _CPU, _MODEL, _AUTO = InstanceKind.GPU, InstanceKind.CPU, InstanceKind.MODEL, InstanceKind.AUTO


def judge(model: RepositoryModel, terms: Terms) -> Iterator[AuditFinding]:
    """Of each group its kind and its GPUs, then the accelerators."""
    if model.said.ensemble or not model.readable:
        return
    backend = backend_of(model)
    if backend == "vllm":
        yield from _spread_engine(model)
    for group in model.said.groups:
        yield from _kind(model, group, backend)
        yield from _gpus(model, group, backend, terms)
    for accelerator in model.said.accelerators:
        yield from _accelerator(model, accelerator, backend)


def _kind(model: RepositoryModel, group: WrittenGroup, backend: str) -> Iterator[AuditFinding]:
    says = f"KIND_{group.kind.value.upper()}"
    if backend in CPU_ONLY and group.kind is not _CPU:
        when = ", wherever Triton can use a GPU" if group.kind is _AUTO else ""
        why = f"The backend {backend} takes KIND_CPU alone, and its instance_group says {says}: the load fails{when}."
        kind = "KIND_CPU"
    elif backend == "tensorrt" and group.kind is _CPU:
        why = f"The backend {backend} supports only GPUs, and its instance_group says {says}: the load fails."
        kind = "KIND_GPU"
    else:
        return
    remedy = f"Change the instance_group to: {group_line(kind, backend, group.count)}"
    yield finding("KindRefused", model, group.kind_line, why, remedy)


def _spread_engine(model: RepositoryModel) -> Iterator[AuditFinding]:
    """Whether vLLM is spread over several GPUs: refused for KIND_GPU (vllm_backend, ``_validate_device_config``)."""
    most = max((each.parallel for each in model.versions), default=1)
    groups = model.said.groups
    wrong = [each for each in groups if each.kind in (_GPU, _AUTO)]
    if most == 1 or (groups and not wrong):
        return
    says = (
        f"its instance_group says KIND_{wrong[0].kind.value.upper()}"
        if wrong
        else "no instance_group is written"
    )
    resolved = "" if wrong and wrong[0].kind is _GPU else ", which becomes KIND_GPU where there is a GPU"
    yield finding(
        "KindRefused",
        model,
        wrong[0].kind_line if wrong else None,
        f"Its model.json spreads the engine over {most} GPUs (tensor_parallel_size x pipeline_parallel_size), and "
        f"{says}{resolved}: vLLM refuses that.",
        f"Leave the GPUs to the engine: {group_line('KIND_MODEL', 'vllm')}",
    )


def _gpus(model: RepositoryModel, group: WrittenGroup, backend: str, terms: Terms) -> Iterator[AuditFinding]:
    if not group.gpus:
        return
    listed = ", ".join(str(each) for each in group.gpus)
    missing = [each for each in group.gpus if each < 0 or (terms.gpus is not None and each >= terms.gpus)]
    if group.kind in (_CPU, _MODEL):
        says = f"KIND_{group.kind.value.upper()}"
        remedy = "Take gpus out, or say KIND_GPU."
        if backend == "tensorrtllm":
            remedy = 'Take gpus out; this backend reads parameters { key: "gpu_device_ids" … } instead.'
        yield finding(
            "GpusRefused",
            model,
            group.line,
            f"Its instance_group says {says} and lists gpus: [ {listed} ]: Triton refuses that.",
            remedy,
        )
    elif missing:
        had = f"this Triton has {terms.gpus} GPUs (--gpus)" if missing[0] >= 0 else "no GPU has such a number"
        yield finding(
            "GpuMissing",
            model,
            group.line,
            f"Its instance_group lists gpus: [ {listed} ], and {had}: Triton refuses it.",
            "List only GPUs by the numbers that CUDA gives them in Triton's container, from 0 on.",
        )
    elif backend == "tensorrtllm":
        yield finding(
            "GpusIgnored",
            model,
            group.line,
            f"Its instance_group lists gpus: [ {listed} ], at which the backend {backend} does not look.",
            f'Write parameters {{ key: "gpu_device_ids" value {{ string_value: "{listed.replace(" ", "")}" }} }}',
        )


def _accelerator(model: RepositoryModel, one: WrittenAccelerator, backend: str) -> Iterator[AuditFinding]:
    field = f"{one.kind.value}_execution_accelerator"
    kinds = {each.kind for each in model.said.groups}
    if backend in WITHOUT_ACCELERATORS:
        yield finding(
            "AcceleratorIgnored",
            model,
            one.line,
            f"The backend {backend} reads no execution_accelerators: {field} {one.name!r} does nothing.",
            f"Take the {field} out; of the backends {' and '.join(sorted(WITH_ACCELERATORS))} read it.",
        )
    elif one.kind is _GPU and kinds == {_CPU}:
        yield finding(
            "AcceleratorIgnored",
            model,
            one.line,
            f"{field} {one.name!r} is ignored, and no log says so: all of its instances are KIND_CPU.",
            f"Say where it belongs: {group_line('KIND_GPU', backend)}, or take the {field} out.",
        )
    elif backend == "onnxruntime" and one.name not in ORT_ACCELERATORS[one.kind]:
        known = " or ".join(ORT_ACCELERATORS[one.kind])
        yield finding(
            "AcceleratorUnknown",
            model,
            one.line,
            f"The backend {backend} knows no {field} {one.name!r}: the load fails.",
            f"Write {known}, or take the {field} out.",
        )
    elif one.kind is _CPU and kinds == {_GPU}:
        how = "gets only what CUDA leaves over" if backend == "onnxruntime" else "is ignored"
        yield finding(
            "AcceleratorIgnored",
            model,
            one.line,
            f"{field} {one.name!r} {how}: all of its instances are KIND_GPU.",
            f"Take the {field} out, or say KIND_CPU.",
        )
