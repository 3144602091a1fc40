"""Work does not come out of a model, or comes out wrong: what Triton says, and what the probe says."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from probe.facts.findings import Action, Severity
from probe.facts.gates import Gate
from probe.facts.models import ModelVersion
from probe.sandbox.client import TritonError
from probe.sandbox.daemon import CLOSED, OPEN, Daemon
from probe.sandbox.pods import Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer, free_ports
from probe.sources.triton.http import read_families
from testbed.scripted.script import ScriptedModel
from testbed.scripted.server import ScriptedTriton
from tests.scenarios.conftest import Ports, StartDaemon, addresses

StartTriton = Callable[..., TritonServer]

QUICK = """
interval: 250ms
gates:
  ModelStalled: {ready: 1s, live: 3s}
  ModelFailing: {ready: 1s, live: 3s}
"""
"""The holds of the catalogue are for people; these are for tests."""


@contextlib.contextmanager
def asking(server: TritonServer, model: str, *values: float, threads: int = 3) -> Iterator[None]:
    """Clients that ask the model again and again, each giving up after a second."""
    ended = threading.Event()

    def ask() -> None:
        for value in itertools.cycle(values):
            with contextlib.suppress(TritonError, OSError):
                server.client.infer(model, (value,), seconds=1.0)
            if ended.wait(0.02):
                return

    clients = [threading.Thread(target=ask) for _ in range(threads)]
    for each in clients:
        each.start()
    try:
        yield
    finally:
        ended.set()
        for each in clients:
            each.join()


@pytest.mark.parametrize(("behaviour", "does"), [("hang", "is idle"), ("spin", "computes")])
def test_a_model_that_never_answers_is_stalled(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, behaviour: str, does: str
) -> None:
    """Behind an execution that hangs or loops, with Triton ready: the ready gate, then the live gate."""
    (repository.add_hang if behaviour == "hang" else repository.add_spin)("m", kind="KIND_CPU")
    repository.add_echo(kind="KIND_CPU")
    server = triton().wait_ready()
    probe = daemon(server, settings=QUICK)
    probe.wait_code("/readyz", OPEN)
    server.client.infer("m", (0.0,))
    with asking(server, "m", 1.0), asking(server, "echo", 1.0, threads=1):
        closed = probe.wait_code("/readyz", CLOSED)
        assert "[-]ModelStalled m/1:" in closed.body
        assert server.client.model_ready("m")
        probe.wait_code("/livez", CLOSED)
        probe.wait_until("the stub's CPU", lambda: f") {does}" in probe.wait_finding("ModelStalled").message)
        stalled = probe.wait_finding("ModelStalled")
        assert probe.finding("ModelStalled", "echo") is None
    assert str(server.stubs("m")[0].inside_pid) == stalled.evidence["stub_pids"]
    assert stalled.action is Action.RESTART_CONTAINER
    # Nobody asks any more, and what hangs still hangs.
    assert probe.ask("/readyz").code == CLOSED


def test_a_stalled_model_that_is_loaded_again_serves(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """The remedy of explicit mode: a load without an unload, and the gates open."""
    repository.add_hang(kind="KIND_CPU")
    server = triton(control_mode="explicit", load_models=("*",)).wait_ready()
    # The first load wrote __pycache__; after one more, a load alone would do nothing.
    server.client.load("hang")
    probe = daemon(server, settings=QUICK)
    probe.wait_code("/readyz", OPEN)
    server.client.infer("hang", (0.0,))
    with asking(server, "hang", 1.0):
        remedy = probe.wait_finding("ModelStalled").remedy
        assert "touch a file in the model's version folder" in remedy
        assert "/v2/repository/models/hang/load" in remedy
        probe.wait_code("/readyz", CLOSED)
    os.utime(repository.path / "hang" / "1" / "model.py")
    server.client.load("hang")
    assert server.client.infer("hang", (0.0,)) == [0.0]
    probe.wait_clear("ModelStalled")
    probe.wait_code("/readyz", OPEN)


def test_a_slow_model_with_a_queue_is_not_stalled(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """Requests take longer than a look and others wait behind them; nothing is wrong."""
    repository.add_python("slow", kind="KIND_CPU", parameters={"execute_seconds": "0.8"})
    server = triton().wait_ready()
    probe = daemon(server, settings="interval: 250ms\ngates: {ModelStalled: {ready: 0s}}\n")
    probe.wait_code("/readyz", OPEN)
    for _ in range(2):
        server.client.infer("slow")
    gave_up = time.monotonic() + 8
    with asking(server, "slow", 1.0, threads=4):
        while time.monotonic() < gave_up:
            assert probe.finding("ModelStalled") is None
            assert probe.ask("/readyz").code == OPEN
            time.sleep(0.05)
    assert server.client.statistics("slow")["execution_count"] > 5


def test_a_model_behind_a_queue_with_a_timeout_is_stalled_although_it_fails_requests(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """Triton turns away what waits too long: the queue is empty at most looks, and the counter moves."""
    repository.add_hang("m", kind="KIND_CPU", max_batch_size=2)
    written = repository.path / "m" / "config.pbtxt"
    policy = "default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 50000 }"
    written.write_text(f"{written.read_text()}dynamic_batching {{ {policy} }}\n")
    server = triton().wait_ready()
    probe = daemon(server, settings=QUICK)
    probe.wait_code("/readyz", OPEN)
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(0.1):
            with contextlib.suppress(TritonError, OSError):
                server.client.infer("m", (1.0,), batched=True, seconds=1.0)

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for each in clients:
        each.start()
    try:
        probe.wait_code("/readyz", CLOSED)
        stalled = probe.wait_until(
            "requests that timed out",
            lambda: (
                found
                if (found := probe.finding("ModelStalled")) and "timed out in its queue" in found.message
                else None
            ),
        )
    finally:
        ended.set()
        for each in clients:
            each.join()
    assert int(str(stalled.evidence["turned_away"])) > 0
    assert probe.finding("ModelFailing") is None
    probe.wait_code("/livez", CLOSED)


def test_a_model_that_only_fails_is_failing_until_it_is_mended(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """Triton says ready; the claim outlives the traffic, and a mended model that is loaded again clears it."""
    repository.add_raise("m", kind="KIND_CPU").add_ensemble("pipeline", steps=("m",))
    server = triton(control_mode="explicit", load_models=("*",)).wait_ready()
    probe = daemon(server, settings=QUICK)
    probe.wait_code("/readyz", OPEN)
    with asking(server, "pipeline", 1.0):
        closed = probe.wait_code("/readyz", CLOSED)
        assert "[-]ModelFailing m/1: All of the last" in closed.body
        assert server.client.model_ready("m")
    failing = probe.wait_finding("ModelFailing")
    assert failing.action is Action.RELOAD_MODEL
    assert failing.severity is Severity.WARNING, "half a minute of failures makes it critical"
    assert probe.finding("ModelFailing", "pipeline") is None, "an ensemble fails with its steps"
    assert probe.wait_code("/livez", CLOSED).code == CLOSED
    repository.add_echo("m", kind="KIND_CPU")
    server.client.load("m")
    server.client.infer("m")
    probe.wait_clear("ModelFailing")
    probe.wait_code("/readyz", OPEN)
    probe.wait_code("/livez", OPEN)


def test_a_dead_stub_that_can_not_be_seen_is_failing_and_then_stalled(
    triton: StartTriton, repository: Repository, tmp_path: Path
) -> None:
    """Each request to it fails after a second, until the instance's message queue is full: then they hang."""
    repository.add_crash("m", kind="KIND_CPU")
    server = triton(arguments=("--backend-config=python,shm_message_queue_size=16",)).wait_ready()
    (port,) = free_ports(1)
    with Pod.open() as elsewhere:
        log, where = tmp_path / "probe.log", addresses(server.ports)
        with Daemon(elsewhere, port, log=log, addresses=where, settings=QUICK) as probe:
            probe.wait_code("/readyz", OPEN)
            server.client.infer("m", (0.0,))
            with contextlib.suppress(TritonError):
                server.client.infer("m", (1.0,))
            with asking(server, "m", 0.0):
                probe.wait_finding("ModelFailing")
                probe.wait_code("/readyz", CLOSED)
                probe.wait_finding("ModelStalled")
            assert probe.finding("StubDead") is None
            assert probe.finding("ModelFailing") is not None, "nothing has succeeded since"
            probe.wait_code("/livez", CLOSED)


def test_a_load_and_an_unload_that_never_end_are_stuck(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """A python model without its file, and one that hangs in execute; neither fails the live gate."""
    repository.add_echo("empty", kind="KIND_CPU").add_hang(kind="KIND_CPU")
    (repository.path / "empty" / "1" / "model.py").unlink()
    server = triton(control_mode="explicit", load_models=("hang",)).wait_ready()
    probe = daemon(server, settings="interval: 250ms\nmodels: {stuck_after: 2s}\n")
    probe.wait_code("/readyz", OPEN)

    def load() -> None:
        with contextlib.suppress(TritonError, OSError):
            server.client.load("empty", seconds=4.0)

    with asking(server, "hang", 1.0, threads=1):
        probe.wait_until("a request that hangs", lambda: _pending(server, "hang") > 0)
        # In this order: an unload that comes second waits for the load, which never ends.
        server.client.unload("hang")
        loading = threading.Thread(target=load)
        loading.start()
    unloading = probe.wait_finding("ModelStuckUnloading", "hang")
    assert float(str(unloading.evidence["seconds"])) >= 2.0
    assert "model.py" in probe.wait_finding("ModelStuckLoading", "empty").remedy
    assert probe.ask("/livez").code == OPEN
    loading.join()


def _pending(server: TritonServer, model: str) -> int:
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=5) as page:
        return dict(read_families(page.read().decode())[0]).get(ModelVersion(model, "1"), 0)


# A control plane that is busy


def test_a_blocked_control_thread_is_told_from_a_hung_server(
    scripted_triton: ScriptedTriton, daemon: StartDaemon
) -> None:
    """While HTTP answers, gRPC's silence fails no gate; when both are silent it is a hang."""
    script = scripted_triton.script
    script.models.append(ScriptedModel("m", backend="onnxruntime"))
    where = (scripted_triton.grpc, scripted_triton.http, scripted_triton.metrics)
    ports: Ports = tuple(int(each.rsplit(":", 1)[1]) for each in where)  # type: ignore[assignment]
    probe = daemon(ports, settings="interval: 250ms\ntriton: {timeout: 1s}\n")
    probe.wait_code("/readyz", OPEN)
    script.hang("ServerLive")
    blocked = probe.wait_finding("ControlPlaneBlocked")
    assert blocked.evidence["call"] == "live"
    assert probe.finding("TritonHung") is None
    assert probe.ask("/readyz").code == probe.ask("/livez").code == OPEN
    script.hang()
    probe.wait_finding("TritonHung")
    probe.wait_clear("ControlPlaneBlocked")
    script.recover()
    probe.wait_clear("TritonHung")
    script.hang("ModelStatistics")
    assert probe.wait_finding("ControlPlaneBlocked").evidence["call"] == "statistics"
    assert {each.reason for each in probe.status().findings} & {
        "TritonHung",
        "ModelStalled",
        "ModelNotReady",
    } == set()
    assert probe.status().gates[Gate.READY].ok
    script.recover()
    probe.wait_clear("ControlPlaneBlocked")
