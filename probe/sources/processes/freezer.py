"""Which processes the freezer of a cgroup holds: read from its files, and never touched.

``stat`` does not tell it: a process in a frozen cgroup of version 1 is in uninterruptible sleep, one of
version 2 sleeps like any other (Linux ``cgroup-v1/freezer-subsystem.rst``, ``cgroup-v2.rst``).  Version 2
freezes in every hierarchy that is mounted, also where controllers are bound to version 1 beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import msgspec

from probe.facts.processes import ProcessId, ProcessState
from probe.sources.container import cgroups
from probe.sources.container.files import Reader, entry, readable
from probe.sources.processes.procfs import Procfs, Stat

LOOKS_AT_ONCE = 64
"""Processes whose cgroup is read again in one scan, beside those that are new or in uninterruptible sleep: of
1,000 stubs each is looked up about every half minute, and all of a usual Triton's every time."""

_CONTROLLER = b"freezer"
_MAY_BE_FROZEN = {
    1: frozenset((ProcessState.UNINTERRUPTIBLE,)),
    2: frozenset((ProcessState.SLEEPING, ProcessState.UNINTERRUPTIBLE, ProcessState.STOPPED)),
}
"""How ``stat`` shows a frozen process; one that it shows otherwise is not held, whatever a file says."""


class _File(msgspec.Struct, frozen=True):
    """A file that tells whether a cgroup is frozen, and the cgroup's path as the kernel names it to us."""

    version: int
    path: bytes
    cgroup: bytes

    def frozen(self, text: bytes) -> bool:
        """Whether it says so: of itself, or because one above it is."""
        if self.version == 1:
            return text.strip() == b"FROZEN"
        return entry(text, b"frozen") == 1


class Freezer:
    """Looks at the cgroups of processes, each of them once a scan; keeps only where they are."""

    def __init__(self, proc: Procfs) -> None:
        """Read below this ``/proc``."""
        self._proc = os.fsencode(proc.base)
        self._memberships: dict[ProcessId, bytes] = {}
        self._files: dict[bytes, tuple[int, tuple[_File, ...]]] = {}

    def held(self, processes: Iterable[Stat]) -> dict[int, str]:
        """The frozen cgroup that holds each, by pid.

        Who is not held, and whose cgroup can not be seen from here, is missing.
        """
        seen = {ProcessId(each.pid, each.start_ticks): each for each in processes}
        self._look_up(seen)
        together: dict[bytes, list[Stat]] = {}
        for process, text in self._memberships.items():
            together.setdefault(text, []).append(seen[process])
        self._files = {text: each for text, each in self._files.items() if text in together}
        found: dict[int, str] = {}
        for text, members in together.items():
            for file in self._frozen(text, [each.pid for each in members]):
                fitting = (each.pid for each in members if each.state in _MAY_BE_FROZEN[file.version])
                found.update(dict.fromkeys(fitting, readable(file.cgroup)))
        return found

    def _look_up(self, seen: dict[ProcessId, Stat]) -> None:
        known = {process: text for process, text in self._memberships.items() if process in seen}
        # What was looked up longest ago stands first: each lookup goes to the end.
        again = {*list(known)[:LOOKS_AT_ONCE]}
        again |= {key for key, stat in seen.items() if stat.state is ProcessState.UNINTERRUPTIBLE}
        reader = Reader()
        for process in (*(key for key in known if key in again), *(key for key in seen if key not in known)):
            known.pop(process, None)
            text = reader.take(self._proc + b"/%d/cgroup" % process.pid)
            if text:
                known[process] = text
        self._memberships = known

    def _frozen(self, text: bytes, pids: list[int]) -> Iterator[_File]:
        through, files = self._files.get(text, (0, ()))
        if through not in pids or not files:
            # Cgroups are seen with the eyes of one of their processes, and it may have gone.
            through, files = pids[0], tuple(self._files_of(pids[0], text))
            self._files[text] = through, files
        reader = Reader()
        for file in files:
            said = reader.take(file.path)
            if said is not None and file.frozen(said):
                yield file

    def _files_of(self, pid: int, text: bytes) -> Iterator[_File]:
        known = cgroups.memberships(text)
        base = self._proc + b"/%d" % pid
        reader = Reader()
        ours = cgroups.mounts(reader.take(self._proc + b"/self/mountinfo") or b"")
        theirs = cgroups.mounts(reader.take(base + b"/mountinfo") or b"")
        for controller, name in ((_CONTROLLER, b"freezer.state"), (cgroups.UNIFIED, b"cgroup.events")):
            member = known.get(controller)
            if member is None:
                continue
            # Our own mounts need no permission, where they show it; else its own do, below its root.
            place, root = cgroups.shown(member, ours, controller), b""
            if place is None:
                place, root = cgroups.place({controller: member}, theirs, controller), base + b"/root"
            if place is not None:
                folder = next(place.levels())
                yield _File(member.version, root + folder + b"/" + name, member.path)
