from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from probe.commands.asking import Target
from probe.commands.check import check
from tests.commands.answering import Daemon, answering


@pytest.fixture
def daemon() -> Iterator[Callable[[int, bytes], Daemon]]:
    """Start a daemon with a status and a body."""
    with answering() as start:
        yield start


@pytest.fixture
def raw() -> Iterator[Callable[[bytes], Target]]:
    """Start a server that sends these bytes once it is asked, and then keeps the connection open."""
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def start(answer: bytes) -> Target:
        listener = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            with listener, listener.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(answer)
                ended.wait(200)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return Target("127.0.0.1", listener.getsockname()[1], "")

    yield start
    ended.set()
    for thread in threads:
        thread.join(60)


@pytest.mark.parametrize(
    ("gate", "path"),
    [("live", "/livez"), ("ready", "/readyz"), ("startup", "/startupz"), ("health", "/healthz")],
)
def test_each_gate_has_its_path(daemon: Callable[[int, bytes], Daemon], gate: str, path: str) -> None:
    """The four questions go to the four endpoints."""
    server = daemon(200, b"ok")

    assert check(server.target, gate, 30.0) == 0
    assert server.asked == [path]


def test_an_open_gate_prints_the_answer_and_exits_0(
    daemon: Callable[[int, bytes], Daemon], capfd: pytest.CaptureFixture[str]
) -> None:
    """The body is passed on."""
    assert check(daemon(200, b"ok\n").target, "ready", 30.0) == 0
    assert capfd.readouterr() == ("ok\n", "")


def test_a_failing_gate_prints_its_findings_and_exits_1(
    daemon: Callable[[int, bytes], Daemon], capfd: pytest.CaptureFixture[str]
) -> None:
    """The findings stand in the output, where the kubelet's event shows them."""
    body = "[-]StubDead modèle/1: gone\n[-]CpuFallback x: on the CPU\n".encode()

    assert check(daemon(503, body).target, "ready", 30.0) == 1
    assert capfd.readouterr() == (body.decode(), "")


def test_models_and_exclusions_and_form_are_passed_on(daemon: Callable[[int, bytes], Daemon]) -> None:
    """Every option becomes its query, spelled so that any name survives."""
    server = daemon(200, b"{}")

    check(
        server.target,
        "ready",
        5.0,
        models=("a&b", "ü \udcff"),
        excluded=("CpuFallback",),
        verbose=True,
        output_format="json",
    )

    assert server.asked == ["/readyz?model=a%26b&model=%C3%BC+%FF&exclude=CpuFallback&verbose=1&format=json"]


def test_a_proxys_path_goes_before_the_gates(daemon: Callable[[int, bytes], Daemon]) -> None:
    """The URL may point below a path."""
    server = daemon(200, b"ok")

    check(server.target._replace(prefix="/probe"), "ready", 5.0)

    assert server.asked == ["/probe/readyz"]


@pytest.mark.parametrize("status", [404, 500, 302, 204])
def test_a_status_that_no_gate_has_is_no_answer(
    daemon: Callable[[int, bytes], Daemon], capfd: pytest.CaptureFixture[str], status: int
) -> None:
    """Somebody else listens there: that says nothing about Triton."""
    assert check(daemon(status, b"").target, "ready", 5.0) == 3
    assert f"status {status} for /readyz" in capfd.readouterr().err


def test_nobody_listening_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    """A refused connection exits 3 and says so."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    assert check(Target("127.0.0.1", port, ""), "ready", 5.0) == 3
    assert capfd.readouterr() == (
        "",
        f"triton-probe: no answer from http://127.0.0.1:{port}: connection refused\n",
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\x00\x18\x04\x00\x00\x00",
        b"HTTP/1.1 999999 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200,
    ],
    ids=["ssh", "http2", "status", "headers"],
)
def test_garbage_is_no_answer(
    raw: Callable[[bytes], Target], capfd: pytest.CaptureFixture[str], answer: bytes
) -> None:
    """Another protocol on that port exits 3, not with a traceback."""
    assert check(raw(answer), "ready", 5.0) == 3
    assert capfd.readouterr().err.startswith("triton-probe: no answer from http://127.0.0.1:")


def test_an_answer_that_stays_out_is_no_answer_in_time(
    raw: Callable[[bytes], Target], capfd: pytest.CaptureFixture[str]
) -> None:
    """The wait ends with the timeout."""
    began = time.monotonic()

    assert check(raw(b""), "ready", 0.3) == 3
    assert 0.3 <= time.monotonic() - began < 60
    assert capfd.readouterr().err.endswith("none within 300ms\n")


def test_an_answer_that_drips_is_no_answer_in_time(capfd: pytest.CaptureFixture[str]) -> None:
    """The timeout is for the whole answer, not for each of its bytes."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def drip() -> None:
        with listener, listener.accept()[0] as connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not ended.wait(0.05):
                connection.send(b".")

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        assert check(Target("127.0.0.1", listener.getsockname()[1], ""), "ready", 0.5) == 3
        assert capfd.readouterr().err.endswith("none within 500ms\n")
    finally:
        ended.set()
        dripping.join(60)


def test_what_steers_a_terminal_is_not_printed(
    daemon: Callable[[int, bytes], Daemon], capfd: pytest.CaptureFixture[str]
) -> None:
    """Escapes and broken UTF-8 in an answer become replacement characters."""
    check(daemon(503, b"a\x1b[31m\xffb\nc").target, "ready", 5.0)

    assert capfd.readouterr().out == "a\ufffd[31m\ufffdb\nc\n"


def test_an_endless_body_is_cut(
    daemon: Callable[[int, bytes], Daemon], capfd: pytest.CaptureFixture[str]
) -> None:
    """No answer fills the memory."""
    assert check(daemon(200, b"x" * 3_000_000).target, "ready", 20.0) == 0
    assert len(capfd.readouterr().out) == 1024 * 1024 + 1


@pytest.mark.parametrize(
    ("url", "target", "text"),
    [
        ("http://127.0.0.1:8003", Target("127.0.0.1", 8003, ""), "http://127.0.0.1:8003"),
        ("http://[::1]:8003/", Target("::1", 8003, ""), "http://[::1]:8003"),
        ("http://triton/probe/", Target("triton", 80, "/probe"), "http://triton:80/probe"),
    ],
)
def test_a_url_names_host_port_and_prefix(url: str, target: Target, text: str) -> None:
    """With what HTTP leaves out filled in."""
    assert Target.parse(url) == target
    assert str(target) == text


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8003",
        "https://x:1",
        "http://",
        "http://x:99999",
        "http://x:y",
        "http://[::1",
        "http://x/?a=b",
        "http://u:p@x",
        "http://x y",
        "http://x\ny",
        "http://ü",
    ],
)
def test_what_is_no_url_of_a_daemon_is_refused(url: str) -> None:
    """The error shows how to write one."""
    with pytest.raises(ValueError, match=r"expected http://host:port such as http://127\.0\.0\.1:8003"):
        Target.parse(url)
