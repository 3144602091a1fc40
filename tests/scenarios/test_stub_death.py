"""A stub dies: what Triton says, what the probe says, and how the cure shows."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from probe.facts.gates import Gate
from probe.sandbox.client import TritonError
from probe.sandbox.daemon import CLOSED, OPEN
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from testbed.crashes import lives
from tests.scenarios.conftest import StartDaemon

StartTriton = Callable[..., TritonServer]


def test_a_killed_stub_closes_ready_while_triton_says_ready_and_a_reload_opens_it(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """Under traffic: StubDead names model and instance, the ensemble follows, the reload cures both."""
    repository.add_echo(instances=2, kind="KIND_CPU").add_ensemble("pipeline", steps=("echo",))
    server = triton(control_mode="explicit", load_models=("*",)).wait_ready()
    # The shipped interval: the verdict must come from the kernel's word, not from a quick poll.
    probe = daemon(server, settings="interval: 5s\n")
    probe.wait_code("/readyz", OPEN)

    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(0.02):
            try:
                server.client.infer("echo", (1.0,))
            except TritonError:
                continue

    traffic = threading.Thread(target=ask)
    traffic.start()
    try:
        first_load = {stub.inside_pid for stub in server.stubs("echo")}
        victim = server.stubs("echo")[0]
        os.kill(victim.pid, signal.SIGKILL)
        closed = probe.wait_code("/readyz", CLOSED, pause=0.002)
        assert server.client.server_ready()
        assert server.client.model_ready("echo")
        assert server.client.model_ready("pipeline")
    finally:
        ended.set()
        traffic.join()

    assert f"[-]StubDead echo/1 {victim.instance}:" in closed.body
    dead = probe.finding("StubDead")
    assert dead is not None
    assert (dead.subject.model, dead.subject.version) == ("echo", "1")
    assert dead.subject.instance == victim.instance
    assert dead.evidence["signal"] == signal.SIGKILL
    assert dead.pending == (Gate.LIVE,)
    assert "/v2/repository/models/echo/load" in dead.remedy
    step = probe.wait_finding("EnsembleStepUnready")
    assert step.subject.model == "pipeline"
    assert probe.ask("/livez").code == OPEN

    server.client.unload("echo")
    probe.wait_until("the unload", lambda: not server.client.model_ready("echo"))
    server.client.load("echo")
    probe.wait_clear("StubDead")
    probe.wait_clear("EnsembleStepUnready")
    assert probe.wait_code("/readyz", OPEN).body == "ok"

    # The dead instance keeps the old load's other stub alive; it must not cover for a new one.
    second_load = {stub.inside_pid for stub in server.stubs("echo")} - first_load
    assert len(second_load) == 2
    probe.wait_until(
        "both new instances to be seen",
        lambda: {stub.pid for model in probe.status().models for stub in model.stubs} == second_load or None,
    )
    newest = next(stub for stub in server.stubs("echo") if stub.inside_pid == max(second_load))
    os.kill(newest.pid, signal.SIGKILL)
    assert "StubDead echo/1" in probe.wait_code("/readyz", CLOSED).body


def test_an_unload_is_no_death(triton: StartTriton, repository: Repository, daemon: StartDaemon) -> None:
    """Unloading and loading a model that nobody requires moves no gate and raises no StubDead."""
    repository.add_echo(instances=2, kind="KIND_CPU").add_echo("other", kind="KIND_CPU")
    server = triton(control_mode="explicit", load_models=("*",)).wait_ready()
    probe = daemon(server)
    probe.wait_code("/readyz", OPEN)
    for _ in range(3):
        server.client.unload("echo")
        probe.wait_until("the stubs to end", lambda: not server.stubs("echo"))
        server.client.load("echo")
        # What was never seen can not be missed.
        ours = {each.inside_pid for each in server.stubs("echo")}
        probe.wait_until(
            "its stubs to be seen",
            lambda ours=ours: {each.pid for each in probe.status().models[0].stubs} == ours,  # type: ignore[misc]
        )
    events = probe.ask("/events").body
    assert "StubDead" not in events
    assert "InstancesMissing" not in events
    assert '"gate_failed"' not in events.split('"gate_opened"')[0]

    def exits() -> list[str]:
        return [line for line in probe.ask("/metrics").body.splitlines() if "stub_exits_total{" in line]

    probe.wait_until("all exits to be counted", lambda: [each.split()[-1] for each in exits()] == ["6.0"])
    assert 'cause="unload"' in exits()[0]


def test_a_lower_count_of_instances_is_no_death(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """Where nothing else changed, Triton ends the stub in place; neither then nor later is it called dead."""
    repository.add_echo(instances=3, kind="KIND_CPU")
    server = triton(control_mode="explicit", load_models=("*",)).wait_ready()
    # So brisk that a poll falls between the exit and the next look at the configuration.
    probe = daemon(server, settings="interval: 100ms\n")
    probe.wait_code("/readyz", OPEN)
    written = repository.path / "echo" / "config.pbtxt"

    def wait_instances(count: int) -> None:
        def known() -> bool:
            told = probe.status().models[0].instances
            return told.expected == told.alive == count

        probe.wait_until(f"{count} to be expected and alive", known)

    for before, after in ((3, 2), (2, 1)):
        written.write_text(written.read_text().replace(f"count: {before}", f"count: {after}"))
        server.client.load("echo")
        wait_instances(after)
    # A reload in which nobody is there for a moment must not find an old exit to be a death.
    repository.add_echo(instances=1, kind="KIND_CPU")
    last = server.stubs("echo")[0].inside_pid
    server.client.load("echo")
    probe.wait_until(
        "the new stub",
        lambda: [stub.pid for stub in probe.status().models[0].stubs] not in ([], [last]) or None,
    )
    assert "StubDead" not in probe.ask("/events").body


def test_a_stub_that_dies_in_initialize_is_a_failed_load_with_what_was_seen_beside_it(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, servers: list[TritonServer]
) -> None:
    """Triton's bare sentence comes with its cause and a remedy."""
    repository.add_echo(kind="KIND_CPU").add_failing_initialize("fragile", how="kill", kind="KIND_CPU")

    for life in lives(servers):
        with life:
            probe = daemon(triton())
            failed = probe.wait_finding("ModelLoadFailed", "fragile")
            assert failed.evidence["cause"] == "stub_unhealthy"
            assert "/dev/shm" in failed.message
            assert "memory" in failed.remedy
            assert probe.ask("/readyz").code == CLOSED
            assert probe.ask("/readyz?exclude=ModelLoadFailed").code == OPEN
            assert probe.ask("/readyz?model=echo").code == OPEN


def test_a_stopped_stub_is_frozen_and_a_continued_one_is_not(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """SIGSTOP of an idle stub: StubFrozen closes ready after its hold, SIGCONT opens it."""
    repository.add_echo(instances=2, kind="KIND_CPU")
    server = triton().wait_ready()
    probe = daemon(server)
    probe.wait_code("/readyz", OPEN)
    stub = server.stubs("echo")[1]
    os.kill(stub.pid, signal.SIGSTOP)
    frozen = probe.wait_finding("StubFrozen")
    assert frozen.subject.instance == stub.instance
    assert frozen.gates == ()
    assert probe.wait_code("/readyz", CLOSED).body.startswith("[-]StubFrozen")
    os.kill(stub.pid, signal.SIGCONT)
    probe.wait_clear("StubFrozen")
    probe.wait_code("/readyz", OPEN)
