"""What to write into a pod's manifest: sizes with headroom, and lines to paste; pure."""

from __future__ import annotations

from probe.facts.container import ContainerReading

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


def memory_line(size: int) -> str:
    """The memory limit of a container."""
    return f"resources: {{limits: {{memory: {quantity(size)}}}}}"


def reserved_line(size: int) -> str:
    """A memory limit that the scheduler reserves, so that the node does not run out first."""
    return f"resources: {{requests: {{memory: {quantity(size)}}}, limits: {{memory: {quantity(size)}}}}}"


def cpu_line(cores: float) -> str:
    """The CPU limit of a container, in whole thousandths of a core."""
    thousandths = -(-round(cores * 1_000_000) // 1000)
    written = f"{thousandths // 1000}" if thousandths % 1000 == 0 else f"{thousandths}m"
    return f'resources: {{limits: {{cpu: "{written}"}}}}'


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
