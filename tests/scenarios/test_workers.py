"""What runs below a stub dies, or outlives it: what the probe says, and what it does not say."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from probe.facts.gates import Gate
from probe.sandbox.daemon import CLOSED, OPEN, Daemon
from probe.sandbox.pods import Pod
from probe.sandbox.processes import PodProcess
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from tests.scenarios.conftest import StartDaemon

StartTriton = Callable[..., TritonServer]

ENGINE = {"children": "1", "child_name": "VLLM::EngineCore"}
SHIPPED = "interval: 5s\n"
"""The verdict must come from the kernel's word, not from a quick poll."""


def engines(pod: Pod) -> list[PodProcess]:
    """The engine cores that run in the pod."""
    return [each for each in pod.processes() if each.name.startswith("VLLM::") and each.arguments]


def reasons(probe: Daemon) -> set[str]:
    """Every reason that was ever raised."""
    return {each["reason"] for each in probe.events() if each["kind"] == "finding_raised"}


def delay(probe: Daemon, reason: str) -> float:
    """The mean delay of detection that the metrics tell."""
    lines = probe.ask("/metrics").body.splitlines()
    told = {
        name: float(line.split()[-1])
        for line in lines
        for name in ("sum", "count")
        if line.startswith(f'triton_probe_detection_delay_seconds_{name}{{reason="{reason}"')
    }
    assert told["count"] == 1
    return told["sum"]


def known(probe: Daemon, children: int) -> None:
    """Wait until the daemon has seen these children below the stubs of the first model."""
    probe.wait_until(
        "the children to be seen",
        lambda: (
            sum(each.children for model in probe.status().models for each in model.stubs) == children or None
        ),
    )


def test_a_killed_engine_closes_ready_at_once_and_a_reload_opens_it(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, pod: Pod
) -> None:
    """Triton's own readiness knows nothing of it, on any release."""
    repository.add_echo(kind="KIND_CPU", parameters=ENGINE)
    server = triton(control_mode="explicit", load_models=("*",)).wait_ready()
    probe = daemon(server, settings=SHIPPED)
    probe.wait_code("/readyz", OPEN)
    known(probe, 1)
    (victim,) = engines(pod)
    os.kill(victim.pid, signal.SIGKILL)
    closed = probe.wait_code("/readyz", CLOSED, pause=0.002, seconds=3)
    assert server.client.model_ready("echo")

    assert "[-]WorkerDead echo/1 echo_0_0: Its worker VLLM::EngineCore" in closed.body
    dead = probe.finding("WorkerDead")
    assert dead is not None
    assert dead.evidence["pid"] == victim.inside_pid
    assert dead.evidence["signal"] == signal.SIGKILL
    assert dead.pending == (Gate.LIVE,)
    assert delay(probe, "WorkerDead") < 0.5
    assert "StubDead" not in reasons(probe)

    server.client.load("echo")
    probe.wait_clear("WorkerDead")
    probe.wait_code("/readyz", OPEN)
    (second,) = engines(pod)
    known(probe, 1)
    os.kill(second.pid, signal.SIGKILL)
    probe.wait_code("/readyz", CLOSED, seconds=3)
