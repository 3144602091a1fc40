"""A kubelet that obeys the gates: what a restart cures is restarted, in time and not before, and nothing else is."""

from __future__ import annotations

import os
import signal
import time

import pytest

from probe.facts.wiring import CONTAINER
from probe.sandbox.daemon import CLOSED, OPEN
from probe.sandbox.repositories import Repository
from testbed.kubelet.played import PlayedPod
from testbed.kubelet.timeline import What
from testbed.kubelet.wired import TRITON, Gate, brisk, timed, wired
from tests.scenarios.conftest import BRISK, Play

ALL = (Gate.READINESS, Gate.LIVENESS, Gate.STARTUP)
GRACE_SECONDS = 3.0
BUDGET = f"{BRISK}gates: {{StubDead: {{live: {GRACE_SECONDS:g}s}}}}\nrestarts: {{max: 2, window: 10m}}\n"
FAILURES = 2
"""After so many of them, a second apart, Triton is restarted in these pods."""


def kill_a_stub(pod: PlayedPod) -> float:
    """SIGKILL for one of two instances; when it was."""
    at = time.monotonic()
    os.kill(pod.triton.stubs("echo")[0].pid, signal.SIGKILL)
    return at


def left_alone(pod: PlayedPod, since: float) -> None:
    """Wait until more answers of /livez have passed than it takes failures to restart Triton."""
    pod.kubelet.wait(What.PASSED, TRITON, subject="liveness", since=since, times=2 * FAILURES + 1)


def test_a_killed_stub_is_cured_by_a_restart_until_the_budget_is_spent(
    play: Play, repository: Repository
) -> None:
    """Out of service at the next question, restarted after the grace and not before, in service again; twice.

    The third time /livez answers 200, so that the evidence stays: RestartBudgetSpent says so, and the pod stays
    out of service.
    """
    repository.add_echo(instances=2, kind="KIND_CPU")
    spec = timed(brisk(wired(*ALL)), TRITON, Gate.LIVENESS, failure_threshold=FAILURES)
    pod = play(spec, repository, BUDGET)
    kubelet = pod.kubelet
    kubelet.wait(What.IN_SERVICE)
    for restart in range(1, 3):
        dead_at = kill_a_stub(pod)
        out = kubelet.wait(What.OUT_OF_SERVICE, since=dead_at)
        # One question may have been on its way when the stub died.
        passed = kubelet.told.find(What.PASSED, TRITON, subject="readiness", since=dead_at)
        assert len([each for each in passed if each.at < out.at]) <= 1
        ending = kubelet.wait(What.ENDING, TRITON, since=dead_at)
        assert ending.words == "failed liveness probe"
        assert ending.at - dead_at >= GRACE_SECONDS
        failed = kubelet.told.find(What.FAILED, TRITON, subject="liveness", since=dead_at)
        assert "StubDead echo/1" in failed[-1].words
        assert kubelet.wait(What.ENDED, TRITON, since=ending.at).at >= ending.at
        kubelet.wait(What.IN_SERVICE, since=ending.at)
        assert kubelet.starts(TRITON) == restart + 1
    assert kubelet.starts(CONTAINER) == 1, "the probe lives through Triton's restarts, and its budget with it"

    dead_at = kill_a_stub(pod)
    kubelet.wait(What.OUT_OF_SERVICE, since=dead_at)
    pod.probe.wait_finding("RestartBudgetSpent")
    left_alone(pod, time.monotonic())
    assert kubelet.starts(TRITON) == 3
    assert not kubelet.serves
    assert "[-]RestartBudgetSpent server" in pod.probe.ask("/readyz").body


def test_the_image_runs_as_the_manifest_says_and_the_kubelet_obeys_it(
    play: Play, repository: Repository, image: str
) -> None:
    """With its own entry point, the manifest's arguments and a read-only root, as a native sidecar before Triton."""
    repository.add_echo(instances=2, kind="KIND_CPU")
    spec = timed(brisk(wired(*ALL, native=True)), TRITON, Gate.LIVENESS, failure_threshold=FAILURES)
    pod = play(spec, repository, BUDGET, image=image)
    kubelet = pod.kubelet
    kubelet.wait(What.IN_SERVICE)
    dead_at = kill_a_stub(pod)
    kubelet.wait(What.OUT_OF_SERVICE, since=dead_at)
    ending = kubelet.wait(What.ENDING, TRITON, since=dead_at)
    assert ending.at - dead_at >= GRACE_SECONDS
    kubelet.wait(What.IN_SERVICE, since=ending.at)
    assert kubelet.starts(TRITON) == 2
    assert kubelet.starts(CONTAINER) == 1


def test_a_model_that_fell_back_to_the_cpu_is_out_of_service_and_never_restarted(
    play: Play, repository: Repository
) -> None:
    """No restart brings a GPU back: /readyz is 503 and /livez 200."""
    spec = timed(brisk(wired(*ALL)), TRITON, Gate.LIVENESS, failure_threshold=FAILURES)
    pod = play(spec, repository.add_echo(), f"{BRISK}placement: {{default: gpu}}\n")
    pod.kubelet.wait(What.PASSED, TRITON, subject="startup")
    found = pod.probe.wait_finding("CpuFallback", "echo")
    assert "CPU" in found.message
    left_alone(pod, time.monotonic())
    assert pod.probe.ask("/livez").code == OPEN
    assert pod.probe.ask("/readyz").code == CLOSED
    assert pod.kubelet.starts(TRITON) == 1
    assert pod.kubelet.told.find(What.IN_SERVICE) == []


@pytest.mark.parametrize("gates", [ALL, ALL[:2]], ids=["with the startup gate", "without"])
def test_a_load_that_takes_longer_than_liveness_would_allow_is_waited_for(
    play: Play, repository: Repository, gates: tuple[Gate, ...]
) -> None:
    """With and without a startup probe: /livez is open while Triton loads; in service once it has."""
    repository.add_slow_initialize("slow", FAILURES + 4.0, kind="KIND_CPU")
    spec = timed(brisk(wired(*gates)), TRITON, Gate.LIVENESS, failure_threshold=FAILURES)
    pod = play(spec, repository)
    ready = pod.kubelet.wait(What.IN_SERVICE)
    started = pod.kubelet.told.find(What.STARTED, TRITON)
    assert len(started) == 1
    assert ready.at - started[0].at > FAILURES + 4.0
    assert pod.kubelet.told.find(What.FAILED, TRITON, subject="readiness") != [] or Gate.STARTUP in gates
    left_alone(pod, ready.at)
    assert pod.kubelet.starts(TRITON) == 1
