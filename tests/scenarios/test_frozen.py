"""A cgroup is frozen under the real Triton: nothing in ``stat`` need show it, and nobody else says it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from probe.facts.gates import Gate
from probe.sandbox.daemon import CLOSED, OPEN
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from testbed.freezers import FreezableCgroup, freezable_cgroup
from tests.scenarios.conftest import StartDaemon

StartTriton = Callable[..., TritonServer]


@pytest.fixture(params=[1, 2], ids=["version 1", "version 2"])
def cgroup(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    triton: StartTriton,
) -> Iterator[FreezableCgroup]:
    """A cgroup of each version; what is put into it goes back to where it was."""
    with freezable_cgroup(request.param, tmp_path / "freezer") as made:
        yield made


def test_a_stub_in_a_frozen_cgroup_is_frozen_and_a_thawed_one_is_not(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, cgroup: FreezableCgroup
) -> None:
    """StubFrozen closes ready after its hold and names the cgroup; the other instance is well."""
    repository.add_echo(instances=2, kind="KIND_CPU")
    server = triton().wait_ready()
    probe = daemon(server)
    probe.wait_code("/readyz", OPEN)
    stub = server.stubs("echo")[1]
    cgroup.take(stub.pid)
    cgroup.freeze()
    frozen = probe.wait_finding("StubFrozen")
    assert frozen.subject.instance == stub.instance
    assert str(frozen.evidence["cgroup"]).endswith(cgroup.folder.name)
    assert frozen.evidence["state"] == "frozen"
    assert Gate.LIVE in frozen.pending
    (told,) = (each for each in probe.status().models if each.name == "echo")
    assert (told.instances.alive, told.instances.frozen, told.instances.dead) == (2, 1, 0)
    assert probe.wait_code("/readyz", CLOSED).body.startswith("[-]StubFrozen")
    cgroup.thaw()
    probe.wait_clear("StubFrozen")
    probe.wait_code("/readyz", OPEN)


def test_a_frozen_tritonserver_is_hung_and_the_cgroup_is_named(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, cgroup: FreezableCgroup
) -> None:
    """Its kernel still accepts connections for it; thawed it answers."""
    repository.add_echo(kind="KIND_CPU")
    server = triton().wait_ready()
    probe = daemon(server, settings="interval: 1s\ntriton: {timeout: 1500ms}\n")
    probe.wait_code("/readyz", OPEN)
    cgroup.take(server.outer_pid)
    cgroup.freeze()
    hung = probe.wait_finding("TritonHung")
    assert str(hung.evidence["cgroup"]).endswith(cgroup.folder.name)
    assert "frozen by the cgroup" in hung.message
    probe.wait_code("/readyz", CLOSED)
    cgroup.thaw()
    probe.wait_clear("TritonHung")
    probe.wait_code("/readyz", OPEN)
