"""A "pod" on this machine: pid, mount and ipc namespaces and a ``/dev/shm`` of its own.

What is the pod's own is what Kubernetes gives to containers that share a process namespace: its processes
see and count each other, and nothing outside; the first of them reaps orphans.  The network is the host's,
so servers in it listen on free ports of 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeAlias

from probe.sandbox.errors import SandboxError
from probe.sandbox.processes import PodProcess, all_pids, child_of, pid_namespace, read_process
from probe.sandbox.programs import Program

_Output: TypeAlias = int | IO[bytes] | None

_MEBIBYTE = 1 << 20
_SECONDS_TO_END = 60.0

# The first process of a pod: what it ignores the kernel reaps for it, and when our end of the pipe closes,
# even because we were killed, it ends, and with it everything in its pid namespace.
_INIT = """
import signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.stdout.write("open\\n")
sys.stdout.flush()
sys.stdin.read()
"""
_MOUNT = 'mount -t tmpfs -o "size=$1,mode=1777" tmpfs /dev/shm && shift && exec "$@"'
# Entering a mount namespace loses the working directory; a caller's relative paths must mean the same inside.
_STAY = 'cd "$1" && shift && exec "$@"'


class BarePod:
    """No isolation at all: programs run beside everything else on the machine, with the same interface.

    For a machine that grants no namespaces.  Closing it ends what was started in it, and what that started.
    """

    isolated = False

    def __init__(self) -> None:
        self._programs: list[Program] = []

    def popen(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        environment: Mapping[str, str] | None = None,
        *,
        stdin: _Output = subprocess.DEVNULL,
        stdout: _Output = None,
        stderr: _Output = None,
    ) -> Program:
        """Start a program in the pod; ``environment`` is the whole of it, or None for this one's own."""
        command = [*self._entry(), *(os.fspath(each) for each in arguments)]
        try:
            process = subprocess.Popen(
                command,
                env=None if environment is None else dict(environment),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxError(f"{command[0]} can not be started: {error.strerror or error}") from error
        program = Program(process, enters=self.isolated)
        self._programs.append(program)
        return program

    def processes(self) -> tuple[PodProcess, ...]:
        """Everything that runs in the pod now, zombies too, by pid."""
        seen = [each for each in map(read_process, all_pids()) if each is not None]
        sessions = {program.process.pid for program in self._programs}
        members = {each.pid for each in seen if each.session in sessions}
        while more := {each.pid for each in seen if each.parent in members} - members:
            members |= more
        return tuple(sorted((each for each in seen if each.pid in members), key=lambda each: each.pid))

    def inside_pid(self, pid: int) -> int | None:
        """Return the pid that the pod knows this process by, or None where it is not in the pod."""
        return next((each.inside_pid for each in self.processes() if each.pid == pid), None)

    def outer_pid(self, inside_pid: int) -> int | None:
        """Return the pid here of what the pod knows by ``inside_pid``, or None where there is nothing."""
        return next((each.pid for each in self.processes() if each.inside_pid == inside_pid), None)

    def close(self) -> None:
        """End everything in it; twice is the same as once."""
        for each in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
        self._reap()

    def _entry(self) -> tuple[str, ...]:
        return ()

    def _reap(self) -> None:
        for program in self._programs:
            program.process.kill()
            program.process.wait()
            program.close()
        self._programs.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Pod(BarePod):
    """A pod with namespaces of its own; :meth:`open` makes one."""

    isolated = True

    def __init__(self, holder: subprocess.Popen[bytes], init_pid: int) -> None:
        super().__init__()
        self._holder = holder
        self.init_pid = init_pid
        """The pod's first process, as seen from here."""
        self._namespace = pid_namespace(init_pid)

    @classmethod
    def open(cls, *, shm_bytes: int = 256 * _MEBIBYTE) -> Self:
        """Make a pod whose ``/dev/shm`` holds ``shm_bytes``.

        Raises :class:`SandboxError` where this machine or container grants no namespaces.
        """
        for tool in ("unshare", "nsenter", "mount"):
            if shutil.which(tool) is None:
                raise SandboxError(f"{tool} is not on this machine; on Debian: apt-get install util-linux")
        unshare = ["unshare", "--pid", "--fork", "--mount", "--ipc", "--mount-proc", "--kill-child"]
        if os.geteuid() != 0:
            unshare += ["--user", "--map-root-user"]
        init = [sys.executable, "-I", "-S", "-c", _INIT]
        holder = subprocess.Popen(
            [*unshare, "sh", "-c", _MOUNT, "sh", str(shm_bytes), *init],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(_discard, holder)
            if holder.stdout is None or holder.stdout.readline() != b"open\n":
                words = holder.stderr.read().decode(errors="replace").strip() if holder.stderr else ""
                raise SandboxError(
                    f"this machine grants no pid, mount and ipc namespaces ({words or 'no reason given'});"
                    " run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)"
                )
            init_pid = child_of(holder.pid)
            if init_pid is None:
                raise SandboxError("the pod's first process ended at once")
            pod = cls(holder, init_pid)
            on_failure.pop_all()
        return pod

    def processes(self) -> tuple[PodProcess, ...]:
        """Everything in the pod's pid namespace now, its first process and zombies too, by pid."""
        members = (each for each in all_pids() if pid_namespace(each) == self._namespace)
        seen = (read_process(each) for each in sorted(members))
        return tuple(each for each in seen if each is not None)

    def close(self) -> None:
        """End everything in it, and wait until it is gone; twice is the same as once."""
        if self._holder.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.init_pid, signal.SIGKILL)  # the kernel ends the rest of the namespace with it
            _discard(self._holder)
        self._reap()

    def _entry(self) -> tuple[str, ...]:
        user = () if os.geteuid() == 0 else ("-U", "--preserve-credentials")
        enter = ("nsenter", "-t", str(self.init_pid), *user, "-p", "-m", "-i", "--")
        return (*enter, "sh", "-c", _STAY, "sh", str(Path.cwd()))


def _discard(holder: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _SECONDS_TO_END
    for stream in (holder.stdin, holder.stdout, holder.stderr):
        if stream is not None:
            stream.close()
    try:
        holder.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        holder.kill()
        holder.wait()
