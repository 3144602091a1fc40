"""Are the limits of the bench's pods the kernel's own, and is nothing left of a pod that ended?"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from probe.sandbox.errors import SandboxError
from probe.sandbox.repositories import Repository
from probe.sandbox.wheel import TritonInstallation
from testbed.pods.pod import MIB, LimitedPod
from testbed.pods.podman import Podman
from testbed.pods.resources import Resources, may_be_spared
from testbed.tools import until

OpenLimitedPod = Callable[..., LimitedPod]


def test_containers_share_what_a_pod_shares_and_have_limits_of_their_own(
    limited_pod: OpenLimitedPod, repository: Repository
) -> None:
    """Pids and ``/dev/shm`` are the pod's; memory, CPU, pids and rights are each container's."""
    pod = limited_pod(shm_bytes=16 * MIB)
    server = pod.triton(
        repository.add_echo(kind="KIND_CPU"), resources=Resources(memory=256 * MIB, cpu=0.5, pids=300)
    )
    probe = pod.probe(server, "interval: 1s\n")
    probe.wait_code("/readyz", 200)

    told = probe.status().container
    assert told.cgroup == 1
    assert told.memory is not None
    assert told.memory.limit_bytes == 256 * MIB
    assert told.cpu is not None
    assert told.cpu.limit_cores == 0.5
    assert told.pids is not None
    assert told.pids.limit == 300
    assert told.shm is not None
    assert told.shm.size_bytes == 16 * MIB

    inside = {each.pid: each.inside_pid for each in pod.processes()}
    assert probe.status().triton.pid == inside[server.outer_pid]
    status = Path(f"/proc/{probe.program.pid}/status").read_text()
    assert "Uid:\t1000\t1000\t1000\t1000\n" in status
    assert "CapBnd:\t0000000000000000\n" in status


def test_a_restarted_container_finds_the_pod_as_it_was(
    limited_pod: OpenLimitedPod, repository: Repository
) -> None:
    """The probe, pids and files in ``/dev/shm`` stay; Triton's cgroup begins anew."""
    pod = limited_pod()
    repository.add_echo(kind="KIND_CPU")
    first = pod.triton(repository)
    shm = Path(f"/proc/{first.outer_pid}/root/dev/shm")
    (shm / "kept").write_text("here")
    before = Path(f"/proc/{first.outer_pid}/cgroup").read_text()
    first.kill(signal.SIGKILL)
    assert first.program.wait(10.0) == 128 + signal.SIGKILL
    second = pod.triton(repository, ports=first.ports)
    assert Path(f"/proc/{second.outer_pid}/root/dev/shm/kept").read_text() == "here"
    assert Path(f"/proc/{second.outer_pid}/cgroup").read_text() != before


def test_nothing_is_left_of_a_podman_that_was_closed(triton_installation: TritonInstallation) -> None:
    """No process, no cgroup, no folder; also where its pods were not closed first."""
    try:
        podman = Podman()
    except SandboxError as error:
        pytest.skip(f"missing: {error}")
    pod = LimitedPod(podman, triton_installation, memory=64 * MIB)
    groups = list(Path("/sys/fs/cgroup").glob(f"*{podman.cgroup}"))
    assert groups
    assert pod.processes()
    podman.close()
    assert not podman.folder.exists()
    assert not any(each.exists() for each in groups)
    assert pod.processes() == ()
    pod.close()


def test_a_pod_ends_with_whoever_made_it(triton_installation: TritonInstallation, podman: Podman) -> None:
    """Its first process waits at a pipe: when that closes, as at any death of ours, the kernel ends the rest."""
    pod = LimitedPod(podman, triton_installation)
    pod.triton(Repository(podman.folder / "models"))
    first = pod._containers[0]._programs[0].process
    assert first.stdin is not None
    first.stdin.close()
    until(lambda: not pod.processes())
    pod.close()


def test_what_podman_refuses_is_told(limited_pod: OpenLimitedPod) -> None:
    """A container that can not start is an error with podman's own words, not a wait."""
    pod = limited_pod()
    with pytest.raises(SandboxError, match="could not start"):
        pod.command("reasons", resources=Resources(memory=1))


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ("resources: {}", Resources()),
        ("resources: {limits: {memory: 4Gi}}", Resources(memory=4 << 30)),
        (
            "resources: {requests: {cpu: 250m, memory: 64Mi}, limits: {cpu: '2', memory: 1G}}",
            Resources(memory=10**9, cpu=2.0, memory_request=64 * MIB, cpu_request=0.25),
        ),
    ],
)
def test_resources_are_read_as_a_manifest_writes_them(manifest: str, expected: Resources) -> None:
    """Suffixes of both kinds, and thousandths of a core."""
    assert Resources.read(manifest) == expected


@pytest.mark.parametrize(
    ("resources", "score"),
    [
        (Resources(), 1000),
        (Resources(pids=9), 1000),
        (Resources(memory_request=1), 999),
        (Resources(memory=MIB, cpu=1.0), -997 if may_be_spared() else 0),
        (Resources(memory=MIB, cpu=1.0, memory_request=1), 999),
        (Resources(memory_request=1 << 62), 3),
    ],
)
def test_the_score_is_the_kubelets(resources: Resources, score: int) -> None:
    """BestEffort first to be killed, Guaranteed last, and between them by the share that was asked for."""
    assert f"--oom-score-adj={score}" in resources.flags()
