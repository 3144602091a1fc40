"""Whatever becomes of the sidecar, Triton is left alone: with the shipped liveness threshold, and each gate in place.

What the pod's readiness does meanwhile is Kubernetes' own: a container that does not run is not ready, and a question
that nobody answers is a failure.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable

import pytest

from probe.facts.wiring import CONTAINER
from probe.sandbox.repositories import Repository
from testbed.kubelet.played import PlayedPod
from testbed.kubelet.specs import PodSpec, Variable
from testbed.kubelet.timeline import Moment, TimeLine, What
from testbed.kubelet.wired import TRITON, Gate, brisk, changed, timed, wired
from tests.scenarios.conftest import Play

ALL = (Gate.READINESS, Gate.LIVENESS, Gate.STARTUP)
ONE_PER_CENT = 0.01
"""Of a core: the least that the kernel gives."""


def untouched(pod: PlayedPod) -> bool:
    """Whether Triton runs for the first time, and nobody has begun to end it."""
    told = pod.kubelet.told
    return len(told.find(What.STARTED, TRITON)) == 1 and not told.find(What.ENDING, TRITON)


@pytest.mark.parametrize("native", [True, False], ids=["native", "plain"])
def test_a_sidecar_that_stops_is_killed_or_is_starved_comes_back_and_triton_is_left_alone(
    play: Play, repository: Repository, *, native: bool
) -> None:
    """Stopped: restarted by its own liveness, with SIGKILL.  Killed: restarted at once.  Starved: late, or not at all.

    Each time the pod leaves service while nobody answers, and comes back by itself.
    """
    pod = play(brisk(wired(*ALL, native=native)), repository.add_echo(kind="KIND_CPU"))
    kubelet = pod.kubelet
    kubelet.wait(What.IN_SERVICE)

    at = time.monotonic()
    kubelet.running(CONTAINER).program.send_signal(signal.SIGSTOP)
    kubelet.wait(What.OUT_OF_SERVICE, since=at)
    ending = kubelet.wait(What.ENDING, CONTAINER, since=at)
    assert ending.words == "failed liveness probe"
    assert kubelet.wait(What.ENDED, CONTAINER, since=at).words.startswith("137")
    kubelet.wait(What.IN_SERVICE, since=kubelet.wait(What.STARTED, CONTAINER, since=at).at)
    assert untouched(pod)

    at = time.monotonic()
    kubelet.running(CONTAINER).program.send_signal(signal.SIGKILL)
    kubelet.wait(What.OUT_OF_SERVICE, since=at)
    kubelet.wait(What.IN_SERVICE, since=kubelet.wait(What.STARTED, CONTAINER, since=at).at)
    assert kubelet.starts(CONTAINER) == 3
    assert untouched(pod)

    daemon, at = kubelet.running(CONTAINER).program, time.monotonic()
    pod.pod.throttle(daemon.pid, ONE_PER_CENT)
    kubelet.wait_for("ten questions about Triton", lambda: tenth_question(kubelet.told, at))
    # Its own liveness may have replaced it by one that is not starved.
    with contextlib.suppress(OSError):
        pod.pod.throttle(daemon.pid, None)
    kubelet.wait_for("service", lambda: kubelet.told.find(What.IN_SERVICE)[-1] if kubelet.serves else None)
    kubelet.wait(What.PASSED, TRITON, subject="liveness", since=time.monotonic())
    assert untouched(pod)


def tenth_question(told: TimeLine, since: float) -> Moment | None:
    """The tenth answer to Triton's liveness probe since then, whatever it was."""
    found = [
        each
        for what in (What.PASSED, What.FAILED)
        for each in told.find(what, TRITON, subject="liveness", since=since)
    ]
    return found[9] if len(found) >= 10 else None


def too_little_memory(spec: PodSpec) -> PodSpec:
    """The sidecar can not even start; what it reads from disk again and again before it is killed takes a while."""
    spec = timed(spec, CONTAINER, Gate.LIVENESS, failure_threshold=60)
    return changed(spec, CONTAINER, resources={"limits": {"memory": "24Mi"}})


def wrong_settings(spec: PodSpec) -> PodSpec:
    """The sidecar says what is wrong, and exits with 2."""
    return changed(spec, CONTAINER, env=(Variable("TRITON_PROBE_INTERVAL", "soon"),))


@pytest.mark.parametrize(
    ("fault", "ends"),
    [(too_little_memory, "137 OOMKilled"), (wrong_settings, "2 Error")],
    ids=["killed for want of memory", "set up wrongly"],
)
def test_a_sidecar_that_never_comes_up_keeps_the_pod_out_of_service_and_triton_running(
    play: Play, repository: Repository, fault: Callable[[PodSpec], PodSpec], ends: str
) -> None:
    """It crashes over and over, with a growing pause; Triton serves whoever asks it, and is left alone."""
    pod = play(fault(brisk(wired(Gate.READINESS, Gate.LIVENESS))), repository.add_echo(kind="KIND_CPU"))
    kubelet = pod.kubelet
    kubelet.wait(What.STARTED, TRITON)
    kubelet.wait(What.BACK_OFF, CONTAINER)
    assert {each.words for each in kubelet.told.find(What.ENDED, CONTAINER)} == {ends}
    pod.triton.wait_ready()
    assert pod.triton.client.infer("echo", (1.0,)) == [1.0]
    kubelet.wait(What.FAILED, TRITON, subject="liveness", times=5)
    assert kubelet.told.find(What.IN_SERVICE) == []
    assert untouched(pod)
