"""One inference: made, sent, and its answer checked.  Nothing that Triton does raises."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio

from probe.facts.canaries import CanaryOrder, CanaryOutcome, CanaryResult
from probe.facts.instants import Instant
from probe.facts.triton import CallFailure, Failure
from probe.kits.clocks import now
from probe.kits.errands import Errand, OutstandingError
from probe.sources.triton.canary_answers import Answer
from probe.sources.triton.canary_exchange import Ended, Exchange, failed, not_there, silent
from probe.sources.triton.canary_files import warmup_file
from probe.sources.triton.canary_inputs import Expected, Making, UnsendableError
from probe.sources.triton.protos import messages
from probe.sources.triton.signatures import Signature, signature
from probe.sources.triton.tensors import BYTES, Tensor

T = TypeVar("T")

ID = "triton-probe-canary"
"""The id of every request, for whoever reads Triton's log."""
ASIDE_DEADLINE = 5.0
"""Seconds to read the files of a warmup, which may lie on a network, or to check a large answer."""
MARGIN = 0.5
"""Seconds that gRPC has to notice the deadline itself."""
_INLINE = 64 * 1024
"""Bytes that are checked in the loop; more is checked on a thread, so that no exit waits for it."""


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
        if not telling or not_there(failure.detail):
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
        except Ended as end:
            return CanaryResult(order.key, sent, now(), end.outcome, end.detail)
        return CanaryResult(order.key, sent, now(), CanaryOutcome.PASSED)

    async def _made(
        self,
        order: CanaryOrder,
        message: Any,  # noqa: ANN401
    ) -> tuple[Signature, tuple[Tensor, ...], Expected]:
        told = signature(message)
        making = Making(order, told, lambda name, size: warmup_file(order.folders, name, size))
        try:
            if making.reads_files:
                tensors = await self._aside.run(making.inputs, ASIDE_DEADLINE)
            else:
                tensors = making.inputs()
            expected = making.expected()
        except (UnsendableError, OutstandingError) as error:
            raise Ended(CanaryOutcome.UNSENDABLE, str(error)) from None
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
        exchange = Exchange(
            channel, self._metadata, order, _request(order, told, tensors), answer, self._checked
        )
        try:
            async with asyncio.timeout(order.deadline + MARGIN):
                await (exchange.stream() if told.decoupled else exchange.unary())
        except TimeoutError:
            raise Ended(CanaryOutcome.TIMEOUT, silent(order, answer)) from None
        except ValueError as error:
            raise Ended(CanaryOutcome.WRONG, str(error)) from None
        except grpc.aio.AioRpcError as error:
            return failed(order, answer, error)
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
            raise Ended(CanaryOutcome.UNSENDABLE, text) from None


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
