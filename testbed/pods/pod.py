"""A pod as Kubernetes makes it, with Triton's container and the probe's: the test plays the kubelet."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from probe.facts.findings import Finding
from probe.facts.status import Status
from probe.sandbox.daemon import OPEN, Daemon
from probe.sandbox.errors import SandboxError
from probe.sandbox.processes import PodProcess
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer, free_ports
from probe.sandbox.wheel import TritonInstallation
from probe.sources.container import cgroups
from testbed.pods.containers import RESTRICTED, Container, Rights, members
from testbed.pods.hosts import CHECKOUT, python_folders, triton_folders, volumes
from testbed.pods.podman import Podman
from testbed.pods.resources import CPU_PERIOD, Resources

MIB = 1 << 20
NOTHING = Resources()
"""``resources: {}``."""
PROBE = Resources(memory=96 * MIB, cpu_request=0.05)
"""What the probe's container may use: half as much again as its budget."""

_SECONDS_TO_ANSWER = 60.0
_PORTS = ("grpc", "http", "metrics")
# As Kubernetes' pause container it reaps orphans.  It ends when our end of the pipe closes, even because we
# were killed, and the kernel ends everything in its pid namespace with it.
_FIRST = """
import signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
sys.stdin.read()
"""


class LimitedPod:
    """A pod whose containers share pids, ipc and one ``/dev/shm``; :meth:`close` ends it.

    ``memory`` limits everything in it together, as a crowded node would.
    """

    _numbers = itertools.count()

    def __init__(
        self,
        podman: Podman,
        installation: TritonInstallation,
        *,
        shm_bytes: int = 64 * MIB,
        memory: int | None = None,
    ) -> None:
        self.name = f"pod-{next(self._numbers)}"
        self._podman = podman
        self._installation = installation
        self._count = itertools.count()
        self._containers: list[Container] = []
        self._daemons: list[Daemon] = []
        self.folder = podman.folder / self.name
        """Where what belongs to it lies."""
        self.folder.mkdir(mode=0o755)
        self.cgroup = f"{podman.cgroup}/{self.name}"
        if memory is not None:
            (podman.group("memory", self.cgroup) / "memory.limit_in_bytes").write_text(str(memory))
        self.first_pid = 0
        self.first_pid = self._open(shm_bytes)

    def triton(
        self,
        repository: Repository,
        *,
        resources: Resources = NOTHING,
        rights: Rights = RESTRICTED,
        live: bool = True,
        **options: Any,  # noqa: ANN401  (TritonServer's own)
    ) -> TritonServer:
        """Start Triton's container; a second one, after the first ended, is what the kubelet calls a restart."""
        shown = [repository.path, *triton_folders(self._installation)]
        flags = [
            *self._shared(),
            *resources.flags(),
            *rights.flags(),
            *volumes(shown),
            "--env=LC_ALL=C.UTF-8",
        ]
        container = self._container("triton", flags)
        log = self.folder / f"{container.name}.log"
        server = TritonServer(container, self._installation, repository.path, log=log, **options)
        return server.wait_live() if live else server

    def probe(
        self,
        beside: TritonServer,
        settings: str = "",
        *,
        resources: Resources = PROBE,
        rights: Rights = RESTRICTED,
        image: str = "",
        **options: Any,  # noqa: ANN401  (Daemon's own)
    ) -> Daemon:
        """Start the probe's container, with a read-only root, and wait until it answers.

        It runs this checkout by this Python, or what is in the ``image``.
        """
        (port,) = free_ports(1)
        log = self.folder / f"probe-{port}.log"
        file = log.with_suffix(".yaml")
        container = self._container("probe", self._probe_flags(resources, rights, image, file), image)
        if image:
            options["program"] = ()
        daemon = Daemon(container, port, log=log, addresses=addresses(beside), settings=settings, **options)
        self._daemons.append(daemon)
        daemon.wait_code("/livez", OPEN)
        return daemon

    def container(self, name: str, flags: Sequence[str], *, image: str = "") -> Container:
        """A container that shares what the pod shares, ``flags`` are podman's options for the rest; the pod ends it."""
        return self._container(name, [*self._shared(), *flags], image=image)

    def command(
        self, *arguments: str, resources: Resources = PROBE, rights: Rights = RESTRICTED, image: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run ``triton-probe`` with these arguments in a container of the pod: what it wrote, and its exit code.

        It runs this checkout by this Python, or what is in the ``image``.
        """
        container = self._container("command", self._probe_flags(resources, rights, image), image)
        files = [self.folder / f"{container.name}.{stream}" for stream in ("out", "err")]
        with files[0].open("wb") as output, files[1].open("wb") as errors:
            own = [] if image else [sys.executable, "-m", "probe"]
            program = container.popen([*own, *arguments], stdout=output, stderr=errors)
            code = program.wait(_SECONDS_TO_ANSWER)
        return subprocess.CompletedProcess(arguments, code, *(each.read_text() for each in files))

    def doctor(self, server: TritonServer) -> dict[str, Finding]:
        """What ``triton-probe doctor`` finds, the first of each reason by it."""
        told = [word for name, value in addresses(server).items() for word in (f"--{name}", value)]
        answer = self.command("doctor", *told, "--format=json")
        status = msgspec.json.decode(answer.stdout, type=Status)
        return {each.reason: each for each in reversed(status.findings)}

    def kill(self, server: TritonServer) -> None:
        """SIGKILL for all of Triton's container at once, as the kernel (``memory.oom.group``) and runtimes do it.

        Nobody in it has the time to notice that the others are gone.
        """
        server.kill(signal.SIGSTOP)
        for each in server.stubs():
            os.kill(each.pid, signal.SIGKILL)
        server.kill()
        server.program.wait(_SECONDS_TO_ANSWER)

    def resize(self, server: TritonServer, resources: Resources) -> None:
        """Change the limits of Triton's container while it runs, as an in-place resize does; None is no limit."""
        self.throttle(server.outer_pid, resources.cpu)
        limit = -1 if resources.memory is None else resources.memory
        # The one with swap may not be below the other at any moment.
        _write(server.outer_pid, "memory", "memory.memsw.limit_in_bytes", -1)
        _write(server.outer_pid, "memory", "memory.limit_in_bytes", limit)
        _write(server.outer_pid, "memory", "memory.memsw.limit_in_bytes", limit)
        _write(server.outer_pid, "pids", "pids.max", "max" if resources.pids is None else resources.pids)

    def throttle(self, pid: int, cores: float | None) -> None:
        """Let the container of this process have so much CPU; None is all that there is."""
        quota = -1 if cores is None else round(cores * CPU_PERIOD)
        _write(pid, "cpu", "cpu.cfs_quota_us", quota)

    def processes(self) -> tuple[PodProcess, ...]:
        """Everything in it now, zombies too, by pid."""
        return members(self.first_pid)

    def close(self) -> None:
        """End everything in it, the probe first; twice is the same as once."""
        for daemon in self._daemons:
            daemon.stop()
        for container in reversed(self._containers):
            container.close()
        self._containers.clear()
        self._daemons.clear()

    def _open(self, shm_bytes: int) -> int:
        flags = [
            "--ipc=shareable",
            f"--shm-size={shm_bytes}",
            f"--cgroup-parent={self.cgroup}",
            *Resources(memory_request=1).flags(),
            *RESTRICTED.flags(),
            *volumes(python_folders()),
        ]
        first = self._container("first", flags)
        with (self.folder / "first.log").open("wb") as output:
            command = [sys.executable, "-I", "-S", "-c", _FIRST]
            return first.popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output).pid

    def _container(self, name: str, flags: list[str], image: str = "") -> Container:
        full = f"{self.name}-{name}-{next(self._count)}"
        flags = ["--network=host", *flags]
        container = Container(self._podman, full, self.folder / full, flags, self.first_pid, image=image)
        self._containers.append(container)
        return container

    def _shared(self) -> Iterator[str]:
        first = self._containers[0].name
        yield f"--cgroup-parent={self.cgroup}"
        yield f"--pid=container:{first}"
        yield f"--ipc=container:{first}"

    def _probe_flags(self, resources: Resources, rights: Rights, image: str, *shown: Path) -> list[str]:
        flags = [
            *self._shared(),
            *resources.flags(),
            *rights.flags(),
            "--read-only",
            "--read-only-tmpfs=false",
        ]
        if image:
            return [*flags, *(f"--volume={each}:{each}:ro" for each in shown)]
        own = [f"--env=PYTHONPATH={CHECKOUT}", "--env=PYTHONDONTWRITEBYTECODE=1"]
        return [*flags, *volumes([*python_folders(), *shown]), *own]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def addresses(server: TritonServer) -> dict[str, str]:
    """Triton's addresses by protocol."""
    return {name: f"127.0.0.1:{port}" for name, port in zip(_PORTS, server.ports, strict=True)}


def _write(pid: int, controller: str, file: str, value: object) -> None:
    members = cgroups.memberships(Path(f"/proc/{pid}/cgroup").read_bytes())
    place = cgroups.place(
        members, cgroups.mounts(Path("/proc/self/mountinfo").read_bytes()), controller.encode()
    )
    if place is None:
        raise SandboxError(f"pid {pid} is in no cgroup of {controller}")
    (Path(os.fsdecode(next(place.levels()))) / file).write_text(str(value))
