"""The HTTP endpoints over the board: each handler renders what is in memory and waits for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from probe.engine.board import Board
from probe.facts.gates import Gate
from probe.facts.instants import Instant
from probe.facts.status import Status
from probe.surfaces import answers, exposition, metrics, page
from probe.surfaces.plain import to_json

Clock = Callable[[], Instant]
_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_LONGEST_QUERY = 16384
"""Characters after the ``?``: room for hundreds of models, and parsed within a millisecond or two."""


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
        drawing = metrics.render_steps(self.board.latest, content_type)
        while True:
            try:
                next(drawing)
            except StopIteration as done:
                return _maybe_compressed(request, done.value, content_type)
            # With 1,000 models the whole takes tens of ms: let the kubelet's question through.
            await asyncio.sleep(0)

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


def _asked(request: Request) -> QueryParams:
    query: bytes = request.scope["query_string"]
    if len(query) > _LONGEST_QUERY:
        raise HTTPException(414, f"a query of {len(query)} bytes, at most {_LONGEST_QUERY} are read")
    return request.query_params


def _maybe_compressed(request: Request, body: bytes, content_type: str) -> Response:
    response = Response(body, headers={"content-type": content_type})
    if exposition.gzip_accepted(request.headers.get("accept-encoding", "")):
        response = Response(
            exposition.compressed(body), headers={"content-type": content_type, "content-encoding": "gzip"}
        )
    return response


def _wants_json(accept: str) -> bool:
    return any(each.partition(";")[0].strip().lower() == _JSON for each in accept.split(","))
