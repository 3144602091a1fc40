"""One container of a pod: the first program that is started in it is its main process."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TypeAlias

import msgspec

from probe.sandbox.errors import SandboxError
from probe.sandbox.pods import BarePod
from probe.sandbox.processes import PodProcess, all_pids, pid_namespace, read_process
from probe.sandbox.programs import Program
from testbed.pods.hosts import empty_root, variables
from testbed.pods.podman import Podman
from testbed.tools import until

_Output: TypeAlias = int | IO[bytes] | None

USER = 1000
"""``triton-server`` in Triton's own images; the group has the same number."""
_SECONDS_TO_START = 20.0
_SECONDS_TO_END = 10.0


class Rights(msgspec.Struct, frozen=True):
    """The ``securityContext`` of a container: its user and group, and podman's options for the rest."""

    user: int = USER
    group: int = USER
    more: Sequence[str] = ("--cap-drop=all", "--security-opt=no-new-privileges")

    def flags(self) -> list[str]:
        """Podman's options for it."""
        return [f"--user={self.user}:{self.group}", *self.more]


RESTRICTED = Rights()
"""What the probe's own manifests ask for: uid and gid 1000, no capability."""
BY_DEFAULT = Rights(0, 0, ())
"""A container that says nothing: root, with the capabilities that runtimes give by default."""


class Container(BarePod):
    """A container to be; what it may use and see is decided beforehand, by ``flags``.

    It has a pod's interface, so that what starts a program in a sandboxed pod starts it in a container.
    """

    isolated = True

    def __init__(
        self,
        podman: Podman,
        name: str,
        folder: Path,
        flags: Sequence[str],
        first: int = 0,
        *,
        image: str = "",
    ) -> None:
        """``folder`` is its own; ``first`` is a process of the pid namespace that it will share, 0 for none.

        Without an ``image`` its root is empty, for volumes.  With one, what is started in it are arguments to the
        image's own program.
        """
        super().__init__()
        self.name = name
        self._podman = podman
        self._folder = folder
        self._flags = flags
        self._first = first
        self._image = image

    def popen(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        environment: Mapping[str, str] | None = None,
        *,
        stdin: _Output = subprocess.DEVNULL,
        stdout: _Output = None,
        stderr: _Output = None,
    ) -> Program:
        """Run the container with this program.

        Of ``environment`` it gets what this process has not got itself.  Its exit code is podman's: 128 and the
        signal's number where it was killed.
        """
        self._folder.mkdir(mode=0o755)
        pidfile = self._folder / "pid"
        client = subprocess.Popen(
            self._podman.command(
                *self._run(pidfile, environment or {}), *(os.fspath(each) for each in arguments)
            ),
            cwd=self._folder,  # where its monitor leaves a file named "oom" after a kill
            env=self._podman.environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            started = _started(client, pidfile, _written(stdout))
        except SandboxError:
            client.kill()
            client.communicate()
            raise
        program = Program(client, enters=False, pid=started)
        self._programs.append(program)
        return program

    def processes(self) -> tuple[PodProcess, ...]:
        """Everything in the pod now, whichever container it is in, zombies too, by pid."""
        return members(self._first)

    @property
    def killed_for_memory(self) -> bool:
        """Whether the kernel has killed in it for want of memory, as the runtime was told."""
        return (self._folder / "oom").exists()

    def execute(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one more program in it, as ``kubectl exec`` does: what it wrote, and its exit code."""
        return self._podman.call("exec", self.name, *arguments)

    def close(self) -> None:
        """End it, and wait until it is gone; twice is the same as once."""
        for each in self._programs:
            each.send_signal(signal.SIGKILL)
            until(lambda: each.look() is None, _SECONDS_TO_END)  # noqa: B023  (it is called at once)
            # Podman's client can wait 20 s for what it missed when several containers end at once.
            each.process.kill()
            each.process.wait()
            each.close()
        self._programs.clear()

    def _run(self, pidfile: Path, environment: Mapping[str, str]) -> list[str]:
        own = {name: value for name, value in environment.items() if os.environ.get(name) != value}
        root = [self._image] if self._image else ["--rootfs", str(empty_root(self._folder / "root"))]
        told = [
            "run",
            "--rm",
            "--interactive",
            f"--name={self.name}",
            f"--pidfile={pidfile}",
            "--no-healthcheck",  # it would want a systemd for its timer
        ]
        return [*told, *self._flags, *variables(own), *root]


def members(first: int) -> tuple[PodProcess, ...]:
    """Everything in the pid namespace of this process, by pid."""
    if (namespace := pid_namespace(first)) is None:
        return ()  # it ended, and the kernel ended the others with it
    found = (read_process(each) for each in sorted(all_pids()) if pid_namespace(each) == namespace)
    return tuple(each for each in found if each is not None)


def _started(client: subprocess.Popen[bytes], pidfile: Path, log: Path | None) -> int:
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline:
        if pidfile.exists() and (text := pidfile.read_text()):
            return int(text)
        if client.poll() is not None:
            words = log.read_text(errors="replace")[-500:] if log else "its output says why"
            raise SandboxError(f"podman could not start {pidfile.parent.name} ({client.returncode}): {words}")
        time.sleep(0.005)
    raise SandboxError(f"podman did not start {pidfile.parent.name} in {_SECONDS_TO_START:g} s")


def _written(output: _Output) -> Path | None:
    name = getattr(output, "name", None)
    return Path(name) if isinstance(name, str) else None
