"""The HTTP side of a scripted Triton: liveness, readiness, and the metrics page."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from testbed.scripted.answers import metrics, server_ready
from testbed.scripted.script import Script

_CALLS = {"/v2/health/live": "http_live", "/v2/health/ready": "http_ready", "/metrics": "metrics"}
_SECONDS_BETWEEN_LOOKS = 0.02


class HttpFront:
    """One port; it answers every path that it knows, as the script wants."""

    def __init__(self, script: Script, port: int) -> None:
        self._script = script
        self._port = port
        self._server: _Server | None = None

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Open the port."""
        if self._server is None:
            self._server = _Server(self._script, self._port)

    def stop(self) -> None:
        """Close the port; calls that hang are dropped."""
        if self._server is not None:
            self._server.end()
            self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, script: Script, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.script = script
        self.ending = threading.Event()
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, name=f"scripted-triton-{port}"
        )
        self._thread.start()

    def end(self) -> None:
        self.ending.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that gave up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        script, call = self.server.script, _CALLS.get(self.path, "")
        script.calls[call or self.path] += 1
        behaviour = script.behaviour(call) if call else None
        status, body = self._proper(call)
        if behaviour is not None:
            self.server.ending.wait(behaviour.delay)
            while behaviour.hang is not None and not behaviour.hang.wait(_SECONDS_BETWEEN_LOOKS):
                if self.server.ending.is_set():
                    break
            status = behaviour.status or status
            body = body if behaviour.answer is None else behaviour.answer
        if self.server.ending.is_set() or (behaviour is not None and behaviour.drop):
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _proper(self, call: str) -> tuple[int, bytes]:
        script = self.server.script
        if call == "metrics":
            return 200, metrics(script).encode()
        if not call:
            return 404, b""
        if "health" in script.restricted:
            key, value = script.restricted["health"]
            if self.headers.get(key) != value:
                text = f"""{{"error":"This API is restricted, expecting header '{key}'"}}"""
                return 403, text.encode()
        good = script.live if call == "http_live" else server_ready(script)
        return (200 if good else 400), b""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (http.server's name)
        """Say nothing."""
