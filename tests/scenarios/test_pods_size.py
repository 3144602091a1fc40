"""``triton-probe size`` after a load run: is what it proposes enough for the same load, and not far too much?"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import yaml

from probe.kits.quantities import parse_size
from probe.sandbox.daemon import OPEN, Daemon
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from testbed.pods.models import add_greedy
from testbed.pods.pod import MIB, LimitedPod
from testbed.pods.resources import Resources

OpenLimitedPod = Callable[..., LimitedPod]
BRISK = "interval: 1s\n"
ROUNDS = 3


def test_what_size_proposes_carries_the_same_load_again(
    limited_pod: OpenLimitedPod, repository: Repository
) -> None:
    """No kill and no full ``/dev/shm`` in the second run, and no more than twice what that run took."""
    add_greedy(repository, "memory", takes="memory", instances=2)
    add_greedy(repository, "shm", takes="shm")
    add_greedy(repository, "heavy", load_mib=150)
    with limited_pod(shm_bytes=256 * MIB) as pod:
        server = pod.triton(repository)
        probe = pod.probe(server, BRISK)
        work(server, probe)
        told = pod.command("size", f"--url=http://127.0.0.1:{probe.port}")
    assert told.returncode == 0, told.stderr
    manifest = yaml.safe_load(told.stdout)
    proposed = Resources.read(told.stdout)
    shm_bytes = parse_size(manifest["volumes"][0]["emptyDir"]["sizeLimit"])
    assert proposed.memory is not None

    with limited_pod(shm_bytes=shm_bytes) as pod:
        server = pod.triton(repository, resources=proposed)
        probe = pod.probe(server, BRISK)
        work(server, probe)
        memory = probe.status().container.memory
        assert memory is not None
        assert memory.oom_kills == 0
        assert memory.peak_bytes is not None
        assert memory.peak_bytes <= proposed.memory <= 2 * memory.peak_bytes
        reasons = {each["reason"] for each in probe.events() if each["kind"] == "finding_raised"}
    assert not reasons & {"StubDead", "OomKilled", "ModelLoadFailed", "MemoryUnlimited"}


def work(server: TritonServer, probe: Daemon) -> None:
    """The load: each instance holds memory, and a region grows; until the probe has seen its peak."""
    server.wait_ready()
    probe.wait_code("/readyz", OPEN)
    for _, mib in itertools.product(range(ROUNDS), (20.0, 60.0, 60.0)):
        server.client.infer("memory", (mib,))
        server.client.infer("shm", (mib / 10,), seconds=30)
    counted = server.client.statistics("shm")["inference_count"]
    probe.wait_until(
        "the last request to be counted",
        lambda: probe.status().models[-1].traffic.success_total == counted,
    )
