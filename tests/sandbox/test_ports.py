"""Ports for servers that are to come: free, and nobody else's until they come."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from probe.sandbox import ports
from probe.sandbox.errors import SandboxError
from probe.sandbox.ports import free_ports


def test_a_port_comes_again_only_after_all_others() -> None:
    """Whoever was given one has time to bind it."""
    given = [port for _ in range(100) for port in free_ports(3)]
    assert len(set(given)) == len(given)


def test_a_port_that_is_used_is_not_given() -> None:
    """By anybody, also by who was given it before."""
    with socket.socket() as taken:
        (port,) = free_ports(1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert port not in {each for _ in range(500) for each in free_ports(1)}


def test_two_processes_are_given_different_ports() -> None:
    """Two test runs, or a demo beside one: each has a share of its own, as long as it lives."""
    code = (
        "import sys; from probe.sandbox.ports import free_ports;"
        "print(*free_ports(499), flush=True); sys.stdin.read()"
    )
    ours = set(free_ports(200))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        theirs = {int(each) for each in other.stdout.readline().split()}
    assert len(theirs) == 499
    assert not ours & theirs


def test_where_every_share_is_taken_any_port_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with very many test runs is no error."""
    held = []
    try:
        for first in ports._PORTS[:: ports._SHARE]:
            one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            held.append(one)
            try:
                one.bind(f"\0triton-probe-ports-{first}")
            except OSError:
                continue  # somebody else's
        monkeypatch.setattr(ports, "_MINE", ports._mine())
        assert set(free_ports(20)) <= set(ports._PORTS)
    finally:
        for each in held:
            each.close()


def test_no_ports_are_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """With how many were wanted, and where."""
    monkeypatch.setattr(ports, "_unused", lambda _: False)
    with pytest.raises(SandboxError, match=r"no 2 free ports on 127\.0\.0\.1 in 20000-32000"):
        free_ports(2)
