"""What size Triton's container needs, as ``/status`` tells it and ``triton-probe size`` prints it."""

from __future__ import annotations

import datetime

import msgspec


class ContainerPeak(msgspec.Struct, frozen=True):
    """The container at its highest: bytes and cores, None where it can not be told.

    Memory is the working set.  ``steady`` is what serving comes up to but for spikes, ``load`` the highest while
    a model was loading, the third the highest of all.  ``memory_kernel_bytes`` is the kernel's own peak, which
    counts file cache; ``memory_life_bytes`` the highest since the probe began, whoever held it.
    """

    memory_bytes: int | None = None
    memory_steady_bytes: int | None = None
    memory_load_bytes: int | None = None
    memory_kernel_bytes: int | None = None
    memory_life_bytes: int | None = None
    cpu_cores: float | None = None
    cpu_steady_cores: float | None = None
    cpu_load_cores: float | None = None
    shm_bytes: int | None = None
    gpu_memory_bytes: dict[str, int] = {}
    """By GPU UUID: of tritonserver and everything below it."""


class ModelPeak(msgspec.Struct, frozen=True):
    """One model version with processes of its own, at its highest; see :class:`ContainerPeak`.

    Its memory is added up over its stubs and all below them: pages that they share count more than once.
    """

    name: str
    version: str
    memory_bytes: int | None = None
    memory_steady_bytes: int | None = None
    memory_load_bytes: int | None = None
    cpu_cores: float | None = None
    cpu_steady_cores: float | None = None
    shm_bytes: int | None = None
    gpu_memory_bytes: dict[str, int] = {}


class SizeLine(msgspec.Struct, frozen=True):
    """One line of the proposal.

    ``what`` is ``requests.cpu``, ``requests.memory``, ``limits.memory``, ``limits.cpu``, ``limits.nvidia.com/gpu``
    or ``shm.sizeLimit``; ``value`` a Kubernetes quantity, None where none is proposed, and then ``if_demanded``
    is what to write where something demands one.  ``figure`` is what was seen, ``reason`` why this follows.
    ``at_least``: what was seen was held down by a limit, so that the value is a guess.
    """

    what: str
    value: str | None
    figure: str
    reason: str
    at_least: bool = False
    now: str | None = None
    """What is set now; "none" where nothing limits it, None where that can not be told."""
    if_demanded: str | None = None


class SizingStatus(msgspec.Struct, frozen=True):
    """What was watched, whether that is enough to tell, and what follows.

    ``watched_seconds`` are those of serving since ``since``, ``minutes`` those that were looked at, and
    ``busy_minutes`` of them had requests.  ``why_not``: what is missing, in sentences, empty where ``enough``.
    """

    since: datetime.datetime | None
    watched_seconds: float
    minutes: int
    busy_minutes: int
    enough: bool
    why_not: tuple[str, ...]
    headroom: float
    container: ContainerPeak
    models: tuple[ModelPeak, ...]
    proposal: tuple[SizeLine, ...]
