"""The HTTP endpoints over the board: each handler renders what is in memory and waits for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec
from prometheus_client.exposition import gzip_accepted
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from probe.engine.board import Board
from probe.facts.gates import Gate
from probe.facts.instants import Instant
from probe.facts.status import Snapshot, Status
from probe.surfaces import answers, exposition, metrics, page
from probe.surfaces.plain import to_json

Clock = Callable[[], Instant]
_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_LONGEST_QUERY = 16384
"""Characters after the ``?``: room for hundreds of models, and parsed within a millisecond or two."""
_KEPT_SECONDS = 1.0
"""How long rendered metrics are kept: scrapers that come together share them, and the megabytes of 1,000
models are gone long before the next scrape."""


def application(board: Board, clock: Clock) -> Starlette:
    """Make the ASGI application that answers from this board."""
    endpoints = _Endpoints(board, clock)
    routes = [
        Route("/livez", endpoints.gate(Gate.LIVE)),
        Route("/readyz", endpoints.gate(Gate.READY)),
        Route("/startupz", endpoints.gate(Gate.STARTUP)),
        Route("/healthz", endpoints.healthz),
        Route("/status", endpoints.status),
        Route("/events", endpoints.events),
        Route("/metrics", endpoints.metrics),
        Route("/", endpoints.page),
    ]
    paths = " ".join(each.path for each in routes)

    async def refusal(_: Request, error: Exception) -> Response:
        code, detail, headers = 500, "Internal Server Error", None
        if isinstance(error, HTTPException):
            code, detail, headers = error.status_code, error.detail, error.headers
        hint = f": there is {paths}" if code == 404 else ""  # noqa: PLR2004  (the status itself)
        return Response(f"{detail}{hint}\n", code, headers, _TEXT)

    app = Starlette(routes=routes, exception_handlers={HTTPException: refusal, Exception: refusal})
    app.router.redirect_slashes = False
    return app


class _Endpoints:
    """The handlers; every one reads the snapshot once, so that no answer mixes two."""

    def __init__(self, board: Board, clock: Clock) -> None:
        self.board = board
        self.clock = clock
        self.scrapes = _Scrapes(board)

    def gate(self, gate: Gate) -> Callable[[Request], Awaitable[Response]]:
        """Make the handler of one gate: 200 while it is open, 503 while a finding fails it."""

        async def handler(request: Request) -> Response:
            asked = _asked(request)
            query = answers.Query(
                verbose="verbose" in asked,
                exclude=tuple(asked.getlist("exclude")),
                models=tuple(asked.getlist("model")),
            )
            answer = answers.gate_answer(self.board.latest, gate, query)
            if asked.get("format") == "json" or _wants_json(request.headers.get("accept", "")):
                return Response(to_json(answer.object), answer.code, media_type=_JSON)
            return Response(answer.text(verbose=query.verbose), answer.code, media_type=_TEXT)

        return handler

    async def healthz(self, _: Request) -> Response:
        """200 while the engine's loop turns, 503 when it has stalled."""
        mono = self.clock().mono
        code, text = answers.health(self.board.loop_age(mono), stalled=self.board.stalled(mono))
        return Response(text, code, media_type=_TEXT)

    async def status(self, request: Request) -> Response:
        """200: everything as one JSON object; indented with ``?pretty``."""
        body = to_json(self._status_now())
        if "pretty" in _asked(request):
            body = msgspec.json.format(body, indent=2)
        return _maybe_compressed(request, body, _JSON)

    async def events(self, request: Request) -> Response:
        """200: the last transitions, newest first, as a JSON list."""
        return _maybe_compressed(request, to_json(self.board.latest.transitions), _JSON)

    async def metrics(self, request: Request) -> Response:
        """200: the metrics, in the format that the ``Accept`` header prefers."""
        content_type = exposition.accepted(request.headers.get("accept", ""))
        compressed = _takes_gzip(request)
        body = await self.scrapes.body(content_type, compressed=compressed)
        return _coded(body, content_type, compressed=compressed)

    async def page(self, request: Request) -> Response:
        """200: the status as a web page that loads nothing from anywhere."""
        body = page.render(self._status_now()).encode("utf-8")
        response = _maybe_compressed(request, body, "text/html; charset=utf-8")
        response.headers["content-security-policy"] = page.CONTENT_SECURITY_POLICY
        response.headers["referrer-policy"] = "no-referrer"
        return response

    def _status_now(self) -> Status:
        mono = self.clock().mono
        return answers.status_now(self.board.latest, mono, self.board.loop_age(mono))


class _Scrapes:
    """Renders ``/metrics`` on a thread, once at a time, while the loop goes on answering kubelets.

    Who comes meanwhile waits for the next rendering and shares it: however many scrapers come at once, at
    most one rendering for each format and coding is still to come.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._turn = asyncio.Lock()
        self._begun = 0
        self._made: dict[tuple[str, bool], _Rendering] = {}
        self._forgetting: asyncio.TimerHandle | None = None

    async def body(self, content_type: str, *, compressed: bool) -> bytes:
        """Give the metrics of the snapshot that is the latest now, or of one published since."""
        kind, begun = (content_type, compressed), self._begun
        async with self._turn:
            made = self._made.get(kind)
            if made is None or not (made.number > begun or made.snapshot is self._board.latest):
                made = await self._rendered(content_type, compressed=compressed)
                self._keep(kind, made)
            return made.body

    async def _rendered(self, content_type: str, *, compressed: bool) -> _Rendering:
        self._begun += 1
        number, snapshot = self._begun, self._board.latest

        def render() -> bytes:
            body = metrics.render(snapshot, content_type)
            return exposition.compressed(body) if compressed else body

        return _Rendering(number, snapshot, await asyncio.to_thread(render))

    def _keep(self, kind: tuple[str, bool], made: _Rendering) -> None:
        self._made[kind] = made
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._forgetting = asyncio.get_running_loop().call_later(_KEPT_SECONDS, self._made.clear)


class _Rendering(NamedTuple):
    number: int
    snapshot: Snapshot
    body: bytes


def _asked(request: Request) -> QueryParams:
    query: bytes = request.scope["query_string"]
    if len(query) > _LONGEST_QUERY:
        raise HTTPException(414, f"a query of {len(query)} bytes, at most {_LONGEST_QUERY} are read")
    return request.query_params


def _maybe_compressed(request: Request, body: bytes, content_type: str) -> Response:
    if _takes_gzip(request):
        return _coded(exposition.compressed(body), content_type, compressed=True)
    return _coded(body, content_type, compressed=False)


def _coded(body: bytes, content_type: str, *, compressed: bool) -> Response:
    coding = {"content-encoding": "gzip"} if compressed else {}
    return Response(body, headers={"content-type": content_type, **coding})


def _takes_gzip(request: Request) -> bool:
    return gzip_accepted(request.headers.get("accept-encoding", ""))


def _wants_json(accept: str) -> bool:
    return any(each.partition(";")[0].strip().lower() == _JSON for each in accept.split(","))
