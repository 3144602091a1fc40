"""One inference: made, sent, and its answer checked.  Nothing that Triton does raises."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio
import msgspec

from probe.facts.canaries import CanaryOrder, CanaryOutcome, CanaryResult
from probe.facts.instants import Instant
from probe.facts.triton import CallFailure, Failure
from probe.kits.clocks import now
from probe.kits.errands import Errand, OutstandingError
from probe.sources.triton.canary_answers import Answer
from probe.sources.triton.canary_inputs import Expected, Making, UnsendableError
from probe.sources.triton.failures import classify, clipped
from probe.sources.triton.protos import SERVICE, messages
from probe.sources.triton.signatures import Signature, signature
from probe.sources.triton.tensors import BYTES, Tensor

T = TypeVar("T")

ID = "triton-probe-canary"
"""The id of every request, for whoever reads Triton's log."""
ASIDE_DEADLINE = 5.0
"""Seconds to read the files of a warmup, which may lie on a network, or to check a large answer."""
MARGIN = 0.5
"""Seconds that gRPC has to notice the deadline itself."""
LINGER = 1.0
"""Seconds that a stream has to end after its last response."""

_INLINE = 64 * 1024
"""Bytes that are checked in the loop; more is checked on a thread, so that no exit waits for it."""

_AWAY = (
    *(
        "failed to connect",
        "connection",
        "socket closed",
        "broken pipe",
        "goaway",
        "recvmsg",
        "lookup failed",
    ),
    *("cancelling all calls", "server exiting", "unknown model", "no available versions", "is not ready"),
    *("handshak", "ssl"),
)
"""Texts (grpcio 1.85, Triton 2.51) of errors that are of the way to a model, or of one that is not loaded."""

_REFUSALS = (
    *("unexpected inference input", "unexpected inference output", "unexpected shape for input"),
    *("byte size mismatch for input", "inputs but got", "data-type is", "batch-size must be"),
)
"""Texts (Triton 2.51) by which it refuses a request before any model sees it; in a stream they have no code."""

_OUR_FAULT = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
    # An answer above the channel's own limit.
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


class _Ended(Exception):  # noqa: N818  (an end like any other)
    """The canary's end, where it did not pass."""

    def __init__(self, outcome: CanaryOutcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = clipped(detail)


class _Exchange(msgspec.Struct, frozen=True):
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
        await self.checked(lambda: self.answer.take(_parsed(messages.ModelInferResponse, raw)), len(raw))
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
        response = _parsed(messages.ModelStreamInferResponse, raw)
        if response.error_message:
            refused = any(mark in response.error_message for mark in _REFUSALS)
            outcome = CanaryOutcome.UNSENDABLE if refused else CanaryOutcome.ERROR
            raise _Ended(outcome, response.error_message)
        told = response.infer_response
        await self.checked(lambda: self.answer.take(told), len(raw))
        return (
            "triton_final_response" in told.parameters and told.parameters["triton_final_response"].bool_param
        )


class Sender:
    """Sends canaries, one at a time."""

    def __init__(self, metadata: tuple[tuple[str, str | bytes], ...]) -> None:
        """``metadata`` goes with every call."""
        self._metadata = metadata
        self._aside = Errand("triton-canary")

    def close(self) -> None:
        """Let go of the thread."""
        self._aside.close()

    @staticmethod
    def without_configuration(
        order: CanaryOrder, tried: Instant, failure: CallFailure
    ) -> CanaryResult | None:
        """Where Triton did not say what the model takes."""
        telling = failure.failure in (Failure.RESTRICTED, Failure.ERROR, Failure.UNIMPLEMENTED)
        if not telling or _away(failure.detail):
            return None
        detail = f"Triton does not tell the model's configuration: {failure.detail}"
        return CanaryResult(order.key, tried, now(), CanaryOutcome.UNSENDABLE, detail)

    async def send(
        self,
        channel: grpc.aio.Channel,
        order: CanaryOrder,
        message: Any,  # noqa: ANN401
    ) -> CanaryResult | None:
        """Send it; ``message`` is the model's ``ModelConfigResponse``.  None: it taught nothing of the model."""
        sent = now()
        try:
            told, tensors, expected = await self._made(order, message)
            sent = now()
            if not await self._answered(channel, order, told, tensors, expected):
                return None
        except _Ended as end:
            return CanaryResult(order.key, sent, now(), end.outcome, end.detail)
        return CanaryResult(order.key, sent, now(), CanaryOutcome.PASSED)

    async def _made(
        self,
        order: CanaryOrder,
        message: Any,  # noqa: ANN401
    ) -> tuple[Signature, tuple[Tensor, ...], Expected]:
        told = signature(message)
        making = Making(order, told, lambda name, size: _warmup_file(order.folders, name, size))
        try:
            if making.reads_files:
                tensors = await self._aside.run(making.inputs, ASIDE_DEADLINE)
            else:
                tensors = making.inputs()
            expected = making.expected()
        except (UnsendableError, OutstandingError) as error:
            raise _Ended(CanaryOutcome.UNSENDABLE, str(error)) from None
        return told, tensors, expected

    async def _answered(
        self,
        channel: grpc.aio.Channel,
        order: CanaryOrder,
        told: Signature,
        tensors: Sequence[Tensor],
        expected: Expected,
    ) -> bool:
        answer = Answer(told, expected, order.tolerance)
        exchange = _Exchange(
            channel, self._metadata, order, _request(order, told, tensors), answer, self._checked
        )
        try:
            async with asyncio.timeout(order.deadline + MARGIN):
                await (exchange.stream() if told.decoupled else exchange.unary())
        except TimeoutError:
            raise _Ended(CanaryOutcome.TIMEOUT, _silent(order, answer)) from None
        except ValueError as error:
            raise _Ended(CanaryOutcome.WRONG, str(error)) from None
        except grpc.aio.AioRpcError as error:
            return _failed(order, answer, error)
        except grpc.aio.BaseError:
            # Not even sent: polls tell why.
            return False
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # The channel was closed under it, to be opened anew with other certificates.
            return False
        return True

    async def _checked(self, check: Callable[[], None], size: int) -> None:
        if size <= _INLINE:
            check()
            return
        try:
            await self._aside.run(check, ASIDE_DEADLINE)
        except OutstandingError:
            text = f"its answer of {size} bytes takes too long to be checked"
            raise _Ended(CanaryOutcome.UNSENDABLE, text) from None


def _failed(order: CanaryOrder, answer: Answer, error: grpc.aio.AioRpcError) -> bool:
    """What a status says of the model: raises ``_Ended``, or False where it says nothing of it."""
    code, text = error.code(), error.details() or ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        raise _Ended(CanaryOutcome.TIMEOUT, _silent(order, answer))
    if classify(code, text) is Failure.RESTRICTED:
        raise _Ended(CanaryOutcome.UNSENDABLE, f"Triton does not let the probe infer: {text}")
    if code in _OUR_FAULT:
        raise _Ended(CanaryOutcome.UNSENDABLE, f"{_key(order)}: Triton does not take the request: {text}")
    if code is grpc.StatusCode.CANCELLED or _away(text):
        return False
    raise _Ended(CanaryOutcome.ERROR, text or code.name)


def _away(text: str) -> bool:
    folded = text.casefold()
    return any(mark in folded for mark in _AWAY)


def _silent(order: CanaryOrder, answer: Answer) -> str:
    began = f"{answer.responses} responses and no end" if answer.responses else "no answer"
    return f"{began} within {order.deadline:g} s"


def _key(order: CanaryOrder) -> str:
    return f"canary.{order.key.name}" + (".inputs" if order.inputs else "")


def _request(order: CanaryOrder, told: Signature, tensors: Sequence[Tensor]) -> Any:  # noqa: ANN401
    request = messages.ModelInferRequest(model_name=order.key.name, model_version=order.key.version, id=ID)
    for each in tensors:
        request.inputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
        request.raw_input_contents.append(each.raw)
    if told.sequence is not None:
        # A sequence of one request; its id is nobody else's and fits every type of correlation id.
        number = time.monotonic_ns() // 1000 % 0x7FFF_FFFE + 1
        if told.sequence == BYTES:
            # Short: one of 127 characters kills the stub (2.51), which takes none of any length.
            request.parameters["sequence_id"].string_param = f"probe-{number}"
        else:
            request.parameters["sequence_id"].int64_param = number
        request.parameters["sequence_start"].bool_param = True
        request.parameters["sequence_end"].bool_param = True
    return request


def _serialized(message: Any) -> bytes:  # noqa: ANN401
    raw: bytes = message.SerializeToString()
    return raw


def _parsed(answer: Any, raw: bytes) -> Any:  # noqa: ANN401
    try:
        return answer.FromString(raw)
    except Exception as error:  # protobuf's DecodeError has no stable base across its implementations
        message = f"the answer of {len(raw)} bytes is not a {answer.__name__}"
        raise ValueError(message) from error


def _warmup_file(folders: Sequence[str], name: str, most: int) -> bytes:
    """The file of a warmup; at most so many bytes and one more.  Raises OSError, ValueError."""
    parts = name.split("/")
    if not name or name.startswith("/") or ".." in parts or "\0" in name:
        raise ValueError("its name leads out of the model's warmup folder")
    if not folders:
        raise ValueError("tritonserver's command line, which names the model repository, is not seen")
    failures = []
    for folder in folders:
        try:
            return _regular(f"{folder}/{name}", most)
        except OSError as error:
            failures.append(f"{error.filename}: {error.strerror}")
    raise ValueError("; ".join(failures))


def _regular(path: str, most: int) -> bytes:
    # Opened without waiting: what is no file may have nobody at its other end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a regular file")
        with open(descriptor, "rb", closefd=False) as opened:
            return opened.read(most + 1)
    finally:
        os.close(descriptor)
