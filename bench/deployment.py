"""What is measured: a pod of its own, a real Triton in it, and the daemon as it is shipped."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from bench.harness import BenchError
from probe.facts.status import ModelStatus
from probe.sandbox.client import TritonError
from probe.sandbox.daemon import OPEN, Daemon
from probe.sandbox.errors import SandboxError
from probe.sandbox.pods import BarePod, Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer, free_ports
from probe.sandbox.wheel import TritonInstallation, installed_triton
from testbed.nvml.double import GpuState, NvmlDouble

PATIENCE = 120.0
"""Seconds to wait for what must come; with many models the start takes longer."""

_GPUS = (GpuState(uuid="GPU-0"), GpuState(uuid="GPU-1", minor=1, pci="00000000:02:00.0"))


class Deployment:
    """A pod with a Triton and the daemon, each started when asked for; everything ends with it."""

    def __init__(
        self, folder: Path, pod: BarePod, installation: TritonInstallation, nvml: NvmlDouble | None
    ) -> None:
        self.folder = folder
        self.pod = pod
        self.nvml = nvml
        self.repository = Repository(folder / "models")
        self._installation = installation
        self._ports: tuple[int, int, int] | None = None
        self._triton: TritonServer | None = None
        self._daemon: Daemon | None = None

    @property
    def triton(self) -> TritonServer:
        """The Triton that was started last."""
        if self._triton is None:
            raise BenchError("no Triton was started")
        return self._triton

    @property
    def daemon(self) -> Daemon:
        """The daemon that was started last."""
        if self._daemon is None:
            raise BenchError("no daemon was started")
        return self._daemon

    @property
    def models(self) -> int:
        """How many models the repository holds."""
        return sum(1 for _ in self.repository.path.iterdir())

    @property
    def conditions(self) -> str:
        """Say what every figure of this deployment holds under."""
        pod = "in a pod of its own" if self.pod.isolated else "without namespaces"
        gpus = f"NVML double with {len(_GPUS)} GPUs" if self.nvml else "no NVML"
        version = self.triton.client.metadata()["version"]
        return f"Triton {version} {pod}, {gpus}, default configuration"

    def start_triton(self, *, seconds: float = PATIENCE) -> TritonServer:
        """Start Triton with everything in the repository (again: on the same ports), and wait until ready."""
        self._triton = TritonServer(
            self.pod,
            self._installation,
            self.repository.path,
            log=self.folder / "triton.log",
            control_mode="explicit",
            load_models=("*",),
            ports=self._ports,
        )
        self._ports = self._triton.ports
        return self._triton.wait_ready(seconds)

    def start_daemon(self, *, settings: str = "") -> Daemon:
        """Start the daemon and wait until it answers; ``settings`` is the text of a configuration file."""
        self.stop_daemon()
        (port,) = free_ports(1)
        triton = self.triton
        self._daemon = Daemon(
            self.pod,
            port,
            log=self.folder / "probe.log",
            addresses={"grpc": triton.grpc, "http": triton.http, "metrics": triton.metrics},
            settings=settings,
            environment=self.nvml.environment if self.nvml else None,
        )
        self._daemon.wait_code("/healthz", OPEN)
        return self._daemon

    def stop_daemon(self) -> None:
        """Stop the daemon where one runs."""
        if self._daemon is not None:
            self._daemon.stop()
            self._daemon = None

    def restore_nvml(self) -> None:
        """Let NVML's double be two GPUs at rest (again)."""
        if self.nvml is not None:
            self.nvml.set(gpus=_GPUS)

    def wait_known(self, models: int, seconds: float = PATIENCE) -> None:
        """Wait until the daemon knows so many models, each instance alive, and says ready."""
        self.daemon.wait_until(
            f"{models} models to be known and ready", lambda: self._all_well(models), seconds, pause=0.05
        )

    def _all_well(self, models: int) -> bool:
        if self.daemon.ask("/readyz").code != OPEN:
            return False
        known = self.daemon.status().models
        return len(known) == models and all(_whole(each) for each in known)


@contextlib.contextmanager
def deployed() -> Iterator[Deployment]:
    """Make the pod, with nothing in it yet.  Raises SandboxError where there can be no Triton."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="triton-probe-bench-")))
        nvml = NvmlDouble(folder) if shutil.which("gcc") or shutil.which("cc") else None
        deployment = Deployment(folder, stack.enter_context(_pod()), installed_triton(), nvml)
        deployment.restore_nvml()
        stack.callback(deployment.stop_daemon)
        yield deployment


def _whole(model: ModelStatus) -> bool:
    return model.ready is True and model.instances.alive == model.instances.expected


def _pod() -> BarePod:
    try:
        return Pod.open()
    except SandboxError:
        return BarePod()


class Traffic:
    """Steady requests to one model from a few threads; :meth:`pause` holds it without waiting for answers."""

    def __init__(self, deployment: Deployment, model: str, *, per_second: float, threads: int = 4) -> None:
        self.sent = 0
        self.failed = 0
        self._deployment = deployment
        self._model = model
        self._period = threads / per_second
        self._ended = threading.Event()
        self._flowing = threading.Event()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._flowing.set()
        for thread in self._threads:
            thread.join()

    def resume(self) -> None:
        """Let requests flow."""
        self._flowing.set()

    def pause(self) -> None:
        """Send no more; those under way go on."""
        self._flowing.clear()

    def _send(self) -> None:
        while not self._ended.wait(self._period):
            if not self._flowing.wait() or self._ended.is_set():
                return
            self.sent += 1
            try:
                self._deployment.triton.client.infer(self._model, (1.0,))
            except (TritonError, OSError):
                self.failed += 1


def sample(daemon: Daemon, name: str, labels: str = "") -> float:
    """One sample of ``/metrics``, 0 where it is absent; ``labels`` as they are written there."""
    line = rf"^{re.escape(name)}{re.escape(labels)} (\S+)$"
    found = re.search(line, daemon.ask("/metrics").body, re.MULTILINE)
    return float(found[1]) if found else 0.0
