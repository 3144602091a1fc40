"""Do all instances fit into the memory and the /dev/shm that Triton will have?"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from probe.checks.audit.backends import STUBS, backend_of
from probe.checks.audit.terms import SERVER_MEMORY_BYTES, Terms, instances, loaded, wish
from probe.facts.audits import RULES, AuditFinding
from probe.facts.findings import Severity
from probe.facts.models import InstanceKind
from probe.facts.placement import Expected
from probe.facts.repository import Deployment, RepositoryModel

_MIB = 1 << 20
_STEP = 64 * _MIB
_NAMED = 3
"""Models that a message names; who wants all has the JSON."""


class _Share(msgspec.Struct, frozen=True):
    """One model's part: its stubs, or the bytes of its files that tritonserver itself will hold."""

    model: str
    versions: int
    instances: int
    file_bytes: int

    @property
    def stubs(self) -> int:
        return self.versions * self.instances

    @property
    def arithmetic(self) -> str:
        times = f"{self.versions} versions x {self.instances}" if self.versions > 1 else str(self.instances)
        return f"{self.model} {times}"


def judge(deployment: Deployment, terms: Terms) -> Iterator[AuditFinding]:
    """One finding on shared memory and one on memory at most, each only where the size was given."""
    shares = [_share(each, terms) for each in deployment.models if not each.variant and each.readable]
    stubs = sorted((each for each in shares if each.instances), key=lambda each: -each.stubs)
    path = deployment.paths[0]
    if terms.shm_bytes is not None:
        yield from _shm(path, stubs, terms, terms.shm_bytes)
    if terms.memory_bytes is not None:
        yield from _memory(path, shares, stubs, terms, terms.memory_bytes)


def _share(model: RepositoryModel, terms: Terms) -> _Share:
    count, versions, backend = instances(model, terms), loaded(model), backend_of(model)
    if backend in STUBS:
        return _Share(model.name, versions, count, 0)
    kinds = {each.kind for each in model.said.groups}
    on_cpu = kinds == {InstanceKind.CPU} or (not kinds and wish(model, terms).expected is Expected.CPU)
    kept = model.said.policy.kept(each.version for each in model.versions)
    held = sum(each.bytes for each in model.versions if each.version in kept) if on_cpu else 0
    # A session of ONNX Runtime holds its own copy of the weights; what others share is not known.
    return _Share(model.name, versions, 0, held * (count if backend == "onnxruntime" else 1))


def _shm(path: str, stubs: list[_Share], terms: Terms, given: int) -> Iterator[AuditFinding]:
    count, each = sum(share.stubs for share in stubs), terms.stub_shm_bytes
    first, grown = count * each, count * each * 2
    if first > given:
        message = (
            f"{count} stubs ({_named(stubs)}) begin with {_size(each)} of /dev/shm each: {_size(first)}, and --shm is "
            f"{_size(given)}. Not all of them can be loaded."
        )
        severity = Severity.CRITICAL
    elif grown > given:
        message = (
            f"{count} stubs ({_named(stubs)}) need {_size(grown)} of /dev/shm as soon as each has grown once "
            f"({_size(each)} and a step of {_size(each)}), and --shm is {_size(given)}. A region never shrinks."
        )
        severity = RULES["ShmTooSmall"].severity
    else:
        return
    wanted = -(-grown * 2 // _STEP) * _STEP
    remedy = (
        f"Give Triton's container a /dev/shm of {wanted // _MIB}Mi at least: a volume emptyDir: {{medium: Memory, "
        f"sizeLimit: {wanted // _MIB}Mi}} mounted there, or docker's --shm-size={wanted // _MIB}m."
    )
    yield AuditFinding("ShmTooSmall", severity, "", path, None, message, remedy)


def _memory(
    path: str, shares: list[_Share], stubs: list[_Share], terms: Terms, given: int
) -> Iterator[AuditFinding]:
    count, each = sum(share.stubs for share in stubs), terms.stub_memory_bytes
    files = sum(share.file_bytes for share in shares)
    needed = SERVER_MEMORY_BYTES + count * each + files
    if needed <= given:
        return
    parts = [f"tritonserver itself {_size(SERVER_MEMORY_BYTES)}"]
    if count:
        parts.append(f"{count} stubs ({_named(stubs)}) x {_size(each)} = {_size(count * each)}")
    if files:
        parts.append(f"the files of models on the CPU {_size(files)}")
    wanted = -(-(needed + needed // 4) // _STEP) * _STEP
    yield AuditFinding(
        "MemoryTooSmall",
        RULES["MemoryTooSmall"].severity,
        "",
        path,
        None,
        f"{', '.join(parts)}: {_size(needed)} at least, and --memory is {_size(given)}. What the models' code imports "
        "and loads comes on top.",
        f"Set a limit above {wanted // _MIB}Mi, or fewer instances; --stub-memory takes what one of yours holds.",
    )


def _named(stubs: list[_Share]) -> str:
    names = [each.arithmetic for each in stubs[:_NAMED]]
    more = len(stubs) - _NAMED
    return ", ".join(names) + (f" and {more} more models" if more > 0 else "")


def _size(size: int) -> str:
    return f"{size / _MIB:.4g} MiB"
