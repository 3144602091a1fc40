"""Triton comes, goes, hangs and comes back; the daemon names each state and never ends."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

from probe.sandbox.daemon import CLOSED, OPEN, Daemon
from probe.sandbox.pods import Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer, free_ports
from tests.scenarios.conftest import BRISK, Ports, StartDaemon, addresses

StartTriton = Callable[..., TritonServer]


def test_every_state_of_a_tritons_life_is_named_rightly(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, ports: Ports, tmp_path: Path
) -> None:
    """Before, starting, up, stopped, continued, killed, started again: one epoch a process."""
    loaded = tmp_path / "loaded"
    repository.add_echo(instances=2, kind="KIND_CPU")
    repository.add_waiting_initialize("slow", loaded, kind="KIND_CPU")
    probe = daemon(ports)
    before = probe.wait_code("/readyz", CLOSED)
    assert "Initializing" in before.body or "TritonStarting" in before.body
    assert probe.ask("/livez").body == "ok"
    probe.wait_finding("TritonStarting")
    assert probe.status().triton.epoch == 0

    server = triton(live=False, ports=ports)
    probe.wait_until("the process to be seen", lambda: probe.status().triton.pid)
    starting = probe.finding("TritonStarting")
    assert starting is not None
    assert "has not opened" in starting.message
    assert probe.ask("/startupz").code == CLOSED
    loaded.touch()
    probe.wait_code("/readyz", OPEN)
    probe.wait_code("/startupz", OPEN)
    assert probe.status().triton.epoch == 1

    server.kill(signal.SIGSTOP)
    hung = probe.wait_finding("TritonHung")
    assert "stopped" in hung.message
    assert probe.wait_code("/readyz", CLOSED).body.startswith("[-]TritonHung")
    assert probe.ask("/livez").code == OPEN
    server.kill(signal.SIGCONT)
    probe.wait_code("/readyz", OPEN)
    assert probe.finding("TritonHung") is None
    assert probe.status().triton.epoch == 1

    server.kill(signal.SIGKILL)
    down = probe.wait_code("/readyz", CLOSED)
    assert "[-]TritonDown server:" in down.body
    assert "signal 9" in down.body
    assert probe.ask("/livez").code == OPEN
    assert probe.ask("/startupz").code == OPEN
    assert probe.finding("StubDead") is None

    triton(live=False, ports=ports)
    probe.wait_until("the second epoch", lambda: probe.status().triton.epoch == 2)
    assert probe.finding("TritonDown") is None
    probe.wait_code("/readyz", OPEN)
    assert probe.status().triton.epoch == 2
    assert probe.program.poll() is None
    moved = [each for each in json.loads(probe.ask("/events").body) if each.get("gate") == "live"]
    assert moved == []
    assert probe.stop() == 0


def test_a_triton_that_ends_before_its_ports_open_is_starting_and_says_how_it_ended(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, ports: Ports
) -> None:
    """--exit-on-error ends the server at the first bad model: that was never up, and is no TritonDown."""
    repository.add_failing_initialize("broken", kind="KIND_CPU")
    probe = daemon(ports)
    probe.wait_code("/readyz", CLOSED)
    triton(live=False, ports=ports, exit_on_error=True)
    probe.wait_until(
        "its end", lambda: "ended" in getattr(probe.finding("TritonStarting"), "message", "") or None
    )
    assert probe.finding("TritonDown") is None
    assert probe.ask("/livez").code == OPEN


def test_required_models_that_are_missing_or_unloaded_close_ready(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """ModelMissing for what the repository lacks, ModelNotReady for what was unloaded or never loaded."""
    repository.add_echo(kind="KIND_CPU").add_echo("second", kind="KIND_CPU").add_echo("idle", kind="KIND_CPU")
    server = triton(control_mode="explicit", load_models=("echo", "second")).wait_ready()
    probe = daemon(server, settings="interval: 1s\nmodels: {required: [echo, second, idle, ghost]}\n")

    def not_ready(model: str) -> str:
        found = probe.finding("ModelNotReady", model)
        return found.message if found is not None else ""

    missing = probe.wait_finding("ModelMissing")
    assert missing.subject.model == "ghost"
    probe.wait_until("the idle one", lambda: "never loaded" in not_ready("idle"))
    server.client.unload("second")
    probe.wait_until("the unload", lambda: "unload" in not_ready("second"))
    server.client.load("second")
    server.client.load("idle")
    probe.wait_clear("ModelNotReady")
    probe.wait_code("/readyz?model=echo&model=second&model=idle", OPEN)
    assert "ModelMissing" in probe.ask("/readyz?model=ghost").body


def test_a_triton_in_another_pid_namespace_is_judged_by_its_answers_alone(
    triton: StartTriton, repository: Repository, tmp_path: Path
) -> None:
    """ProcessesNotShared says what can not be judged; ready opens all the same."""
    repository.add_echo(kind="KIND_CPU")
    server = triton().wait_ready()
    (port,) = free_ports(1)
    with Pod.open() as elsewhere:
        log = tmp_path / "elsewhere.log"
        with Daemon(elsewhere, port, log=log, addresses=addresses(server.ports), settings=BRISK) as probe:
            finding = probe.wait_finding("ProcessesNotShared")
            assert "shareProcessNamespace: true" in finding.remedy
            probe.wait_code("/readyz", OPEN)
            os.kill(server.stubs("echo")[0].pid, signal.SIGKILL)
            server.kill(signal.SIGKILL)
            assert "TritonStarting" in probe.wait_code("/readyz", CLOSED).body
            assert probe.ask("/livez").code == OPEN
