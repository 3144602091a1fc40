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
# channel itself uses the same code for whatever kept it from connecting (texts of grpcio 1.85).  First
# match wins; what names no other cause is REFUSED.
_BY_TEXT = (
    ("this protocol is restricted", Failure.RESTRICTED),
    ("server exiting", Failure.EXITING),
    # A stopped server's kernel still accepts for it: connected, and not a word.
    ("timed out before receiving settings", Failure.TIMEOUT),
    ("connection timed out", Failure.TIMEOUT),
    # Before the marks of TLS, which may stand in the address of the host that refused.
    ("connection refused", Failure.REFUSED),
    ("lookup failed", Failure.REFUSED),
    ("failed parsing http/2", Failure.GARBAGE),
    ("ssl_error", Failure.TLS),
    ("certificate", Failure.TLS),
    ("handshak", Failure.TLS),
    ("verification check failed", Failure.TLS),
)
_CLOSED = ("socket closed", "connection reset", "broken pipe")


def clipped(text: str | None) -> str:
    """A foreign text on one line, printable, and of bounded length."""
    flat = " ".join((text or "").split())
    kept = flat if len(flat) <= DETAIL_LIMIT else flat[: DETAIL_LIMIT - 1] + "…"
    return kept if kept.isprintable() else "".join(each if each.isprintable() else "�" for each in kept)


def closed_while_connecting(failure: CallFailure) -> bool:
    """Whether the other side took the connection and closed it before a word of gRPC.

    That is all that a plain client sees of a server that speaks TLS, and all that a TLS client sees of
    one that does not like its certificate (both with Triton 24.10).
    """
    text = failure.detail.casefold()
    return (
        failure.failure is Failure.REFUSED
        and "failed to connect" in text
        and any(mark in text for mark in _CLOSED)
    )


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


def says_unready(error: grpc.aio.AioRpcError) -> bool:
    """Whether an error of ``ModelReady`` is Triton's way to say no, as it is from 26.07 (core 73aad7c, ``GetModel``).

    Of a model that is unknown or not loaded, that is: with the same code Triton says "Server not ready", and
    that a call is restricted, which are of no model.
    """
    code, text = error.code(), (error.details() or "").casefold()
    if code is grpc.StatusCode.NOT_FOUND:
        return True
    told = "request for unknown model" in text or "is not at ready state" in text
    return told and code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT)
