"""Plays a script on the three ports of a Triton, from threads of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import grpc

from probe.sandbox.tritonserver import free_ports
from probe.sources.triton.protos import SERVICE, messages
from testbed.scripted.answers import METHODS, Message, Refusal, stream
from testbed.scripted.http import HttpFront
from testbed.scripted.script import Behaviour, Script

STREAM = "ModelStreamInfer"
_WORKERS = 64  # calls that hang occupy one each
_SECONDS_BETWEEN_LOOKS = 0.02


class ScriptedTriton:
    """Start and stop it as often as a test wants: it keeps its ports.

    gRPC runs on threads rather than on asyncio, so that it owes nothing to the loop of what it tests.
    """

    def __init__(
        self, script: Script | None = None, *, certificate: tuple[bytes, bytes] | None = None
    ) -> None:
        """``certificate`` is the PEM of a key and of its certificate, and makes gRPC speak TLS."""
        self.script = script or Script()
        self._certificate = certificate
        self._grpc_port, http, metrics = free_ports(3)
        self._fronts = {"http": HttpFront(self.script, http), "metrics": HttpFront(self.script, metrics)}
        self._server: grpc.Server | None = None
        self._workers: ThreadPoolExecutor | None = None

    @property
    def grpc(self) -> str:
        """``host:port`` of gRPC."""
        return f"127.0.0.1:{self._grpc_port}"

    @property
    def http(self) -> str:
        """``host:port`` of HTTP."""
        return self._fronts["http"].address

    @property
    def metrics(self) -> str:
        """``host:port`` of the metrics."""
        return self._fronts["metrics"].address

    def start(self, *protocols: str) -> Self:
        """Open the ports of these protocols (``grpc``, ``http``, ``metrics``), or of all."""
        for each in protocols or ("grpc", "http", "metrics"):
            if each == "grpc":
                self._start_grpc()
            else:
                self._fronts[each].start()
        return self

    def stop(self, *protocols: str) -> None:
        """Refuse connections on these protocols, or on all; calls that are out end."""
        for each in protocols or ("grpc", "http", "metrics"):
            if each == "grpc":
                self._stop_grpc()
            else:
                self._fronts[each].stop()

    def restart(self) -> None:
        """Stop and start on the same ports, as a container that was restarted."""
        self.stop()
        self.start()

    def _start_grpc(self) -> None:
        if self._server is not None:
            return
        self.script.ending.clear()
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="scripted-triton")
        self._server = grpc.server(
            self._workers,
            handlers=[_Handlers(self.script)],
            options=(("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)),
        )
        if self._certificate is None:
            self._server.add_insecure_port(self.grpc)
        else:
            self._server.add_secure_port(self.grpc, grpc.ssl_server_credentials([self._certificate]))
        self._server.start()

    def _stop_grpc(self) -> None:
        if self._server is None or self._workers is None:
            return
        self.script.ending.set()
        self._server.stop(grace=None).wait()
        self._workers.shutdown(wait=True)
        self._server = self._workers = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs alone
    """Every method of the script's service; what it does not know is UNIMPLEMENTED to the caller."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Message, Message] | None:
        call = details.method.removeprefix(SERVICE)
        if call == STREAM:
            return grpc.stream_stream_rpc_method_handler(
                self._streamed,
                request_deserializer=messages.ModelInferRequest.FromString,
                response_serializer=_serialized,
            )
        if call not in METHODS:
            return None
        request, _, _ = METHODS[call]
        return grpc.unary_unary_rpc_method_handler(
            self._answer(call), request_deserializer=request.FromString, response_serializer=_serialized
        )

    def _streamed(self, requests: Iterator[Message], context: grpc.ServicerContext) -> Iterator[Message]:
        """A stream: each request answered in its turn; what a behaviour makes of it comes after the first."""
        script = self._script
        with script.answering(STREAM, context.time_remaining()):
            for request in requests:
                answers = stream(script, request)
                behaviour = script.behaviour(STREAM)
                if behaviour is not None:
                    yield next(answers)
                    _endure(behaviour, context)
                    if behaviour.code is not None:
                        context.abort(behaviour.code, behaviour.text)
                    if behaviour.answer is not None:
                        yield behaviour.answer
                        continue
                yield from answers

    def _answer(self, call: str) -> Callable[[Message, grpc.ServicerContext], Message]:
        _, category, rule = METHODS[call]

        def answer(request: Message, context: grpc.ServicerContext) -> Message:
            with self._script.answering(call, context.time_remaining()):
                return judged(request, context)

        def judged(request: Message, context: grpc.ServicerContext) -> Message:
            script = self._script
            headers = {str(key): value for key, value in context.invocation_metadata()}
            if category in script.restricted:
                key, value = script.restricted[category]
                header = f"triton-grpc-protocol-{key}"
                if headers.get(header) != value:
                    text = f"This protocol is restricted, expecting header '{header}'"
                    context.abort(grpc.StatusCode.UNAVAILABLE, text)
            behaviour = script.behaviour(call)
            if behaviour is not None:
                _endure(behaviour, context)
                if behaviour.code is not None:
                    context.abort(behaviour.code, behaviour.text)
                if behaviour.answer is not None:
                    return behaviour.answer
            try:
                with contextlib.nullcontext() if category == "inference" else script.thread:
                    return rule(script, request)
            except Refusal as refusal:
                context.abort(refusal.code, refusal.text)

        return answer


def _endure(behaviour: Behaviour, context: grpc.ServicerContext) -> None:
    """Wait as the behaviour says, but no longer than the caller does."""
    until = time.monotonic() + behaviour.delay
    while context.is_active() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _SECONDS_BETWEEN_LOOKS))
    if behaviour.hang is not None:
        with contextlib.suppress(ValueError):  # the call may end while it is asked about
            while context.is_active() and not behaviour.hang.wait(_SECONDS_BETWEEN_LOOKS):
                pass


def _serialized(answer: Message) -> bytes:
    data: bytes = answer if isinstance(answer, bytes) else answer.SerializeToString()
    return data
