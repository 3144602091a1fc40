"""One look at the container in which a process runs."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from probe.facts.container import ContainerReading, ShmUse
from probe.kits.clocks import now
from probe.sources.container import cgroups, holders, shm
from probe.sources.container.accounts import Accounts
from probe.sources.container.files import Reader, readable, signed, whole
from probe.sources.container.owner import owner

_OWN_SHM = Path("/dev/shm")
_MEMINFO = b"/proc/meminfo"


class ContainerSource:
    """Reads Triton's cgroups and ``/dev/shm`` through ``/proc``; keeps nothing between looks.

    Its cgroup files and ``/dev/shm`` are reached through ``/proc/<pid>/root``, which asks for the process's
    uid and gid and no fewer capabilities, or for SYS_PTRACE (ptrace(2), access mode checking).
    """

    def __init__(self, proc: Path = Path("/proc"), own_shm: Path = _OWN_SHM) -> None:
        """Look below ``proc``; ``own_shm`` is where the probe's own ``/dev/shm`` is."""
        self._proc = os.fsencode(proc)
        self._own_shm = own_shm

    def look(self, pid: int | None, suspects: frozenset[str] = frozenset()) -> ContainerReading:
        """What can be read of the container of this process, at this moment; never raises.

        Blocks for as long as the kernel takes (below a millisecond).  Of the ``suspects``, files in ``/dev/shm``,
        it is told whether a process holds them, which takes as long as reading what every process maps.
        Without a pid, or where the process is gone or moved to another cgroup midway, the reading is empty.
        """
        observed = now()
        if pid is None:
            return ContainerReading(observed)
        base = self._proc + b"/%d" % pid
        reader = Reader()
        membership = reader.take(base + b"/cgroup")
        mountinfo = reader.take(base + b"/mountinfo")
        if mountinfo is None and not reader.refused:  # gone, or a zombie, which has no mounts
            return ContainerReading(observed)
        known = cgroups.memberships(membership or b"")
        mounted = cgroups.mounts(mountinfo or b"")
        accounts = Accounts(base + b"/root", reader)
        memory = cgroups.membership(known, b"memory")
        use, shm_refused = self._shm(base, mountinfo or b"", suspects)
        reading = ContainerReading(
            observed=observed,
            cgroup=memory.version if memory else None,
            path=readable(memory.path) if memory else "",
            memory=accounts.memory(cgroups.place(known, mounted, b"memory")),
            cpu=accounts.cpu(
                cgroups.place(known, mounted, b"cpu"), cgroups.place(known, mounted, b"cpuacct")
            ),
            pids=accounts.pids(cgroups.place(known, mounted, b"pids")),
            shm=use,
            oom_score_adj=signed(reader.take(base + b"/oom_score_adj")),
            node_memory_bytes=_node_memory(),
        )
        # A cgroup that was removed midway looks like one whose controllers are off, and an ancestor's
        # figures like its own: only a process that is still where it was vouches for what was read.
        if reader.take(base + b"/cgroup") != membership:
            return ContainerReading(observed)
        denied = ("cgroup",) * reader.refused + ("shm",) * shm_refused
        if not denied:
            return reading
        return msgspec.structs.replace(reading, denied=denied, owner=owner(reader.take(base + b"/status")))

    def _shm(self, base: bytes, mountinfo: bytes, suspects: frozenset[str]) -> tuple[ShmUse | None, bool]:
        try:
            descriptor = shm.reached(base, mountinfo, self._own_shm)
        except OSError as error:
            return None, isinstance(error, PermissionError)
        try:
            return self._seen(descriptor, base, mountinfo, suspects), False
        except OSError:
            return None, False
        finally:
            os.close(descriptor)

    def _seen(
        self, descriptor: int, base: bytes, mountinfo: bytes, suspects: frozenset[str]
    ) -> ShmUse | None:
        use, listed = shm.use_of(descriptor), shm.listing(descriptor)
        if use is None or listed is None:
            return use
        files, cut = listed
        asked = [each for each in files if each.file.name in suspects]
        if shm.is_tmpfs(mountinfo):
            answer = holders.search(self._proc, asked)
        else:
            answer = holders.Answer(undecided=frozenset(each.file.name for each in asked))
        return msgspec.structs.replace(
            use,
            files=tuple(each.file for each in files),
            cut=cut,
            mapped=answer.mapped,
            unmapped=answer.unmapped,
            undecided=answer.undecided,
            shared_beyond=shm.shared_beyond(self._proc, base, mountinfo),
        )


def _node_memory() -> int | None:
    # MemTotal of proc(5), in KiB.  psutil reads all of the file into numbers, which is half of a look's cost.
    _, _, rest = (Reader().take(_MEMINFO) or b"").partition(b"MemTotal:")
    kibibytes = whole(rest.partition(b" kB\n")[0])
    return None if kibibytes is None else kibibytes * 1024
