"""Processes of a Triton: the server, its stubs, their children; identity is pid and start time."""

from __future__ import annotations

import enum

import msgspec

from probe.facts.instants import Instant


class ProcessId(msgspec.Struct, frozen=True, order=True):
    """A pid alone names nobody: it is reused.  ``start_ticks`` is field 22 of ``/proc/<pid>/stat``."""

    pid: int
    start_ticks: int


class ProcessState(enum.StrEnum):
    """The state letters of proc(5), in words; others are folded into RUNNING.

    FROZEN has no letter: the freezer of its cgroup holds it.
    """

    RUNNING = "running"
    SLEEPING = "sleeping"
    UNINTERRUPTIBLE = "uninterruptible"
    STOPPED = "stopped"
    FROZEN = "frozen"
    ZOMBIE = "zombie"
    DEAD = "dead"


class StubArguments(msgspec.Struct, frozen=True):
    """What a stub was started with (python_backend, ``stub_launcher.cc``).

    ``model_path`` is the model's file; ``shm_region`` the name of its file in ``/dev/shm``; ``name`` is
    the instance's name, or the bare model name for the short-lived auto-complete stub; ``runtime_dir``
    is ``DEFAULT`` for the python backend and empty for releases before 23.10.
    """

    model_path: str
    shm_region: str
    shm_default_bytes: int
    shm_growth_bytes: int
    parent_pid: int
    name: str
    runtime_dir: str = ""


class Process(msgspec.Struct, frozen=True):
    """One process as ``/proc/<pid>/stat`` shows it.

    ``cpu_ticks`` is user and system time in clock ticks; ``started_at`` seconds since the Unix epoch;
    ``frozen_cgroup`` the cgroup whose freezer holds it, by its path as the kernel names it to us, else empty.
    ``title`` is the command line in one line, cut off at some length; it is read of what runs below a stub.
    ``threads`` counts its own one too: a limit on processes counts threads.
    """

    id: ProcessId
    parent: int
    name: str
    state: ProcessState
    rss_bytes: int
    cpu_ticks: int
    started_at: float
    frozen_cgroup: str = ""
    title: str = ""
    threads: int | None = None

    @property
    def paused(self) -> bool:
        """Whether somebody holds it, so that it does nothing until it is let go."""
        return self.state in (ProcessState.STOPPED, ProcessState.FROZEN)

    @property
    def gone(self) -> bool:
        """Whether it has exited: a zombie only waits for its parent to look."""
        return self.state in (ProcessState.ZOMBIE, ProcessState.DEAD)


class Stub(msgspec.Struct, frozen=True):
    """A stub process with what its command line told, and every process below it."""

    process: Process
    arguments: StubArguments
    descendants: tuple[Process, ...] = ()
    shm_bytes: int | None = None

    @property
    def pids(self) -> frozenset[int]:
        """The stub's pid and those of its whole tree."""
        return frozenset((self.process.id.pid, *(each.id.pid for each in self.descendants)))


class Server(msgspec.Struct, frozen=True):
    """A tritonserver process and what could be read of it.

    ``gpu_minors`` are the device nodes ``/dev/nvidia<N>`` in its root, ``None`` where its root can not
    be read; ``arguments`` is its command line.  ``visible_devices`` is its ``CUDA_VISIBLE_DEVICES`` where
    that lists UUIDs alone, in CUDA's order; None where it names ordinals, is not set, or can not be read.
    """

    process: Process
    arguments: tuple[str, ...]
    gpu_minors: tuple[int, ...] | None = None
    visible_devices: tuple[str, ...] | None = None
    root_readable: bool = True

    def option(self, name: str) -> str | None:
        """The value of ``--name=value`` or ``--name value``, the last one where repeated."""
        found = None
        for index, argument in enumerate(self.arguments):
            if argument.startswith(f"--{name}="):
                found = argument.partition("=")[2]
            elif argument == f"--{name}" and index + 1 < len(self.arguments):
                found = self.arguments[index + 1]
        return found

    def options(self, name: str) -> tuple[str, ...]:
        """Every value of a repeatable option."""
        values = []
        for index, argument in enumerate(self.arguments):
            if argument.startswith(f"--{name}="):
                values.append(argument.partition("=")[2])
            elif argument == f"--{name}" and index + 1 < len(self.arguments):
                values.append(self.arguments[index + 1])
        return tuple(values)


class ExitCause(enum.StrEnum):
    """Why a stub ended, as ``triton_probe_stub_exits_total`` labels it."""

    OOM_KILLED = "oom_killed"
    SIGNAL = "signal"
    ERROR = "error"
    UNLOAD = "unload"
    UNKNOWN = "unknown"


class OomCount(msgspec.Struct, frozen=True):
    """What the container's count of OOM kills did around an exit.

    ``path`` is the file that it was read from, ``before`` and ``after`` the figures around the exit; both
    are the same where no kill is left to explain it.  ``seen`` is the later look.  ``whole`` says that the
    kernel killed every process of the container at once (``memory.oom.group``).
    """

    path: str
    before: int
    after: int
    seen: Instant
    whole: bool = False

    @property
    def rose(self) -> bool:
        """Whether the kernel killed for want of memory at that moment."""
        return self.after > self.before


class Exit(msgspec.Struct, frozen=True):
    """A watched process ended.  ``status`` is the wait status where the kernel told it, else None.

    ``oom`` is None as long as the count of OOM kills was not read both before and after it.
    """

    id: ProcessId
    observed: Instant
    status: int | None = None
    oom: OomCount | None = None

    @property
    def signal(self) -> int | None:
        """The signal that killed it, or None where none did or none is known."""
        return self.status & 0x7F if self.status is not None and self.status & 0x7F else None

    @property
    def code(self) -> int | None:
        """Its exit code, or None where it was killed or nothing is known."""
        return self.status >> 8 & 0xFF if self.status is not None and not self.status & 0x7F else None

    @property
    def violent(self) -> bool:
        """Whether it is known to have been killed, or to have failed."""
        return bool(self.signal or self.code)

    @property
    def oom_killed(self) -> bool:
        """Whether the count of OOM kills rose for it, and nothing says that it ended in another way."""
        return self.oom is not None and self.oom.rose and self.signal in (None, 9) and self.code is None


_TICK = 0.02
"""Seconds by which an age may be wrong: starts are counted in hundredths."""


class ProcessReading(msgspec.Struct, frozen=True):
    """Every process that belongs to a Triton in our pid namespace, in one scan of ``/proc``.

    ``server`` is None where none was seen.  ``stubs`` include those whose server is gone.
    ``existing_pids`` answers, of the pids that the caller asked about, which exist here at all, and ``asked``
    are those whose files could be read; ``kept`` are the processes that it asked about and that are still
    here, zombies too, whoever their parent is now.
    """

    observed: Instant
    server: Server | None
    stubs: tuple[Stub, ...] = ()
    other_servers: int = 0
    existing_pids: frozenset[int] = frozenset()
    asked: tuple[Process, ...] = ()
    kept: tuple[Process, ...] = ()
    ticks_per_second: int = 100
    """What ``cpu_ticks`` count in (USER_HZ): 100 on every Linux for x86-64 and arm64."""
    initial_namespace: bool = False
    ticks: int | None = None
    """The moment of the scan as ``start_ticks`` count it; None where the kernel does not tell."""
    scanned: int = 0

    def began_after(self, process: Process, moment: Instant) -> bool:
        """Whether this process surely began after that earlier moment, by the clock that its start is read from."""
        if self.ticks is None:
            return False
        age = (self.ticks - process.id.start_ticks) / self.ticks_per_second
        return age + _TICK < self.observed.mono - moment.mono
