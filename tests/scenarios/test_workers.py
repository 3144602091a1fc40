"""What runs below a stub dies, or outlives it: what the probe says, and what it does not say."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from probe.facts.gates import Gate
from probe.sandbox.client import TritonError
from probe.sandbox.daemon import CLOSED, OPEN, Daemon
from probe.sandbox.pods import Pod
from probe.sandbox.processes import PodProcess
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from tests.cgroups import limit_memory, made_cgroup
from tests.scenarios.conftest import StartDaemon

__all__ = ["made_cgroup"]

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


def touched(repository: Repository, name: str = "echo") -> None:
    """Change the model's file, without which Triton takes a load for done."""
    os.utime(repository.path / name / "1" / "model.py")


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
    closed = probe.wait_code("/readyz", CLOSED, pause=0.002)
    assert server.client.model_ready("echo")

    assert "[-]WorkerDead echo/1 echo_0_0: Its worker VLLM::EngineCore" in closed.body
    dead = probe.finding("WorkerDead")
    assert dead is not None
    assert dead.evidence["pid"] == victim.inside_pid
    assert dead.evidence["signal"] == signal.SIGKILL
    assert dead.pending == (Gate.LIVE,)
    assert delay(probe, "WorkerDead") < 2.0, "a poll would have taken up to five"
    assert probe.ask("/livez").code == OPEN
    assert "StubDead" not in reasons(probe)

    touched(repository)
    server.client.load("echo")
    probe.wait_clear("WorkerDead")
    probe.wait_code("/readyz", OPEN)
    probe.wait_until("the old load to end", lambda: len(server.stubs("echo")) == 1)
    known(probe, 1)
    (second,) = engines(pod)
    os.kill(second.pid, signal.SIGKILL)
    again = probe.wait_finding("WorkerDead")
    assert again.evidence["pid"] == second.inside_pid


def test_unloading_reloading_and_shrinking_a_model_with_workers_says_nothing(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """Its ``finalize`` kills its engines, while Triton says all the time that the model is ready."""
    parameters = {**ENGINE, "children": "2"}
    repository.add_echo(kind="KIND_CPU", instances=3, parameters=parameters).add_echo(
        "other", kind="KIND_CPU"
    )
    server = triton(control_mode="explicit", load_models=("*",)).wait_ready()
    probe = daemon(server, settings=SHIPPED)
    probe.wait_code("/readyz", OPEN)
    known(probe, 6)

    def load(instances: int) -> None:
        server.client.load("echo")
        probe.wait_until("the old stubs to end", lambda: len(server.stubs("echo")) == instances)

    config = repository.path / "echo" / "config.pbtxt"
    before: set[int] = set()
    # Where the count alone was changed since the last load, Triton adds and removes instances in place.
    for instances, whole in ((3, True), (1, True), (2, False), (3, False), (1, False)):
        before = {stub.pid for stub in server.stubs("echo")}
        if whole:
            touched(repository)
        config.write_text(re.sub(r"count: \d+", f"count: {instances}", config.read_text()))
        load(instances)
    assert {stub.pid for stub in server.stubs("echo")} < before, "the instance was not removed in place"
    server.client.unload("echo")
    probe.wait_until("the stubs to end", lambda: not server.stubs("echo"))
    server.client.load("echo")
    known(probe, 2)
    assert not reasons(probe) & {"WorkerDead", "StubDead", "InstancesMissing", "StubOrphaned"}
    assert [each["gate"] for each in probe.events() if each["kind"] == "gate_failed"] == []
    server.kill(signal.SIGTERM)
    probe.wait_finding("TritonDown")
    probe.wait_until("the stubs to end", lambda: not server.stubs())
    assert not reasons(probe) & {"WorkerDead", "StubDead"}


def test_a_forked_or_started_child_that_is_killed_is_told_and_one_that_ends_is_not(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, pod: Pod
) -> None:
    """Nothing is known of it but that it was there from the start; a code of 0 means that it is done."""
    repository.add_echo(kind="KIND_CPU", parameters={"children": "2"})
    server = triton().wait_ready()
    probe = daemon(server)
    probe.wait_code("/readyz", OPEN)
    known(probe, 2)
    (stub,) = server.stubs("echo")
    began = probe.status().probe.uptime_seconds
    probe.wait_until("the children to settle", lambda: probe.status().probe.uptime_seconds > began + 5)
    first, _ = sorted(each.pid for each in pod.processes() if each.parent == stub.pid)
    os.kill(first, signal.SIGTERM)
    dead = probe.wait_finding("WorkerDead")
    assert dead.evidence["kind"] == "child"
    assert dead.evidence["cause"] == "killed by SIGTERM"
    assert dead.evidence["workers_alive"] == 1


def test_an_engine_that_outlives_its_stub_is_an_orphan_until_it_ends(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, pod: Pod
) -> None:
    """Its model was unloaded, and left it running."""
    repository.add_echo(kind="KIND_CPU", parameters={**ENGINE, "finalize": "leave"})
    server = triton(control_mode="explicit", load_models=("*",)).wait_ready()
    probe = daemon(server)
    probe.wait_code("/readyz", OPEN)
    known(probe, 1)
    (engine,) = engines(pod)
    server.client.unload("echo")
    left = probe.wait_finding("StubOrphaned", "echo")
    assert left.subject.instance == "echo_0_0"
    assert left.evidence["pid"] == engine.inside_pid
    assert left.evidence["title"] == "VLLM::EngineCore"
    assert left.evidence["outlived"] == "stub"
    assert isinstance(left.evidence["rss_bytes"], int)
    assert left.evidence["rss_bytes"] > 1 << 20
    assert left.gates == left.pending == ()
    assert "WorkerDead" not in reasons(probe)
    os.kill(engine.pid, signal.SIGKILL)
    probe.wait_clear("StubOrphaned")


def test_a_stub_that_outlives_its_tritonserver_is_an_orphan_also_while_no_triton_is_there(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """A frozen stub does not notice that its parent is gone, and holds what it held."""
    repository.add_echo(kind="KIND_CPU")
    server = triton().wait_ready()
    probe = daemon(server)
    probe.wait_code("/readyz", OPEN)
    (stub,) = server.stubs("echo")
    os.kill(stub.pid, signal.SIGSTOP)
    server.kill(signal.SIGKILL)
    left = probe.wait_finding("StubOrphaned", "echo")
    assert left.evidence["pid"] == stub.inside_pid
    assert left.evidence["outlived"] == "tritonserver"
    assert probe.finding("TritonDown") is not None
    os.kill(stub.pid, signal.SIGKILL)
    probe.wait_clear("StubOrphaned")


def test_a_stub_that_the_kernel_kills_for_want_of_memory_says_so(
    made_cgroup: Callable[[bytes], Path],
    triton: StartTriton,
    repository: Repository,
    daemon: StartDaemon,
) -> None:
    """Triton runs in a real cgroup with a real limit, above which its model grows at a request."""
    cgroup = made_cgroup(b"memory")
    greedy = {"execute": "grow", "execute_when": "positive", "grow_mib": "4000"}
    repository.add_echo(kind="KIND_CPU", parameters=greedy)
    server = triton(control_mode="explicit")
    (cgroup / "cgroup.procs").write_text(f"{server.outer_pid}\n")
    limit_memory(cgroup, 600 << 20)
    server.client.load("echo")
    probe = daemon(server, settings=SHIPPED)
    probe.wait_code("/readyz", OPEN)
    probe.wait_until("the container", lambda: probe.status().container.memory.oom_kills == 0)
    with contextlib.suppress(TritonError):
        server.client.infer("echo", (1.0,))
    dead = probe.wait_finding("StubDead")
    assert dead.evidence["cause"] == "killed by the kernel for want of memory (SIGKILL)"
    assert re.fullmatch(
        r"oom_kill of /\S+/memory\.\w+ rose from 0 to 1", str(dead.evidence["cause_rests_on"])
    )
    assert "from 600Mi to 768Mi" in dead.remedy
    exits = [line for line in probe.ask("/metrics").body.splitlines() if "stub_exits_total{" in line]
    assert len(exits) == 1
    assert 'cause="oom_killed"' in exits[0]
    server.stop()
