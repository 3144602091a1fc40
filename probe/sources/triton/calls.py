"""Calls to Triton over one channel: each with a deadline, and every failure a fact."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio

from probe.facts.triton import CallFailure, Failure
from probe.kits.errands import Errand, OutstandingError
from probe.settings import TritonSettings
from probe.sources.triton.channel import metadata, open_channel
from probe.sources.triton.failures import call_failure, clipped, closed_while_connecting
from probe.sources.triton.protos import SERVICE
from probe.sources.triton.wire import speaks_tls

T = TypeVar("T")

_MARGIN = 0.5
"""Seconds that the thread of a hello has to notice its own deadline."""


class Calls:
    """One channel for life: it connects with the first call, and again after a failure of TLS."""

    def __init__(self, settings: TritonSettings) -> None:
        """Open nothing yet."""
        self._settings = settings
        self._channel: grpc.aio.Channel | None = None
        self._hello = Errand("triton-hello")
        self.metadata = metadata(settings.headers)

    async def close(self) -> None:
        """Let go of the channel."""
        self._hello.close()
        await self._hang_up()

    async def attempt(
        self, call: str, ask: Callable[[], Awaitable[T]], failures: list[CallFailure]
    ) -> T | None:
        """What the call brings; where it fails, None and one more failure, named by ``call``."""
        began = time.monotonic()
        try:
            return await ask()
        except grpc.aio.AioRpcError as error:
            failures.append(call_failure(call, error, time.monotonic() - began))
        except (ValueError, UnicodeError) as error:
            failures.append(CallFailure(call, Failure.GARBAGE, clipped(str(error)), time.monotonic() - began))
        except grpc.aio.BaseError:
            # Not even sent.  The library's own text is of its objects' addresses.
            text = "gRPC refused to send the call; a header's value may hold only printable ASCII"
            failures.append(CallFailure(call, Failure.ERROR, text, time.monotonic() - began))
        except OSError as error:
            # The only files that a call opens are those of TLS.
            failures.append(CallFailure(call, Failure.TLS, clipped(str(error)), time.monotonic() - began))
        return None

    async def unary(self, method: str, request: Any, answer: Any, *, deadline: float | None = None) -> Any:  # noqa: ANN401
        """The answer as a message; raises what gRPC raises, and ValueError for one that is none."""
        return parsed(answer, await self.raw(method, request, deadline=deadline))

    async def raw(self, method: str, request: Any, *, deadline: float | None = None) -> bytes:  # noqa: ANN401
        """The answer's bytes."""
        call: Any = self.connected().unary_unary(
            SERVICE + method,
            request_serializer=lambda message: message.SerializeToString(),
            # Raw bytes: an answer equal to the last one is not parsed again.
            response_deserializer=bytes,
        )
        seconds = self._settings.timeout if deadline is None else deadline
        raw: bytes = await call(request, timeout=seconds, metadata=self.metadata)
        return raw

    def connected(self) -> grpc.aio.Channel:
        """The channel; raises OSError for a file of TLS that can not be read."""
        if self._channel is None:
            self._channel = open_channel(self._settings)
        return self._channel

    async def consider_tls(self, failures: list[CallFailure]) -> None:
        """Tell whether it was TLS for which the last call failed; certificates are then read anew."""
        last = failures[-1]
        if closed_while_connecting(last):
            if self._settings.tls.active:
                mismatch = (
                    "Triton ended the TLS handshake: it may want a client certificate of another authority"
                )
            elif await self._answers_tls():
                mismatch = "Triton speaks TLS here, and the probe is not configured to"
            else:
                return
            failures[-1] = CallFailure(
                last.call, Failure.TLS, clipped(f"{mismatch} ({last.detail})"), last.seconds
            )
        if failures[-1].failure is Failure.TLS:
            # Certificates are renewed as files: the next call reads them anew.
            await self._hang_up()

    async def _answers_tls(self) -> bool:
        settings = self._settings
        try:
            return await self._hello.run(
                lambda: speaks_tls(settings.grpc, settings.timeout), settings.timeout + _MARGIN
            )
        except OutstandingError:
            return False

    async def _hang_up(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close(grace=None)


def parsed(answer: Any, raw: bytes) -> Any:  # noqa: ANN401
    """An answer as a message; raises ValueError for what is none."""
    try:
        return answer.FromString(raw)
    except Exception as error:  # protobuf's DecodeError has no stable base across its implementations
        message = f"the answer of {len(raw)} bytes is not a {answer.__name__}"
        raise ValueError(message) from error
