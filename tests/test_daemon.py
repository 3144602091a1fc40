"""The daemon as a process: it serves before Triton exists, leaves on a signal, and refuses what it can not use."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest

from probe.sandbox.ports import free_ports

SOON = 60.0
LEAVE_SECONDS = 2.0
"""What the contract gives it after a signal."""
_LISTENS = re.compile(r"listens on 127\.0\.0\.1 port (\d+)")


class Daemon:
    """A running ``triton-probe serve`` on a port of its own."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_PROBE_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "probe", "serve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**clean, **(environment or {})},
        )

    def port(self) -> int:
        """The port that it says it listens on."""
        for line in self._errors:
            found = _LISTENS.search(line.decode())
            if found is not None:
                return int(found[1])
        raise AssertionError(f"it ended with {self.process.wait()} and listened nowhere")

    def leave(self, number: signal.Signals) -> tuple[int, float]:
        """Signal it: its exit status, and how long it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        # Read to the end: a full pipe must not be what it waits for.
        self._errors.read()
        return self.process.wait(SOON), time.monotonic() - began

    def ended(self) -> tuple[int, str]:
        """Wait for its end: exit status and standard error."""
        output, errors = self.process.communicate(timeout=SOON)
        assert output == b""
        return self.process.returncode, errors.decode()

    def kill(self) -> None:
        """End it whatever it does."""
        self.process.kill()
        self.process.communicate()

    @property
    def _errors(self) -> IO[bytes]:
        assert self.process.stderr is not None
        return self.process.stderr


Start = Callable[..., Daemon]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start daemons that end with the test."""
    with contextlib.ExitStack() as ends:

        def made(*arguments: str, environment: dict[str, str] | None = None) -> Daemon:
            daemon = Daemon(*arguments, environment=environment)
            ends.callback(daemon.kill)
            return daemon

        yield made


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that is bound and not listened on: connections to it are refused."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def mute() -> Iterator[str]:
    """An address that takes connections and never answers, as a stopped Triton does."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen(128)
        yield f"127.0.0.1:{held.getsockname()[1]}"


def leaves_in_time(begin: Callable[[], Daemon], number: signal.Signals = signal.SIGTERM) -> None:
    """Signal what was begun: it ends with 0, and as soon as it must.

    The best of three counts: on a busy machine a second may be somebody else's.
    """
    took = []
    for _ in range(3):
        status, seconds = begin().leave(number)
        assert status == 0
        took.append(seconds)
        if seconds < LEAVE_SECONDS:
            return
    pytest.fail(f"it took {took} s")


def beside(address: str) -> tuple[str, ...]:
    """Options for a daemon whose Triton is at this address."""
    return (
        "--listen=127.0.0.1:0",
        f"--grpc={address}",
        f"--http={address}",
        f"--metrics={address}",
        "--interval=500ms",
    )


def ask(port: int, path: str) -> tuple[int, bytes]:
    """One request: status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SOON)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def until(port: int, reason: str) -> None:
    """Wait until a finding of this reason stands."""
    end = time.monotonic() + SOON
    while reason.encode() not in ask(port, "/status")[1]:
        assert time.monotonic() < end, f"{reason} was never found"
        time.sleep(0.05)


def test_it_serves_before_triton_exists(start: Start, nobody: str) -> None:
    """Nothing to restart, no traffic to send, and the probe itself is well."""
    port = start(*beside(nobody)).port()
    assert {path: ask(port, path)[0] for path in ("/livez", "/readyz", "/startupz", "/healthz")} == {
        "/livez": 200,
        "/readyz": 503,
        "/startupz": 503,
        "/healthz": 200,
    }
    until(port, "TritonStarting")
    status = json.loads(ask(port, "/status")[1])
    assert status["schema"] == 1
    assert status["triton"]["reachable"] is False
    assert ask(port, "/livez")[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_within_two_seconds(
    start: Start, nobody: str, number: signal.Signals
) -> None:
    """And leaves no process behind."""
    children = []

    def begin() -> Daemon:
        daemon = start(*beside(nobody))
        until(daemon.port(), "TritonStarting")
        children.extend(psutil.Process(daemon.process.pid).children(recursive=True))
        return daemon

    leaves_in_time(begin, number)
    _, alive = psutil.wait_procs(children, timeout=SOON)
    assert not alive


def test_a_signal_ends_it_as_soon_while_triton_hangs(start: Start, mute: str) -> None:
    """Calls that are under way are waited for by nobody."""

    def begin() -> Daemon:
        daemon = start(*beside(mute)[:-1], "--set=triton.timeout=30s")
        port = daemon.port()
        assert ask(port, "/livez")[0] == 200
        assert ask(port, "/readyz")[0] == 503
        return daemon

    leaves_in_time(begin)


def test_a_signal_ends_it_as_soon_while_a_client_never_reads(start: Start, nobody: str) -> None:
    """Open connections are dropped."""
    with contextlib.ExitStack() as connections:

        def begin() -> Daemon:
            daemon = start(*beside(nobody))
            port = daemon.port()
            half, idle = (
                connections.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(2)
            )
            half.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\n")
            idle.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
            return daemon

        leaves_in_time(begin)


def test_a_signal_is_heard_as_soon_as_the_port_is_open(start: Start, nobody: str) -> None:
    """Whoever sees it open may already want it gone."""

    def begin() -> Daemon:
        (port,) = free_ports(1)
        daemon = start(*beside(nobody)[1:], f"--listen=127.0.0.1:{port}")
        end = time.monotonic() + SOON
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                return daemon
            assert time.monotonic() < end
            assert daemon.process.poll() is None

    leaves_in_time(begin)


def test_a_port_that_is_taken_is_one_line_and_2(start: Start, mute: str) -> None:
    """Which port, why, and what to do."""
    status, errors = start(*beside(mute)[1:], f"--listen={mute}").ended()
    assert status == 2
    (line,) = errors.splitlines()
    assert mute in line
    assert "in use" in line
    assert "choose another port" in line


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("interval: soon\n", "interval", "duration"),
        ("intervall: 5s\n", "intervall", "interval"),
        ("models: {required: 7}\n", "models.required", "expected"),
        ("gates: {StubDeed: {ready: never}}\n", "StubDeed", "StubDead"),
    ],
)
def test_a_bad_configuration_is_one_line_and_2(
    start: Start, tmp_path: Path, text: str, key: str, expected: str
) -> None:
    """With the file, the key and what was expected."""
    file = tmp_path / "probe.yaml"
    file.write_text(text)
    status, errors = start(f"--config={file}", "--listen=127.0.0.1:0").ended()
    assert status == 2
    (line,) = errors.splitlines()
    assert str(file) in line
    assert key in line
    assert expected in line


def test_a_bad_configuration_from_the_environment_names_the_variable(start: Start) -> None:
    """There is no file to name."""
    status, errors = start(environment={"TRITON_PROBE_INTERVAL": "soon"}).ended()
    assert status == 2
    (line,) = errors.splitlines()
    assert "TRITON_PROBE_INTERVAL" in line
