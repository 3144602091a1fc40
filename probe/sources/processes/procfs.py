"""The few files of ``/proc/<pid>`` that are read, with every oddity of theirs turned into ``None``."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from probe.facts.processes import ProcessState

READ_LIMIT = 256 * 1024
"""Bytes read of any file: a command line may be as long as its owner likes."""

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_STATES = {
    "R": ProcessState.RUNNING,
    "S": ProcessState.SLEEPING,
    "I": ProcessState.SLEEPING,
    "D": ProcessState.UNINTERRUPTIBLE,
    "T": ProcessState.STOPPED,
    "t": ProcessState.STOPPED,
    "Z": ProcessState.ZOMBIE,
    "X": ProcessState.DEAD,
    "x": ProcessState.DEAD,
}
_MOST_THREADS = 1 << 22
"""The kernel's own limit (PID_MAX_LIMIT): more is garbage."""
_MINOR = re.compile(r"nvidia([0-9]+)\Z")
_UUID = re.compile(r"(?:GPU|MIG)-[0-9A-Za-z/-]+")


class Stat(msgspec.Struct, frozen=True):
    """``/proc/<pid>/stat`` as far as it is used; field numbers in proc(5).

    ``exit_status`` (field 52) is the wait status of a zombie; zero may also mean "you may not know".
    A process whose main thread has ended while others go on is shown as a zombie and is none: ``state``
    is SLEEPING then.
    """

    pid: int
    name: str
    state: ProcessState
    parent: int
    cpu_ticks: int
    start_ticks: int
    rss_bytes: int
    exit_status: int
    threads: int | None = None


def parse_stat(raw: bytes) -> Stat | None:
    """One ``stat`` line, or None for what is none.

    The name stands in parentheses and may itself hold parentheses, blanks and newlines: it ends at the
    last one.
    """
    opened, closed = raw.find(b"("), raw.rfind(b")")
    if opened < 0 or closed < opened:
        return None
    fields = raw[closed + 1 :].split()
    try:
        threads = int(fields[17])
        return Stat(
            pid=int(raw[:opened]),
            name=raw[opened + 1 : closed].decode("utf-8", errors="replace"),
            state=_state(fields[0].decode("ascii", errors="replace"), threads),
            parent=int(fields[1]),
            cpu_ticks=int(fields[11]) + int(fields[12]),
            start_ticks=int(fields[19]),
            rss_bytes=max(0, int(fields[21])) * PAGE_BYTES,
            exit_status=int(fields[49]) if len(fields) > 49 else 0,  # noqa: PLR2004
            threads=threads if 0 < threads <= _MOST_THREADS else None,
        )
    except (ValueError, IndexError):
        return None


def _state(letter: str, threads: int) -> ProcessState:
    # A killed process of many threads may show its first one dead for a while before the last one is: its
    # pidfd tells nothing yet, and there is no exit status to read.
    state = _STATES.get(letter, ProcessState.RUNNING)
    return ProcessState.SLEEPING if state is ProcessState.ZOMBIE and threads > 1 else state


class Procfs:
    """A mounted proc file system; every method answers None for a process that is gone or closed to us."""

    def __init__(self, root: Path = Path("/proc")) -> None:
        """Read below this folder."""
        self._base = os.fspath(root)

    @property
    def base(self) -> str:
        """Where it is mounted."""
        return self._base

    def pids(self) -> list[int]:
        """Every pid here now.

        Raises OSError where the folder can not be read (out of file descriptors, for one): that is no
        sample, and not "nothing runs here".
        """
        return [int(name) for name in os.listdir(self._base) if name.isdecimal()]

    def stat(self, pid: int) -> Stat | None:
        """The process's ``stat``."""
        raw = self._read(f"{self._base}/{pid}/stat")
        return parse_stat(raw) if raw is not None else None

    def arguments(self, pid: int) -> tuple[str, ...]:
        """The command line, empty for a zombie (whose memory is gone) and for a process that is gone."""
        raw = self._read(f"{self._base}/{pid}/cmdline") or b""
        # Bytes that are no text are replaced: these words end up in messages and in JSON.
        parts = raw.decode("utf-8", errors="replace").split("\0")
        return tuple(parts[:-1] if parts and not parts[-1] else parts)

    def visible_devices(self, pid: int) -> tuple[str, ...] | None:
        """The process's first ``CUDA_VISIBLE_DEVICES`` where it lists UUIDs alone; else, and where it is closed, None.

        Ordinals in it are of no use: what they count depends on the driver and on ``CUDA_DEVICE_ORDER``.
        Nothing else of the environment is kept, for it holds secrets.
        """
        for each in (self._read(f"{self._base}/{pid}/environ") or b"").split(b"\0"):
            name, _, value = each.partition(b"=")
            if name == b"CUDA_VISIBLE_DEVICES":
                devices = tuple(part.strip() for part in value.decode("utf-8", errors="replace").split(","))
                return devices if all(_UUID.fullmatch(part) for part in devices) else None
        return None

    def gpu_minors(self, pid: int) -> tuple[int, ...] | None:
        """The N of each ``/dev/nvidia<N>`` in the process's root, or None where it can not be read."""
        try:
            names = os.listdir(f"{self._base}/{pid}/root/dev")
        except OSError:
            return None
        return tuple(sorted(int(found[1]) for name in names if (found := _MINOR.match(name))))

    def shm_bytes(self, pid: int, region: str) -> int | None:
        """Bytes that a region of the process's ``/dev/shm`` really occupies, or None."""
        if not region or "/" in region or "\0" in region:
            return None
        try:
            return os.stat(f"{self._base}/{pid}/root/dev/shm/{region}").st_blocks * 512
        except (OSError, ValueError):
            return None

    def in_initial_namespace(self) -> bool:
        """Whether our own pid namespace is the machine's first (its inode number is fixed: proc_ns.h)."""
        try:
            return os.readlink(f"{self._base}/self/ns/pid") == "pid:[4026531836]"
        except OSError:
            return False

    def same_network(self, pid: int) -> bool | None:
        """Whether the process shares our network namespace, None where that can not be read."""
        try:
            return os.readlink(f"{self._base}/{pid}/ns/net") == os.readlink(f"{self._base}/self/ns/net")
        except OSError:
            return None

    @staticmethod
    def _read(path: str) -> bytes | None:
        try:
            with open(path, "rb", buffering=0) as file:
                return file.read(READ_LIMIT)
        except OSError:
            return None
