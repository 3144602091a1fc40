"""Does the stand-in, with its hands on real sockets and containers, do what its rules say?"""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from probe.sandbox.programs import Program
from probe.sandbox.wheel import TritonInstallation
from testbed.kubelet.asking import ask
from testbed.kubelet.kubelet import Kubelet
from testbed.kubelet.probing import Result
from testbed.kubelet.runtime import Part, Runtime
from testbed.kubelet.specs import ContainerSpec, PodSpec
from testbed.kubelet.timeline import What
from testbed.pods.containers import Container
from testbed.pods.pod import LimitedPod
from testbed.pods.podman import Podman
from testbed.tools import until

DRIBBLING = "/dribbling"
"""A path whose answer takes 0.3 s, letter by letter."""


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == DRIBBLING:
            for letter in b"HTTP/1.0 200 \r\n\r\n":
                time.sleep(0.02)
                self.wfile.write(bytes((letter,)))
            return
        self.send_response(int(self.path[1:]))
        self.end_headers()
        self.wfile.write(b"words\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """A server that answers with the status that its path names."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, Result.SUCCESS), (399, Result.SUCCESS), (400, Result.FAILURE), (503, Result.FAILURE)],
)
def test_two_hundred_to_three_hundred_ninety_nine_is_a_success(
    port: int, status: int, expected: Result
) -> None:
    """As for the kubelet; what was said stands beside it."""
    assert ask(port, f"/{status}", 5.0) == (expected, f"{status} words")


def test_nobody_there_and_nobody_who_answers_are_failures() -> None:
    """A port that refuses, and one that takes the connection and says nothing until the time is over."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert ask(port, "/livez", 0.05) == (Result.FAILURE, "timed out")
    assert ask(port, "/livez", 5.0)[0] is Result.FAILURE


def test_an_answer_that_dribbles_is_late_as_a_whole(port: int) -> None:
    """The time is that of the whole answer, as in Go's client, and not that of each of its pieces."""
    assert ask(port, DRIBBLING, 0.1) == (Result.FAILURE, "timed out")
    assert ask(port, DRIBBLING, 5.0)[0] is Result.SUCCESS


MANIFEST = """
kind: Pod
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: deaf
    volumeMounts: [{name: memory, mountPath: /kept}]
    livenessProbe: {httpGet: {port: 1}, periodSeconds: 1, failureThreshold: 2}
  - name: named
    readinessProbe: {httpGet: {port: nowhere}, periodSeconds: 1}
  - name: impossible
    resources: {limits: {memory: 1}}
  volumes: [{name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]
"""
DEAF = "trap '' TERM; df -k /kept | tail -1; while :; do sleep 1; done"


def test_a_pod_of_shells_is_run_as_its_manifest_says(
    podman: Podman, triton_installation: TritonInstallation
) -> None:
    """A container deaf to SIGTERM is killed after its grace, and restarted, with its volume of the size it asked for.

    A port's name that nobody has errs for ever and counts for nothing; a container that the runtime can not start
    has ended with 128, and is tried again.
    """

    def launch(container: Container, spec: ContainerSpec, log: Path) -> Program:
        with log.open("wb") as output:
            command = ["sh", "-c", DEAF if spec.name == "deaf" else "sleep 1000"]
            return container.popen(command, stdout=output, stderr=output)

    spec = PodSpec.read(MANIFEST)
    pod = LimitedPod(podman, triton_installation)
    parts = {each.name: Part(launch) for each in spec.containers}
    with Kubelet(Runtime(spec, pod, parts, {})) as kubelet:
        ending = kubelet.wait(What.ENDING, "deaf")
        ended = kubelet.wait(What.ENDED, "deaf", since=ending.at)
        assert ended.words == "137 Error"
        assert ended.at - ending.at >= 2
        kubelet.wait(What.STARTED, "deaf", since=ended.at)
        until(lambda: kubelet.running("deaf").log.read_text().split()[1:2] == ["1024"])

        assert "no port named nowhere" in kubelet.wait(What.ERRED, "named", subject="readiness").words
        assert kubelet.told.find(What.FAILED, "named", subject="readiness") == []
        assert kubelet.wait(What.ENDED, "impossible", times=2).words.startswith("128 StartError")
        assert not kubelet.serves
        with pytest.raises(AssertionError, match=r"(?s)the pod  in service, 1 times.*deaf liveness failed"):
            kubelet.wait(What.IN_SERVICE, seconds=0.1)
    assert pod.processes() == ()


def test_what_breaks_in_the_stand_in_fails_whoever_waits(
    podman: Podman, triton_installation: TritonInstallation
) -> None:
    """An error in one of its threads is the test's error, at once, and not a wait that ends in vain."""

    def launch(_container: Container, _spec: ContainerSpec, _log: Path) -> Program:
        raise OSError("no such thing")

    spec = PodSpec.read("kind: Pod\nspec: {containers: [{name: a}]}")
    pod = LimitedPod(podman, triton_installation)
    with Kubelet(Runtime(spec, pod, {"a": Part(launch)}, {})) as kubelet:
        with pytest.raises(AssertionError, match="the pod") as raised:
            kubelet.wait(What.IN_SERVICE)
        assert str(raised.value.__cause__) == "no such thing"
    assert pod.processes() == ()


def test_a_container_that_is_being_started_ends_with_the_pod(
    podman: Podman, triton_installation: TritonInstallation
) -> None:
    """A test that fails in that moment would wait for its end for ever."""
    begun = threading.Event()

    def launch(container: Container, _spec: ContainerSpec, log: Path) -> Program:
        begun.set()
        with log.open("wb") as output:
            return container.popen(["sh", "-c", DEAF], stdout=output, stderr=output)

    pod = LimitedPod(podman, triton_installation)
    spec = PodSpec.read("kind: Pod\nspec: {containers: [{name: late}]}")
    with Kubelet(Runtime(spec, pod, {"late": Part(launch)}, {})):
        assert begun.wait(20)
    assert pod.processes() == ()
