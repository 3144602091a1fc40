"""The daemon comes late, or Triton goes slowly: no gate may open, or stay open, for want of knowledge."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from probe.facts.gates import Gate
from probe.sandbox.client import TritonError
from probe.sandbox.daemon import CLOSED, OPEN, Daemon
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from tests.scenarios.conftest import StartDaemon

StartTriton = Callable[..., TritonServer]

NEVER_ENDS = """
import pathlib
import time


class TritonPythonModel:
    def execute(self, requests):
        pathlib.Path({begun!r}).touch()
        time.sleep(1e9)
"""
"""Executes for ever, and leaves a file that says so."""


def codes_over(probe: Daemon, path: str, seconds: float) -> set[int]:
    """Every code that the path answered within this time."""
    seen = set()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        seen.add(probe.ask(path).code)
        time.sleep(0.02)
    return seen


def test_beside_a_triton_that_hangs_from_the_start_nothing_is_ever_called_ready(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """A TritonHung that still counts its looks opens no gate, and startup stays closed until Triton answers."""
    repository.add_echo(kind="KIND_CPU")
    server = triton().wait_ready()
    server.kill(signal.SIGSTOP)
    probe = daemon(server)
    ready = threading.Thread(target=lambda: found.update(codes_over(probe, "/readyz", 8.0)))
    found: set[int] = set()
    ready.start()
    assert codes_over(probe, "/startupz", 8.0) == {CLOSED}
    ready.join()
    assert found == {CLOSED}
    probe.wait_finding("TritonHung")
    server.kill(signal.SIGCONT)
    probe.wait_code("/readyz", OPEN)
    probe.wait_code("/startupz", OPEN)


def test_a_stub_that_died_before_the_daemon_came_is_missing_and_stays_missing(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """No exit was witnessed: InstancesMissing closes ready after its hold, and does not come and go."""
    repository.add_echo(instances=2, kind="KIND_CPU")
    server = triton(control_mode="explicit", load_models=("*",)).wait_ready()
    os.kill(server.stubs("echo")[0].pid, signal.SIGKILL)
    probe = daemon(server)
    missing = probe.wait_finding("InstancesMissing")
    assert (missing.evidence["expected"], missing.evidence["alive"]) == (2, 1)
    probe.wait_code("/readyz", CLOSED)
    assert codes_over(probe, "/readyz", 5.0) == {CLOSED}
    told = [each["kind"] for each in probe.events() if each["reason"] == "InstancesMissing"]
    assert told == ["gate_failed", "finding_raised"]
    server.client.unload("echo")
    probe.wait_until("the unload", lambda: not server.client.model_ready("echo"))
    server.client.load("echo")
    probe.wait_clear("InstancesMissing")
    probe.wait_code("/readyz", OPEN)


def test_a_triton_that_drains_after_sigterm_gets_no_traffic(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, tmp_path: Path
) -> None:
    """It closes HTTP at once and serves gRPC until its last request ends: TritonDown, and no restart of it."""
    begun = tmp_path / "begun"
    repository.add_python("busy", kind="KIND_CPU", source=NEVER_ENDS.format(begun=str(begun)))
    server = triton(arguments=("--exit-timeout-secs=300",)).wait_ready()
    probe = daemon(server)
    probe.wait_code("/readyz", OPEN)

    def last_request() -> None:
        with contextlib.suppress(TritonError, OSError):
            server.client.infer("busy", (1.0,), seconds=200.0)

    request = threading.Thread(target=last_request)
    request.start()
    probe.wait_until("the request to reach the stub", begun.exists)
    server.kill(signal.SIGTERM)
    draining = probe.wait_finding("TritonDown")
    assert server.program.poll() is None
    # Which of the two comes first is Triton's: gRPC says "exiting", or HTTP alone refuses.
    assert "exiting" in draining.message or "shutting down" in draining.message
    assert Gate.LIVE not in (*draining.gates, *draining.pending)
    assert probe.wait_code("/readyz", CLOSED)
    assert probe.ask("/livez").code == OPEN
    server.kill(signal.SIGKILL)
    request.join()
