"""On whose terms is a repository judged: what is wanted of a model, and what the machine will have."""

from __future__ import annotations

import msgspec

from probe.checks.audit.backends import WITH_ACCELERATORS, backend_of
from probe.facts.audits import RULES, AuditFinding
from probe.facts.backends import CPU_ONLY, GPU_ONLY, TWO_ON_CPU
from probe.facts.findings import Severity
from probe.facts.models import InstanceKind
from probe.facts.placement import DEVICE_PARAMETER, GPUS_PARAMETER, Expected, gpus_named
from probe.facts.repository import RepositoryModel, WrittenGroup
from probe.settings import Policy, Settings

STUB_SHM_BYTES = 1 << 20
"""A stub's first region, and each step by which it grows, from release 23.09 on (python_be.cc); 64 MiB before."""
STUB_MEMORY_BYTES = 17 << 20
"""A stub's own pages whose model does nothing, measured in 24.10 (of 36 MiB resident; the rest is shared)."""
SERVER_MEMORY_BYTES = 50 << 20
"""tritonserver's own without a GPU and without a model of its process, measured in 24.10."""


class Terms(msgspec.Struct, frozen=True):
    """What the caller says of the Triton that will be given the repository; None is not said.

    ``device_by`` is how the caller named ``settings.placement.default``.
    """

    settings: Settings = Settings()
    device_by: str = ""
    shm_bytes: int | None = None
    memory_bytes: int | None = None
    stub_shm_bytes: int = STUB_SHM_BYTES
    stub_memory_bytes: int = STUB_MEMORY_BYTES
    gpus: int | None = None


class Wish(msgspec.Struct, frozen=True):
    """Where a model is wanted, and what says so; ``firm`` where somebody said it in so many words."""

    expected: Expected
    by: str
    firm: bool = False

    @property
    def indifferent(self) -> bool:
        """Whether somebody said that any place will do."""
        return self.firm and self.expected is Expected.ANY


def wish(model: RepositoryModel, terms: Terms) -> Wish:
    """Where it is wanted, with the daemon's precedence: its own parameter, its entry, the default.

    ``auto`` is told from the files alone, which do not say whether there will be a GPU; but who names GPUs for
    a model means it to be on one.
    """
    if model.said.ensemble:
        return Wish(Expected.ANY, "an ensemble runs where its steps run")
    word = _own(model, DEVICE_PARAMETER).strip().casefold()
    placement = terms.settings.placement
    entry = placement.models.get(model.name)
    if word in [each.value for each in Policy]:
        policy, by = Policy(word), f"its parameter {DEVICE_PARAMETER}: {word}"
    elif entry is not None and entry.device is not None:
        policy, by = entry.device, f"placement.models.{model.name}.device: {entry.device.value}"
    elif placement.default is Policy.AUTO and gpus_named(_own(model, GPUS_PARAMETER)):
        return Wish(Expected.GPU, f"its parameter {GPUS_PARAMETER}", firm=True)
    elif placement.default is Policy.AUTO and entry is not None and entry.gpus:
        return Wish(Expected.GPU, f"placement.models.{model.name}.gpus", firm=True)
    else:
        policy = placement.default
        by = terms.device_by or f"placement.default: {policy.value}"
    if policy is not Policy.AUTO:
        return Wish(Expected(policy.value), by, firm=True)
    return _automatic(model)


def _own(model: RepositoryModel, parameter: str) -> str:
    told = model.said.parameter(parameter)
    return told.value if told is not None else ""


def _automatic(model: RepositoryModel) -> Wish:
    backend, said = backend_of(model), model.said
    kinds = {each.kind for each in said.groups}
    if backend in CPU_ONLY:
        return Wish(Expected.CPU, f"the backend {backend} runs on the CPU")
    if InstanceKind.GPU in kinds:
        return Wish(Expected.GPU, "its KIND_GPU")
    if backend in GPU_ONLY:
        return Wish(Expected.GPU, f"the backend {backend} computes on GPUs")
    if kinds == {InstanceKind.CPU}:
        return Wish(Expected.CPU, "its KIND_CPU")
    accelerated = [each.name for each in said.accelerators if each.kind is InstanceKind.GPU]
    if accelerated and backend in WITH_ACCELERATORS:
        return Wish(Expected.GPU, f"its gpu_execution_accelerator {accelerated[0]}")
    return Wish(Expected.ANY, "nothing in its files")


def instances(model: RepositoryModel, terms: Terms) -> int:
    """How many instances Triton makes of one of its versions; none of an ensemble."""
    if model.said.ensemble:
        return 0
    backend = backend_of(model)
    groups = model.said.groups or (WrittenGroup("", InstanceKind.AUTO, 0, (), 0, 0),)
    on_cpu = wish(model, terms).expected is Expected.CPU
    return sum(_of_group(each, backend, terms, on_cpu=on_cpu) for each in groups)


def _of_group(group: WrittenGroup, backend: str, terms: Terms, *, on_cpu: bool) -> int:
    cpu = group.kind is InstanceKind.CPU or (group.kind is InstanceKind.AUTO and on_cpu)
    count = group.count if group.count > 0 else 2 if cpu and backend in TWO_ON_CPU else 1
    if cpu or group.kind is InstanceKind.MODEL:
        return count
    return count * (len(group.gpus) or terms.gpus or 1)


def loaded(model: RepositoryModel) -> int:
    """How many of its versions are loaded at once; one where its folder was not given, or says of none."""
    kept = len(model.said.policy.kept(each.version for each in model.versions))
    return 1 if model.lone or (not model.listed and not kept) else kept


def finding(
    rule: str,
    model: RepositoryModel,
    line: int | None,
    message: str,
    remedy: str,
    *,
    fix: str = "",
    severity: Severity | None = None,
) -> AuditFinding:
    """A finding on a model; ``line`` None or 0 where it is about none."""
    bad = severity if severity is not None else RULES[rule].severity
    return AuditFinding(rule, bad, model.name, model.place, line or None, message, remedy, fix)
