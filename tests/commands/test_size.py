"""What ``triton-probe size`` prints of a daemon's status, and what it does where there is none."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from probe.commands.asking import Target
from probe.commands.size import size
from probe.facts.sizing import ContainerPeak, SizeLine, SizingStatus
from tests.commands.answering import Daemon, answering

Answering = Callable[[int, bytes], Daemon]


@pytest.fixture
def daemon() -> Iterator[Answering]:
    """Start a daemon with a status and a body."""
    with answering() as start:
        yield start


def status(*lines: SizeLine) -> bytes:
    """A ``/status`` that proposes these."""
    told = SizingStatus(None, 700.0, 11, 11, True, (), 0.25, ContainerPeak(), (), lines)
    return msgspec.json.encode({"schema": 1, "sizing": told, "models": []})


HUGE = (
    status()
    .replace(b'"memory_bytes":null', b'"memory_bytes":1')
    .replace(b'"memory_life_bytes":null', b'"memory_life_bytes":1' + 400 * b"0")
)
"""A whole number that no float holds."""


def test_it_prints_yaml_and_exits_0(daemon: Answering, capfd: pytest.CaptureFixture[str]) -> None:
    """From ``/status``, below the path of a proxy too."""
    server = daemon(200, status(SizeLine("limits.memory", "1Gi", "Seen.", "So.")))

    assert size(server.target._replace(prefix="/probe"), 5.0) == 0
    assert yaml.safe_load(capfd.readouterr().out) == {"resources": {"limits": {"memory": "1Gi"}}}
    assert server.asked == ["/probe/status"]


def test_json_is_the_part_of_the_status(daemon: Answering, capfd: pytest.CaptureFixture[str]) -> None:
    """For scripts."""
    body = status(SizeLine("limits.memory", "1Gi", "Seen.", "So."))

    assert size(daemon(200, body).target, 5.0, output_format="json") == 0
    assert json.loads(capfd.readouterr().out) == json.loads(body)["sizing"]


@pytest.mark.parametrize(
    ("code", "body", "why"),
    [
        (404, b"", "status 404 for /status"),
        (200, b"ok", "not a triton-probe's /status"),
        (200, b"{}", "not a triton-probe's /status"),
        (200, b'{"schema": 1, "sizing": {"since": 3}}', "not a triton-probe's /status"),
        (200, b'{"schema": 1}', "tells no sizes"),
        (200, status(SizeLine("limits.memory", "1Gi\nrm: x", "Seen.", "So.")), "no quantity"),
        (200, status(SizeLine("limits.cpu", None, "Seen.", "So.", if_demanded="x")), "no quantity"),
        (200, status(SizeLine("limits.cpu: 1\nrm", "1", "Seen.", "So.")), "none of a manifest"),
        (200, status().replace(b'"schema":1', b'"schema":2'), "schema 2"),
        (200, HUGE, "no size"),
    ],
)
def test_what_is_no_status_with_sizes_is_no_answer(
    daemon: Answering, capfd: pytest.CaptureFixture[str], code: int, body: bytes, why: str
) -> None:
    """Exit 3, one line, and nothing to paste."""
    assert size(daemon(code, body).target, 5.0) == 3
    output, errors = capfd.readouterr()
    assert output == ""
    assert why in errors
    assert errors.count("\n") == 1


def test_nobody_listening_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    """As ``check`` says it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    assert size(Target("127.0.0.1", port, ""), 5.0) == 3
    assert (
        capfd.readouterr().err
        == f"triton-probe: no answer from http://127.0.0.1:{port}: connection refused\n"
    )


def test_a_line_of_a_later_release_breaks_nothing(
    daemon: Answering, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is not known here is not printed."""
    known = SizeLine("limits.memory", "1Gi", "Seen.", "So.")
    server = daemon(200, status(SizeLine("hugepages", "2Mi", "Seen.", "So."), known))

    assert size(server.target, 5.0) == 0
    assert yaml.safe_load(capfd.readouterr().out) == {"resources": {"limits": {"memory": "1Gi"}}}


def test_beside_a_real_daemon_without_a_triton_it_says_that_nothing_was_seen(tmp_path: Path) -> None:
    """The command against the process, by the variable that names it: exit 0, comments alone."""
    clean = {name: each for name, each in os.environ.items() if not name.startswith("TRITON_PROBE_")}
    command = [sys.executable, "-m", "probe"]
    options = [
        "--listen",
        "127.0.0.1:0",
        "--grpc",
        "127.0.0.1:1",
        "--http",
        "127.0.0.1:1",
        "--metrics",
        "127.0.0.1:1",
    ]
    with subprocess.Popen(
        [*command, "serve", *options], stderr=subprocess.PIPE, text=True, env=clean
    ) as started:
        try:
            assert started.stderr is not None
            line = next(each for each in started.stderr if "listens on" in each)
            port = line.partition(" port ")[2].split()[0].strip('",}')
            done = subprocess.run(
                [*command, "size"],
                env={**clean, "TRITON_PROBE_URL": f"http://127.0.0.1:{port}"},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            started.terminate()
            started.communicate()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# TOO LITTLE WATCHED TO TELL")
    assert yaml.safe_load(done.stdout) is None
