"""One seam where gRPC's errors become facts."""

from __future__ import annotations

import grpc

from probe.facts.triton import CallFailure, Failure

DETAIL_LIMIT = 600
"""Characters kept of a foreign error text: enough for Triton's longest, bounded against garbage."""

_BY_CODE = {
    grpc.StatusCode.DEADLINE_EXCEEDED: Failure.TIMEOUT,
    grpc.StatusCode.UNIMPLEMENTED: Failure.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Failure.GARBAGE,
}

# Triton answers UNAVAILABLE for three things that are not "down" (server, grpc_utils.cc), and the
# channel itself uses the same code for whatever kept it from connecting.  First match wins.
_BY_TEXT = (
    ("this protocol is restricted", Failure.RESTRICTED),
    ("server exiting", Failure.EXITING),
    ("ssl", Failure.TLS),
    ("tls", Failure.TLS),
    ("certificate", Failure.TLS),
    ("handshak", Failure.TLS),
    ("connection refused", Failure.REFUSED),
    ("no such file or directory", Failure.REFUSED),
    ("failed to connect", Failure.REFUSED),
    ("no route to host", Failure.REFUSED),
    ("network is unreachable", Failure.REFUSED),
    ("dns resolution failed", Failure.REFUSED),
    ("connection reset", Failure.REFUSED),
    ("socket closed", Failure.REFUSED),
    ("broken pipe", Failure.REFUSED),
)


def clipped(text: str | None) -> str:
    """A foreign text on one line and of bounded length."""
    flat = " ".join((text or "").split())
    return flat if len(flat) <= DETAIL_LIMIT else flat[: DETAIL_LIMIT - 1] + "…"


def classify(code: grpc.StatusCode, details: str | None) -> Failure:
    """Which failure a status is; sources: Triton's ``grpc_utils.cc`` and runs against release 24.10."""
    text = (details or "").casefold()
    if code in _BY_CODE:
        return _BY_CODE[code]
    if code is grpc.StatusCode.UNAVAILABLE:
        return next((failure for mark, failure in _BY_TEXT if mark in text), Failure.REFUSED)
    if "deserializ" in text or "http status" in text or "trying to connect an http1" in text:
        return Failure.GARBAGE
    return Failure.ERROR


def call_failure(call: str, error: grpc.aio.AioRpcError, seconds: float) -> CallFailure:
    """The failed call as a fact."""
    return CallFailure(call, classify(error.code(), error.details()), clipped(error.details()), seconds)
