"""What to write into a pod's manifest: sizes with headroom, and lines to paste; pure."""

from __future__ import annotations

import math

from probe.facts.container import ContainerReading

CONTAINER = "Triton's container (KServe: spec.predictor.model)"
"""Where a line of resources belongs."""
MIB = 1 << 20
GIB = 1 << 30
HEADROOM = 1.25
"""The highest use so far says nothing of the next request: a quarter more is the usual margin."""


def quantity(size: int) -> str:
    """Bytes as a manifest has them, in whole MiB or GiB; what is less than a MiB counts as one."""
    return f"{size // GIB}Gi" if size and size % GIB == 0 else f"{-(-size // MIB)}Mi"


def size_of(size: float) -> str:
    """Bytes as a sentence has them."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"


def rounded(figure: float, headroom: float = HEADROOM) -> int:
    """The figure with headroom, in bytes, rounded up to what people write."""
    wanted = int(figure * headroom) + 1
    step = 64 * MIB if wanted < GIB else 512 * MIB if wanted < 16 * GIB else GIB
    return -(-wanted // step) * step


def cores_up(cores: float) -> float:
    """Cores in steps that a person would choose, never fewer: tenths below one, halves below four, then whole."""
    step = 10 if cores <= 1 else 2 if cores <= 4 else 1  # noqa: PLR2004
    return max(1, math.ceil(round(cores * step, 6))) / step


def cpu_quantity(cores: float) -> str:
    """Cores as Kubernetes writes them: ``4``, ``1500m``."""
    thousandths = math.ceil(round(cores * 1000, 6))
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def memory_line(size: int) -> str:
    """The memory limit of a container."""
    return f"resources: {{limits: {{memory: {quantity(size)}}}}}"


def reserved_line(memory: int, cpu: float | None = None) -> str:
    """A memory limit that the scheduler reserves, so that the node does not run out first, and cores to request.

    The CPU gets no limit: what it takes while it is asked little would throttle it as soon as it is asked more.
    """
    cores = f"cpu: {cpu_quantity(cpu)}, " if cpu is not None else ""
    limit = f"memory: {quantity(memory)}"
    return f"resources: {{requests: {{{cores}{limit}}}, limits: {{{limit}}}}}"


def shm_line(size: int) -> str:
    """The volume to mount at ``/dev/shm``."""
    return f"emptyDir: {{medium: Memory, sizeLimit: {quantity(size)}}}"


def suggested_limit(container: ContainerReading) -> tuple[int, str] | None:
    """A memory limit in bytes and the figure that it comes from, or None where none can be named.

    The peak counts file cache, which without a limit grows with the files that were read: where it leads
    beyond the node, the working set is taken instead.
    """
    node = container.node_memory_bytes
    figures = (
        ("peak use", container.memory.peak_bytes),
        ("working set", container.memory.working_set_bytes),
    )
    for name, figure in figures:
        if figure:
            proposed = rounded(figure)
            if node is None or proposed < node:
                return proposed, f"{name} of {size_of(figure)} + {HEADROOM - 1:.0%}, rounded up"
    return None
