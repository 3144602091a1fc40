"""The Triton source: one channel for life, calls in series, a deadline on each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
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
from probe.sources.triton import http, orders, translate
from probe.sources.triton.calls import Calls, parsed
from probe.sources.triton.canaries import Sender
from probe.sources.triton.failures import says_unready
from probe.sources.triton.protos import messages

T = TypeVar("T")

READINESS_DEADLINE = 6.0
"""Seconds for ``ModelReady``: from 26.03 a user's ``is_ready()`` may take 5 s in Triton itself."""

QUICK = 0.5
"""Seconds: a question on readiness that takes longer waits for a user's ``is_ready()``."""
REST = 10.0
"""Times its own length that a slow ``ServerReady`` is left alone: from 26.04 it asks every model in turn, and
Triton answers nobody else meanwhile, also when the one who asked has given up."""

_MARGIN = 0.5
"""Seconds that a piece of work on a thread has to notice its own deadline."""


class TritonSource:
    """Asks one Triton.  Calls of ``poll`` and ``inquire`` may overlap: they queue behind each other."""

    def __init__(self, settings: TritonSettings) -> None:
        """Open nothing yet: the channel connects with the first call and is kept for life."""
        self._settings = settings
        self._calls = Calls(settings)
        self._series = asyncio.Lock()
        self._about: Any = None
        self._ready_rests_until = 0.0
        self._raw_statistics: bytes | None = None
        self._statistics: tuple[ModelStatistics, ...] = ()
        self._doubted: frozenset[ModelVersion] = frozenset()
        self._http = Errand("triton-http")
        self._scrape = Errand("triton-metrics")
        self._canaries = Sender(self._calls.metadata)

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
                told = await self._calls.attempt(f"config {key}", partial(self._config, key), failures)
                if told is not None:
                    configs.append(told)
            slow: list[tuple[ModelVersion, float]] = []
            for key in inquiry.readiness:
                if self._spent(observed, budget, failures):
                    break
                asked = time.monotonic()
                said = await self._calls.attempt(f"ready {key}", partial(self._model_ready, key), failures)
                took = time.monotonic() - asked
                if took > QUICK or _timed_out(failures):
                    slow.append((key, took))
                if said or (said is False and await self._still_loaded(key, failures)):
                    readiness.append((key, said))
            # Last, for it may be slow: it lists the repository's folders, wherever they are.
            index: tuple[IndexEntry, ...] | None = None
            if inquiry.index and not self._spent(observed, budget, failures):
                index = await self._calls.attempt("index", self._index, failures)
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
            told = await self._calls.attempt("statistics", partial(self._ready_versions, name), failures)
            return failures[0] if told is None else (observed, told)

    async def canary(self, order: CanaryOrder) -> CanaryResult | None:
        """Send one inference and check its answer; None where nobody can tell whose fault it was.

        Its configuration is asked in series with the other calls; the inference is not: Triton serves it from
        other threads, and it may hang for its whole deadline.
        """
        tried = now()
        failures: list[CallFailure] = []
        async with self._series:
            told = await self._calls.attempt("config", partial(self._config_message, order.key), failures)
        if told is None:
            return self._canaries.without_configuration(order, tried, failures[0])
        return await self._canaries.send(self._calls.connected(), order, told)

    async def load_model(self, name: str, seconds: float) -> CallFailure | None:
        """See :func:`probe.sources.triton.orders.load_model`; not in series with the other calls."""
        return await orders.load_model(self._calls, name, seconds)

    async def reload_model(self, name: str, seconds: float) -> CallFailure | None:
        """See :func:`probe.sources.triton.orders.reload_model`; not in series with the other calls."""
        return await orders.reload_model(self._calls, name, seconds)

    async def close(self) -> None:
        """Let go of the channel."""
        for errand in (self._http, self._scrape, self._canaries):
            errand.close()
        await self._calls.close()

    async def _ask_server(
        self, failures: list[CallFailure]
    ) -> tuple[bool | None, bool | None, tuple[ModelStatistics, ...] | None]:
        live = await self._calls.attempt("live", self._live, failures)
        if live is None:
            await self._calls.consider_tls(failures)
            # What is known of the server ends with the connection: the next one may be another release.
            self._about = None
            self._ready_rests_until = 0.0
            return None, None, None
        if self._about is None:
            self._about = await self._calls.attempt("metadata", self._server_metadata, failures)
        statistics = None
        if not _timed_out(failures):
            statistics = await self._calls.attempt("statistics", self._all_statistics, failures)
        # Last, for it may be slow: what it says of all models together, each of them can be asked alone.
        ready = None if _timed_out(failures) else await self._ask_ready(failures)
        return live, ready, statistics

    async def _ask_ready(self, failures: list[CallFailure]) -> bool | None:
        began = time.monotonic()
        if began < self._ready_rests_until:
            return None
        ready = await self._calls.attempt("ready", self._ready, failures)
        took = time.monotonic() - began
        if took > QUICK or _timed_out(failures):
            self._ready_rests_until = time.monotonic() + REST * took
        return ready

    async def _still_loaded(self, key: ModelVersion, failures: list[CallFailure]) -> bool:
        # "Not ready" of a model that is being unloaded is no news: only of one that stays loaded it is.
        loaded = await self._calls.attempt("statistics", partial(self._ready_versions, key.name), failures)
        return loaded is not None and key in loaded

    @staticmethod
    def _spent(began: Instant, budget: float, failures: list[CallFailure]) -> bool:
        silent = any(each.failure in (Failure.TIMEOUT, Failure.REFUSED) for each in failures)
        return silent or now().mono - began.mono > budget

    async def _live(self) -> bool:
        answer = await self._calls.unary(
            "ServerLive", messages.ServerLiveRequest(), messages.ServerLiveResponse
        )
        return bool(answer.live)

    async def _ready(self) -> bool:
        answer = await self._calls.unary(
            "ServerReady", messages.ServerReadyRequest(), messages.ServerReadyResponse
        )
        return bool(answer.ready)

    async def _server_metadata(self) -> Any:  # noqa: ANN401
        request = messages.ServerMetadataRequest()
        return await self._calls.unary("ServerMetadata", request, messages.ServerMetadataResponse)

    async def _all_statistics(self) -> tuple[ModelStatistics, ...]:
        request = messages.ModelStatisticsRequest()
        try:
            raw = await self._calls.raw("ModelStatistics", request)
        except grpc.aio.AioRpcError as error:
            if error.code() not in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND):
                raise
            # A model that vanishes between Triton's listing and its reading fails the whole call.
            raw = await self._calls.raw("ModelStatistics", request)
        if raw != self._raw_statistics:
            told = translate.statistics(parsed(messages.ModelStatisticsResponse, raw))
            self._doubted = doubted(self._doubted, self._statistics, told)
            self._statistics = told
            self._raw_statistics = raw
        return self._statistics

    async def _ready_versions(self, name: str) -> tuple[ModelVersion, ...]:
        request = messages.ModelStatisticsRequest(name=name)
        try:
            answer = await self._calls.unary("ModelStatistics", request, messages.ModelStatisticsResponse)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND):
                return ()
            raise
        return tuple(row.key for row in translate.statistics(answer))

    async def _index(self) -> tuple[IndexEntry, ...]:
        request = messages.RepositoryIndexRequest()
        answer = await self._calls.unary("RepositoryIndex", request, messages.RepositoryIndexResponse)
        return translate.index(answer)

    async def _config(self, key: ModelVersion) -> ModelConfig:
        return translate.config(await self._config_message(key), key.version)

    async def _config_message(self, key: ModelVersion) -> Any:  # noqa: ANN401
        request = messages.ModelConfigRequest(name=key.name, version=key.version)
        return await self._calls.unary("ModelConfig", request, messages.ModelConfigResponse)

    async def _model_ready(self, key: ModelVersion) -> bool:
        request = messages.ModelReadyRequest(name=key.name, version=key.version)
        try:
            answer = await self._calls.unary(
                "ModelReady", request, messages.ModelReadyResponse, deadline=READINESS_DEADLINE
            )
        except grpc.aio.AioRpcError as error:
            if says_unready(error):
                return False
            raise
        return bool(answer.ready)

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
