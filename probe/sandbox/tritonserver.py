"""One tritonserver in a pod: started on free ports, watched from outside, and surely ended."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from probe.facts.processes import ProcessState
from probe.sandbox.client import TritonClient
from probe.sandbox.errors import SandboxError
from probe.sandbox.pods import BarePod
from probe.sandbox.ports import free_ports
from probe.sandbox.processes import PodProcess
from probe.sandbox.wheel import TritonInstallation

__all__ = ["SandboxStub", "TritonServer", "free_ports"]

_STUB_NAME = "triton_python_b"
_MODEL_PATH = re.compile(r"/(?P<model>[^/]+)/(?P<version>[^/]+)/[^/]+\Z")
_COMPLAINT = re.compile(r"E\d{4} |error: |.*Error")
_ARGUMENTS_OF_A_STUB = 10
_SECONDS_BETWEEN_LOOKS = 0.02
_PATIENCE = 120.0  # seconds: up in three where nothing else runs, and on a busy machine in many times that


class SandboxStub(msgspec.Struct, frozen=True):
    """A living stub process: ``pid`` as seen from here, ``inside_pid`` as the pod counts."""

    pid: int
    inside_pid: int
    model: str
    version: str
    instance: str
    shm_region: str
    state: ProcessState


class TritonServer:
    """A started tritonserver.  :meth:`stop` it, or use it as a context manager.

    Raises :class:`SandboxError` where it can not be started, or does not become what is waited for.
    """

    def __init__(
        self,
        pod: BarePod,
        installation: TritonInstallation,
        repository: Path | Sequence[Path],
        *,
        log: Path,
        control_mode: str = "none",
        load_models: Sequence[str] = (),
        exit_on_error: bool = False,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        ports: tuple[int, int, int] | None = None,
    ) -> None:
        """Start it; ``log`` gets its output, ``arguments`` and ``environment`` come on top.

        ``load_models`` needs ``control_mode`` "explicit"; ``ports`` are for gRPC, HTTP and metrics.
        """
        self.pod = pod
        self.log = log
        grpc, http, metrics = ports or free_ports(3)
        self._ports = (grpc, http, metrics)
        self._without_metrics = any(
            each.startswith(("--allow-metrics=", "--metrics-address=")) for each in arguments
        )
        repositories = (repository,) if isinstance(repository, Path) else tuple(repository)
        command = [
            str(installation.binary),
            *(f"--model-repository={each.absolute()}" for each in repositories),
            f"--backend-directory={installation.backends}",
            *(f"--{name}-address=127.0.0.1" for name in ("grpc", "http", "metrics")),
            f"--grpc-port={grpc}",
            f"--http-port={http}",
            f"--metrics-port={metrics}",
            f"--exit-on-error={str(exit_on_error).lower()}",
            f"--model-control-mode={control_mode}",
            *(f"--load-model={each}" for each in load_models),
            *arguments,
        ]
        with log.open("wb") as output:
            self.program = pod.popen(
                command,
                {**installation.environment, "LC_ALL": "C.UTF-8", **(environment or {})},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def grpc(self) -> str:
        """``host:port`` of gRPC."""
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def http(self) -> str:
        """``host:port`` of HTTP."""
        return f"127.0.0.1:{self._ports[1]}"

    @property
    def metrics(self) -> str:
        """``host:port`` of the metrics."""
        return f"127.0.0.1:{self._ports[2]}"

    @property
    def ports(self) -> tuple[int, int, int]:
        """The ports of gRPC, HTTP and metrics, to start another server in its place."""
        return self._ports

    @property
    def outer_pid(self) -> int:
        """The server's pid as seen from here."""
        return self.program.pid

    @property
    def client(self) -> TritonClient:
        """A client of this server."""
        return TritonClient(self.http)

    def wait_live(self, seconds: float = _PATIENCE) -> Self:
        """Wait until its ports are open and it says that it lives."""
        return self._wait(
            "live", lambda: self.client.server_live() and self._listens(self._ports[2]), seconds
        )

    def wait_ready(self, seconds: float = _PATIENCE) -> Self:
        """Wait until it says that it and all its models are ready."""
        return self._wait("ready", self.client.server_ready, seconds)

    def _listens(self, port: int) -> bool:
        # Triton opens gRPC, HTTP and metrics in this order: with the last, all are there.
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            return self._without_metrics
        return True

    def stubs(self, model: str | None = None) -> tuple[SandboxStub, ...]:
        """List the living stubs of the pod (of one model), also of a server that is gone, by pid.

        While a model loads, its auto-complete stub is among them: ``instance`` is the bare model name.
        """
        found = (_stub(each) for each in self.pod.processes())
        return tuple(each for each in found if each is not None and model in (None, each.model))

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send the server a signal, and do not wait."""
        self.program.send_signal(number)

    def stop(self, seconds: float = 10.0) -> int:
        """End it, with SIGKILL where it does not go in ``seconds``; its exit code."""
        return self.program.stop(seconds)

    def complaints(self, lines: int = 20) -> str:
        """Return the last errors that it wrote, or its last lines where it wrote none."""
        written = self.log.read_text(errors="replace").splitlines()
        return "\n".join(([each for each in written if _COMPLAINT.match(each)] or written)[-lines:])

    def _wait(self, what: str, question: Callable[[], bool], seconds: float) -> Self:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.program.poll() is not None:
                raise SandboxError(f"tritonserver ended ({self.program.poll()}):\n{self.complaints()}")
            try:
                if question():
                    return self
            except OSError:
                pass  # its ports open only after all models were tried
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        raise SandboxError(f"tritonserver is not {what} after {seconds:g} s:\n{self.complaints()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _stub(process: PodProcess) -> SandboxStub | None:
    """Read a process as a stub; the order of its arguments is python_backend's (``stub_launcher.cc``)."""
    if process.name != _STUB_NAME or len(process.arguments) < _ARGUMENTS_OF_A_STUB:
        return None
    path = _MODEL_PATH.search(process.arguments[1])
    if path is None:
        return None
    return SandboxStub(
        pid=process.pid,
        inside_pid=process.inside_pid,
        model=path["model"],
        version=path["version"],
        instance=process.arguments[8],
        shm_region=process.arguments[2],
        state=process.state,
    )
