"""A small client of Triton's HTTP API, for driving a sandboxed server: blocking, with a deadline a call."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from typing import Any

from probe.sandbox.errors import SandboxError

_HTTP_OK = 200


class TritonError(SandboxError):
    """Triton answered with an error; ``status`` is the HTTP status, the message Triton's own text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.text = message


class TritonClient:
    """Calls go to ``host:port`` over a connection each.

    Every call raises :class:`TritonError` for an error that Triton tells, and ``OSError``
    (``TimeoutError``, ``ConnectionRefusedError``…) where there was no answer.
    """

    def __init__(self, address: str, *, seconds: float = 30.0) -> None:
        self._address = address
        self._seconds = seconds

    def server_live(self) -> bool:
        """Whether ``/v2/health/live`` answers 200."""
        return self._get_status("/v2/health/live")

    def server_ready(self) -> bool:
        """Whether ``/v2/health/ready`` answers 200."""
        return self._get_status("/v2/health/ready")

    def model_ready(self, model: str, version: str = "") -> bool:
        """Whether the model's (version's) ``ready`` answers 200; unknown models are not ready."""
        return self._get_status(f"{_path(model, version)}/ready")

    def metadata(self) -> dict[str, Any]:
        """Triton's name, version and extensions."""
        return self._object("GET", "/v2")

    def config(self, model: str, version: str = "") -> dict[str, Any]:
        """Return the model's configuration after Triton resolved it."""
        return self._object("GET", f"{_path(model, version)}/config")

    def statistics(self, model: str, version: str = "") -> dict[str, Any]:
        """Return the statistics of one model version."""
        stats: dict[str, Any] = self._object("GET", f"{_path(model, version)}/stats")["model_stats"][0]
        return stats

    def index(self) -> list[dict[str, str]]:
        """List the repository: ``name``, and ``version``, ``state``, ``reason`` where Triton tells them."""
        entries: list[dict[str, str]] = json.loads(self._call("POST", "/v2/repository/index", {}))
        return entries

    def load(self, model: str, *, seconds: float = 60.0) -> None:
        """Load or reload; answers when the model is ready, raises when it failed.  EXPLICIT mode only."""
        self._call("POST", f"/v2/repository/models/{model}/load", {}, seconds=seconds)

    def unload(self, model: str, *, seconds: float = 60.0) -> None:
        """Ask for the unload; Triton answers before it is done.  EXPLICIT mode only."""
        self._call("POST", f"/v2/repository/models/{model}/unload", {}, seconds=seconds)

    def infer(
        self, model: str, values: Sequence[float] = (0.0,), *, batched: bool = False, seconds: float = 30.0
    ) -> list[float]:
        """Run one inference on a sample model: FP32 ``INPUT`` to ``OUTPUT``, ``batched`` or not."""
        tensor = {
            "name": "INPUT",
            "datatype": "FP32",
            "shape": [1, len(values)] if batched else [len(values)],
            "data": list(values),
        }
        text = self._call("POST", f"{_path(model)}/infer", {"inputs": [tensor]}, seconds=seconds)
        outputs: list[float] = json.loads(text)["outputs"][0]["data"]
        return outputs

    def _object(self, method: str, path: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._call(method, path))
        return answer

    def _get_status(self, path: str) -> bool:
        try:
            self._call("GET", path)
        except TritonError:
            return False
        return True

    def _call(self, method: str, path: str, body: object = None, *, seconds: float | None = None) -> bytes:
        connection = http.client.HTTPConnection(self._address, timeout=seconds or self._seconds)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer = response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{path}: no HTTP answer ({error!r})") from error
        finally:
            connection.close()
        if response.status != _HTTP_OK:
            raise TritonError(response.status, _error_text(answer))
        return answer


def _path(model: str, version: str = "") -> str:
    return f"/v2/models/{model}/versions/{version}" if version else f"/v2/models/{model}"


def _error_text(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["error"])
    except (ValueError, KeyError, TypeError):
        return answer[:200].decode(errors="replace")
