"""Traffic as a soak wants it: a few threads, each with a model and a rate that change at any time.

A request that fails is nothing unusual: its model may be away or on its way.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from typing import Self

from bench.deployment import Deployment
from bench.soak.models import DECOUPLED
from probe.sandbox.client import TritonError

_PATIENCE = 5.0
_LONGEST_WAIT = 1.0


class Traffic:
    """Runs from entering to leaving; :meth:`assign` says what flows."""

    def __init__(self, deployment: Deployment, threads: int = 3) -> None:
        self.ok: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._deployment = deployment
        self._assigned: list[tuple[str, float]] = [("", 0.0)] * threads
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(index,), name=f"traffic-{index}", daemon=True)
            for index in range(threads)
        ]

    @property
    def assigned(self) -> tuple[tuple[str, float], ...]:
        """Model and requests per second of each thread."""
        return tuple(self._assigned)

    def assign(self, rates: tuple[tuple[str, float], ...]) -> None:
        """From now on, each thread sends so many requests per second to its model."""
        self._assigned[: len(rates)] = rates

    def pause(self) -> tuple[tuple[str, float], ...]:
        """Let nothing flow; returns what did, to be assigned again."""
        before = self.assigned
        self.assign(tuple((model, 0.0) for model, _ in before))
        return before

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for each in self._threads:
            each.join(_PATIENCE + 1.0)

    def _run(self, index: int) -> None:
        while True:
            model, rate = self._assigned[index]
            if self._ended.wait(min(_LONGEST_WAIT, 1.0 / rate) if rate else _LONGEST_WAIT / 4):
                return
            if not rate or (rate < 1.0 and self._ended.wait(1.0 / rate - _LONGEST_WAIT)):
                continue
            try:
                self._send(model)
            except (TritonError, OSError, ValueError):
                self._count(self.failed, model)
            else:
                self._count(self.ok, model)

    def _count(self, counter: Counter[str], model: str) -> None:
        with self._lock:
            counter[model] += 1

    def _send(self, model: str) -> None:
        if model == DECOUPLED:
            _stream(self._deployment.triton.http, model)
        else:
            self._deployment.triton.client.infer(model, (1.0,), seconds=_PATIENCE)


def _stream(address: str, model: str) -> None:
    # Triton's HTTP serves decoupled models at this one path.
    connection = http.client.HTTPConnection(address, timeout=_PATIENCE)
    try:
        connection.request("POST", f"/v2/models/{model}/generate_stream", json.dumps({"INPUT": [1.0]}))
        response = connection.getresponse()
        body = response.read()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK or b'"error"' in body:
        raise TritonError(response.status, body[:200].decode(errors="replace"))
