"""Daemons that answer as they are told, for the commands that ask one."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator

from probe.commands.asking import Target


class Daemon(http.server.ThreadingHTTPServer):
    """A daemon that answers as it is told and remembers what it was asked."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.body, self.asked = status, body, list[str]()

    @property
    def target(self) -> Target:
        """Where it answers."""
        return Target("127.0.0.1", self.server_address[1], "")


class Handler(http.server.BaseHTTPRequestHandler):
    """One request to it."""

    server: Daemon

    def do_GET(self) -> None:
        """Answer as told."""
        self.server.asked.append(self.path)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""


@contextlib.contextmanager
def answering() -> Iterator[Callable[[int, bytes], Daemon]]:
    """Start such daemons, each with a status and a body; they end together."""
    started: list[Daemon] = []

    def start(status: int, body: bytes) -> Daemon:
        server = Daemon(status, body)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()
