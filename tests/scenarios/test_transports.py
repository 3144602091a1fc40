"""How the daemon reaches the real Triton: each way that fails is told apart, and none from one that is down."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from probe.sandbox.daemon import CLOSED, OPEN, Daemon
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from tests.certificates import Certificates
from tests.scenarios.conftest import StartDaemon

StartTriton = Callable[..., TritonServer]

HEADER = "{triton-grpc-protocol-secret: open sesame}"
WRONG = "{triton-grpc-protocol-secret: guess}"
DOWN = {"TritonDown", "TritonHung", "TritonStarting"}


def reasons(probe: Daemon) -> set[str]:
    """Every reason that stands now."""
    return {each.reason for each in probe.status().findings}


def test_every_way_that_fails_has_a_reason_of_its_own(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, tmp_path: Path
) -> None:
    """Six daemons beside one Triton that wants a client certificate and a header; then Triton is killed."""
    certificates = Certificates(tmp_path / "certificates")
    repository.add_echo(kind="KIND_CPU")
    server = triton(
        arguments=(
            "--grpc-use-ssl-mutual=true",
            f"--grpc-server-cert={certificates.path('server.pem')}",
            f"--grpc-server-key={certificates.path('server.key')}",
            f"--grpc-root-cert={certificates.path('ca.pem')}",
            "--grpc-restricted-protocol=statistics,model-repository:secret=open sesame",
        ),
    )

    def tls(ca: str = "ca", client: str | None = "client") -> str:
        shown = f", cert: {certificates.path(f'{client}.pem')}, key: {certificates.path(f'{client}.key')}"
        return f"{{ca: {certificates.path(f'{ca}.pem')}{shown if client else ''}}}"

    cases = {
        "right": (f"tls: {tls()}, headers: {HEADER}", None),
        "plain": (f"headers: {HEADER}", "TlsMismatch"),
        "another authority": (f"tls: {tls('stranger')}, headers: {HEADER}", "TlsMismatch"),
        "no client certificate": (f"tls: {tls(client=None)}, headers: {HEADER}", "TlsMismatch"),
        "a stranger's certificate": (f"tls: {tls(client='stranger')}, headers: {HEADER}", "TlsMismatch"),
        "no header": (f"tls: {tls()}", "ProtocolRestricted"),
        "another header": (f"tls: {tls()}, headers: {WRONG}", "ProtocolRestricted"),
    }
    probes = {
        name: daemon(server, settings=f"interval: 1s\ntriton: {{{told}}}\n")
        for name, (told, _) in cases.items()
    }
    for name, (_, expected) in cases.items():
        probe = probes[name]
        if expected is None:
            probe.wait_code("/readyz", OPEN)
            assert [each.name for each in probe.status().models] == ["echo"]
            continue
        told = probe.wait_finding(expected)
        assert probe.wait_code("/readyz", CLOSED).code == CLOSED
        probe.wait_until(
            f"{name}: {expected} and no other",
            lambda probe=probe, expected=expected: (  # type: ignore[misc]
                reasons(probe) & (DOWN | {"TlsMismatch", "ProtocolRestricted"}) == {expected}
            ),
        )
        assert told.action == "CHECK_CONFIG"
        assert probe.ask("/livez").code == OPEN
        if expected == "ProtocolRestricted":
            assert "triton-grpc-protocol-secret" in told.message
    server.kill(signal.SIGKILL)
    # Whom it answered is told that it is down; to the others it never was up.
    for name in ("right", "no header"):
        probes[name].wait_finding("TritonDown")
    probes["plain"].wait_finding("TritonStarting")
    probes["plain"].wait_clear("TlsMismatch")


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder with a short path: a socket's may have 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="probe-"))
    yield folder
    shutil.rmtree(folder)


def test_unix_sockets_serve_and_fail_as_ports_do(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, sockets: Path, tmp_path: Path
) -> None:
    """All three of Triton's addresses may be sockets; TLS to a plain one, and one that is not there, differ."""
    certificates = Certificates(tmp_path / "certificates")
    repository.add_echo(kind="KIND_CPU")
    server = triton(
        arguments=[f"--{name}-address=unix:{sockets / name}" for name in ("grpc", "http", "metrics")],
        live=False,
    )
    grpc = f"unix:{sockets / 'grpc'}:{server.ports[0]}"
    rest = ("--http", f"unix:{sockets / 'http'}", "--metrics", f"unix:{sockets / 'metrics'}")
    right = daemon(server, arguments=("--grpc", grpc, *rest))
    tls = f"interval: 1s\ntriton: {{tls: {{ca: {certificates.path('ca.pem')}}}}}\n"
    secure = daemon(server, settings=tls, arguments=("--grpc", grpc, *rest))
    absent = daemon(server, arguments=("--grpc", f"unix:{sockets / 'absent'}", *rest))
    right.wait_code("/readyz", OPEN)
    right.wait_until(
        "all three sockets to answer", lambda: right.status().probe.sources["triton"].error is None
    )
    assert secure.wait_finding("TlsMismatch").action == "CHECK_CONFIG"
    secure.wait_until("it to be no longer starting", lambda: not reasons(secure) & DOWN)
    starting = absent.wait_finding("TritonStarting")
    right.wait_until("HTTP to be told", lambda: "answers over HTTP" in starting_message(absent))
    assert starting.action == "WAIT"
    server.kill(signal.SIGKILL)
    right.wait_finding("TritonDown")


def starting_message(probe: Daemon) -> str:
    """What TritonStarting says now."""
    found = probe.finding("TritonStarting")
    return found.message if found is not None else ""
