"""Where a model runs: declared, expected, observed, and how far that can be proven here."""

from __future__ import annotations

import enum
import re

import msgspec

DEVICE_PARAMETER, GPUS_PARAMETER = "triton_probe.device", "triton_probe.gpus"
"""Parameters of its ``config.pbtxt`` by which a model says where it belongs."""

_UUID = re.compile(r"(?:GPU|MIG)-[0-9A-Za-z/-]+")


def gpus_named(text: str) -> tuple[str, ...]:
    """The UUIDs in a list with commas or spaces between; all of them or none.

    Half of a list would forbid what its author allows.
    """
    named = tuple(each for each in re.split(r"[,\s]+", text) if each)
    return named if all(_UUID.fullmatch(each) for each in named) else ()


class EvidenceMode(enum.StrEnum):
    """How far placement can be proven here; measured, never assumed from a version."""

    FULL = "full"
    """Pids and memory of NVML's process lists can be trusted."""
    MEMBERSHIP = "membership"
    """Pids can, memory can not."""
    FOREIGN_PIDS = "foreign_pids"
    """The driver answers with another namespace's pids."""
    BLIND = "blind"
    """An empty list proves nothing."""
    NO_NVML = "no_nvml"


class Evidence(msgspec.Struct, frozen=True):
    """The evidence mode in force and why."""

    mode: EvidenceMode
    why: str

    @property
    def lists_prove_absence(self) -> bool:
        """Whether "not in the list" may be read as "not on the GPU"."""
        return self.mode in (EvidenceMode.FULL, EvidenceMode.MEMBERSHIP)


class Verdict(enum.StrEnum):
    """Where a model was found to run."""

    GPU = "gpu"
    CPU = "cpu"
    MIXED = "mixed"
    UNKNOWN = "unknown"


class Observed(msgspec.Struct, frozen=True):
    """Where a model was found; ``why`` is evidence in sentences.

    ``memory_bytes_by_gpu``: bytes by GPU (or MIG device), without those of which no figure is known.  ``remedy``:
    what would make an UNKNOWN known.
    """

    verdict: Verdict
    gpus: tuple[str, ...]
    gpu_memory_bytes: int | None
    why: tuple[str, ...]
    memory_bytes_by_gpu: dict[str, int] = {}
    remedy: str = ""


class Expected(enum.StrEnum):
    """Where policy wants it to run."""

    GPU = "gpu"
    CPU = "cpu"
    ANY = "any"


class Placement(msgspec.Struct, frozen=True):
    """The verdict on one model, as ``/status`` shows it; ``why`` is evidence in sentences."""

    verdict: Verdict
    expected: Expected
    declared: str | None
    explicit: bool | None
    gpus: tuple[str, ...]
    gpu_memory_bytes: int | None
    why: tuple[str, ...]
    memory_bytes_by_gpu: dict[str, int] = {}
    """Bytes by GPU (or MIG device), without those of which no figure is known."""
