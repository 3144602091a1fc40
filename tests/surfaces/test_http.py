from __future__ import annotations

import asyncio
import errno
import gzip
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from uvicorn.server import ServerState

from probe.engine.board import Board
from probe.facts.instants import Instant
from probe.facts.status import Snapshot
from probe.surfaces import app, connections, exposition, listening, metrics, page
from probe.surfaces.http import HttpServer
from probe.surfaces.listening import ListenError
from testbed.tools import PATIENCE
from tests.surfaces.snapshots import EVERYTHING, HOSTILE, Served, initializing, model, snapshot

PATHS = ("/livez", "/readyz", "/startupz", "/healthz", "/status", "/events", "/metrics", "/")


def reached(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether a condition comes true before its deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def closed_by_peer(client: socket.socket) -> bool:
    """Whether the server ended this connection, waiting as long as the socket's own timeout."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def connect(served: Served, timeout: float = PATIENCE) -> socket.socket:
    """A bare connection to the server."""
    return socket.create_connection(served.server.address, timeout=timeout)


def huge() -> Snapshot:
    """A snapshot whose status is larger than any socket buffer."""
    return snapshot(models=tuple(model(f"model_{each}") for each in range(5000)))


@pytest.mark.parametrize(
    ("path", "code", "content_type"),
    [
        ("/livez", 200, "text/plain; charset=utf-8"),
        ("/readyz", 503, "text/plain; charset=utf-8"),
        ("/readyz?verbose", 503, "text/plain; charset=utf-8"),
        ("/readyz?format=json", 503, "application/json"),
        ("/readyz?exclude=StubDead", 200, "text/plain; charset=utf-8"),
        ("/readyz?model=bert", 200, "text/plain; charset=utf-8"),
        ("/readyz?model=nope", 503, "text/plain; charset=utf-8"),
        ("/startupz", 200, "text/plain; charset=utf-8"),
        ("/healthz", 200, "text/plain; charset=utf-8"),
        ("/status", 200, "application/json"),
        ("/events", 200, "application/json"),
        ("/metrics", 200, exposition.TEXT),
        ("/", 200, "text/html; charset=utf-8"),
    ],
)
def test_every_endpoint_answers_get_and_head_alike(
    served: Served, path: str, code: int, content_type: str
) -> None:
    """GET and HEAD give the same status and headers, HEAD no body, and none may be kept or sniffed."""
    response, body = served.ask(path)
    head, nothing = served.ask(path, "HEAD")

    assert (response.status, head.status, nothing) == (code, code, b"")
    assert response.headers["content-type"] == content_type
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["date"]
    assert response.headers["server"] is None
    assert int(head.headers["content-length"]) == pytest.approx(len(body), abs=100)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_other_methods_are_refused(served: Served, path: str, method: str) -> None:
    """405 with ``Allow``, and a text that says so."""
    response, body = served.ask(path, method)

    assert response.status == 405
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert body == b"Method Not Allowed\n"


def test_an_unknown_path_is_told_the_known_ones(served: Served) -> None:
    """404 as text, with what there is."""
    response, body = served.ask("/health")

    assert response.status == 404
    assert all(each in body.decode().split() for each in PATHS)


def test_the_json_of_a_gate_is_asked_for_by_accept(served: Served) -> None:
    """``Accept: application/json`` gives the gate's object of ``/status``."""
    _, gate = served.ask("/readyz", Accept="application/json")
    _, status = served.ask("/status")

    assert json.loads(gate) == json.loads(status)["gates"]["ready"]


def test_status_has_the_contracts_keys(served: Served) -> None:
    """``/status`` is one object of schema 1; ``?pretty`` only indents it."""
    _, body = served.ask("/status")
    _, pretty = served.ask("/status?pretty")

    found = json.loads(body)
    assert found["schema"] == 1
    assert set(found) == {
        "schema", "probe", "triton", "gates", "findings", "models", "gpus", "container", "evidence",
        "sizing",
    }  # fmt: skip
    assert set(json.loads(pretty)) == set(found)
    assert b"\n  " in pretty


def test_events_are_a_list_newest_first(served: Served) -> None:
    """``/events`` is the list that the engine keeps, in its order."""
    _, body = served.ask("/events")

    assert [(each["kind"], each["reason"]) for each in json.loads(body)] == [("gate_failed", "StubDead")]


def test_metrics_come_as_openmetrics_and_gzip_when_asked_for(served: Served) -> None:
    """The body is the rendering of the snapshot in the format and coding of the request's headers."""
    plain, text = served.ask("/metrics")
    response, body = served.ask("/metrics", Accept="application/openmetrics-text", Accept_Encoding="gzip")

    assert text == metrics.render(EVERYTHING)
    assert plain.headers["content-encoding"] is None
    assert response.headers["content-type"] == exposition.OPENMETRICS
    assert gzip.decompress(body) == metrics.render(EVERYTHING, exposition.OPENMETRICS)


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=one", "text/plain; version=\xb2"])
def test_an_accept_header_that_makes_no_sense_is_answered(served: Served, accept: str) -> None:
    """A version that is no number costs the client nothing."""
    response, body = served.ask("/metrics", Accept=accept)

    assert response.status == 200
    assert body == metrics.render(EVERYTHING, response.headers["content-type"])


class HeldRendering:
    """The real rendering of ``/metrics``, which begins when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.begun: list[tuple[Snapshot, str]] = []
        self.then: Callable[[], object] = lambda: None
        self.render = metrics.render
        monkeypatch.setattr(metrics, "render", self)

    def __call__(self, seen: Snapshot, content_type: str) -> bytes:
        """Render in place of the real one, once ``go`` is set; ``then`` is done first."""
        self.begun.append((seen, content_type))
        if not self.go.wait(PATIENCE):
            raise TimeoutError
        self.then()
        return self.render(seen, content_type)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldRendering]:
    """Renderings that wait for the test."""
    rendering = HeldRendering(monkeypatch)
    yield rendering
    rendering.go.set()


def test_kubelets_are_answered_while_metrics_are_rendered(served: Served, held: HeldRendering) -> None:
    """A rendering that takes long keeps no other question waiting."""
    with connect(served) as scraper:
        scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert reached(lambda: len(held.begun) == 1)

        assert served.ask("/livez")[0].status == 200
        held.go.set()
        assert scraper.recv(100).startswith(b"HTTP/1.1 200")


def test_scrapes_of_one_snapshot_share_one_rendering(served: Served, held: HeldRendering) -> None:
    """However many scrapers ask, one after another or at once: nothing new, nothing rendered."""
    with ThreadPoolExecutor(20) as scrapers:
        asked = [scrapers.submit(served.ask, "/metrics") for _ in range(20)]
        assert reached(lambda: len(held.begun) == 1 and len(state(served).tasks) == 20)
        held.go.set()
        bodies = {each.result()[1] for each in asked}
    bodies.add(served.ask("/metrics")[1])

    assert len(held.begun) == 1
    assert bodies == {held.render(EVERYTHING, exposition.TEXT)}


def test_a_scrape_shares_nothing_older_than_itself(served: Served, held: HeldRendering) -> None:
    """Who comes after a snapshot was published gets that one, though an older one is being rendered."""
    newer = initializing()
    with ThreadPoolExecutor(21) as scrapers:
        first = scrapers.submit(served.ask, "/metrics")
        assert reached(lambda: len(held.begun) == 1)
        served.board.publish(newer)
        late = [scrapers.submit(served.ask, "/metrics") for _ in range(19)]
        other = scrapers.submit(served.ask, "/metrics", Accept="application/openmetrics-text")
        assert reached(lambda: len(state(served).tasks) == 21)
        held.go.set()

        assert first.result()[1] == held.render(EVERYTHING, exposition.TEXT)
        assert {each.result()[1] for each in late} == {held.render(newer, exposition.TEXT)}
        assert other.result()[1] == held.render(newer, exposition.OPENMETRICS)
    assert len(held.begun) == 3


def test_more_snapshots_than_renderings_starve_no_scraper(served: Served, held: HeldRendering) -> None:
    """Where a snapshot is published with every rendering, all who waited share the next one."""
    publish = itertools.cycle((initializing(), EVERYTHING))
    held.then = lambda: served.board.publish(next(publish))
    with ThreadPoolExecutor(20) as scrapers:
        first = scrapers.submit(served.ask, "/metrics")
        assert reached(lambda: len(held.begun) == 1)
        asked = [first, *(scrapers.submit(served.ask, "/metrics") for _ in range(19))]
        assert reached(lambda: len(state(served).tasks) == 20)
        held.go.set()

        assert [each.result()[0].status for each in asked] == [200] * 20
    assert len(held.begun) == 2


def test_a_rendering_that_fails_holds_up_nobody(
    served: Served, held: HeldRendering, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug while metrics are rendered is a 500, logged; the next scrape is rendered anew."""
    held.go.set()
    held.then = Mock(side_effect=[ZeroDivisionError, None])

    codes = [served.ask("/metrics")[0].status for _ in range(2)]

    assert codes == [500, 200]
    assert "ZeroDivisionError" in caplog.text


def test_rendered_metrics_are_not_kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The megabytes of a scrape, and the snapshot behind them, are let go before the next scrape."""
    monkeypatch.setattr(app, "_KEPT_SECONDS", 0.5)
    scrapes = app._Scrapes(Board(EVERYTHING, stalled_after=1e9))

    async def kept_at_first() -> int:
        await scrapes.body(exposition.TEXT, compressed=False)
        kept = len(scrapes._made)
        async with asyncio.timeout(PATIENCE):
            while scrapes._made:  # noqa: ASYNC110  (a timer of its own, which tells nobody)
                await asyncio.sleep(0.01)
        return kept

    # On a thread, as in the server: the main thread's loop belongs to the test runner.
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(asyncio.run, kept_at_first()).result() == 1


def test_the_latest_snapshot_is_answered(served: Served) -> None:
    """A published snapshot is in the very next answer."""
    served.board.publish(initializing())

    response, body = served.ask("/readyz")

    assert (response.status, body) == (503, b"[-]Initializing server: no complete observation yet.\n")


def test_healthz_fails_when_the_engines_loop_stalls() -> None:
    """While the engine does not turn, only ``/healthz`` says so; the gates keep their last verdict."""
    at = Instant(EVERYTHING.taken.mono + 40.0, EVERYTHING.taken.wall + 40.0)
    board = Board(EVERYTHING, stalled_after=30.0)
    server = HttpServer(board, "127.0.0.1:0", clock=lambda: at)
    server.start()
    try:
        served = Served(board, server)
        stalled, body = served.ask("/healthz")
        live, _ = served.ask("/livez")
        board.beat(at.mono)
        turning, _ = served.ask("/healthz")
    finally:
        server.stop()

    assert (stalled.status, body) == (503, b"loop has not turned for 40.0 s\n")
    assert (live.status, turning.status) == (200, 200)


@pytest.mark.parametrize("path", PATHS)
def test_hostile_names_break_no_endpoint(served: Served, path: str) -> None:
    """Quotes, newlines, markup, surrogates: each endpoint answers valid UTF-8 of its own format."""
    served.board.publish(HOSTILE)

    response, body = served.ask(path)

    assert response.status in (200, 503)
    body.decode("utf-8")
    if response.headers["content-type"] == "application/json":
        json.loads(body)
    assert b"<script" not in body or path != "/"


def test_a_bug_in_a_handler_is_a_500_and_the_server_lives(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error while rendering is logged and answered; the next question is answered as before."""

    def broken(_: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(page, "render", broken)

    response, _ = served.ask("/")

    assert response.status == 500
    assert served.ask("/livez")[0].status == 200
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
        b"GET /livez\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_no_kubelet_sends_hurts_nobody(served: Served, request_line: bytes) -> None:
    """Long lines, TLS hellos and garbage get an answer or a closed connection, and the server lives."""
    with connect(served) as client:
        client.sendall(request_line)
        try:
            answer = client.recv(100)
        except ConnectionResetError:
            answer = b""

    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert served.ask("/livez")[0].status == 200


@pytest.mark.parametrize("path", ["/readyz", "/status"])
def test_a_query_beyond_the_limit_is_refused(served: Served, path: str) -> None:
    """A query that would take long to read is a 414 that names the limit."""
    response, body = served.ask(f"{path}?exclude=" + "&exclude=x" * 2000)

    assert response.status == 414
    assert b"at most 16384" in body


def test_a_request_body_is_ignored(served: Served) -> None:
    """A GET that carries a body is answered as one without, and the connection goes on."""
    connection = served.connection()
    for _ in range(2):
        connection.request("GET", "/livez", body=b"x" * 300_000)
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"ok")
    connection.close()


def test_two_hundred_kept_connections_are_answered(served: Served) -> None:
    """200 clients at once, each with a kept connection and several questions, all get their answer."""
    clients = [served.connection() for _ in range(200)]
    try:
        for _ in range(3):
            for each in clients:
                each.request("GET", "/livez")
            answered = [(response := each.getresponse()).status and response.read() for each in clients]
            assert answered == [b"ok"] * 200
        assert len(open_connections(served)) == 200
    finally:
        for each in clients:
            each.close()


def test_a_kept_connection_is_answered_without_delay(served: Served) -> None:
    """Head and body of an answer do not wait for each other (Nagle's algorithm, 40 ms an answer)."""
    connection = served.connection()
    connection.request("GET", "/livez")
    connection.getresponse().read()
    took = []
    for _ in range(100):
        started = time.monotonic()
        connection.request("GET", "/livez")
        connection.getresponse().read()
        took.append(time.monotonic() - started)
    connection.close()

    # Of those that waited for each other, nearly all would; on a busy machine many others take their time too.
    assert sorted(took)[25] < 0.035


def test_slow_clients_do_not_keep_others_waiting(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """While clients dribble requests or never read their answers, the next question is answered."""
    # None of them is dropped meanwhile: who waited for one would wait beyond the patience of `ask`.
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 1000.0)
    monkeypatch.setattr(connections, "IDLE_SECONDS", 1000.0)
    served.board.publish(huge())
    slow = [connect(served) for _ in range(40)]
    try:
        for index, client in enumerate(slow):
            client.sendall(b"GET /livez HTT" if index % 4 else b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        codes = [served.ask("/livez")[0].status for _ in range(20)]
        assert len(open_connections(served)) >= len(slow)
    finally:
        for client in slow:
            client.close()

    assert codes == [200] * 20


def test_a_request_that_does_not_end_is_dropped(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never finishes its request loses the connection, first request or later."""
    with connect(served) as later:
        later.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\nok"):
            more = later.recv(1000)
            assert more
            answer += more
        monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.2)
        first = connect(served)
        first.sendall(b"GET /livez HTT")
        later.sendall(b"GET /")

        assert closed_by_peer(first)
        assert closed_by_peer(later)
        first.close()


def test_an_answer_that_nobody_reads_is_dropped(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that asks for much and reads nothing loses the connection, and its memory is freed."""
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.2)
    served.board.publish(huge())
    with connect(served) as client:
        client.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")

        assert reached(lambda: state(served).total_requests == 1)
        assert reached(lambda: not open_connections(served))


def test_beyond_the_limit_the_quietest_connection_goes(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest connection is always answered; the one that was quiet for longest makes room."""
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 3)
    held = [connect(served) for _ in range(3)]
    try:
        assert reached(lambda: len(open_connections(served)) == 3)

        response, _ = served.ask("/livez")

        assert response.status == 200
        assert closed_by_peer(held[0])
    finally:
        for each in held:
            each.close()


def test_unread_answers_have_a_limit_together(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that read nothing can not make the probe hold more than the limit for them."""
    monkeypatch.setattr(connections, "MOST_UNREAD_BYTES", 2**16)
    served.board.publish(huge())
    held = [connect(served) for _ in range(6)]
    try:
        for each in held:
            each.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")

        assert reached(lambda: state(served).total_requests == 6)
        assert reached(lambda: len(open_connections(served)) < 6)
    finally:
        for each in held:
            each.close()


def open_connections(served: Served) -> set[Any]:
    """The server's own set of open connections."""
    return set(state(served).connections)


def state(served: Served) -> ServerState:
    """What the server itself counts."""
    assert served.server._server is not None
    return served.server._server.server_state


def test_stop_returns_in_time_whatever_clients_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle, half-asked and unread connections all end with it, and the port is free again."""
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 1000.0)
    monkeypatch.setattr(connections, "IDLE_SECONDS", 1000.0)
    board = Board(huge(), stalled_after=1e9)
    server = HttpServer(board, "127.0.0.1:0")
    server.start()
    served, port = Served(board, server), server.address[1]
    held = [connect(served) for _ in range(30)]
    try:
        for index, client in enumerate(held):
            client.sendall((b"", b"GET /", b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")[index % 3])
        served.ask("/livez")

        server.stop(1.0)

        assert "http" not in [each.name for each in threading.enumerate()]
        listening.bound(f"127.0.0.1:{port}").close()
    finally:
        for client in held:
            client.close()


def test_a_taken_port_is_an_error_that_says_so(served: Served) -> None:
    """Starting on a port in use raises before any thread starts, with the address and the remedy."""
    before = [each.name for each in threading.enumerate()].count("http")
    _, port = served.server.address

    with pytest.raises(
        ListenError, match=f"can not listen on 127.0.0.1:{port}: Address already in use"
    ) as caught:
        HttpServer(served.board, f"127.0.0.1:{port}").start()

    assert caught.value.errno == errno.EADDRINUSE
    assert "choose another port" in str(caught.value)
    assert [each.name for each in threading.enumerate()].count("http") == before == 1


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_the_default_address_is_dual_stack() -> None:
    """``[::]`` answers over IPv6 and over IPv4 alike."""
    board = Board(EVERYTHING, stalled_after=1e9)
    server = HttpServer(board, "[::]:0")
    server.start()
    try:
        for host in ("::1", "127.0.0.1"):
            with socket.create_connection((host, server.address[1]), timeout=PATIENCE) as client:
                client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        server.stop()


@pytest.mark.parametrize("refusal", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_without_ipv6_the_default_address_is_ipv4(refusal: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel knows no IPv6, ``[::]`` means every IPv4 address."""
    real = socket.socket

    def without_ipv6(family: int, kind: int, protocol: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(refusal, "no IPv6 here")
        return real(family, kind, protocol)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    with listening.bound("[::]:0") as found:
        assert found.getsockname()[0] == "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize("text", ["nonsense", "http://x:1", "127.0.0.1:99999"])
def test_what_is_no_address_is_a_value_error(text: str) -> None:
    """A listen address that can not be read is refused as such, not as a network error."""
    with pytest.raises(ValueError, match="expected"):
        listening.bound(text)


def test_an_address_of_no_interface_says_so() -> None:
    """An address of documentation, which no interface has, is refused with the reason."""
    with pytest.raises(ListenError, match="no interface here has this address"):
        listening.bound("192.0.2.1:0")


def test_status_ages_with_the_clock() -> None:
    """Ages in ``/status`` are those of the moment of the request."""
    at = Instant(EVERYTHING.taken.mono + 2.0, EVERYTHING.taken.wall + 2.0)
    board = Board(EVERYTHING, stalled_after=30.0)
    server = HttpServer(board, "127.0.0.1:0", clock=lambda: at)
    server.start()
    try:
        _, body = Served(board, server).ask("/status")
    finally:
        server.stop()

    found = msgspec.json.decode(body)
    assert found["probe"]["uptime_seconds"] == 62.0
    assert found["probe"]["loop_age_seconds"] == 2.0
