"""Fixtures of the whole suite: the real Triton in a pod of its own, and a scripted one."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from probe.sandbox.errors import SandboxError
from probe.sandbox.pods import Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from probe.sandbox.wheel import TritonInstallation, installed_triton
from testbed.crashes import lives
from testbed.images import build
from testbed.images.cache import UnobtainableError
from testbed.pods.pod import LimitedPod
from testbed.pods.podman import Podman
from testbed.scripted.server import ScriptedTriton
from testbed.tools import MISSING, missing
from tests import second_tries
from tests.goldens import pytest_addoption

__all__ = ["pytest_addoption"]

# How long an example takes says nothing on a machine that does other things too.  Where a test may not be
# skipped it may not depend on luck either: there the same examples are tried each time.
settings.register_profile(
    "probe",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("TRITON_PROBE_REQUIRE_ALL")),
)
settings.load_profile("probe")

StartTriton = Callable[..., TritonServer]
OpenPod = Callable[[int], Pod]
OpenLimitedPod = Callable[..., LimitedPod]


@pytest.fixture(scope="session")
def triton_installation() -> TritonInstallation:
    """The real tritonserver, installed at the first use."""
    try:
        return installed_triton()
    except SandboxError as error:
        missing(str(error))


@pytest.fixture(scope="session")
def pods_work() -> None:
    """Skip where this machine grants no namespaces."""
    try:
        Pod.open().close()
    except SandboxError as error:
        missing(str(error))


@pytest.fixture
def open_pod(pods_work: None) -> Iterator[OpenPod]:
    """Open pods with a ``/dev/shm`` of so many bytes; they end with the test."""
    with contextlib.ExitStack() as opened:
        yield lambda shm_bytes: opened.enter_context(Pod.open(shm_bytes=shm_bytes))


@pytest.fixture
def pod(open_pod: OpenPod) -> Pod:
    """A pod of the test's own: pids, ``/dev/shm`` and mounts; everything in it ends with the test."""
    return open_pod(256 << 20)


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    """Podman with a state of its own, which is gone at the end."""
    try:
        made = Podman()
    except SandboxError as error:
        missing(str(error))
    yield made
    made.close()


@pytest.fixture(scope="session")
def image(podman: Podman) -> str:
    """The name of the probe's image, built from the Dockerfile where it has changed."""
    try:
        return build.load(podman)
    except UnobtainableError as error:
        missing(str(error))


@pytest.fixture
def limited_pod(podman: Podman, triton_installation: TritonInstallation) -> Iterator[OpenLimitedPod]:
    """Open pods with real limits, options are ``LimitedPod``'s; they end with the test."""
    with contextlib.ExitStack() as opened:
        yield lambda **options: opened.enter_context(LimitedPod(podman, triton_installation, **options))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty model repository, to be filled before ``triton`` is called."""
    return Repository(tmp_path / "models")


@pytest.fixture
def servers() -> list[TritonServer]:
    """Every tritonserver that the test has started by ``triton``."""
    return []


@pytest.fixture
def triton(
    triton_installation: TritonInstallation,
    pod: Pod,
    repository: Repository,
    tmp_path: Path,
    servers: list[TritonServer],
) -> StartTriton:
    """Start a tritonserver in the test's pod on the test's repository; options are ``TritonServer``'s.

    It is live when it is returned, unless ``live=False``.  It ends with the pod.
    """

    def start(*, live: bool = True, **options: Any) -> TritonServer:  # noqa: ANN401  (the server's own options)
        log = tmp_path / f"triton-{len(servers)}.log"
        server = TritonServer(pod, triton_installation, repository.path, log=log, **options)
        servers.append(server)
        return server.wait_live() if live else server

    return start


@pytest.fixture(scope="session")
def shared_triton(
    pods_work: None, triton_installation: TritonInstallation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """One Triton in EXPLICIT mode with a sample of everything, for tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("shared")
    repository = (
        Repository(folder / "models")
        .add_echo(kind="KIND_CPU", instances=2)
        .add_echo("implicit")
        .add_echo("batched", kind="KIND_CPU", max_batch_size=4, versions=(1, 3))
        .add_echo("wants_gpu", kind="KIND_GPU")
        .add_ensemble("pipeline", steps=("implicit", "echo"))
        .add_ensembles(3, step="implicit")
        .add_hang(kind="KIND_CPU")
        .add_raise(always=False)
        .add_failing_initialize("raises_at_once")
        .add_failing_initialize("killed_at_once", how="kill", kind="KIND_CPU")
    )
    with Pod.open() as pod:
        started: list[TritonServer] = []
        for life in lives(started):
            with life:
                log = folder / f"triton-{len(started)}.log"
                server = TritonServer(
                    pod,
                    triton_installation,
                    repository.path,
                    log=log,
                    control_mode="explicit",
                    load_models=("*",),
                )
                started.append(server)
                server.wait_live()
        yield started[-1]


@pytest.fixture
def scripted_triton() -> Iterator[ScriptedTriton]:
    """A Triton that does what ``scripted_triton.script`` says, started."""
    with ScriptedTriton() as server:
        yield server


def pytest_configure() -> None:
    """Keep pytest-asyncio (1.5) from making a loop of its own before the first test, which nobody closes."""
    asyncio.set_event_loop(None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts the real server, so that ``-m "not triton"`` leaves it out; allow second tries."""
    second_tries.allow(items)
    for item in items:
        if "triton_installation" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.triton)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what failed at first."""
    second_tries.tell(terminalreporter)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Make a skip for want of a tool a failure where ``TRITON_PROBE_REQUIRE_ALL`` is 1."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.skipped and os.environ.get("TRITON_PROBE_REQUIRE_ALL") == "1":
        told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if MISSING in told:
            report.outcome = "failed"
            report.longrepr = f"{told} (and TRITON_PROBE_REQUIRE_ALL is 1)"
    return report  # type: ignore[return-value]
