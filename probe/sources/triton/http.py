"""Triton's HTTP side: liveness as the cross-check, and the few metric families that gRPC lacks."""

from __future__ import annotations

import contextlib
import http.client
import re
import time
from collections.abc import Collection, Mapping

from probe.facts.models import ModelVersion
from probe.facts.triton import CallFailure, Failure, FailureReasons
from probe.sources.triton.failures import clipped
from probe.sources.triton.wire import connected

METRICS_LIMIT = 64 * 1024 * 1024
"""Bytes read of a metrics answer at most: 10,000 models make about 9 MB."""

_GRPC_PREFIX = "triton-grpc-protocol-"
_PENDING = "nv_inference_pending_request_count{"
_GPU_USED = "nv_gpu_memory_used_bytes{"
_FAILURE = "nv_inference_request_failure{"
_NOT_ITS_FAULT = ("REJECTED", "CANCELED")
_MODEL = re.compile(r'[{,]model="((?:[^"\\]|\\.)*)"')
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_HIGHEST = 2**63


class _Answer(Exception):  # noqa: N818  (carries a failed call out of the helper below)
    def __init__(self, failure: CallFailure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


def http_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The configured headers as Triton's HTTP side wants them.

    A restricted protocol wants ``triton-grpc-protocol-<key>`` over gRPC and plain ``<key>`` over HTTP.
    """
    return {name.lower().removeprefix(_GRPC_PREFIX): value for name, value in headers.items()}


def live(address: str, timeout: float, headers: Mapping[str, str]) -> bool | CallFailure:
    """``GET /v2/health/live``: 200 is live, 400 is not live (server, ``http_server.cc``); blocking."""
    try:
        status, _ = _get("http_live", address, "/v2/health/live", timeout, headers, limit=4096)
    except _Answer as answer:
        return answer.failure
    if status in (200, 400):
        return status == 200  # noqa: PLR2004
    restricted = status == 403  # noqa: PLR2004
    failure = Failure.RESTRICTED if restricted else Failure.ERROR
    return CallFailure("http_live", failure, f"HTTP status {status}", 0.0)


def families(
    address: str, timeout: float, doubted: frozenset[ModelVersion] = frozenset()
) -> tuple[Pending, GpuUse, Reasons] | CallFailure:
    """Pending requests by model and used bytes by GPU from ``/metrics``; blocking.

    Why requests failed is read for the ``doubted`` versions only.  Only lines of these families are looked
    at; the rest of the page is not parsed.
    """
    try:
        status, body = _get("metrics", address, "/metrics", timeout, {}, limit=METRICS_LIMIT)
    except _Answer as answer:
        return answer.failure
    if status != 200:  # noqa: PLR2004
        return CallFailure("metrics", Failure.ERROR, f"HTTP status {status}", 0.0)
    text = body.decode("utf-8", errors="replace")
    return *read_families(text), read_reasons(text, doubted)


Pending = tuple[tuple[ModelVersion, int], ...]
GpuUse = tuple[tuple[str, int], ...]
Reasons = tuple[tuple[ModelVersion, FailureReasons], ...]


def read_families(text: str) -> tuple[Pending, GpuUse]:
    """The two families out of a page of Prometheus text; lines that make no sense are passed over."""
    pending: list[tuple[ModelVersion, int]] = []
    used: list[tuple[str, int]] = []
    for labels, value in _samples(text, _PENDING):
        if "model" in labels:
            pending.append((ModelVersion(labels["model"], labels.get("version", "")), value))
    for labels, value in _samples(text, _GPU_USED):
        if "gpu_uuid" in labels:
            used.append((labels["gpu_uuid"], value))
    return tuple(pending), tuple(used)


def read_reasons(text: str, doubted: frozenset[ModelVersion]) -> Reasons:
    """Why requests to these versions failed; one whose series carry no reason (older releases) is left out."""
    if not doubted:
        return ()
    names = {key.name for key in doubted}
    found: dict[ModelVersion, dict[str, int]] = {}
    for labels, value in _samples(text, _FAILURE, names):
        key = ModelVersion(labels.get("model", ""), labels.get("version", ""))
        if key in doubted and "reason" in labels:
            # A model has a series for each of its GPUs beside the one without.
            counts = found.setdefault(key, {})
            reason = labels["reason"] if labels["reason"] in _NOT_ITS_FAULT else ""
            counts[reason] = min(_HIGHEST - 1, counts.get(reason, 0) + value)
    return tuple(
        (key, FailureReasons(*(counts.get(reason, 0) for reason in (*_NOT_ITS_FAULT, ""))))
        for key, counts in sorted(found.items())
    )


def _samples(
    text: str, start: str, models: Collection[str] | None = None
) -> list[tuple[dict[str, str], int]]:
    # ``models``: of which alone lines are read; 1,000 models have 4,000 of failures.
    found = []
    at = text.find(start)
    while at >= 0:
        end = text.find("\n", at)
        line = text[at : end if end >= 0 else len(text)]
        of_these = models is None or ((model := _MODEL.search(line)) and _value(model[1]) in models)
        if of_these and (at == 0 or text[at - 1] == "\n"):
            labels, _, value = line[len(start) :].rpartition("}")
            with contextlib.suppress(ValueError, IndexError, OverflowError):
                figure = int(float(value.split()[0]))
                if 0 <= figure < _HIGHEST:
                    found.append((_labels(labels), figure))
        at = text.find(start, at + len(line))
    return found


def _labels(text: str) -> dict[str, str]:
    return {name: _value(written) for name, written in _LABEL.findall(text)}


def _value(written: str) -> str:
    return _ESCAPED.sub(_unescaped, written)


def _unescaped(escape: re.Match[str]) -> str:
    return "\n" if escape[1] == "n" else escape[1]


def _get(
    call: str, address: str, path: str, timeout: float, headers: Mapping[str, str], *, limit: int
) -> tuple[int, bytes]:
    began = time.monotonic()

    def failed(failure: Failure, error: Exception) -> _Answer:
        text = clipped(str(error) or type(error).__name__)
        return _Answer(CallFailure(call, failure, text, time.monotonic() - began))

    connection = http.client.HTTPConnection("localhost" if address.startswith("unix:") else address)
    try:
        connection.sock = connected(address, timeout)
        connection.request("GET", path, headers={**http_headers(headers), "Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read(limit)
    except TimeoutError as error:
        raise failed(Failure.TIMEOUT, error) from error
    except OSError as error:
        raise failed(Failure.REFUSED, error) from error
    except (http.client.HTTPException, ValueError) as error:
        raise failed(Failure.GARBAGE, error) from error
    finally:
        connection.close()
