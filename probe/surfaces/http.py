"""The HTTP server: uvicorn on a thread and an event loop of its own.

It shares nothing with the engine's loop but the board, so that a loop that no longer turns is told by
``/healthz`` instead of timing out with it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from typing import Any

from uvicorn.config import Config
from uvicorn.server import Server

from probe.engine.board import Board
from probe.kits import clocks
from probe.surfaces.app import Clock, application
from probe.surfaces.connections import IDLE_SECONDS, Connection
from probe.surfaces.listening import bound

_log = logging.getLogger(__name__)
_START_SECONDS = 10.0
_DRAIN_SECONDS = 0.2
_POLL_SECONDS = 0.01
_HEADERS = [("x-content-type-options", "nosniff"), ("cache-control", "no-store")]


class HttpServer:
    """Serves the board over HTTP from :meth:`start` to :meth:`stop`."""

    def __init__(self, board: Board, listen: str, *, clock: Clock = clocks.now) -> None:
        """Prepare to answer from ``board`` on ``listen`` (``[::]:8003``, ``127.0.0.1:0``…)."""
        self._listen = listen
        self._app = application(board, clock)
        self._address: tuple[str, int] | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are bound, the port that the kernel chose where 0 was asked for."""
        if self._address is None:
            raise RuntimeError("the server is not started")
        return self._address

    def start(self) -> None:
        """Bind, then serve on a thread; returns when requests are answered.

        Raises ListenError (an OSError) where the address can not be had, and ValueError for what is no
        address, both before any thread starts.
        """
        listener = bound(self._listen)
        host, port, *_ = listener.getsockname()
        self._address = host, port
        self._server = _Server(_config(self._app))
        self._thread = threading.Thread(
            target=_serve, args=(self._server, listener), name="http", daemon=True
        )
        self._thread.start()
        if not self._server.serving.wait(_START_SECONDS) or not self._thread.is_alive():
            raise RuntimeError(f"the HTTP server did not start within {_START_SECONDS:.0f} s, see the log")

    def stop(self, timeout: float = 1.0) -> None:
        """Stop serving: answers under way get a moment, then every connection is dropped."""
        if self._server is None or self._thread is None:
            return
        self._server.ask_to_stop()
        self._thread.join(timeout)


def _serve(server: _Server, listener: socket.socket) -> None:
    try:
        asyncio.run(server.serve(sockets=[listener]))
    except Exception:  # noqa: BLE001  (logged whole: a thread must not end silently)
        # Without a server every probe fails, and the kubelet restarts this container.
        _log.exception("the HTTP server failed")
    finally:
        listener.close()
        server.serving.set()


class _Server(Server):
    """uvicorn's server, stopped from another thread, and idle between requests."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.serving = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def ask_to_stop(self) -> None:
        """Thread-safe, and harmless when the server is stopped already."""
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)

    async def main_loop(self) -> None:
        """Sleep until asked to stop; uvicorn's own wakes ten times a second to look."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.serving.set()
        await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close within a moment; uvicorn's own waits for clients that never read."""
        for server in self.servers:
            server.close()
        for each in sockets or []:
            each.close()
        # Connections accepted a moment ago become known to us first.
        await asyncio.sleep(_POLL_SECONDS)
        for connection in list(self.server_state.connections):
            connection.shutdown()
        deadline = asyncio.get_running_loop().time() + _DRAIN_SECONDS
        while self.server_state.connections and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110  (uvicorn offers no event)
            await asyncio.sleep(_POLL_SECONDS)
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.abort()
        await asyncio.sleep(0)


def _config(app: Any) -> Config:  # noqa: ANN401  (an ASGI application)
    return Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        # Warnings are about what clients send; a port scan must not fill the log.
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,  # the connection writes it
        headers=_HEADERS,
        # Given, so that the environment (WEB_CONCURRENCY, FORWARDED_ALLOW_IPS) has no say.
        workers=1,
        forwarded_allow_ips="",
        timeout_keep_alive=int(IDLE_SECONDS),
        backlog=512,
    )
