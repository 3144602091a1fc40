"""Triton's container as the kernel accounts it: cgroup limits and use, ``/dev/shm``."""

from __future__ import annotations

import msgspec

from probe.facts.instants import Instant

_FEW_INODES = 1000
"""Each region takes one; of a large file system, a tenth of its inodes is still far more than there can be stubs."""


class Limit(msgspec.Struct, frozen=True):
    """A limit and where it was read; ``value`` None says "no limit", an absent Limit "not readable"."""

    value: float | None
    path: str


class MemoryUse(msgspec.Struct, frozen=True):
    """Memory of the container in bytes.

    ``limit`` is the smallest on the way to the root; ``working_set_bytes`` is use less inactive file
    cache, as the kubelet counts it; ``shmem_bytes`` is what of it lies in tmpfs files, ``/dev/shm`` among them.
    ``oom_kills`` counts since the cgroup was made, and was read at ``oom_kills_path``, as Triton's container
    calls it; ``oom_group_kills`` counts how often the whole cgroup was killed at once (version 2), and
    ``oom_group`` says whether it would be (``memory.oom.group``).
    """

    limit: Limit | None = None
    used_bytes: int | None = None
    working_set_bytes: int | None = None
    peak_bytes: int | None = None
    oom_kills: int | None = None
    stall_seconds: float | None = None
    """Seconds that some task of the container waited for memory (PSI ``some``)."""
    oom_kills_path: str = ""
    shmem_bytes: int | None = None
    oom_group_kills: int | None = None
    oom_group: bool | None = None
    active_file_bytes: int | None = None
    """File cache that was used lately, which the working set counts; the kernel drops it before it kills."""


class CpuUse(msgspec.Struct, frozen=True):
    """CPU of the container: ``limit`` in cores, times in seconds since the cgroup was made.

    ``periods`` and ``throttled_periods`` count periods of the limit, and those in which it held the container
    back.  ``weight`` is the relative share as version 2 counts it (1 to 10000; version 1's shares are converted
    as the container runtimes do): the kubelet sets it from the CPU request, 1 where there is none.
    """

    limit: Limit | None = None
    used_seconds: float | None = None
    throttled_seconds: float | None = None
    periods: int | None = None
    throttled_periods: int | None = None
    weight: int | None = None
    stall_seconds: float | None = None
    """Seconds that some task of the container waited for a CPU (PSI ``some``)."""


class PidsUse(msgspec.Struct, frozen=True):
    """Processes and threads of the container against its limit; ``refused`` forks since the cgroup was made."""

    limit: Limit | None = None
    used: int | None = None
    refused: int | None = None


class ShmFile(msgspec.Struct, frozen=True):
    """A file in ``/dev/shm``: what it holds (its blocks, not its length), in bytes, and when it was last written.

    ``modified`` is in seconds since the Unix epoch.
    """

    name: str
    held_bytes: int
    modified: float


class ShmUse(msgspec.Struct, frozen=True):
    """The file system at Triton's ``/dev/shm``.

    ``files`` are the regular files at its top, None where they can not be listed; ``cut`` where there are too
    many to list all.  Of the names that the caller asked about, ``mapped`` are those that a process maps or has
    open, ``unmapped`` those that none does of all processes here, and ``undecided`` those of which that could
    not be told.  ``shared_beyond``: processes that can not be seen from here may use it too, for it may be
    the machine's (``--ipc=host``, a volume of ``/dev/shm``).
    """

    size_bytes: int
    used_bytes: int
    inodes_free: int | None = None
    inodes_total: int | None = None
    files: tuple[ShmFile, ...] | None = None
    cut: bool = False
    mapped: frozenset[str] = frozenset()
    unmapped: frozenset[str] = frozenset()
    undecided: frozenset[str] = frozenset()
    shared_beyond: bool = False


class ShmLevel(msgspec.Struct, frozen=True):
    """How full Triton's ``/dev/shm`` was at one moment, in bytes; inodes None where they are not limited.

    ``region_came``: a file by the name of a stub's region has appeared since the moment before.
    """

    observed: Instant
    size_bytes: int
    used_bytes: int
    inodes_free: int | None = None
    inodes_total: int | None = None
    region_came: bool = False

    @property
    def free_bytes(self) -> int:
        """What is left."""
        return max(0, self.size_bytes - self.used_bytes)

    @property
    def nearly_full(self) -> bool:
        """Whether nine tenths of the bytes are in use, or of the inodes and few are left."""
        few = (
            self.inodes_free is not None
            and self.inodes_total is not None
            and self.inodes_free < _FEW_INODES
            and self.inodes_free * 10 <= self.inodes_total
        )
        return few or self.used_bytes * 10 >= self.size_bytes * 9


class OomCounts(msgspec.Struct, frozen=True):
    """The container's counts of OOM kills at the moment when the kernel told that they changed."""

    observed: Instant
    path: str
    kills: int
    group_kills: int | None = None


class Owner(msgspec.Struct, frozen=True):
    """Whose process tritonserver is, as numbers; ``capable``: it holds capabilities."""

    uid: int
    gid: int
    capable: bool


class ContainerReading(msgspec.Struct, frozen=True):
    """One look at Triton's container.

    ``cgroup`` is 1 or 2, None where it can not be told; ``denied`` names what could not be read for
    want of permission, so that it is said once with the security context that gives it; ``owner`` is asked
    for then alone.
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
    owner: Owner | None = None
