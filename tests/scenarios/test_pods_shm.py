"""A ``/dev/shm`` of 16 MiB, for real: too small at a load, full at a request, taken by what nobody owns."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from probe.facts.findings import Finding
from probe.sandbox.client import TritonError
from probe.sandbox.daemon import OPEN
from probe.sandbox.repositories import Repository
from testbed.pods.containers import Container
from testbed.pods.manifests import shm_in
from testbed.pods.models import add_greedy
from testbed.pods.pod import MIB, LimitedPod

OpenLimitedPod = Callable[..., LimitedPod]
BRISK = "interval: 1s\n"
REGIONS_OF_4_MIB = "--backend-config=python,shm-default-byte-size=4194304"


def test_too_many_instances_do_not_load_and_do_in_the_size_that_is_proposed(
    limited_pod: OpenLimitedPod, repository: Repository
) -> None:
    """Six regions of 4 MiB: ShmTooSmall says what they need, and a pod with that much loads them all."""
    add_greedy(repository, "many", instances=6)
    with limited_pod(shm_bytes=16 * MIB) as pod:
        server = pod.triton(repository, control_mode="explicit", arguments=(REGIONS_OF_4_MIB,))
        probe = pod.probe(server, BRISK)
        probe.wait_code("/readyz", OPEN)
        with pytest.raises(TritonError, match="No space left on device"):
            server.client.load("many")
        failed = probe.wait_finding("ModelLoadFailed", "many")
        small = probe.wait_finding("ShmTooSmall")
    assert failed.evidence["cause"] == "shm_exhausted"
    assert failed.evidence["shm_size_bytes"] == 16 * MIB
    assert shm_in(failed.remedy) > 16 * MIB
    assert small.evidence["failed_loads"] == "many/1"

    with limited_pod(shm_bytes=shm_in(small.remedy)) as pod:
        server = pod.triton(repository, arguments=(REGIONS_OF_4_MIB,)).wait_ready()
        assert len(server.stubs("many")) == 6
        told = pod.doctor(server)
    assert "ShmTooSmall" not in told
    assert "ShmPressure" not in told


def test_a_region_that_grew_leaves_no_room_for_the_next_request(
    limited_pod: OpenLimitedPod, repository: Repository
) -> None:
    """ShmPressure says which region took it before a request fails, and goes when the model is unloaded."""
    add_greedy(add_greedy(repository, "big", takes="shm"), "calm")
    pod = limited_pod(shm_bytes=16 * MIB)
    server = pod.triton(repository, control_mode="explicit", load_models=("*",)).wait_ready()
    probe = pod.probe(server, BRISK)
    probe.wait_code("/readyz", OPEN)
    assert probe.finding("ShmPressure") is None
    assert len(server.client.infer("big", (13.0,), seconds=30)) == 13 * MIB // 4
    pressed = probe.wait_until("its owner to be told", lambda: of_big(probe.finding("ShmPressure")))
    assert pressed.evidence["size_bytes"] == 16 * MIB
    assert shm_in(pressed.remedy) > 16 * MIB
    # After a request that failed, Triton 24.10 may never come to the end of an unload.
    server.client.unload("big")
    probe.wait_clear("ShmPressure")

    server.client.load("big")
    server.client.infer("big", (13.0,), seconds=30)
    with pytest.raises(TritonError, match="No space left on device"):
        server.client.infer("big", (15.5,), seconds=30)
    probe.wait_finding("ShmPressure")
    assert probe.ask("/readyz").code == OPEN
    assert probe.finding("StubDead") is None


def test_what_a_killed_tritonserver_left_behind_is_named_and_can_be_removed(
    limited_pod: OpenLimitedPod, repository: Repository
) -> None:
    """The container is started again in the same pod: ShmLeaked names the old regions, and its line removes them."""
    add_greedy(repository, "calm", instances=3)
    pod = limited_pod()
    first = pod.triton(repository)
    probe = pod.probe(first, BRISK)
    probe.wait_code("/readyz", OPEN)
    shm = Path(f"/proc/{pod.first_pid}/root/dev/shm")
    old = {each.name for each in shm.iterdir()}
    assert len(old) == 3
    pod.kill(first)

    second = pod.triton(repository, ports=first.ports).wait_ready()
    leaked = probe.wait_finding("ShmLeaked")
    assert set(str(leaked.evidence["names"]).split()) == old
    assert leaked.evidence["leaked_bytes"] == 3 * MIB
    assert leaked.evidence["models"] == "calm/1"
    line = re.search(r"rm -- [^.;]*(?=\.)", leaked.remedy)
    assert line is not None
    container = second.pod
    assert isinstance(container, Container)
    assert container.execute(*shlex.split(line[0])).returncode == 0
    assert not old & {each.name for each in shm.iterdir()}
    probe.wait_clear("ShmLeaked")
    probe.wait_code("/readyz", OPEN)
    assert second.client.infer("calm") == [0.0]


def of_big(pressed: Finding | None) -> Finding | None:
    """The finding, once the files were listed: that it is full is told before."""
    return pressed if pressed is not None and "big/1 big_0_0" in pressed.message else None
