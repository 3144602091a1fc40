"""The real Triton and the real daemon, each in its container of one pod on the machine."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from probe.facts.findings import Finding
from probe.sandbox.client import TritonError
from probe.sandbox.daemon import OPEN, Daemon
from probe.sandbox.errors import SandboxError
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer, free_ports
from probe.sandbox.wheel import installed_triton
from testbed.machine.kubelet import NodePod, Resources

T = TypeVar("T")

MIB = 1 << 20
SECONDS = 240.0
"""What anything may take on an emulated processor that is shared with others."""

# It requests something beside a Triton that does not, too: where the kernel goes on to a second victim, a probe of
# the same class would be the next.
_PROBE = Resources(memory_request=128 * MIB, memory_limit=128 * MIB)
_SETTINGS = "interval: 2s\n"
# An emulated processor has better things to do than to ask whether it is done yet.
_PAUSE = 0.2
_SECONDS_TO_KILL = 30.0
_NUMBERS = itertools.count(1)


class Stage:
    """A pod with Triton and the daemon in it; :meth:`open` one, and :meth:`close` it."""

    def __init__(
        self,
        name: str,
        fill: Callable[[Repository], object],
        resources: Resources,
        *,
        shm_bytes: int = 64 * MIB,
        load: Sequence[str] = ("*",),
        arguments: Sequence[str] = (),
    ) -> None:
        """Start both; ``fill`` adds the models of which Triton shall ``load`` these."""
        self._ended = contextlib.ExitStack()
        self._folder = Path(f"/tmp/{name}")
        self._folder.mkdir()
        self._load, self._arguments = load, ("--disable-auto-complete-config", *arguments)
        self.models = Repository(self._folder / "models")
        fill(self.models)
        self.pod = self._ended.enter_context(NodePod.of(resources, shm_bytes=shm_bytes))
        self.container = self.pod.container("triton", resources)
        self.triton = self._serve(None)
        (port,) = free_ports(1)
        self.probe = Daemon(
            self.pod.container("probe", _PROBE),
            port,
            log=self._folder / "probe.log",
            addresses={"grpc": self.triton.grpc, "http": self.triton.http, "metrics": self.triton.metrics},
            settings=_SETTINGS,
        )

    def _serve(self, ports: tuple[int, int, int] | None) -> TritonServer:
        log = self._folder / f"triton-{next(_NUMBERS)}.log"
        return TritonServer(
            self.container,
            installed_triton(),
            self.models.path,
            log=log,
            control_mode="explicit",
            load_models=self._load,
            arguments=self._arguments,
            ports=ports,
        )

    def ready(self) -> Self:
        """Wait until Triton is up and the daemon knows it."""
        self.probe.wait_code("/readyz", OPEN, seconds=SECONDS, pause=_PAUSE)
        return self

    def restart(self) -> None:
        """What the kubelet does where a container ended: a new one of the same kind, in a cgroup of its own."""
        self.triton.program.wait(SECONDS)
        ports, resources = self.triton.ports, self.container.resources
        self.container.remove()
        self.container = self.pod.container("triton", resources)
        self.triton = self._serve(ports)

    def infer(self, model: str, value: float = 1.0) -> str:
        """Ask a model; what is complained of, if anything."""
        try:
            self.triton.client.infer(model, (value,), seconds=SECONDS)
        except TritonError as error:
            return error.text
        except OSError as error:
            return repr(error)
        return ""

    def load(self, model: str) -> str:
        """Load a model; what Triton complains of, if anything."""
        try:
            self.triton.client.load(model, seconds=SECONDS)
        except TritonError as error:
            return error.text
        return ""

    def reload(self, model: str) -> None:
        """Load a model anew; a load alone does nothing where its files are as they were."""
        self.triton.client.unload(model, seconds=SECONDS)
        self.wait("the unload", lambda: not self.triton.client.model_ready(model))
        self.load(model)

    def finding(self, reason: str, model: str = "") -> Finding:
        """The finding, once it stands."""
        return self.wait(f"{reason} {model}", lambda: self.probe.finding(reason, model))

    def wait(self, what: str, look: Callable[[], T | None]) -> T:
        """The first answer that is something."""
        return self.probe.wait_until(what, look, SECONDS, pause=_PAUSE)

    def clear(self, reason: str, model: str = "") -> None:
        """Until no such finding stands."""
        self.wait(f"{reason} {model} to clear", lambda: self.probe.finding(reason, model) is None)

    def moved(self, reason: str) -> float | None:
        """Seconds from the event to the first move of a gate for this reason, as ``/events`` tells it."""
        told = [
            each for each in self.probe.events() if each["reason"] == reason and each["kind"] == "gate_failed"
        ]
        return told[-1]["delay_seconds"] if told else None

    def close(self) -> None:
        """End everything in it."""
        self._ended.close()


class Kill(msgspec.Struct, frozen=True):
    """A kill as the kernel counted it: when (seconds since the epoch), and what was said of it afterwards."""

    at: float
    told: Finding
    delay_seconds: float
    """From the count's rise to the moment since which the finding stands."""


def killed(stage: Stage, act: Callable[[], object], entry: str = "oom_kill") -> Kill:
    """Do what ends in a kill, and see how soon the daemon tells it.

    The count is read in between the whole time, by a program of its own: the act itself may block.
    """
    before = stage.container.count("memory.events", entry)
    watch = f"""
import os, time
count = os.open({str(stage.container.cgroup / "memory.events")!r}, os.O_RDONLY)
while b"{entry} {before}\\n" in os.pread(count, 4096, 0):
    time.sleep(0.001)
print(time.time())
"""
    command = [sys.executable, "-I", "-S", "-c", watch]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as watcher:
        try:
            act()
            line, _ = watcher.communicate(timeout=_SECONDS_TO_KILL)
        except subprocess.TimeoutExpired:
            raise SandboxError(f"nobody was killed: {stage.container.read('memory.events')}") from None
        finally:
            watcher.kill()
    at = float(line)
    # It is told before the victim is gone, and who it was a moment later.
    told = stage.wait("OomKilled with its victim", lambda: _named(stage.probe.finding("OomKilled")))
    return Kill(at, told, told.since.timestamp() - at)


def _named(told: Finding | None) -> Finding | None:
    return told if told is not None and told.evidence["victims_unknown"] == 0 else None


_OPENED: dict[str, Stage] = {}


def opened(stage: Stage, name: str) -> Stage:
    """Keep a stage open under a name, from one act to the next."""
    _OPENED[name] = stage
    return stage


def stage(name: str) -> Stage:
    """The stage of this name."""
    return _OPENED[name]


def close(name: str) -> None:
    """Close the stage of this name; one that was never opened is no error."""
    if (found := _OPENED.pop(name, None)) is not None:
        found.close()
