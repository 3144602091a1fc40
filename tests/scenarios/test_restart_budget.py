"""Restarts that cure nothing come to an end: /livez fails as often as the budget allows, and then says why not."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from probe.facts.gates import Gate
from probe.sandbox.daemon import CLOSED, OPEN
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from tests.scenarios.conftest import BRISK, Ports, StartDaemon

StartTriton = Callable[..., TritonServer]

BUDGET = f"{BRISK}gates: {{StubDead: {{live: 0s}}}}\nrestarts: {{max: 2, window: 10m}}\n"


def test_livez_fails_twice_and_then_answers_200_with_the_reason(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, ports: Ports
) -> None:
    """A stub dies under three tritonservers in a row; the test is the kubelet that restarts the container."""
    repository.add_echo(instances=2, kind="KIND_CPU")
    probe = daemon(ports, settings=BUDGET)
    for _ in range(2):
        server = triton(ports=ports).wait_ready()
        probe.wait_code("/readyz", OPEN)
        assert probe.ask("/livez").code == OPEN
        os.kill(server.stubs("echo")[0].pid, signal.SIGKILL)
        assert "[-]StubDead echo/1" in probe.wait_code("/livez", CLOSED, pause=0.005).body
        server.kill()
        server.program.wait(10)
        # A restarted container begins with an open live gate.
        probe.wait_code("/livez", OPEN)
    server = triton(ports=ports).wait_ready()
    probe.wait_code("/readyz", OPEN)
    os.kill(server.stubs("echo")[0].pid, signal.SIGKILL)
    spent = probe.wait_finding("RestartBudgetSpent")
    assert probe.ask("/livez").code == OPEN
    verbose = probe.ask("/livez?verbose").body
    assert verbose.startswith("warn: RestartBudgetSpent server: /livez failed 2 times")
    assert "[-]" not in verbose
    assert 'triton_probe_gate{gate="live"} 1.0' in probe.ask("/metrics").body
    assert probe.status().gates[Gate.LIVE].ok
    assert spent.message.startswith("/livez failed 2 times within 10 min, since ")
    assert "StubDead echo/1" in spent.message
    ready = probe.ask("/readyz")
    assert ready.code == CLOSED
    assert "[-]RestartBudgetSpent server" in ready.body
    dead = probe.finding("StubDead")
    assert dead is not None
    assert [each.value for each in (*dead.gates, *dead.pending)] == ["ready"]
    assert 'triton_probe_gate_transitions_total{gate="live"} 4.0' in probe.ask("/metrics").body
