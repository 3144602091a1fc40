"""``/dev/shm`` of 16 MiB beside a real Triton: too many instances, large tensors, and what a crash leaves."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable

import pytest

from probe.facts.findings import Finding
from probe.sandbox.client import TritonError
from probe.sandbox.daemon import OPEN, Daemon
from probe.sandbox.pods import Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from tests.conftest import OpenPod
from tests.scenarios.conftest import Ports, StartDaemon

StartTriton = Callable[..., TritonServer]

MIB = 1 << 20
LARGE_REGIONS = (
    f"--backend-config=python,shm-default-byte-size={4 * MIB}",
    f"--backend-config=python,shm-growth-byte-size={4 * MIB}",
)
"""Four of these fill the file system, with fewer processes than the default's sixteen."""


@pytest.fixture
def pod(open_pod: OpenPod) -> Pod:
    """A pod with little shared memory."""
    return open_pod(16 * MIB)


def looks(probe: Daemon) -> int:
    """How often the container was looked at."""
    count = re.search(
        r'source_duration_seconds_count\{source="container"\} ([0-9.]+)', probe.ask("/metrics").body
    )
    return int(float(count[1])) if count else 0


def wait_looks(probe: Daemon, more: int) -> None:
    """Wait until the container was looked at so many times more."""
    before = looks(probe)
    probe.wait_until(f"{more} looks at the container", lambda: looks(probe) >= before + more)


def only_two_regions(probe: Daemon) -> bool:
    """Whether there are two regions, and nobody's is among them."""
    told = probe.status().container.shm
    return told.regions == 2 and told.orphan_bytes == 0


def raised(probe: Daemon, reason: str) -> bool:
    """Whether there ever was such a finding."""
    return any(each["kind"] == "finding_raised" and each["reason"] == reason for each in probe.events())


def test_the_region_of_a_dead_stub_is_no_leak_and_goes_with_its_model(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """Tritonserver maps it until the model is unloaded, and then removes it."""
    repository.add_echo(kind="KIND_CPU", instances=2)
    server = triton(control_mode="explicit", load_models=("*",)).wait_ready()
    probe = daemon(server)
    probe.wait_until("both regions", lambda: probe.status().container.shm.regions == 2)
    # A stub that ends before a scan has seen it has no exit that anybody witnessed.
    probe.wait_until("both stubs", lambda: sum(len(each.stubs) for each in probe.status().models) == 2)
    os.kill(server.stubs("echo")[0].pid, signal.SIGKILL)
    probe.wait_finding("StubDead")
    wait_looks(probe, 4)
    told = probe.status()
    assert told.container.shm.regions == 2
    assert told.container.shm.orphan_bytes == 0
    assert len(told.models[0].stubs) == 1
    assert told.models[0].shm_bytes == 2 * MIB
    server.client.unload("echo")
    probe.wait_until("the regions to go", lambda: probe.status().container.shm.regions == 0)
    assert not raised(probe, "ShmLeaked")


def test_what_a_killed_tritonserver_left_is_named_and_the_remedy_removes_it(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, pod: Pod, ports: Ports
) -> None:
    """Its stubs were killed first, so that none could clean up; the next one in the same pod has its own."""
    repository.add_echo(kind="KIND_CPU", instances=2)
    first = triton(ports=ports).wait_ready()
    probe = daemon(ports)
    probe.wait_until("both regions", lambda: probe.status().container.shm.regions == 2)
    left = {stub.shm_region for stub in first.stubs("echo")}
    for stub in first.stubs("echo"):
        os.kill(stub.pid, signal.SIGKILL)
    first.kill()
    triton(ports=ports).wait_ready()
    leaked = probe.wait_finding("ShmLeaked")
    assert leaked.evidence["leaked"] == 2
    assert leaked.evidence["leaked_bytes"] == 2 * MIB
    assert leaked.evidence["models"] == "echo/1"
    assert all(each in leaked.message for each in left)
    # The leak may be known before a look has listed all of the new ones.
    probe.wait_until("the new ones beside them", lambda: probe.status().container.shm.regions == 4)
    assert probe.status().container.shm.orphan_bytes == 2 * MIB
    assert probe.wait_code("/readyz", OPEN).body == "ok"
    probe.wait_until(
        "the model's own", lambda: [each.shm_bytes for each in probe.status().models] == [2 * MIB]
    )

    line = re.search(r"rm -- [^.]*", leaked.remedy)
    assert line is not None
    removing = pod.popen(("sh", "-c", line[0]), stdout=subprocess.DEVNULL)
    assert removing.wait(10) == 0
    probe.wait_clear("ShmLeaked")
    probe.wait_until("the regions to go", lambda: only_two_regions(probe))


def test_too_many_instances_are_told_before_they_fail_and_when_they_have(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, ports: Ports
) -> None:
    """Three of 4 MiB fit into 16 MiB until they grow; six do not fit at all, and their load fails."""
    repository.add_echo("some", kind="KIND_CPU", instances=3).add_echo("many", kind="KIND_CPU", instances=6)
    server = triton(
        control_mode="explicit", load_models=("some",), arguments=LARGE_REGIONS, ports=ports
    ).wait_ready()
    probe = daemon(ports)
    before = probe.wait_finding("ShmTooSmall")
    assert "3 stubs (some 3) need 24 MiB" in before.message
    assert before.evidence["suggested_bytes"] == 64 * MIB
    assert not raised(probe, "ModelLoadFailed")
    failed, shm = _load_too_many(server, probe, triton, ports)
    assert failed.evidence["cause"] == "shm_exhausted"
    assert "many" in str(shm.evidence["failed_loads"])
    assert "sizeLimit: 64Mi" in shm.remedy
    assert "--shm-size=64m" in shm.remedy
    # The stubs that had their region are gone with the load; what they filled was seen while it lasted.
    assert raised(probe, "ShmPressure")


def _load_too_many(
    server: TritonServer, probe: Daemon, triton: StartTriton, ports: Ports
) -> tuple[Finding, Finding]:
    """The findings on a load that fails; where 2.51 falls over it with a SIGSEGV of its own, of the next life's."""
    for life in range(3):
        with contextlib.suppress(TritonError, OSError):
            server.client.load("many")
        if server.program.poll() is None:
            break
        assert server.program.poll() == -signal.SIGSEGV, f"life {life}: {server.complaints()}"
        server = triton(
            control_mode="explicit", load_models=("some",), arguments=LARGE_REGIONS, ports=ports
        ).wait_ready()
    failed = probe.wait_finding("ModelLoadFailed", "many")

    def told() -> Finding | None:
        found = probe.finding("ShmTooSmall")
        return found if found is not None and found.evidence["failed_loads"] else None

    return failed, probe.wait_until("ShmTooSmall to name the load", told)


def test_regions_that_grow_with_large_tensors_are_told_before_or_when_requests_fail(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """A region never shrinks: once it was full, it stays so."""
    repository.add_echo(kind="KIND_CPU")
    server = triton().wait_ready()
    # The shipped interval: the word comes from the kernel's events.
    probe = daemon(server, settings="interval: 5s\n")
    probe.wait_until("the region", lambda: probe.status().container.shm.regions == 1)
    assert probe.finding("ShmPressure") is None
    error = ""
    for count in range(1_000_000, 3_000_000, 100_000):
        try:
            server.client.infer("echo", [0.0] * count, seconds=30)
        except TritonError as failed:
            error = failed.text
            break
    assert "Failed to increase the shared memory pool size" in error
    told = probe.wait_finding("ShmPressure")
    assert told.evidence["largest_region"] == server.stubs("echo")[0].shm_region
    grown = told.evidence["largest_region_bytes"]
    assert isinstance(grown, int)
    assert grown > 8 * MIB
    assert "grown from 1 MiB" in told.message
    assert "sizeLimit: 64Mi" in told.remedy
