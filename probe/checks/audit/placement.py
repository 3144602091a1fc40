"""Will each model run where it is wanted, and would anybody notice if it did not?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.audit.backends import CHOOSES_ITSELF, backend_of
from probe.checks.audit.terms import Terms, Wish, finding, wish
from probe.facts.audits import AuditFinding
from probe.facts.backends import CPU_ONLY, GPU_ONLY, TWO_ON_CPU
from probe.facts.models import InstanceKind
from probe.facts.placement import Expected
from probe.facts.repository import RepositoryModel, WrittenGroup

_OWN_KIND = {"vllm": "KIND_MODEL", "tensorrtllm": "KIND_CPU", "tensorrt": "KIND_GPU", "openvino": "KIND_CPU"}
"""What a backend's own documents write, or the one kind that it takes."""


def judge(model: RepositoryModel, terms: Terms) -> Iterator[AuditFinding]:
    """Groups that are missing, that fall back without a word, that are on the CPU, or mixed."""
    if model.said.ensemble or not model.readable or model.empty:
        return
    wanted = wish(model, terms)
    if not model.said.groups:
        if not wanted.indifferent:
            yield _implicit(model, wanted)
        return
    kinds = {each.kind for each in model.said.groups}
    backend = backend_of(model)
    # What these backends make of a kind that is not theirs is no fallback.
    if wanted.indifferent or backend in CHOOSES_ITSELF | CPU_ONLY | GPU_ONLY:
        return
    if kinds == {InstanceKind.CPU} and wanted.firm and wanted.expected is Expected.GPU:
        yield _on_cpu(model, wanted)
    if {each.kind for each in model.said.groups if not each.passive} >= {InstanceKind.GPU, InstanceKind.CPU}:
        yield _mixed(model)
    for group in model.said.groups:
        # With gpus it is a load error and no fallback, for KIND_CPU takes none.
        if group.kind is InstanceKind.AUTO and not group.gpus:
            yield _silent(model, group, wanted)


def group_line(kind: str, backend: str, count: int = 0) -> str:
    """An ``instance_group`` on one line, to paste; without a count, what Triton makes of none."""
    implied = 2 if kind == "KIND_CPU" and backend in TWO_ON_CPU else 1
    return f"instance_group [ {{ count: {count if count > 0 else implied} kind: {kind} }} ]"


def kind_for(wanted: Wish, backend: str) -> str:
    """The kind to write for what is wanted, or nothing where that is not known."""
    if backend in _OWN_KIND:
        return _OWN_KIND[backend]
    return {Expected.GPU: "KIND_GPU", Expected.CPU: "KIND_CPU"}.get(wanted.expected, "")


def _implicit(model: RepositoryModel, wanted: Wish) -> AuditFinding:
    backend = backend_of(model)
    kind = kind_for(wanted, backend)
    if backend in CPU_ONLY:
        fate = f"the backend {backend} asks for KIND_CPU, and another release may not"
    elif wanted.expected is Expected.GPU:
        fate = f"it is meant for a GPU ({wanted.by}), and a Triton that finds no usable one resolves it to KIND_CPU"
        fate += "" if backend in GPU_ONLY else " without a word"
    else:
        fate = (
            "Triton puts it on every GPU that it can use when it loads it, and where it can use none on the CPU, "
            "without a word"
        )
    no_file = model.config_file is None
    message = f"No {'config.pbtxt' if no_file else 'instance_group'} is written for it: {fate}."
    where = f"into a new {model.folder}/config.pbtxt (Triton completes the rest)" if no_file else "down"
    if kind:
        remedy = f"Write the placement {where}: {group_line(kind, backend)}"
    else:
        lines = " or ".join(group_line(each, backend) for each in ("KIND_GPU", "KIND_CPU"))
        remedy = f"Write the placement {where}: {lines}; --device gpu or --device cpu tells --fix which."
    fix = group_line(kind, backend) if kind and not no_file else ""
    return finding("PlacementImplicit", model, None, message, remedy, fix=fix)


def _on_cpu(model: RepositoryModel, wanted: Wish) -> AuditFinding:
    first = model.said.groups[0]
    count = sum(max(each.count, 1) for each in model.said.groups)
    return finding(
        "CpuFallback",
        model,
        first.kind_line,
        f"The model is meant for a GPU ({wanted.by}), and its instance_group says KIND_CPU.",
        f"Change the instance_group to: {group_line('KIND_GPU', backend_of(model), count)}",
    )


def _mixed(model: RepositoryModel) -> AuditFinding:
    active = [each for each in model.said.groups if not each.passive]
    on_cpu = [each for each in active if each.kind is InstanceKind.CPU]
    slow, groups = sum(max(each.count, 1) for each in on_cpu), len(active)
    return finding(
        "PlacementMixed",
        model,
        on_cpu[0].kind_line,
        f"{len(on_cpu)} of its {groups} instance groups are KIND_CPU and others KIND_GPU: {slow} "
        f"instance{'s' if slow > 1 else ''} on the CPU answer{'' if slow > 1 else 's'} the same requests, and more "
        "slowly; Triton gives work to whichever is free.",
        "Take the KIND_CPU group out, or, where it is meant, give the model the parameter triton_probe.device: any.",
    )


def _silent(model: RepositoryModel, group: WrittenGroup, wanted: Wish) -> AuditFinding:
    kind = kind_for(wanted, backend_of(model))
    says = "says KIND_AUTO" if group.kind_line != group.line else "names no kind, which is KIND_AUTO"
    lines = [
        group_line(each, backend_of(model), group.count)
        for each in ((kind,) if kind else ("KIND_GPU", "KIND_CPU"))
    ]
    meant = f" It is meant for a GPU ({wanted.by})." if wanted.expected is Expected.GPU else ""
    return finding(
        "SilentFallback",
        model,
        group.kind_line,
        f"Its instance_group {says}: a GPU where Triton can use one when it loads it, and else the CPU, "
        f"without a word.{meant}",
        f"Name the kind: {' or '.join(lines)}",
    )
