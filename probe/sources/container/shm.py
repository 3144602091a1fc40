"""The file system at Triton's ``/dev/shm``, where its stubs exchange tensors."""

from __future__ import annotations

import os
from pathlib import Path

from probe.facts.container import ShmUse
from probe.sources.container.cgroups import device_at

_POINT = b"/dev/shm"
# O_NOFOLLOW: a link in the container's image would be followed in the probe's own root.
_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def through(root: bytes) -> ShmUse | None:
    """Use of ``/dev/shm`` below a ``/proc/<pid>/root``; None where it has no size.

    Raises OSError where it can not be reached (PermissionError without the right to trace the process).
    """
    return _use(root + _POINT)


def shared(mountinfo: bytes, own: Path) -> ShmUse | None:
    """Use of our own ``/dev/shm``, if it is provably the process's as well, else None.

    Containers of a pod share one (CRI runtimes mount the sandbox's into each), which the device number in
    the process's ``mountinfo`` tells without any privilege.
    """
    device = device_at(mountinfo, _POINT)
    try:
        number = own.stat().st_dev
        if device != (os.major(number), os.minor(number)):
            return None
        return _use(os.fsencode(own))
    except OSError:
        return None


def _use(path: bytes) -> ShmUse | None:
    descriptor = os.open(path, _FLAGS)
    try:
        seen = os.fstatvfs(descriptor)
    finally:
        os.close(descriptor)
    if seen.f_blocks == 0:  # a tmpfs without a limit has no size that could be used up
        return None
    return ShmUse(
        size_bytes=seen.f_blocks * seen.f_frsize,
        used_bytes=(seen.f_blocks - seen.f_bfree) * seen.f_frsize,
        inodes_free=seen.f_favail if seen.f_files else None,
    )
