"""One canary on its way: through ``ModelInfer`` or ``ModelStreamInfer``, and what an error says of the model."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import msgspec

from probe.facts.canaries import CanaryOrder, CanaryOutcome
from probe.facts.triton import Failure
from probe.sources.triton.calls import parsed
from probe.sources.triton.canary_answers import Answer
from probe.sources.triton.failures import classify, clipped
from probe.sources.triton.protos import SERVICE, messages

LINGER = 1.0
"""Seconds that a stream has to end after its last response."""

_NOT_THERE = ("unknown model", "no available versions", "is not ready", "server exiting")
_ON_THE_WAY = (
    *("failed to connect", "lookup failed", "connection timed out", "connection reset", "socket closed"),
    *("stream removed", "broken pipe", "recvmsg", "goaway", "cancelling all calls", "keepalive"),
    *("timed out before receiving settings", "failed parsing http/2", "handshak", "ssl_error"),
)
"""Texts (Triton 2.51; grpcio 1.85) of a model that is not loaded, and of a connection that failed."""

_REFUSED = re.compile(
    r"(\[request id: [^\]]*\] )?"
    r"(unexpected (inference (in|out)put|shape for input|number of string)|input byte size mismatch for input"
    r"|inference input '[^']*' data-type is|expected \d+ inputs but got|inference request batch-size must be)"
)
"""How Triton (2.51) refuses a request before any model sees it; in a stream such an error has no code."""

_OUR_FAULT = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
    # An answer above the channel's own limit.
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


class Ended(Exception):  # noqa: N818  (an end like any other)
    """The canary's end, where it did not pass."""

    def __init__(self, outcome: CanaryOutcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = clipped(detail)


class Exchange(msgspec.Struct, frozen=True):
    """One canary on its way."""

    channel: grpc.aio.Channel
    metadata: tuple[tuple[str, str | bytes], ...]
    order: CanaryOrder
    request: Any
    answer: Answer
    checked: Callable[[Callable[[], None], int], Any]

    async def unary(self) -> None:
        """Through ``ModelInfer``."""
        call: Any = self.channel.unary_unary(
            f"{SERVICE}ModelInfer", request_serializer=_serialized, response_deserializer=bytes
        )
        raw: bytes = await call(self.request, timeout=self.order.deadline, metadata=self.metadata)
        await self.checked(lambda: self.answer.take(parsed(messages.ModelInferResponse, raw)), len(raw))
        self.answer.finish()

    async def stream(self) -> None:
        """Through ``ModelStreamInfer``, to the response that says that it is the last."""
        self.request.parameters["triton_enable_empty_final_response"].bool_param = True
        opened: Any = self.channel.stream_stream(
            f"{SERVICE}ModelStreamInfer", request_serializer=_serialized, response_deserializer=bytes
        )
        call = opened(iter((self.request,)), timeout=self.order.deadline, metadata=self.metadata)
        try:
            async for raw in call:
                if await self._last(raw):
                    break
            self.answer.finish()
            # Let it end by itself: a stream that is cancelled is counted, and logged, as one.
            async with asyncio.timeout(LINGER):
                await call.code()
        except TimeoutError:
            pass
        finally:
            call.cancel()

    async def _last(self, raw: bytes) -> bool:
        response = parsed(messages.ModelStreamInferResponse, raw)
        if response.error_message:
            if _REFUSED.match(response.error_message):
                raise refused(self.order, response.error_message)
            raise Ended(CanaryOutcome.ERROR, response.error_message)
        told = response.infer_response
        await self.checked(lambda: self.answer.take(told), len(raw))
        return (
            "triton_final_response" in told.parameters and told.parameters["triton_final_response"].bool_param
        )


def failed(order: CanaryOrder, answer: Answer, error: grpc.aio.AioRpcError) -> bool:
    """What a status says of the model: raises Ended, or False where it says nothing of it."""
    code, text = error.code(), error.details() or ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        raise Ended(CanaryOutcome.TIMEOUT, silent(order, answer))
    if classify(code, text) is Failure.RESTRICTED:
        raise Ended(CanaryOutcome.UNSENDABLE, f"Triton does not let the probe infer: {text}")
    if code in _OUR_FAULT:
        raise refused(order, text)
    if code is grpc.StatusCode.CANCELLED or _away(code, text):
        return False
    raise Ended(CanaryOutcome.ERROR, text or code.name)


def refused(order: CanaryOrder, text: str) -> Ended:
    """The end of one that Triton did not take, with the key to look at."""
    key = f"canary.{order.key.name}" + (".inputs" if order.inputs else "")
    return Ended(CanaryOutcome.UNSENDABLE, f"{key}: Triton does not take the request: {text}")


def not_there(text: str) -> bool:
    """Whether Triton says so of a model that it does not have ready."""
    folded = text.casefold()
    return any(mark in folded for mark in _NOT_THERE)


def _away(code: grpc.StatusCode, text: str) -> bool:
    # Only by these codes: what a model raises may speak of connections of its own.
    if code is grpc.StatusCode.NOT_FOUND:
        return not_there(text)
    folded = text.casefold()
    on_the_way = any(mark in folded for mark in _ON_THE_WAY)
    return code is grpc.StatusCode.UNAVAILABLE and (on_the_way or not_there(text))


def silent(order: CanaryOrder, answer: Answer) -> str:
    """What came of a canary that has no answer in time."""
    began = f"{answer.responses} responses and no end" if answer.responses else "no answer"
    return f"{began} within {order.deadline:g} s"


def _serialized(message: Any) -> bytes:  # noqa: ANN401
    raw: bytes = message.SerializeToString()
    return raw
