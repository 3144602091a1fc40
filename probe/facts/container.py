"""Triton's container as the kernel accounts it: cgroup limits and use, ``/dev/shm``."""

from __future__ import annotations

import msgspec

from probe.facts.instants import Instant


class Limit(msgspec.Struct, frozen=True):
    """A limit and where it was read; ``value`` None says "no limit", an absent Limit "not readable"."""

    value: float | None
    path: str


class MemoryUse(msgspec.Struct, frozen=True):
    """Memory of the container in bytes.

    ``limit`` is the smallest on the way to the root; ``working_set_bytes`` is use less inactive file
    cache, as the kubelet counts it; ``oom_kills`` counts since the cgroup was made, and was read at
    ``oom_kills_path``, as Triton's container calls it.
    """

    limit: Limit | None = None
    used_bytes: int | None = None
    working_set_bytes: int | None = None
    peak_bytes: int | None = None
    oom_kills: int | None = None
    stall_seconds: float | None = None
    oom_kills_path: str = ""


class CpuUse(msgspec.Struct, frozen=True):
    """CPU of the container: ``limit`` in cores, the rest in seconds since the cgroup was made."""

    limit: Limit | None = None
    used_seconds: float | None = None
    throttled_seconds: float | None = None


class PidsUse(msgspec.Struct, frozen=True):
    """Processes and threads of the container against its limit."""

    limit: Limit | None = None
    used: int | None = None


class ShmUse(msgspec.Struct, frozen=True):
    """The file system at Triton's ``/dev/shm``."""

    size_bytes: int
    used_bytes: int
    inodes_free: int | None = None


class ContainerReading(msgspec.Struct, frozen=True):
    """One look at Triton's container.

    ``cgroup`` is 1 or 2, None where it can not be told; ``denied`` names what could not be read for
    want of permission, so that it is said once with the security context that gives it.
    ``oom_score_adj`` of tritonserver tells the pod's QoS class.  ``node_memory_bytes`` is MemTotal.
    """

    observed: Instant
    cgroup: int | None = None
    path: str = ""
    memory: MemoryUse = MemoryUse()
    cpu: CpuUse = CpuUse()
    pids: PidsUse = PidsUse()
    shm: ShmUse | None = None
    oom_score_adj: int | None = None
    node_memory_bytes: int | None = None
    denied: tuple[str, ...] = ()
