"""Connections that can not starve one another: each has a deadline, and the newest always gets in.

A kubelet's question must be answered while somebody else holds hundreds of sockets open, sends a byte a
minute, or never reads.  Refusing beyond a limit (uvicorn's ``limit_concurrency``) answers 503, which a
kubelet reads as a failing gate; so the connection that was quiet for longest goes instead.
"""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 10.0
"""From the first byte of a request (or the connect) to its answer; kubelets ask within milliseconds."""
IDLE_SECONDS = 75.0
"""A kept connection without a request, and the time to read an answer: longer than the usual scrape
interval of 60 s, so that Prometheus keeps its connection."""
MOST_CONNECTIONS = 256
"""A quarter of the 1024 descriptors that a container usually has: the sources need theirs."""
MOST_UNREAD_BYTES = 16 * 2**20
"""Answers that clients asked for and do not read, over all connections."""


class Connection(H11Protocol):
    """One HTTP/1.1 connection with deadlines of its own beside uvicorn's keep-alive."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  (handed on as it is)
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._within_request = False
        self.active = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first request, and make room for this connection."""
        super().connection_made(transport)
        self._arm(REQUEST_SECONDS, within_request=True)
        self._make_room()

    def data_received(self, data: bytes) -> None:
        """Start the clock of a request with its first byte; later bytes do not move it."""
        # Dated here, as uvicorn's own clock would wake an idle server ten times a second.
        date = formatdate(usegmt=True).encode("ascii")
        self.server_state.default_headers = [(b"date", date), *self.config.encoded_headers]
        if not self._within_request:
            self._arm(REQUEST_SECONDS, within_request=True)
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Start the clock of the next request's beginning, or of reading this answer."""
        self._arm(IDLE_SECONDS, within_request=False)
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Drop the connection without waiting for what the peer has not read."""
        self.transport.abort()

    def _arm(self, seconds: float, *, within_request: bool) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._within_request = within_request
        self.active = self.loop.time()
        self._deadline = self.loop.call_later(seconds, self.abort)

    def _make_room(self) -> None:
        """Drop the connections that were quiet for longest until both limits are kept."""
        others = [each for each in self.connections if isinstance(each, Connection)]
        unread = sum(each.transport.get_write_buffer_size() for each in others)
        excess = len(others) - MOST_CONNECTIONS
        if excess <= 0 and unread <= MOST_UNREAD_BYTES:
            return
        for each in sorted(others, key=lambda one: one.active):
            if excess <= 0 and unread <= MOST_UNREAD_BYTES:
                break
            size = each.transport.get_write_buffer_size()
            if each is self or (excess <= 0 and not size):
                continue
            unread -= size
            excess -= 1
            each.abort()
