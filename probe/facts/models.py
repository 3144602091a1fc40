"""Models as Triton speaks of them: versions, configuration, statistics, states."""

from __future__ import annotations

import enum

import msgspec


class ModelVersion(msgspec.Struct, frozen=True, order=True):
    """One version of one model; ``version`` is empty where Triton named none (a failed load)."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}/{self.version}" if self.version else self.name


class ModelState(enum.StrEnum):
    """Lifecycle of a model version in the repository index; UNKNOWN where the index named none."""

    READY = "ready"
    LOADING = "loading"
    UNLOADING = "unloading"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"


class InstanceKind(enum.StrEnum):
    """Where an instance group is declared to run, after Triton resolved ``KIND_AUTO``."""

    AUTO = "auto"
    GPU = "gpu"
    CPU = "cpu"
    MODEL = "model"


class InstanceGroup(msgspec.Struct, frozen=True):
    """One group of the resolved configuration.

    ``gpus`` are CUDA ordinals inside Triton's process, never NVML indexes.  Instances are named
    ``<name>_<i>``; a group with two GPUs makes two instances of the same name.
    """

    name: str
    kind: InstanceKind
    count: int
    gpus: tuple[int, ...] = ()
    passive: bool = False

    @property
    def instances(self) -> int:
        """How many instances Triton makes of this group: one a count and a GPU."""
        return self.count * max(1, len(self.gpus))


class ModelConfig(msgspec.Struct, frozen=True):
    """What ``ModelConfig`` answered for one version: the configuration after Triton resolved it."""

    key: ModelVersion
    backend: str
    platform: str
    groups: tuple[InstanceGroup, ...]
    steps: tuple[ModelVersion, ...] = ()
    """Composing models of an ensemble; a version of ``-1`` is written as empty: the latest."""
    parameters: tuple[tuple[str, str], ...] = ()
    decoupled: bool = False
    default_file: str = ""
    held_back_seconds: float = 0.0
    """How long Triton itself may hold a request back with the model idle: for a batch to fill, or for the
    slot of a sequence of which no request comes."""
    sequences: bool = False
    """Whether Triton keeps a sequence of requests on one instance."""

    @property
    def ensemble(self) -> bool:
        """Whether this is an ensemble, which has no instances of its own."""
        return self.platform == "ensemble"

    def parameter(self, name: str) -> str | None:
        """A ``string_value`` parameter of the configuration, or None."""
        return dict(self.parameters).get(name)


class DeviceMemory(msgspec.Struct, frozen=True):
    """One row of a model's ``memory_usage``: ``kind`` is GPU, CPU or CPU_PINNED; ``device`` its ordinal."""

    kind: str
    device: int
    bytes: int


class ModelStatistics(msgspec.Struct, frozen=True):
    """Counters of one ready version since it was loaded (they start again at a reload).

    ``last_inference_ms``: milliseconds since the Unix epoch of the last executed batch, 0 for never.
    """

    key: ModelVersion
    success: int
    failure: int
    inferences: int
    executions: int
    last_inference_ms: int
    compute_infer_count: int
    compute_infer_ns: int
    success_ns: int
    memory: tuple[DeviceMemory, ...] = ()
    batch_infer_ns: int = 0
    """Time of all executions, each counted once however many requests it served (sum of ``batch_stats``)."""


class IndexEntry(msgspec.Struct, frozen=True):
    """One line of the repository index; ``reason`` is Triton's own text, empty where it gave none."""

    key: ModelVersion
    state: ModelState
    reason: str = ""
