"""The daemon reloads a model whose stub died: what is served meanwhile and after, and what it never touches."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from probe.sandbox.client import TritonError
from probe.sandbox.daemon import CLOSED, OPEN, Daemon
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import SandboxStub, TritonServer
from testbed.crashes import lives
from tests.scenarios.conftest import StartDaemon

StartTriton = Callable[..., TritonServer]

HEALING = "heal: {reload_model: true}\n"
"""At the shipped interval: a cure must not wait for a poll either."""


@contextlib.contextmanager
def traffic(server: TritonServer, model: str) -> Iterator[None]:
    """Requests, one after the other, whatever they bring."""
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(0.01):
            with contextlib.suppress(TritonError, OSError):
                server.client.infer(model, (1.0,))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def heals(probe: Daemon) -> list[str]:
    """What the daemon did by itself, oldest first."""
    return [each["message"] for each in reversed(probe.events()) if each["kind"] == "heal"]


def orders(server: TritonServer) -> int:
    """How often Triton was told to load or to unload something, by its own log."""
    written = server.log.read_text(errors="replace")
    return written.count("loading: ")


def kill(stub: SandboxStub) -> None:
    """Kill it."""
    os.kill(stub.pid, signal.SIGKILL)


@pytest.mark.parametrize("loads", [0, 1], ids=["files changed", "files as they were"])
def test_a_stub_killed_under_traffic_is_healed_without_a_restart(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, servers: list[TritonServer], loads: int
) -> None:
    """All instances serve again within seconds, the ensemble above them too, and it is told and counted."""
    for life in lives(servers):
        with life:
            repository.add_echo(instances=2, kind="KIND_CPU").add_ensemble("pipeline", steps=("echo",))
            server = triton(control_mode="explicit", load_models=("*",)).wait_ready()
            for _ in range(loads):
                # The first load wrote __pycache__; after one more a load alone does nothing.
                server.client.load("echo")
            probe = daemon(server, settings=HEALING)
            probe.wait_code("/readyz", OPEN)
            probe.wait_until("the first load to end", lambda server=server: len(server.stubs("echo")) == 2)  # type: ignore[misc]
            before = {each.inside_pid for each in server.stubs("echo")}
            with traffic(server, "echo"), traffic(server, "pipeline"):
                kill(server.stubs("echo")[0])
                probe.wait_code("/readyz", CLOSED, pause=0.002)
                probe.wait_code("/readyz", OPEN, pause=0.005)
            assert len({each.inside_pid for each in server.stubs("echo")} - before) == 2
            for _ in range(6):
                assert server.client.infer("echo", (1.0,)) == [1.0]
                assert server.client.infer("pipeline", (1.0,)) == [1.0]
            assert server.program.poll() is None
            assert "StubDead" not in {each.reason for each in probe.status().findings}
            # The gate may open by what is seen of the new stubs, before Triton has answered the load.
            probe.wait_until("the reload to end", lambda probe=probe: len(heals(probe)) == 2)  # type: ignore[misc]
            started, done = heals(probe)
            assert started == "Reloading it for StubDead (reload 1 of at most 3 within 1 h)."
            assert done.startswith("Reloaded in ")
            assert "2 of 2 instances are alive" in done
            metrics = probe.ask("/metrics").body
            assert 'triton_probe_heals_total{model="echo",outcome="ok"} 1.0' in metrics
            assert probe.ask("/livez").code == OPEN


def test_a_model_that_can_not_be_loaded_any_more_keeps_what_is_left_of_it(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, servers: list[TritonServer]
) -> None:
    """Triton's own text is told, nothing is unloaded, and the other instance goes on serving."""
    for life in lives(servers):
        with life:
            repository.add_echo(instances=2, kind="KIND_CPU")
            server = triton(control_mode="explicit", load_models=("*",)).wait_ready()
            probe = daemon(server, settings=HEALING)
            probe.wait_code("/readyz", OPEN)
            repository.add_failing_initialize("echo", instances=2, kind="KIND_CPU")
            kill(server.stubs("echo")[0])
            probe.wait_until("the reload to fail", lambda probe=probe: len(heals(probe)) >= 2)  # type: ignore[misc]
            assert "this sample model always fails" in heals(probe)[1]
            assert probe.finding("StubDead") is not None
            assert probe.ask("/readyz").code == CLOSED
            answers = []
            for _ in range(4):
                with contextlib.suppress(TritonError):
                    answers += server.client.infer("echo", (1.0,))
            assert answers
            assert 'triton_probe_heals_total{model="echo",outcome="failed"} 1.0' in probe.ask("/metrics").body


def test_a_model_that_hangs_is_not_touched_though_another_stub_of_it_is_dead(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """Its unload would never end; a model beside it is healed."""
    repository.add_echo(instances=2, kind="KIND_CPU").add_echo("other", instances=2, kind="KIND_CPU")
    server = triton(control_mode="explicit", load_models=("*",)).wait_ready()
    probe = daemon(server, settings=f"interval: 1s\n{HEALING}")
    probe.wait_code("/readyz", OPEN)
    frozen, dead = server.stubs("echo")
    os.kill(frozen.pid, signal.SIGSTOP)
    probe.wait_finding("StubFrozen")
    kill(dead)
    probe.wait_finding("StubDead", "echo")
    kill(server.stubs("other")[0])
    probe.wait_until("the other to be healed", lambda: len(heals(probe)) == 2)
    probe.wait_clear("StubDead", "other")
    assert {each["subject"] for each in probe.events() if each["kind"] == "heal"} == {"other"}
    assert probe.finding("StubDead", "echo") is not None
    assert [each.inside_pid for each in server.stubs("echo")] == [frozen.inside_pid]


@pytest.mark.parametrize(
    ("mode", "settings"), [("explicit", "interval: 1s\n"), ("none", f"interval: 1s\n{HEALING}")]
)
def test_switched_off_or_in_another_mode_nothing_is_loaded_or_unloaded(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, mode: str, settings: str
) -> None:
    """The default is a probe that only looks; and a Triton that would refuse is not asked."""
    repository.add_echo(instances=2, kind="KIND_CPU")
    options = {"load_models": ("*",)} if mode == "explicit" else {}
    server = triton(control_mode=mode, **options).wait_ready()
    probe = daemon(server, settings=settings)
    probe.wait_code("/readyz", OPEN)
    before = orders(server)
    killed, *left = server.stubs("echo")
    kill(killed)
    dead = probe.wait_finding("StubDead")
    # A reload would have begun with the finding; three more polls of the server are time enough.
    since = probe.status().probe.uptime_seconds
    probe.wait_until("three intervals", lambda: probe.status().probe.uptime_seconds > since + 3 or None)
    assert heals(probe) == []
    assert orders(server) == before
    assert [each.pid for each in server.stubs("echo")] == [each.pid for each in left]
    assert "heals_total" not in probe.ask("/metrics").body
    assert ("/load" in dead.remedy) == (mode == "explicit")
