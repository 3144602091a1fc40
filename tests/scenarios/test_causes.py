"""Why did it die: a model that the kernel kills while it loads, in a real cgroup with a real limit."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from probe.facts.findings import Finding
from probe.facts.gates import Gate
from probe.kits.quantities import parse_size
from probe.sandbox.client import TritonError
from probe.sandbox.daemon import CLOSED, OPEN, Daemon
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from tests.cgroups import limit_memory, made_cgroup
from tests.scenarios.conftest import StartDaemon

__all__ = ["made_cgroup"]

StartTriton = Callable[..., TritonServer]

SHIPPED = "interval: 5s\n"
"""What killed it must be told from the kernel's word, and not from a quick poll."""
LIMIT = 600 << 20


def failed(probe: Daemon, cause: str) -> Finding:
    """The finding on the failed load, once it names this cause."""

    def found() -> Finding | None:
        finding = probe.finding("ModelLoadFailed")
        return finding if finding is not None and finding.evidence["cause"] == cause else None

    return probe.wait_until(f"ModelLoadFailed for {cause}", found, 30)


@pytest.mark.timeout(120)  # Triton looks after a stub that loads every 5 s, and there are two loads
@pytest.mark.parametrize("seconds", ["0", "4"])
def test_a_model_that_outgrows_the_limit_in_initialize_is_told_with_the_line_that_cures_it(
    made_cgroup: Callable[[bytes], Path],
    triton: StartTriton,
    repository: Repository,
    daemon: StartDaemon,
    seconds: str,
) -> None:
    """Triton says no more than that a stub is not healthy; the proposed limit, applied, lets the model load.

    One that takes its memory at once is dead before a scan has seen it, unless chance has it otherwise.
    """
    cgroup = made_cgroup(b"memory")
    repository.add_echo("small", kind="KIND_CPU")
    greedy = {"initialize": "grow", "grow_mib": "300", "initialize_seconds": seconds}
    repository.add_echo("greedy", kind="KIND_CPU", parameters=greedy)
    server = triton(control_mode="explicit")
    (cgroup / "cgroup.procs").write_text(f"{server.outer_pid}\n")
    name = limit_memory(cgroup, LIMIT)
    server.client.load("small")
    probe = daemon(server, settings=SHIPPED)
    probe.wait_code("/readyz", OPEN)
    probe.wait_until("the container", lambda: probe.status().container.memory.oom_kills == 0)
    with contextlib.suppress(TritonError):
        server.client.load("greedy")

    told = failed(probe, "stub_oom_killed")
    assert told.subject.model == "greedy"
    assert "Stub process 'greedy_0_0' is not healthy" in told.message
    assert re.search(r"oom_kill of /\S+/memory\.\w+ rose from 0 to 1", told.message)
    assert told.evidence["container_limit_bytes"] == LIMIT
    # Of one that dies at once a scan may have caught a glimpse.
    seen = told.evidence.get("process")
    assert seen == "greedy_0_0" or (seen is None and seconds == "0")
    line = re.search(r"resources: {limits: {memory: (\w+)}}", told.remedy)
    assert line is not None
    wanted = parse_size(line[1])
    assert wanted > LIMIT
    assert Gate.READY in told.gates
    assert probe.wait_code("/readyz", CLOSED).code == CLOSED

    killed = probe.wait_finding("OomKilled")
    assert killed.subject.kind == "container"
    assert killed.gates == killed.pending == ()
    assert killed.evidence["kills"] == 1
    assert ("stub greedy_0_0" if seen else "stub of greedy") in str(killed.evidence["victims"])
    assert probe.finding("StubDead") is None

    (cgroup / name).write_text(str(wanted))
    server.client.load("greedy")
    probe.wait_clear("ModelLoadFailed")
    probe.wait_code("/readyz", OPEN)
    assert probe.finding("OomKilled") is not None


def test_a_model_that_ends_its_own_process_in_initialize_is_told_with_its_exit_code(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """Triton says the same of it as of one that was killed; nothing of memory is proposed."""
    repository.add_echo("small", kind="KIND_CPU")
    leaving = {"initialize": "exit", "initialize_seconds": "4"}
    repository.add_echo("leaving", kind="KIND_CPU", parameters=leaving)
    server = triton(control_mode="explicit", load_models=("small",)).wait_ready()
    probe = daemon(server, settings=SHIPPED)
    probe.wait_code("/readyz", OPEN)
    with contextlib.suppress(TritonError):
        server.client.load("leaving")
    told = failed(probe, "stub_unhealthy")
    assert told.evidence["exit_code"] == 3
    assert "ended while it loaded, with exit code 3." in told.message
    assert "memory" not in told.remedy
    assert probe.finding("OomKilled") is None
