"""The first step, which only observes: nothing that the probe says moves a gate of the pod."""

from __future__ import annotations

import os
import signal
import time

from probe.facts.wiring import CONTAINER
from probe.sandbox.daemon import CLOSED
from probe.sandbox.repositories import Repository
from testbed.kubelet.timeline import What
from testbed.kubelet.wired import TRITON, brisk, wired
from tests.scenarios.conftest import BRISK, Play


def test_a_native_sidecar_that_observes_comes_first_and_moves_nothing(
    play: Play, repository: Repository
) -> None:
    """It runs and answers before there is a Triton; with every gate at 503 the pod stays in service.

    Only while the sidecar itself does not run is the pod out of service, which is Kubernetes' own rule.
    """
    repository.add_echo(instances=2, kind="KIND_CPU")
    pod = play(brisk(wired(native=True)), repository, f"{BRISK}gates: {{StubDead: {{live: 0s}}}}\n")
    kubelet = pod.kubelet
    sidecar, triton = kubelet.wait(What.STARTED, CONTAINER), kubelet.wait(What.STARTED, TRITON)
    assert sidecar.at < triton.at
    served = kubelet.wait(What.IN_SERVICE)
    pod.triton.wait_ready()
    pod.probe.wait_code("/readyz", 200)

    at = time.monotonic()
    os.kill(pod.triton.stubs("echo")[0].pid, signal.SIGKILL)
    for path in ("/readyz", "/livez"):
        assert "StubDead" in pod.probe.wait_code(path, CLOSED).body
    kubelet.wait(What.PASSED, CONTAINER, subject="liveness", since=at, times=4)
    assert kubelet.serves
    assert kubelet.told.find(What.OUT_OF_SERVICE, since=served.at) == []

    at = time.monotonic()
    kubelet.running(CONTAINER).program.send_signal(signal.SIGKILL)
    assert kubelet.wait(What.OUT_OF_SERVICE, since=at).words == CONTAINER
    kubelet.wait(What.IN_SERVICE, since=at)
    assert kubelet.starts(TRITON) == 1
    assert not kubelet.told.find(What.ENDING, TRITON)
