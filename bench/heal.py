"""How long from the kill of a stub to a served request, where the probe may reload the model by itself?

No container is restarted and no person acts.  A stub of a real Triton is killed under traffic: the only one
of its model, which then serves nobody, or one of two, whose share of requests fails.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import TracebackType
from typing import Self

import msgspec

from bench.deployment import Deployment, deployed
from bench.harness import MILLISECONDS, BenchError, Options, Result, of_figure, of_values
from probe.sandbox.client import TritonClient, TritonError
from probe.sandbox.daemon import CLOSED, OPEN

NAME = "heal"
SETTINGS = "heal: {reload_model: true}\n"
MODELS = {"single": 1, "double": 2}
"""Models by name, with their instances."""
TIMES = 10
QUICK_TIMES = 2
PERIOD = 0.02
"""Seconds between requests, where answers come that fast."""
CALM = 3.0
"""Seconds of requests that all succeed, after which the model serves again."""
PATIENCE = 60.0


class Healed(msgspec.Struct, frozen=True):
    """One kill: seconds from it until the gate closed, opened, and the first request since the last that failed."""

    closed: float
    opened: float
    served: float
    failed: int


class Client:
    """Asks one model, one request after the other, and keeps how each ended."""

    def __init__(self, address: str, model: str) -> None:
        self._client = TritonClient(address)
        self._model = model
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.answers: list[tuple[float, bool]] = []
        """When each request ended, and whether it was served."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def failures(self, since: float) -> list[float]:
        """When requests failed since then."""
        return [moment for moment, served in self.answers if moment >= since and not served]

    def first_served(self, since: float) -> float | None:
        """When the first request was served since then."""
        return next((moment for moment, served in self.answers if moment > since and served), None)

    def _ask(self) -> None:
        while not self._ended.wait(PERIOD):
            try:
                self._client.infer(self._model, (1.0,), seconds=5.0)
                served = True
            except (TritonError, OSError):
                served = False
            self.answers.append((time.monotonic(), served))


def run(options: Options) -> list[Result]:
    """Kill in a deployment of its own, each time in a Triton and beside a daemon that were just started."""
    with deployed() as deployment:
        for model, instances in MODELS.items():
            deployment.repository.add_echo(model, kind="KIND_CPU", instances=instances)
        times = options.repeat or (QUICK_TIMES if options.quick else TIMES)
        return [
            result
            for model, instances in MODELS.items()
            for result in _results(instances, [_heal(deployment, model) for _ in range(times)])
        ]


def _results(instances: int, healed: list[Healed]) -> list[Result]:
    conditions = (
        f"default configuration but {SETTINGS.strip()}; one request after the other, {PERIOD:g} s apart; SIGKILL "
        f"of one of {instances} instance(s) of a model that loads in about 1 s"
    )
    what = f"one of {instances} killed"
    figures = {
        "to 503": [each.closed for each in healed],
        "to 200 again": [each.opened for each in healed],
        "to the first request served since the last that failed": [each.served for each in healed],
    }
    return [
        *(
            of_values(
                NAME, f"{what} {name}", [each * MILLISECONDS for each in values], "ms", conditions=conditions
            )
            for name, values in figures.items()
        ),
        of_figure(
            NAME,
            f"{what}: requests that failed meanwhile, in all",
            sum(each.failed for each in healed),
            "requests",
            conditions=conditions,
        ),
    ]


def _heal(deployment: Deployment, model: str) -> Healed:
    # An unload that waits for a dead stub leaves the others of its load behind (release 24.10).
    deployment.start_triton()
    daemon = deployment.start_daemon(settings=SETTINGS)
    deployment.wait_known(len(MODELS))
    victim = next((each.pid for each in deployment.triton.stubs(model)), None)
    if victim is None:
        raise BenchError(f"no stub of {model} is left to kill")
    with Client(deployment.triton.http, model) as client:
        daemon.wait_until("a served request", lambda: client.first_served(0.0), PATIENCE)
        killed = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        daemon.wait_code("/readyz", CLOSED, seconds=PATIENCE, pause=0.002)
        closed = time.monotonic()
        daemon.wait_code("/readyz", OPEN, seconds=PATIENCE, pause=0.005)
        opened = time.monotonic()
        daemon.wait_until(
            "requests that all succeed", lambda: _calm(client, killed, opened) or None, PATIENCE, pause=0.1
        )
    failures = client.failures(killed)
    served = client.first_served(max(failures, default=killed))
    deployment.stop_daemon()
    deployment.triton.stop(1.0)
    if served is None:
        raise BenchError(f"no request to {model} was served after a reload")
    return Healed(closed - killed, opened - killed, served - killed, len(failures))


def _calm(client: Client, killed: float, opened: float) -> bool:
    last = max([opened, *client.failures(killed)])
    return time.monotonic() - last > CALM and client.first_served(last) is not None
