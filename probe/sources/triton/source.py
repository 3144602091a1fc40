"""The Triton source: one channel for life, calls in series, a deadline on each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import grpc
import grpc.aio

from probe.facts.canaries import CanaryOrder, CanaryResult
from probe.facts.instants import Instant
from probe.facts.models import IndexEntry, ModelConfig, ModelStatistics, ModelVersion
from probe.facts.triton import CallFailure, Failure, Inquiry, InquiryReading, TritonReading
from probe.kits.clocks import now
from probe.kits.errands import Errand, OutstandingError
from probe.settings import TritonSettings
from probe.sources.triton import http, translate
from probe.sources.triton.canaries import Sender
from probe.sources.triton.channel import metadata, open_channel
from probe.sources.triton.failures import call_failure, clipped, closed_while_connecting, says_unready
from probe.sources.triton.protos import SERVICE, messages
from probe.sources.triton.wire import speaks_tls

T = TypeVar("T")

READINESS_DEADLINE = 6.0
"""Seconds for ``ModelReady``: from 26.03 a user's ``is_ready()`` may take 5 s in Triton itself."""

QUICK = 0.5
"""Seconds: a question on readiness that takes longer waits for a user's ``is_ready()``."""
REST = 10.0
"""Times its own length that a slow ``ServerReady`` is left alone: from 26.04 it asks every model in turn, and
Triton answers nobody else meanwhile, also when the one who asked has given up."""
PARTING = 0.3
"""Seconds for a load to reach Triton when the probe is told to stop between an unload and its load."""

_MARGIN = 0.5
"""Seconds that a piece of work on a thread has to notice its own deadline."""


class TritonSource:
    """Asks one Triton.  Calls of ``poll`` and ``inquire`` may overlap: they queue behind each other."""

    def __init__(self, settings: TritonSettings) -> None:
        """Open nothing yet: the channel connects with the first call and is kept for life."""
        self._settings = settings
        self._metadata = metadata(settings.headers)
        self._series = asyncio.Lock()
        self._channel: grpc.aio.Channel | None = None
        self._about: Any = None
        self._ready_rests_until = 0.0
        self._raw_statistics: bytes | None = None
        self._statistics: tuple[ModelStatistics, ...] = ()
        self._doubted: frozenset[ModelVersion] = frozenset()
        self._http = Errand("triton-http")
        self._hello = Errand("triton-hello")
        self._scrape = Errand("triton-metrics")
        self._canaries = Sender(self._metadata)

    async def poll(self) -> TritonReading:
        """Liveness, readiness, and the statistics of all models; never raises for what Triton does."""
        async with self._series:
            observed = now()
            cross_check = asyncio.ensure_future(self._http_live())
            failures: list[CallFailure] = []
            live, ready, statistics = await self._ask_server(failures)
            http_live = await cross_check
            if isinstance(http_live, CallFailure):
                failures.append(http_live)
            pending, used = None, None
            reasons: http.Reasons = ()
            if live and self._settings.metrics:
                families = await self._families()
                if isinstance(families, CallFailure):
                    failures.append(families)
                else:
                    pending, used, reasons = families
            about = self._about
            return TritonReading(
                observed=observed,
                answered=now(),
                live=live,
                ready=ready,
                http_live=None if isinstance(http_live, CallFailure) else http_live,
                version=about.version if about is not None else None,
                extensions=tuple(about.extensions) if about is not None else (),
                statistics=statistics,
                pending=pending,
                failure_reasons=reasons,
                gpu_memory_used=used,
                failures=tuple(failures),
            )

    async def inquire(self, inquiry: Inquiry, *, budget: float) -> InquiryReading:
        """What costs more than a poll.  Stops early at a timeout, or when ``budget`` seconds are spent."""
        async with self._series:
            observed = now()
            failures: list[CallFailure] = []
            configs: list[ModelConfig] = []
            readiness: list[tuple[ModelVersion, bool]] = []
            for key in inquiry.configs:
                if self._spent(observed, budget, failures):
                    break
                told = await self._attempt(f"config {key}", partial(self._config, key), failures)
                if told is not None:
                    configs.append(told)
            slow: list[tuple[ModelVersion, float]] = []
            for key in inquiry.readiness:
                if self._spent(observed, budget, failures):
                    break
                asked = time.monotonic()
                said = await self._attempt(f"ready {key}", partial(self._model_ready, key), failures)
                took = time.monotonic() - asked
                if took > QUICK or _timed_out(failures):
                    slow.append((key, took))
                if said or (said is False and await self._still_loaded(key, failures)):
                    readiness.append((key, said))
            # Last, for it may be slow: it lists the repository's folders, wherever they are.
            index: tuple[IndexEntry, ...] | None = None
            if inquiry.index and not self._spent(observed, budget, failures):
                index = await self._attempt("index", self._index, failures)
            return InquiryReading(
                observed, tuple(configs), tuple(readiness), index, tuple(failures), tuple(slow)
            )

    async def still_ready(self, name: str) -> tuple[Instant, tuple[ModelVersion, ...]] | CallFailure:
        """Which versions of this model Triton has ready at this moment, told by its statistics.

        Statistics know only versions in the lifecycle state READY (core, ``LiveModelStates``) on every
        release, whatever its stubs do; ``ModelReady`` means that only before 25.12.
        """
        async with self._series:
            observed = now()
            failures: list[CallFailure] = []
            told = await self._attempt("statistics", partial(self._ready_versions, name), failures)
            return failures[0] if told is None else (observed, told)

    async def canary(self, order: CanaryOrder) -> CanaryResult | None:
        """Send one inference and check its answer; None where nobody can tell whose fault it was.

        Its configuration is asked in series with the other calls; the inference is not: Triton serves it from
        other threads, and it may hang for its whole deadline.
        """
        tried = now()
        failures: list[CallFailure] = []
        async with self._series:
            told = await self._attempt("config", partial(self._config_message, order.key), failures)
        if told is None:
            return self._canaries.without_configuration(order, tried, failures[0])
        return await self._canaries.send(self._connected(), order, told)

    async def load_model(self, name: str, seconds: float) -> CallFailure | None:
        """Have Triton load this model and wait at most so long for the end of it; how it failed, or None.

        Triton runs loads and unloads on threads of their own (server, ``grpc_server.cc``): the series of the
        other calls need not wait for one.  It does nothing, and answers at once, where the model is loaded and
        its files did not change since (release 24.10).
        """
        failures: list[CallFailure] = []
        request = messages.RepositoryModelLoadRequest(model_name=name)
        answer = messages.RepositoryModelLoadResponse
        ask = partial(self._unary, "RepositoryModelLoad", request, answer, deadline=seconds)
        await self._attempt(f"load {name}", ask, failures)
        return failures[0] if failures else None

    async def reload_model(self, name: str, seconds: float) -> CallFailure | None:
        """Have Triton unload this model and load it again; how the load failed, or None.

        The answer to the unload matters little: Triton answers before it is done, and where an instance is
        dead it may never be done, while a load works all the same (release 24.10).
        """
        request = messages.RepositoryModelUnloadRequest(model_name=name)
        unload = partial(
            self._unary, "RepositoryModelUnload", request, messages.RepositoryModelUnloadResponse
        )
        try:
            await self._attempt(f"unload {name}", unload, [])
        except asyncio.CancelledError:
            # Whoever stops the probe now must find the model loaded.
            await self.load_model(name, PARTING)
            raise
        loading = asyncio.ensure_future(self.load_model(name, seconds))
        try:
            return await asyncio.shield(loading)
        except asyncio.CancelledError:
            await asyncio.wait((loading,), timeout=PARTING)
            loading.cancel()
            raise

    async def close(self) -> None:
        """Let go of the channel."""
        for errand in (self._http, self._hello, self._scrape, self._canaries):
            errand.close()
        await self._hang_up()

    async def _ask_server(
        self, failures: list[CallFailure]
    ) -> tuple[bool | None, bool | None, tuple[ModelStatistics, ...] | None]:
        live = await self._attempt("live", self._live, failures)
        if live is None:
            await self._consider_tls(failures)
            # What is known of the server ends with the connection: the next one may be another release.
            self._about = None
            self._ready_rests_until = 0.0
            return None, None, None
        if self._about is None:
            self._about = await self._attempt("metadata", self._server_metadata, failures)
        statistics = None
        if not _timed_out(failures):
            statistics = await self._attempt("statistics", self._all_statistics, failures)
        # Last, for it may be slow: what it says of all models together, each of them can be asked alone.
        ready = None if _timed_out(failures) else await self._ask_ready(failures)
        return live, ready, statistics

    async def _ask_ready(self, failures: list[CallFailure]) -> bool | None:
        began = time.monotonic()
        if began < self._ready_rests_until:
            return None
        ready = await self._attempt("ready", self._ready, failures)
        took = time.monotonic() - began
        if took > QUICK or _timed_out(failures):
            self._ready_rests_until = time.monotonic() + REST * took
        return ready

    async def _still_loaded(self, key: ModelVersion, failures: list[CallFailure]) -> bool:
        # "Not ready" of a model that is being unloaded is no news: only of one that stays loaded it is.
        loaded = await self._attempt("statistics", partial(self._ready_versions, key.name), failures)
        return loaded is not None and key in loaded

    async def _consider_tls(self, failures: list[CallFailure]) -> None:
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

    async def _attempt(
        self, call: str, ask: Callable[[], Awaitable[T]], failures: list[CallFailure]
    ) -> T | None:
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

    @staticmethod
    def _spent(began: Instant, budget: float, failures: list[CallFailure]) -> bool:
        silent = any(each.failure in (Failure.TIMEOUT, Failure.REFUSED) for each in failures)
        return silent or now().mono - began.mono > budget

    async def _live(self) -> bool:
        answer = await self._unary("ServerLive", messages.ServerLiveRequest(), messages.ServerLiveResponse)
        return bool(answer.live)

    async def _ready(self) -> bool:
        answer = await self._unary("ServerReady", messages.ServerReadyRequest(), messages.ServerReadyResponse)
        return bool(answer.ready)

    async def _server_metadata(self) -> Any:  # noqa: ANN401
        request = messages.ServerMetadataRequest()
        return await self._unary("ServerMetadata", request, messages.ServerMetadataResponse)

    async def _all_statistics(self) -> tuple[ModelStatistics, ...]:
        request = messages.ModelStatisticsRequest()
        try:
            raw = await self._raw("ModelStatistics", request)
        except grpc.aio.AioRpcError as error:
            if error.code() not in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND):
                raise
            # A model that vanishes between Triton's listing and its reading fails the whole call.
            raw = await self._raw("ModelStatistics", request)
        if raw != self._raw_statistics:
            told = translate.statistics(_parsed(messages.ModelStatisticsResponse, raw))
            self._doubted = doubted(self._doubted, self._statistics, told)
            self._statistics = told
            self._raw_statistics = raw
        return self._statistics

    async def _ready_versions(self, name: str) -> tuple[ModelVersion, ...]:
        request = messages.ModelStatisticsRequest(name=name)
        try:
            answer = await self._unary("ModelStatistics", request, messages.ModelStatisticsResponse)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND):
                return ()
            raise
        return tuple(row.key for row in translate.statistics(answer))

    async def _index(self) -> tuple[IndexEntry, ...]:
        request = messages.RepositoryIndexRequest()
        answer = await self._unary("RepositoryIndex", request, messages.RepositoryIndexResponse)
        return translate.index(answer)

    async def _config(self, key: ModelVersion) -> ModelConfig:
        return translate.config(await self._config_message(key), key.version)

    async def _config_message(self, key: ModelVersion) -> Any:  # noqa: ANN401
        request = messages.ModelConfigRequest(name=key.name, version=key.version)
        return await self._unary("ModelConfig", request, messages.ModelConfigResponse)

    async def _model_ready(self, key: ModelVersion) -> bool:
        request = messages.ModelReadyRequest(name=key.name, version=key.version)
        try:
            answer = await self._unary(
                "ModelReady", request, messages.ModelReadyResponse, deadline=READINESS_DEADLINE
            )
        except grpc.aio.AioRpcError as error:
            if says_unready(error):
                return False
            raise
        return bool(answer.ready)

    async def _unary(self, method: str, request: Any, answer: Any, *, deadline: float | None = None) -> Any:  # noqa: ANN401
        return _parsed(answer, await self._raw(method, request, deadline=deadline))

    async def _raw(self, method: str, request: Any, *, deadline: float | None = None) -> bytes:  # noqa: ANN401
        call: Any = self._connected().unary_unary(
            SERVICE + method,
            request_serializer=lambda message: message.SerializeToString(),
            # Raw bytes: an answer equal to the last one is not parsed again.
            response_deserializer=bytes,
        )
        seconds = self._settings.timeout if deadline is None else deadline
        raw: bytes = await call(request, timeout=seconds, metadata=self._metadata)
        return raw

    def _connected(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = open_channel(self._settings)
        return self._channel

    async def _http_live(self) -> bool | CallFailure:
        settings = self._settings
        return await _on_thread(
            self._http,
            "http_live",
            lambda: http.live(settings.http, settings.timeout, settings.headers),
            settings.timeout,
        )

    async def _families(self) -> tuple[http.Pending, http.GpuUse, http.Reasons] | CallFailure:
        settings, of_these = self._settings, self._doubted
        return await _on_thread(
            self._scrape,
            "metrics",
            lambda: http.families(settings.metrics, settings.timeout, of_these),
            settings.timeout,
        )


def doubted(
    before: frozenset[ModelVersion], was: tuple[ModelStatistics, ...], told: tuple[ModelStatistics, ...]
) -> frozenset[ModelVersion]:
    """The versions that failed a request since they last succeeded: of those it matters why."""
    known = {row.key: row for row in was}
    kept = set()
    for row in told:
        last = known.get(row.key)
        if last is None or row.success != last.success or row.failure < last.failure:
            continue
        if row.key in before or row.failure > last.failure:
            kept.add(row.key)
    return frozenset(kept)


def _timed_out(failures: list[CallFailure]) -> bool:
    return any(each.failure is Failure.TIMEOUT for each in failures)


async def _on_thread(
    errand: Errand, call: str, work: Callable[[], T | CallFailure], seconds: float
) -> T | CallFailure:
    # The sockets' own deadline comes first; the resolution of a host's name has none.
    try:
        return await errand.run(work, seconds + _MARGIN)
    except OutstandingError as error:
        return CallFailure(call, Failure.TIMEOUT, str(error), error.seconds)


def _parsed(answer: Any, raw: bytes) -> Any:  # noqa: ANN401
    try:
        return answer.FromString(raw)
    except Exception as error:  # protobuf's DecodeError has no stable base across its implementations
        message = f"an answer of {len(raw)} bytes is not a {answer.__name__}: {error}"
        raise ValueError(message) from error
