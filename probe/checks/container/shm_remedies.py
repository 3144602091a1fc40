"""What to write where ``/dev/shm`` is too small, and what to remove where nobody owns what is in it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_MIB = 1 << 20
_STEP = 64 * _MIB
_HEADROOM = 2
"""Regions never shrink, and a reload starts the new stubs beside the old ones."""
REMOVED_AT_MOST = 20
"""Names in a command line to paste; with more than these, the pod is better replaced."""

INODES = (
    "Find out who leaves so many files there (ls -l /dev/shm), and remove those that nobody uses: each file takes an "
    "inode. A larger size brings no more of them; where the mount sets nr_inodes, raise that."
)


def suggested_size(needed_bytes: int) -> int:
    """A size for ``/dev/shm``, in bytes, where this much is needed."""
    return -(-needed_bytes * _HEADROOM // _STEP) * _STEP


def room(size_bytes: int) -> str:
    """How to give it this size, which is a multiple of 64 MiB."""
    mib = size_bytes // _MIB
    return (
        f"Give Triton's container a /dev/shm of {mib}Mi: a volume emptyDir: {{medium: Memory, sizeLimit: {mib}Mi}} "
        f"mounted at /dev/shm (docker: --shm-size={mib}m). What lies in it counts towards the container's memory "
        "limit."
    )


def removal(names: Sequence[str]) -> str:
    """How to get rid of these files, which no process owns."""
    paths = " ".join(shlex.quote(f"/dev/shm/{each}") for each in names[:REMOVED_AT_MOST])
    more = len(names) - REMOVED_AT_MOST
    rest = f" (and {more} more)" if more > 0 else ""
    return (
        f"Remove them in Triton's container: rm -- {paths}{rest}. They never go by themselves: in Kubernetes they "
        "outlive the container, and only with the pod does its /dev/shm go."
    )
