"""What a container of a pod takes, by its own cgroup."""

from __future__ import annotations

import os
from pathlib import Path

from probe.sandbox.errors import SandboxError
from probe.sources.container import cgroups


def working_set_bytes(pid: int) -> int:
    """The memory of this process's cgroup as the kubelet counts it: without file cache that could be given back.

    Version 1; raises :class:`SandboxError` where it has no such cgroup.
    """
    members = cgroups.memberships(Path(f"/proc/{pid}/cgroup").read_bytes())
    place = cgroups.place(members, cgroups.mounts(Path("/proc/self/mountinfo").read_bytes()), b"memory")
    if place is None:
        raise SandboxError(f"pid {pid} is in no memory cgroup")
    folder = Path(os.fsdecode(next(place.levels())))
    stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return int((folder / "memory.usage_in_bytes").read_text()) - int(stat["total_inactive_file"])
