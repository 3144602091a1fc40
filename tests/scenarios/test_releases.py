"""The same fault beside Tritons of six releases: the same verdict each time, whatever each says of itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from probe.facts.gates import Gate
from probe.sandbox.daemon import CLOSED, OPEN, Daemon
from probe.sandbox.pods import Pod
from testbed.scripted.server import ScriptedTriton
from testbed.tools import until
from tests.scenarios.conftest import StartDaemon
from tests.scenarios.releases import RESTARTS_BEFORE, OldOrNew

RELEASES = {
    "24.05": "2.46.0",
    "24.10": "2.51.0",
    "25.12": "2.64.0",
    "26.03": "2.67.0",
    "26.04": "2.68.0",
    "26.07": "2.71.0",
}
REAPS_FROM, ASKS_USER_FROM, SERVER_SEES_FROM = (2, 64), (2, 67), (2, 68)

BLAME = {
    *("StubDead", "StubFrozen", "InstancesMissing", "EnsembleStepUnready"),
    *("ModelNotReady", "ModelLoadFailed", "ModelLoading", "ModelMissing"),
}
"""Every reason that is said of a model which does not serve as it should."""

Begin = Callable[..., tuple[OldOrNew, Daemon]]


@pytest.fixture
def begin(scripted_triton: ScriptedTriton, pod: Pod, tmp_path: Path, daemon: StartDaemon) -> Iterator[Begin]:
    """Start the daemon beside a Triton of this version, and wait until all is well."""
    started: list[OldOrNew] = []

    def start(version: str, interval: str = "200ms") -> tuple[OldOrNew, Daemon]:
        triton = OldOrNew(pod, tmp_path, scripted_triton, version)
        started.append(triton)
        probe = daemon(triton.ports, settings=f"interval: {interval}\n")
        probe.wait_code("/readyz", OPEN)
        # A model whose configuration was read can be watched: before, nothing that happens to it is news.
        probe.wait_until("both stubs of echo", lambda: len(_stubs(probe, "echo")) == 2)
        return triton, probe

    yield start
    for each in started:
        each.server.close()


def _stubs(probe: Daemon, model: str) -> set[int]:
    return {stub.pid for each in probe.status().models if each.name == model for stub in each.stubs}


def _looks(triton: OldOrNew, times: int = 3) -> None:
    """Wait until the daemon has looked at Triton so often, and finished all but the last look."""
    before = triton.script.calls["ServerLive"]
    until(lambda: triton.script.calls["ServerLive"] > before + times)


def _blamed(probe: Daemon) -> set[str]:
    return BLAME & {each["reason"] for each in probe.events()}


@pytest.mark.parametrize("version", RELEASES.values(), ids=RELEASES)
def test_a_killed_stub_closes_ready_on_every_release(begin: Begin, version: str) -> None:
    """StubDead on the instance and EnsembleStepUnready on the ensemble, whatever Triton says of them."""
    triton, probe = begin(version)
    triton.kill("echo_0_0")
    closed = probe.wait_code("/readyz", CLOSED)
    assert "[-]StubDead echo/1 echo_0_0:" in closed.body
    dead = probe.wait_finding("StubDead")
    assert (dead.evidence["signal"], dead.evidence["instances_alive"]) == (9, 1)
    step = probe.wait_finding("EnsembleStepUnready")
    assert step.subject.model == "pipeline"
    assert "echo/1" in step.message

    comes_back = triton.release < RESTARTS_BEFORE
    assert dead.pending == (() if comes_back else (Gate.LIVE,))
    # Two more looks, at which newer releases were asked, and have reaped it.
    _looks(triton, 2)
    asked = triton.script.calls["ModelReady"]
    assert (asked > 0) == (triton.release >= REAPS_FROM)
    assert ("echo_0_0" in triton.stubs) == (triton.release < REAPS_FROM), "reaped by the question"

    def told() -> bool:
        status = probe.status()
        ready = next(each.ready for each in status.models if each.name == "echo")
        return status.triton.ready is (triton.release < SERVER_SEES_FROM) and ready is not (
            triton.release >= REAPS_FROM
        )

    probe.wait_until("what Triton itself says of it", told)
    assert [each.reason for each in probe.status().findings if each.subject.model == "echo"] == ["StubDead"]
    assert probe.ask("/livez").code == OPEN

    # What heals it: a request where this release starts stubs again, else a reload.
    if comes_back:
        triton.request()
    else:
        triton.reload("echo", "echo_0_0", "echo_0_1")
    probe.wait_clear("StubDead")
    probe.wait_clear("EnsembleStepUnready")
    assert probe.wait_code("/readyz", OPEN).body == "ok"
    assert _blamed(probe) == {"StubDead", "EnsembleStepUnready"}


@pytest.mark.parametrize("version", RELEASES.values(), ids=RELEASES)
def test_what_a_models_own_check_says_counts_where_triton_asks_it(begin: Begin, version: str) -> None:
    """From 26.03 on ModelNotReady on the model and its ensemble; before, nobody asks."""
    triton, probe = begin(version)
    triton.script.model("other").user_ready = False
    if triton.release < ASKS_USER_FROM:
        _looks(triton)
        assert _blamed(probe) == set()
        assert probe.ask("/readyz").code == OPEN
        return
    told = probe.wait_finding("ModelNotReady")
    assert told.subject.model == "other"
    assert "is_ready()" in told.message
    assert probe.wait_code("/readyz", CLOSED).body.startswith("[-]ModelNotReady other/1")
    assert probe.ask("/livez").code == OPEN
    triton.script.model("other").user_ready = True
    probe.wait_clear("ModelNotReady")
    probe.wait_code("/readyz", OPEN)
    assert probe.finding("StubDead") is None


@pytest.mark.parametrize("version", RELEASES.values(), ids=RELEASES)
def test_an_unloaded_model_is_no_fault_on_any_release(begin: Begin, version: str) -> None:
    """Its stubs end, ModelReady says no or errs: nothing is raised, and no call counts as failed."""
    triton, probe = begin(version)
    triton.unload("other", "other_0_0")
    probe.wait_until(
        "the unload",
        lambda: next(m.state for m in probe.status().models if m.name == "other") == "unavailable",
    )
    _looks(triton)
    assert _blamed(probe) == set()
    assert probe.ask("/readyz").code == OPEN
    source = probe.status().probe.sources["triton"]
    assert (source.ok, source.error) == (True, None)

    def exits() -> list[str]:
        return [each for each in probe.ask("/metrics").body.splitlines() if "stub_exits_total{" in each]

    probe.wait_until("the exit to be counted", exits)
    assert exits() == ['triton_probe_stub_exits_total{cause="unload",model="other"} 1.0']


@pytest.mark.parametrize("version", [RELEASES["26.03"], RELEASES["26.07"]])
def test_a_slow_is_ready_neither_hangs_triton_nor_delays_others(begin: Begin, version: str) -> None:
    """Triton's control thread waits 5 s for it: a stub that dies then is told at once, and Triton is not hung."""
    triton, probe = begin(version, "1s")
    triton.script.model("other").user_seconds = 5.0
    until(triton.script.thread.locked)
    triton.kill("echo_0_1")
    killed = time.monotonic()
    assert "StubDead echo/1 echo_0_1" in probe.wait_code("/readyz", CLOSED).body
    assert time.monotonic() - killed < 4.0, "is_ready() holds Triton's thread for five"
    # Where is_ready() does not come back within Triton's 5 s, Triton says that the model is not ready.
    told = probe.wait_finding("ModelNotReady")
    assert told.subject.model == "other"
    assert "within 5 s" in told.message
    for reason in ("TritonHung", "TritonDown", "ObservationStale"):
        assert reason not in {each["reason"] for each in probe.events()}
    assert probe.ask("/livez").code == OPEN
    # And it rests: most of the time Triton's thread is free for others.
    locked = 0
    for _ in range(40):
        locked += triton.script.thread.locked()
        time.sleep(0.05)
    assert locked < 30
