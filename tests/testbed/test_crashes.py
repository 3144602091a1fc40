"""A crash of Triton's own is tried again, and nothing else is."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from probe.sandbox.pods import BarePod
from probe.sandbox.tritonserver import TritonServer
from probe.sandbox.wheel import TritonInstallation
from testbed.crashes import lives
from testbed.tools import PATIENCE


@pytest.fixture
def bare() -> Iterator[BarePod]:
    """No namespaces are needed to end by a signal."""
    with BarePod() as pod:
        yield pod


def ended(pod: BarePod, folder: Path, how: str) -> TritonServer:
    """A server that has ended as a shell does by this command."""
    program = folder / "tritonserver"
    program.write_text(f"#!/bin/sh\n{how}\n")
    program.chmod(0o755)
    installation = TritonInstallation(program, folder, {})
    server = TritonServer(pod, installation, folder, log=folder / "log")
    server.program.wait(PATIENCE)
    return server


def failing(servers: list[Any], start: Callable[[], object]) -> None:
    """Start a server, and fail; as often as that is tried."""
    for life in lives(servers):
        with life:
            servers.append(start())
            raise AssertionError("not as it must be")


def test_a_crash_is_tried_again_and_the_life_after_it_counts(bare: BarePod, tmp_path: Path) -> None:
    """What was asserted in the first does not matter, and nothing is tried after one that went well."""
    servers: list[TritonServer] = []
    for life in lives(servers):
        with life:
            servers.append(ended(bare, tmp_path, "kill -SEGV $$" if not servers else "exit 0"))
            assert servers[-1].program.poll() == 0
    assert [each.program.poll() for each in servers] == [-signal.SIGSEGV, 0]


@pytest.mark.parametrize("how", ["exit 1", "kill -ABRT $$", "kill -KILL $$", "exit 0"])
def test_a_failure_without_that_crash_is_one(bare: BarePod, tmp_path: Path, how: str) -> None:
    """However else the server ended."""
    servers: list[TritonServer] = []
    with pytest.raises(AssertionError, match="not as it must be"):
        failing(servers, lambda: ended(bare, tmp_path, how))
    assert len(servers) == 1


def test_three_crashes_are_no_chance() -> None:
    """The third is told."""
    servers: list[Any] = []
    crashed = SimpleNamespace(program=SimpleNamespace(poll=lambda: -signal.SIGSEGV))
    with pytest.raises(AssertionError, match="not as it must be"):
        failing(servers, lambda: crashed)
    assert len(servers) == 3


def test_a_crash_in_an_earlier_life_excuses_no_later_failure(bare: BarePod, tmp_path: Path) -> None:
    """Each life answers for the servers that it started."""
    servers: list[TritonServer] = []
    with pytest.raises(AssertionError, match="not as it must be"):
        failing(servers, lambda: ended(bare, tmp_path, "exit 0" if servers else "kill -SEGV $$"))
    assert len(servers) == 2
