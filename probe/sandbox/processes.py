"""Processes as ``/proc`` shows them from outside a pod, for the sandbox's own use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from probe.facts.processes import ProcessState

_STATES = {
    "S": ProcessState.SLEEPING,
    "D": ProcessState.UNINTERRUPTIBLE,
    "T": ProcessState.STOPPED,
    "t": ProcessState.STOPPED,
    "Z": ProcessState.ZOMBIE,
    "X": ProcessState.DEAD,
}
_STAT = re.compile(rb"\A\d+ \((?P<name>.*)\) (?P<state>\S) (?P<parent>\d+) \d+ (?P<session>\d+) ", re.DOTALL)
_NSPID = re.compile(rb"^NSpid:\s+(?P<pids>[\d\t ]+)$", re.MULTILINE)


class PodProcess(msgspec.Struct, frozen=True):
    """One process: ``pid`` and ``parent`` as seen from here, ``inside_pid`` as the pod itself counts.

    ``arguments`` is empty for a zombie; ``parent`` is 0 where it lies outside this pid namespace.
    """

    pid: int
    inside_pid: int
    parent: int
    session: int
    name: str
    state: ProcessState
    arguments: tuple[str, ...]


def read_process(pid: int) -> PodProcess | None:
    """Return the process with this pid, or None where it is gone (or hidden)."""
    folder = Path("/proc") / str(pid)
    try:
        stat = _STAT.match((folder / "stat").read_bytes())
        status = _NSPID.search((folder / "status").read_bytes())
        command = (folder / "cmdline").read_bytes()
    except OSError:
        return None
    if stat is None:
        return None
    return PodProcess(
        pid=pid,
        inside_pid=int(status["pids"].split()[-1]) if status else pid,
        parent=int(stat["parent"]),
        session=int(stat["session"]),
        name=stat["name"].decode(errors="replace"),
        state=_STATES.get(stat["state"].decode(), ProcessState.RUNNING),
        arguments=tuple(each.decode(errors="replace") for each in command.split(b"\0")[:-1]),
    )


def all_pids() -> Iterator[int]:
    """Every pid that this pid namespace shows."""
    return (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit())


def pid_namespace(pid: int) -> str | None:
    """Return the pid namespace of a process, as the kernel names it, or None where it can not be read."""
    try:
        return str((Path("/proc") / str(pid) / "ns" / "pid").readlink())
    except OSError:
        return None


def child_of(pid: int) -> int | None:
    """Return a child of this process, or None; by looking at all processes where the kernel keeps no list."""
    try:
        listed = (Path("/proc") / str(pid) / "task" / str(pid) / "children").read_text().split()
    except OSError:
        pass
    else:
        return int(listed[0]) if listed else None
    for each in all_pids():
        process = read_process(each)
        if process is not None and process.parent == pid:
            return each
    return None
