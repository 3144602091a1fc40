"""``triton-probe demo``: a real Triton with sample models beside the daemon, and what only the daemon sees.

Needs no GPU and runs unattended: it shows where each model runs, kills a stub under traffic, sets Triton's
own word beside the probe's, reloads the model, and ends.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

from rich.console import Console

from probe.sandbox.client import TritonError
from probe.sandbox.daemon import CLOSED, OPEN, Daemon
from probe.sandbox.errors import SandboxError
from probe.sandbox.pods import BarePod, Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer, free_ports
from probe.sandbox.wheel import installed_triton
from probe.surfaces import terminal

HEALTHY, FALLEN, ENSEMBLE = "embedder", "reranker", "search"
"""The sample models: one that is well, one that is meant for a GPU, and an ensemble over the first."""

_SETTINGS = f"""\
interval: 1s
placement:
  models:
    {FALLEN}: {{device: gpu}}
"""
_PROTOCOLS = ("grpc", "http", "metrics")
_PATIENCE = 60.0
_REQUESTS_PER_SECOND = 40


def demo(*, keep: bool = False) -> int:
    """Run the demo; 0 when everything was seen, 1 when not; ``keep`` stays until Ctrl-C."""
    out = terminal.console()
    try:
        with _scratch() as folder:
            _Demo(out, Path(folder)).run(keep=keep)
    except SandboxError as error:
        out.print(terminal.text(f"demo: {error}", "bold red"))
        return 1
    except KeyboardInterrupt:
        out.print()
    return 0


def _scratch() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="triton-probe-demo-")
    except OSError as error:
        raise SandboxError(
            f"it needs a folder for temporary files, and there is none ({error.strerror});"
            " where the file system is read-only, as in a container, it can not be shown"
        ) from error


class _Demo:
    def __init__(self, out: Console, folder: Path) -> None:
        self._out = out
        self._folder = folder

    def run(self, *, keep: bool) -> None:
        self._title("Preparing a real Triton (the first time downloads 55 MB)")
        installation = installed_triton()
        repository = Repository(self._folder / "models")
        repository.add_echo(HEALTHY, instances=2, kind="KIND_CPU").add_echo(FALLEN)
        repository.add_ensemble(ENSEMBLE, steps=(HEALTHY,))
        with self._pod() as pod:
            grpc, http_port, metrics, port = free_ports(4)
            ports = (grpc, http_port, metrics)
            addresses = {name: f"127.0.0.1:{each}" for name, each in zip(_PROTOCOLS, ports, strict=True)}
            log = self._folder / "probe.log"
            with Daemon(pod, port, log=log, addresses=addresses, settings=_SETTINGS) as probe:
                self._show_before(probe)
                with TritonServer(
                    pod,
                    installation,
                    repository.path,
                    log=self._folder / "triton.log",
                    control_mode="explicit",
                    load_models=("*",),
                    ports=ports,
                ) as triton:
                    self._show_placement(probe, triton)
                    self._show_death(probe, triton)
                    self._show_recovery(probe, triton)
                    self._title("That is all")
                    if keep:
                        self._stay(probe, triton)

    def _pod(self) -> BarePod:
        try:
            return Pod.open()
        except SandboxError as error:
            self._say(f"(no namespaces of its own on this machine, so it runs without: {error})")
            return BarePod()

    def _show_before(self, probe: Daemon) -> None:
        self._title("The daemon is up before Triton is")
        answer = probe.wait_code("/readyz", OPEN, CLOSED)
        self._say(f"GET /readyz -> {answer.code}")
        self._quote(answer.body)

    def _show_placement(self, probe: Daemon, triton: TritonServer) -> None:
        self._title("Triton starts: three models, all loaded, all ready, says Triton")
        triton.wait_ready(_PATIENCE)
        finding = probe.wait_finding("CpuFallback", FALLEN)
        self._words(triton, FALLEN)
        self._out.print()
        self._out.print(terminal.models_table(probe.status().models))
        self._out.print()
        self._say(
            f"{FALLEN} was meant for a GPU. It has no instance_group, so Triton put it on the CPU and said nothing:"
        )
        terminal.show_finding(self._out, finding)

    def _show_death(self, probe: Daemon, triton: TritonServer) -> None:
        self._title(f"A stub of {HEALTHY} is killed under traffic, as the kernel does it for want of memory")
        gate = f"/readyz?model={HEALTHY}"
        probe.wait_code(gate, OPEN)
        with _Traffic(triton, HEALTHY) as traffic:
            victim = triton.stubs(HEALTHY)[0]
            self._say(f"kill -KILL {victim.pid}   ({victim.instance}, one of two instances)")
            traffic.mark()
            began = time.monotonic()
            os.kill(victim.pid, signal.SIGKILL)
            answer = probe.wait_code(gate, CLOSED, pause=0.001)
            delay = time.monotonic() - began
            self._words(triton, HEALTHY)
            self._say(f"probe:  GET {gate} -> {answer.code} after {delay * 1000:.0f} ms")
            self._quote(answer.body)
            # A request that reaches the dead instance fails after a second (python_backend's health check).
            probe.wait_until("a request to reach the dead instance", lambda: traffic.failed)
            self._say(
                f"traffic: {traffic.failed} of {traffic.sent} requests since the kill failed: {traffic.error}"
            )

    def _show_recovery(self, probe: Daemon, triton: TritonServer) -> None:
        self._title("The cure that the finding names: reload the model")
        began = time.monotonic()
        triton.client.unload(HEALTHY)
        probe.wait_until("the unload", lambda: not triton.client.model_ready(HEALTHY))
        triton.client.load(HEALTHY)
        gate = f"/readyz?model={HEALTHY}"
        probe.wait_until("the probe to see both instances", lambda: _whole(probe, HEALTHY))
        code = probe.wait_code(gate, OPEN).code
        self._say(f"probe:  GET {gate} -> {code}, {time.monotonic() - began:.1f} s after the reload began")
        self._out.print()
        self._out.print(terminal.models_table(probe.status().models))

    def _stay(self, probe: Daemon, triton: TritonServer) -> None:
        self._say(f"The probe: http://127.0.0.1:{probe.port}/ (and /status, /metrics, /events)")
        self._say(f"Triton:    http://{triton.http}/v2   models: {self._folder / 'models'}")
        self._say("Ctrl-C ends both.")
        signal.pause()

    def _words(self, triton: TritonServer, model: str) -> None:
        server = "ready" if triton.client.server_ready() else "not ready"
        of_model = "ready" if triton.client.model_ready(model) else "not ready"
        self._say(f"Triton: server {server}, model {model} {of_model}")

    def _title(self, words: str) -> None:
        self._out.print()
        self._out.print(terminal.text(f"== {words}", "bold"))

    def _say(self, words: str) -> None:
        self._out.print(terminal.text(words))

    def _quote(self, body: str) -> None:
        for line in body.splitlines():
            self._out.print(terminal.text(f"    {line}", "cyan"))


class _Traffic:
    """Steady requests to one model, counted from :meth:`mark` on."""

    def __init__(self, triton: TritonServer, model: str) -> None:
        self.sent = 0
        self.failed = 0
        self.error = ""
        self._triton = triton
        self._model = model
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(2)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def mark(self) -> None:
        """Count anew from here."""
        self.sent = self.failed = 0

    def _send(self) -> None:
        while not self._ended.wait(len(self._threads) / _REQUESTS_PER_SECOND):
            self.sent += 1
            try:
                self._triton.client.infer(self._model, (1.0,))
            except TritonError as error:
                self.failed += 1
                self.error = str(error)


def _whole(probe: Daemon, model: str) -> bool:
    named = [each for each in probe.status().models if each.name == model]
    return bool(named) and all(
        each.ready and not each.instances.dead and each.instances.alive == each.instances.expected
        for each in named
    )
