"""The image in a pod beside a real Triton: what the daemon sees from there, with another root and another Python."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import msgspec
import pytest

from probe.facts.status import Status
from probe.sandbox.client import TritonError
from probe.sandbox.daemon import CLOSED, OPEN
from probe.sandbox.repositories import Repository
from testbed.pods.footprints import working_set_bytes
from testbed.pods.models import add_greedy
from testbed.pods.pod import MIB, PROBE, LimitedPod, addresses
from testbed.pods.resources import Resources

OpenLimitedPod = Callable[..., LimitedPod]
BRISK = "interval: 1s\n"
LIMITED = Resources(memory=256 * MIB, cpu=1.0)


def test_it_sees_what_the_checkout_sees(
    limited_pod: OpenLimitedPod, repository: Repository, image: str
) -> None:
    """Stubs, the limits of Triton's container and its ``/dev/shm``; a killed stub closes the gate, by name."""
    repository.add_echo(kind="KIND_CPU", instances=2)
    pod = limited_pod(shm_bytes=32 * MIB)
    server = pod.triton(repository, resources=LIMITED).wait_ready()
    probe = pod.probe(server, BRISK, image=image)
    probe.wait_code("/readyz", OPEN)
    told = probe.status()
    (model,) = told.models
    assert (model.instances.alive, model.instances.expected) == (2, 2)
    assert told.container.memory is not None
    assert told.container.memory.limit_bytes == 256 * MIB
    assert told.container.shm is not None
    assert told.container.shm.size_bytes == 32 * MIB
    assert probe.finding("ProcessAccessDenied") is None
    assert probe.finding("ProcessesNotShared") is None

    os.kill(server.stubs("echo")[0].pid, signal.SIGKILL)
    answer = probe.wait_code("/readyz", CLOSED)
    assert "[-]StubDead echo/1" in answer.body
    dead = probe.wait_finding("StubDead", "echo")
    assert "SIGKILL" in dead.message


def test_an_oom_kill_is_told_from_the_image(
    limited_pod: OpenLimitedPod, repository: Repository, image: str
) -> None:
    """The count of the other container's cgroup is read through /proc, and compared."""
    add_greedy(repository, "greedy", takes="memory")
    pod = limited_pod()
    server = pod.triton(repository, resources=LIMITED).wait_ready()
    probe = pod.probe(server, BRISK, image=image)
    probe.wait_code("/readyz", OPEN)
    with pytest.raises(TritonError, match="is not healthy"):
        server.client.infer("greedy", (400.0,))
    probe.wait_finding("OomKilled")
    assert "want of memory" in str(probe.wait_finding("StubDead").evidence["cause"])


def test_it_fits_into_what_manifests_ask_for(
    limited_pod: OpenLimitedPod, repository: Repository, image: str
) -> None:
    """With 20 models, each asked about, and every surface read: its working set stays below its own request."""
    for number in range(5):
        repository.add_echo(f"python_{number}", kind="KIND_CPU")
    repository.add_ensembles(15, step="python_0")
    pod = limited_pod()
    probe = pod.probe(pod.triton(repository).wait_ready(), BRISK, image=image, resources=PROBE)
    probe.wait_code("/readyz", OPEN)
    assert len(probe.status().models) == 20
    for path in ("/", "/metrics", "/status", "/events", "/readyz?verbose") * 20:
        assert probe.ask(path).code == OPEN
    assert PROBE.memory is not None
    assert working_set_bytes(probe.program.pid) < PROBE.memory * 2 // 3


def test_doctor_looks_once_from_the_image(
    limited_pod: OpenLimitedPod, repository: Repository, image: str
) -> None:
    """As ``kubectl exec`` into the probe's container would run it."""
    repository.add_echo(kind="KIND_CPU")
    pod = limited_pod()
    server = pod.triton(repository, resources=LIMITED).wait_ready()
    told = [word for name, value in addresses(server).items() for word in (f"--{name}", value)]
    answer = pod.command("doctor", *told, "--format=json", image=image)
    status = msgspec.json.decode(answer.stdout, type=Status)
    assert [each.name for each in status.models] == ["echo"]
    assert status.container.memory is not None
    assert status.container.memory.limit_bytes == 256 * MIB
