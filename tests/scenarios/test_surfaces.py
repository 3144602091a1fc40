"""What a new user meets: metrics that promtool accepts, commands beside a daemon, the demo."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from probe.sandbox.daemon import OPEN, Daemon
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from testbed.tools import missing
from tests.scenarios.conftest import Ports, StartDaemon

StartTriton = Callable[..., TritonServer]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One command of triton-probe, run to its end."""
    command = [sys.executable, "-m", "probe", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)


def check(probe: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``triton-probe check`` against this daemon."""
    return run("check", "--url", f"http://127.0.0.1:{probe.port}", *arguments)


def test_metrics_of_a_real_daemon_pass_promtool_and_check_agrees_with_the_gate(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """The linter is silent; check exits 0 and 1 as the gate answers; logs are one JSON object a line."""
    promtool = shutil.which("promtool") or missing("promtool is not installed")
    repository.add_echo(kind="KIND_CPU", instances=2).add_ensemble("pipeline", steps=("echo",))
    server = triton().wait_ready()
    server.client.infer("echo", (1.0,))
    probe = daemon(server)
    probe.wait_code("/readyz", OPEN)
    probe.wait_until("the request to be counted", lambda: 'outcome="success"' in probe.ask("/metrics").body)
    metrics = probe.ask("/metrics").body
    linted = subprocess.run(
        [promtool, "check", "metrics"],
        input=metrics,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, "", "")

    assert check(probe).returncode == 0
    assert check(probe, "--gate", "live").stdout == "ok\n"
    failing = check(probe, "--model", "ghost")
    assert failing.returncode == 1
    assert "ModelMissing" in failing.stdout
    server.kill(signal.SIGKILL)
    probe.wait_finding("TritonDown")
    assert check(probe).returncode == 1

    assert probe.stop() == 0
    lines = [json.loads(line) for line in probe.log.read_text().splitlines()]
    assert {"gate_failed", "gate_opened", "finding_raised", "epoch"} <= {line["event"] for line in lines}
    assert check(probe).returncode == 3


def test_a_doctor_without_any_triton_could_not_look(ports: Ports) -> None:
    """Exit 3 and one line that says what to give; one look sees no peaks, so it tells no sizes."""
    grpc, http, metrics = (f"127.0.0.1:{port}" for port in ports)
    done = run("doctor", "--grpc", grpc, "--http", http, "--metrics", metrics, "--format", "json")
    assert done.returncode == 3
    assert "--grpc" in done.stderr
    assert json.loads(done.stdout)["triton"]["reachable"] is False
    assert json.loads(done.stdout)["sizing"] is None


@pytest.mark.timeout(500)
def test_the_demo_runs_unattended_and_ends_by_itself(triton_installation: object) -> None:
    """It shows the fallback, the death with its delay, and the recovery, and exits 0."""
    done = run("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    for told in ("CpuFallback  reranker/1", "[-]StubDead embedder/1", "-> 200", "model embedder ready"):
        assert told in done.stdout
