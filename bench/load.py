"""Load on the daemon from an open loop: requests are due at fixed times, whatever the answers do.

A latency counts from when its request was due, not from when it was sent: an answer that holds up the next
request is counted in both, so that a stall shows in as many samples as it would have users.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

_WORKERS = 8
_TIMEOUT = 10.0
_HEAD_START = 0.05


class Sample(msgspec.Struct, frozen=True):
    """One request: ``seconds`` from due to answered, ``late`` of which it waited to be sent at all.

    ``code`` is the HTTP status, 0 where there was no answer.
    """

    path: str
    seconds: float
    late: float
    code: int


class Asker(Protocol):
    """Asks one server, one request at a time."""

    def ask(self, path: str) -> int:
        """The HTTP status, after the whole body; raises OSError or HTTPException without an answer."""

    def close(self) -> None:
        """Close what is kept."""


class Kept:
    """Asks over one connection that is kept; a broken one is made anew for the next request."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)

    def ask(self, path: str) -> int:
        """Ask; see :class:`Asker`."""
        try:
            self._connection.request("GET", path)
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        return response.status

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Fresh:
    """Asks over a new connection each time, as a kubelet does."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, path: str) -> int:
        """Ask; see :class:`Asker`."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            response.read()
        finally:
            connection.close()
        return response.status

    def close(self) -> None:
        """Nothing is kept."""


def open_loop(
    asker: Callable[[], Asker], paths: Sequence[str], *, per_second: float, seconds: float
) -> tuple[Sample, ...]:
    """Send ``per_second * seconds`` requests, evenly spaced and going round the paths; wait for all."""
    total = int(per_second * seconds)
    samples: list[Sample] = []
    start = time.perf_counter() + _HEAD_START

    def work(first: int) -> None:
        with contextlib.closing(asker()) as mine:
            for index in range(first, total, _WORKERS):
                # Every worker comes round to every path.
                path = paths[(index + index // len(paths)) % len(paths)]
                samples.append(_one(mine, path, start + index / per_second))

    threads = [threading.Thread(target=work, args=(first,)) for first in range(_WORKERS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return tuple(samples)


def _one(asker: Asker, path: str, due: float) -> Sample:
    if (left := due - time.perf_counter()) > 0:
        time.sleep(left)
    sent = time.perf_counter()
    try:
        code = asker.ask(path)
    except (OSError, http.client.HTTPException):
        code = 0
    return Sample(path, time.perf_counter() - due, sent - due, code)
