"""TLS between the source and the real tritonserver: what works, and how each mismatch is told."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from probe.facts.triton import CallFailure, Failure, TritonReading
from probe.sandbox.pods import Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from probe.sandbox.wheel import TritonInstallation
from probe.settings import TritonSettings
from probe.settings.schema import TlsSettings
from probe.sources.triton.source import TritonSource
from testbed.scripted.raw import RawListener
from testbed.tools import PATIENCE
from tests.certificates import Certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of this module's own, made with openssl."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secure(
    triton_installation: TritonInstallation,
    certificates: Certificates,
    pods_work: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], TritonServer]]:
    """A Triton that speaks TLS, by option: ``--grpc-use-ssl`` or ``--grpc-use-ssl-mutual``."""
    folder = tmp_path_factory.mktemp("secure")
    repository = Repository(folder / "models")
    with Pod.open() as pod:
        running: dict[str, TritonServer] = {}

        def start(option: str) -> TritonServer:
            if option not in running:
                running[option] = TritonServer(
                    pod,
                    triton_installation,
                    repository.path,
                    log=folder / f"triton-{len(running)}.log",
                    arguments=(
                        f"{option}=true",
                        f"--grpc-server-cert={certificates.path('server.pem')}",
                        f"--grpc-server-key={certificates.path('server.key')}",
                        f"--grpc-root-cert={certificates.path('ca.pem')}",
                    ),
                )
            return running[option].wait_live()

        yield start


Look = Callable[..., Any]


@pytest.fixture
async def look() -> AsyncIterator[Look]:
    """Poll once, with a source of its own."""

    async def once(server: TritonServer, tls: TlsSettings | None = None) -> TritonReading:
        settings = TritonSettings(
            grpc=server.grpc, http=server.http, metrics=server.metrics, tls=tls or TlsSettings(), timeout=20.0
        )
        source = TritonSource(settings)
        try:
            return await source.poll()
        finally:
            await source.close()

    yield once  # noqa: PT022  (as an async generator its loop is the test's)


def failed_live(reading: TritonReading) -> CallFailure:
    """How liveness over gRPC failed, while HTTP, which has no TLS, answered."""
    assert reading.http_live is True
    failure = reading.failed("live")
    assert failure is not None, reading
    return failure


async def test_tls_works_with_the_right_authority(
    look: Look, secure: Callable[[str], TritonServer], certificates: Certificates
) -> None:
    """A server's certificate that the configured authority signed is accepted, and so is one's own."""
    assert (await look(secure("--grpc-use-ssl"), certificates.tls())).live
    mutual = secure("--grpc-use-ssl-mutual")
    assert (await look(mutual, certificates.tls(client="client"))).live


async def test_a_plain_probe_and_a_tls_server_are_a_mismatch(
    look: Look, secure: Callable[[str], TritonServer]
) -> None:
    """All that gRPC says is "Socket closed"; a TLS hello tells it from a server that is going away."""
    failure = failed_live(await look(secure("--grpc-use-ssl")))
    assert failure.failure is Failure.TLS
    assert "Triton speaks TLS" in failure.detail


async def test_a_tls_probe_and_a_plain_server_are_a_mismatch(
    look: Look, shared_triton: TritonServer, certificates: Certificates
) -> None:
    """The handshake fails at the first byte."""
    assert failed_live(await look(shared_triton, certificates.tls())).failure is Failure.TLS


@pytest.mark.parametrize(
    ("option", "tls"),
    [
        ("--grpc-use-ssl", {"ca": "stranger.pem"}),
        ("--grpc-use-ssl", {"ca": "ca.key"}),
        ("--grpc-use-ssl", {"ca": "absent.pem"}),
        ("--grpc-use-ssl", {"name": "elsewhere.example"}),
        ("--grpc-use-ssl-mutual", {}),
        ("--grpc-use-ssl-mutual", {"client": "stranger"}),
        ("--grpc-use-ssl-mutual", {"client": "absent"}),
    ],
    ids=[
        "another authority",
        "no certificate in the file",
        "no file",
        "another name",
        "no client certificate",
        "a client certificate of another authority",
        "no client files",
    ],
)
async def test_every_refused_certificate_is_a_tls_failure(
    look: Look,
    secure: Callable[[str], TritonServer],
    certificates: Certificates,
    option: str,
    tls: dict[str, str],
) -> None:
    """Whichever side refuses, and whether the files are wrong or not there at all."""
    assert failed_live(await look(secure(option), certificates.tls(**tls))).failure is Failure.TLS


async def test_renewed_certificate_files_are_read_without_a_restart(
    secure: Callable[[str], TritonServer], certificates: Certificates, tmp_path: Path
) -> None:
    """A refused certificate is a failure until its file is replaced, on the same source."""
    server, trusted = secure("--grpc-use-ssl"), tmp_path / "trusted.pem"
    shutil.copy(certificates.path("stranger.pem"), trusted)
    settings = TritonSettings(
        grpc=server.grpc,
        http=server.http,
        metrics=server.metrics,
        tls=TlsSettings(ca=str(trusted)),
        timeout=20.0,
    )
    source = TritonSource(settings)
    try:
        assert failed_live(await source.poll()).failure is Failure.TLS
        shutil.copy(certificates.path("ca.pem"), trusted)
        deadline = time.monotonic() + PATIENCE
        while not (await source.poll()).live:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    finally:
        await source.close()


async def test_a_silent_port_is_no_mismatch(certificates: Certificates) -> None:
    """What listens and says nothing is a timeout for a plain probe and for one that speaks TLS."""
    with RawListener() as listener:
        for tls in (TlsSettings(), certificates.tls()):
            source = TritonSource(
                TritonSettings(grpc=listener.address, http=listener.address, timeout=0.2, tls=tls)
            )
            failures = {each.call: each.failure for each in (await source.poll()).failures}
            await source.close()
            assert failures == {"live": Failure.TIMEOUT, "http_live": Failure.TIMEOUT}
