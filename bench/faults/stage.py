"""What a fault strikes at: the models' processes, seen from outside the pod, and requests to them."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Self

import msgspec

from bench.deployment import Deployment
from bench.harness import BenchError
from probe.sandbox.client import TritonClient, TritonError

MODEL = "victim"
_PATIENCE = 30.0
_REQUEST_SECONDS = 2.0
_ASK_SECONDS = 1.0


class Moment(msgspec.Struct, frozen=True):
    """One moment on both clocks: seconds since the Unix epoch, and ``perf_counter``."""

    wall: float
    mono: float


def moment() -> Moment:
    """Now."""
    return Moment(time.time(), time.perf_counter())


class Flow:
    """Steady requests to the model from two threads."""

    def __init__(self, deployment: Deployment, per_second: float) -> None:
        """None flow at ``per_second`` 0."""
        self._deployment = deployment
        self._ended = threading.Event()
        count = 2 if per_second else 0
        self._period = count / per_second if per_second else 0.0
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        while not self._ended.wait(self._period):
            with contextlib.suppress(TritonError, OSError):
                self._deployment.triton.client.infer(MODEL, (0.0,), seconds=_REQUEST_SECONDS)


class Stage:
    """One deployment as a fault sees it."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self._loading: threading.Thread | None = None

    def stubs(self) -> tuple[int, ...]:
        """Pids, as seen from here, of the stubs that the daemon counts among the model's instances."""
        inside = [
            stub.pid
            for model in self.deployment.daemon.status().models
            if model.name == MODEL
            for stub in model.stubs
        ]
        found = [self.deployment.pod.outer_pid(each) for each in inside]
        pids = tuple(each for each in found if each is not None)
        if not pids:
            raise BenchError(f"{MODEL} has no stub to strike at")
        return pids

    def workers(self) -> tuple[int, ...]:
        """Pids of the children of its stubs."""
        stubs = set(self.stubs())
        pids = tuple(each.pid for each in self.deployment.pod.processes() if each.parent in stubs)
        if not pids:
            raise BenchError(f"the stubs of {MODEL} have no children to strike at")
        return pids

    def request(self, value: float) -> None:
        """Send one request, whose answer nobody waits for."""

        def send() -> None:
            with contextlib.suppress(TritonError, OSError):
                self.deployment.triton.client.infer(MODEL, (value,), seconds=_REQUEST_SECONDS)

        threading.Thread(target=send, daemon=True).start()

    def begin_load(self) -> None:
        """Ask for a load, and return when the processes of the new load are there beside the old."""
        before = {each.pid for each in self.deployment.triton.stubs(MODEL)}

        def load() -> None:
            with contextlib.suppress(TritonError, OSError):
                self.deployment.triton.client.load(MODEL)

        # Triton loads again only what changed.
        (self.deployment.repository.path / MODEL / "1" / "model.py").touch()
        self._loading = threading.Thread(target=load, daemon=True)
        self._loading.start()
        self.wait(
            "stubs of the new load",
            lambda: any(
                each.pid not in before and each.instance not in ("", MODEL)
                for each in self.deployment.triton.stubs(MODEL)
            ),
        )

    def end_load(self) -> None:
        """Wait for the load that was asked for, if one was."""
        if self._loading is not None:
            self._loading.join(_PATIENCE)
            self._loading = None

    def reload(self) -> None:
        """Unload and load: a load alone keeps what it finds."""
        client = self.deployment.triton.client
        # The unload never ends where a request failed on a dead stub; a load works all the same.
        client.unload(MODEL)
        self.wait("the unload", lambda: not client.model_ready(MODEL))
        client.load(MODEL)

    def freshen(self) -> None:
        """Another Triton in the place of this one, whatever state this one is in."""
        self.deployment.triton.kill(signal.SIGKILL)
        self.clear_stubs()
        self.deployment.triton.stop()
        self.deployment.start_triton()

    def clear_stubs(self) -> None:
        """Kill what stubs there are."""
        for each in self.deployment.triton.stubs():
            strike((each.pid,), signal.SIGKILL)

    def triton_says(self) -> str:
        """What Triton itself answers now: whether live, ready, and the model ready; "-" is no answer."""
        client = TritonClient(self.deployment.triton.http, seconds=_ASK_SECONDS)
        told = []
        for ask in (client.server_live, client.server_ready, lambda: client.model_ready(MODEL)):
            try:
                told.append("yes" if ask() else "no")
            except OSError:
                told.append("-")
        return "/".join(told)

    @staticmethod
    def wait(what: str, condition: Callable[[], bool]) -> None:
        """Wait for a condition; raises BenchError where it does not come."""
        until = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > until:
                raise BenchError(f"waited {_PATIENCE:g} s for {what}")
            time.sleep(0.01)


def strike(pids: tuple[int, ...], number: int) -> Moment:
    """Send these processes a signal; the moment just before the first."""
    began = moment()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return began
