"""What one placement is: a model, what its processes really do, and what must be concluded of it."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

import msgspec

from probe.facts.placement import EvidenceMode, Verdict


class Sight(enum.StrEnum):
    """How NVML shows what is really there."""

    WHOLE = "pids and memory, as they are"
    PIDS = "pids, and 0 bytes for each"
    FOREIGN = "pids of the host's namespace"
    EMPTY = "no process on any GPU"
    ABSENT = "nothing: there is no library"
    ONE_LIST = "no list of GPU 0, the others as they are"

    @property
    def mode(self) -> EvidenceMode:
        """The mode that the daemon must find itself in."""
        return _MODES[self]


_MODES = {
    Sight.WHOLE: EvidenceMode.FULL,
    Sight.PIDS: EvidenceMode.MEMBERSHIP,
    Sight.FOREIGN: EvidenceMode.FOREIGN_PIDS,
    Sight.EMPTY: EvidenceMode.BLIND,
    Sight.ABSENT: EvidenceMode.NO_NVML,
    Sight.ONE_LIST: EvidenceMode.FULL,
}
UNPROVEN = (Sight.FOREIGN, Sight.EMPTY, Sight.ABSENT)
"""Where a process list can prove no absence."""

ABSENCES = frozenset(("CpuFallback", "GpuNotUsed", "WrongGpu", "PlacementSkewed"))
"""Reasons that say of a model that it is not where it should be."""
REASONS = ABSENCES | {"PlacementImplicit", "PlacementUnknown", "ModelLoadFailed", "InstancesMissing"}
"""Reasons of which a case must name exactly those that stand."""


_STUB_BACKENDS = ("python", "vllm")


class Hold(msgspec.Struct, frozen=True):
    """GPU memory of one process of a model: which GPU, how much, and which of its processes.

    Processes are its engines where it has engines, else its stubs, by instance and pid.  ``device`` is a
    MIG device's number on that GPU.
    """

    gpu: int
    mib: int
    process: int = 0
    device: int | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What must be concluded: the verdict, and of the reasons in :data:`REASONS` exactly these."""

    verdict: Verdict
    reasons: frozenset[str] = frozenset()


def on(verdict: str, *reasons: str) -> Outcome:
    """An outcome in few words."""
    return Outcome(Verdict(verdict), frozenset(reasons))


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One model of a repository and the truth about it.

    ``name`` is the model's.  ``steps`` make it an ensemble.  ``policy`` is its entry in
    ``placement.models``, as YAML.  Each gets ``asked`` requests while the daemon watches.
    ``whole`` is what must be concluded where NVML shows everything, ``unproven`` where lists prove no
    absence; ``pids`` and ``one_list`` are as ``whole`` unless they are told.
    """

    name: str
    says: str
    """The case in a few words, for the table."""
    declared: str | None
    expected: str
    whole: Outcome
    unproven: Outcome
    pids: Outcome | None = None
    one_list: Outcome | None = None
    backend: str = "python"
    group: str | None = None
    """The text of its instance groups; None: nothing is written."""
    parameters: Mapping[str, str] = {}
    steps: Sequence[str] = ()
    policy: str = ""
    holds: Sequence[Hold] = ()
    asked: int = 1

    @property
    def in_stubs(self) -> bool:
        """Whether it has processes of its own."""
        return self.backend in _STUB_BACKENDS and not self.steps

    def outcome(self, sight: Sight) -> Outcome:
        """What must be concluded under this sight."""
        if sight in UNPROVEN:
            return self.unproven
        told = {Sight.PIDS: self.pids, Sight.ONE_LIST: self.one_list}.get(sight)
        return told or self.whole


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One Triton with so many GPUs, its models, and the ways in which it is looked at.

    ``default`` is ``placement.default``; ``cuda_error`` is what counting devices answers instead of a
    number; ``migs`` says how many MIG devices a GPU is cut into, by its number.
    """

    name: str
    devices: int
    cases: Sequence[Case]
    sights: Sequence[Sight]
    default: str = "auto"
    cuda_error: int = 0
    migs: Mapping[int, int] = {}


class Conclusion(msgspec.Struct, frozen=True):
    """What the daemon made of a model: its placement, the reasons that stand, and all that ever stood."""

    mode: EvidenceMode
    declared: str | None
    expected: str
    verdict: Verdict
    gpus: tuple[str, ...]
    gpu_memory_bytes: int | None
    why: tuple[str, ...]
    reasons: frozenset[str]
    ever: frozenset[str]

    @property
    def outcome(self) -> Outcome:
        """As a case names it."""
        return Outcome(self.verdict, self.reasons)


def false_absences(case: Case, sight: Sight, concluded: Conclusion) -> frozenset[str]:
    """Reasons that ever said that a model is not where it should be, and could not know it or were wrong.

    Where a list proves no absence, nothing may say so but Triton itself, which resolved the model to the
    CPU; and of a model that is where it should be nobody may ever say it.
    """
    said = concluded.ever & ABSENCES
    by_triton = case.declared == "cpu" and case.expected == "gpu"
    if sight in UNPROVEN:
        return said - ({"CpuFallback"} if by_triton else frozenset())
    return said - case.whole.reasons
