"""Fixtures of the black-box scenarios: the daemon as a process beside a real Triton in one pod."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from probe.sandbox.daemon import OPEN, Daemon
from probe.sandbox.pods import Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer, free_ports
from probe.sandbox.wheel import TritonInstallation
from testbed.kubelet.played import PlayedPod, played
from testbed.kubelet.specs import PodSpec
from testbed.machine.host import Machine, ToolMissingError
from testbed.pods.podman import Podman
from testbed.tools import missing

Ports = tuple[int, int, int]
StartDaemon = Callable[..., Daemon]
Play = Callable[..., PlayedPod]

BRISK = "interval: 1s\n"
"""Settings of most scenarios: they are about what is seen, not about how long an interval is."""


def addresses(ports: Ports) -> dict[str, str]:
    """Triton's addresses by protocol, for these ports."""
    return {name: f"127.0.0.1:{port}" for name, port in zip(("grpc", "http", "metrics"), ports, strict=True)}


@pytest.fixture
def ports() -> Ports:
    """Ports for a Triton that is to come (or never does)."""
    grpc, http, metrics = free_ports(3)
    return grpc, http, metrics


@pytest.fixture
def daemon(pod: Pod, tmp_path: Path) -> Iterator[StartDaemon]:
    """Start the daemon in the test's pod, beside ``beside`` (a server or ports); ends with the test."""
    with contextlib.ExitStack() as started:

        def start(beside: TritonServer | Ports, settings: str = BRISK, **options: Any) -> Daemon:  # noqa: ANN401
            ports = beside.ports if isinstance(beside, TritonServer) else beside
            (port,) = free_ports(1)
            log = tmp_path / f"probe-{port}.log"
            one = Daemon(pod, port, log=log, addresses=addresses(ports), settings=settings, **options)
            started.enter_context(one).wait_code("/livez", OPEN)
            return one

        yield start


@pytest.fixture
def play(podman: Podman, triton_installation: TritonInstallation) -> Iterator[Play]:
    """Run a pod by the kubelet's rules, with this model repository; it ends with the test.

    The probe runs from this checkout, or from the ``image`` of this name.
    """
    with contextlib.ExitStack() as opened:

        def start(
            spec: PodSpec, repository: Repository, settings: str = BRISK, *, image: str = ""
        ) -> PlayedPod:
            pod = played(spec, repository, podman, triton_installation, settings=settings, image=image)
            return opened.enter_context(pod)

        yield start


@pytest.fixture(scope="session")
def machine(
    triton_installation: TritonInstallation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A booted machine with cgroup version 2, for plays of ``testbed.machine.plays``."""
    try:
        booted = Machine.boot(tmp_path_factory.mktemp("machine"))
    except ToolMissingError as error:
        missing(str(error))
    with booted:
        yield booted
