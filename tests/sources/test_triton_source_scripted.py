"""The Triton source against a scripted Triton: answers that come late, never, or make no sense."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from probe.facts.models import ModelState, ModelVersion
from probe.facts.triton import CallFailure, Failure, FailureReasons, Inquiry, TritonReading
from probe.settings import TritonSettings
from probe.sources.triton import channel
from probe.sources.triton import source as module
from probe.sources.triton.source import READINESS_DEADLINE, TritonSource
from testbed.scripted.raw import RawListener
from testbed.scripted.script import Behaviour, Group, ScriptedModel
from testbed.scripted.server import ScriptedTriton
from testbed.tools import PATIENCE
from tests.sources.listeners import listening

TIMEOUT = 1.0
"""For calls that hang: those beside them must be answered within it."""
AT_MOST = 20.0
"""Seconds in which a call of that deadline surely came back; without one, none of them ever would."""

Open = Callable[..., TritonSource]
ALPHA = ModelVersion("alpha", "1")


@pytest.fixture
async def source(scripted_triton: ScriptedTriton) -> AsyncIterator[Open]:
    """Make a source for the scripted Triton, with patience; all are closed with the test."""
    opened: list[TritonSource] = []

    def make(**settings: Any) -> TritonSource:  # noqa: ANN401
        told = {
            "grpc": scripted_triton.grpc,
            "http": scripted_triton.http,
            "metrics": scripted_triton.metrics,
            "timeout": 30.0,
            **settings,
        }
        opened.append(TritonSource(TritonSettings(**told)))
        return opened[-1]

    scripted_triton.script.models.append(ScriptedModel("alpha", groups=(Group("alpha_0"),)))
    yield make
    for each in opened:
        await each.close()


def how(reading: TritonReading) -> dict[str, Failure]:
    """How each call failed."""
    return {each.call: each.failure for each in reading.failures}


class Once(dict[str, Behaviour]):
    """Behaviours that hold for one call each."""

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401
        """Take it."""
        return self.pop(key, default)


GRPC = {
    "ServerLive": "live",
    "ServerMetadata": "metadata",
    "ServerReady": "ready",
    "ModelStatistics": "statistics",
}


@pytest.mark.parametrize("call", GRPC)
async def test_garbage_spoils_only_its_own_call(
    source: Open, scripted_triton: ScriptedTriton, call: str
) -> None:
    """Bytes that are no message are GARBAGE, and the next proper answer is read."""
    scripted_triton.script.garbage(b"\xff\xff\xff\xff garbage \x00", call)
    watched = source()
    reading = await watched.poll()
    assert how(reading) == {GRPC[call]: Failure.GARBAGE}
    assert reading.http_live is True
    if call != "ServerLive":
        assert reading.live is True
    scripted_triton.script.recover()
    assert (await watched.poll()).failures == ()


@pytest.mark.parametrize("call", ["ServerLive", "ServerMetadata", "ModelStatistics", "http_live", "metrics"])
async def test_a_call_that_hangs_costs_its_deadline_and_no_more(
    source: Open, scripted_triton: ScriptedTriton, call: str
) -> None:
    """It is a TIMEOUT in time, other answers are there, and it recovers with the server."""
    scripted_triton.script.hang(call)
    watched = source(timeout=TIMEOUT)
    for _ in range(2):
        began = time.monotonic()
        reading = await watched.poll()
        assert time.monotonic() - began < AT_MOST
        assert how(reading) == {GRPC.get(call, call): Failure.TIMEOUT}
    assert (reading.http_live is None) == (call == "http_live")
    assert (reading.statistics is None) == (call in GRPC), "no more is asked of a thread that is blocked"
    scripted_triton.script.recover()
    reading = await watched.poll()
    assert reading.failures == ()
    assert reading.statistics is not None
    assert reading.pending == ((ALPHA, 0),)


async def test_an_answer_beyond_every_size_is_garbage(source: Open, scripted_triton: ScriptedTriton) -> None:
    """More than 64 MiB is not read; the message says the sizes."""
    scripted_triton.script.garbage(bytes(64 * 2**20 + 1), "ModelStatistics")
    reading = await source().poll()
    assert how(reading) == {"statistics": Failure.GARBAGE}
    assert "larger than max" in reading.failures[0].detail


async def test_ten_thousand_models_fit(source: Open, scripted_triton: ScriptedTriton) -> None:
    """A big answer is an answer."""
    scripted_triton.script.models += [ScriptedModel(f"model_{index:05}") for index in range(10_000)]
    reading = await source().poll()
    assert reading.failures == ()
    assert reading.statistics is not None
    assert reading.pending is not None
    assert len(reading.statistics) == len(reading.pending) == 10_001


async def test_an_equal_answer_is_not_read_twice(source: Open, scripted_triton: ScriptedTriton) -> None:
    """The very same tuple comes again until a counter moves."""
    watched = source()
    first, second = (await watched.poll()).statistics, (await watched.poll()).statistics
    assert first is second
    scripted_triton.script.model("alpha").served()
    third = (await watched.poll()).statistics
    assert third is not None
    assert third[0].success == 1


async def test_a_call_that_is_not_offered_says_so(source: Open, scripted_triton: ScriptedTriton) -> None:
    """Another build, another service, an old release: UNIMPLEMENTED, and the rest is told."""
    scripted_triton.script.fail(grpc.StatusCode.UNIMPLEMENTED, "Method not found!", "ModelStatistics")
    reading = await source().poll()
    assert how(reading) == {"statistics": Failure.UNIMPLEMENTED}
    assert (reading.live, reading.ready) == (True, True)


async def test_a_server_that_exits_says_so(source: Open, scripted_triton: ScriptedTriton) -> None:
    """UNAVAILABLE with Triton's own text is no refused connection."""
    scripted_triton.script.fail(grpc.StatusCode.UNAVAILABLE, "Server exiting", "ServerLive")
    assert how(await source().poll()) == {"live": Failure.EXITING}


async def test_a_model_that_vanishes_in_between_is_asked_about_once_more(
    source: Open, scripted_triton: ScriptedTriton
) -> None:
    """Triton fails the whole statistics call for it; the second try has the answer."""
    script = scripted_triton.script
    text = "requested model 'beta' is not available"
    script.behaviours = Once(
        ModelStatistics=Behaviour(code=grpc.StatusCode.INVALID_ARGUMENT, text=text),
    )
    reading = await source().poll()
    assert reading.failures == ()
    assert reading.statistics is not None
    assert script.calls["ModelStatistics"] == 2
    script.fail(grpc.StatusCode.INVALID_ARGUMENT, text, "ModelStatistics")
    script.behaviours = dict(script.behaviours)
    reading = await source().poll()
    assert how(reading) == {"statistics": Failure.ERROR}
    assert reading.failures[0].detail == text
    assert script.calls["ModelStatistics"] == 4, "twice at most"


async def test_a_slow_server_ready_costs_no_statistics_and_is_asked_seldom(
    source: Open, scripted_triton: ScriptedTriton
) -> None:
    """From 26.04 it asks every model's own check: it comes last, and its next turn is ten times as far off."""
    script = scripted_triton.script
    script.hang("ServerReady")
    watched = source(timeout=TIMEOUT)
    reading = await watched.poll()
    assert how(reading) == {"ready": Failure.TIMEOUT}
    assert reading.statistics is not None
    script.recover()
    for _ in range(3):
        reading = await watched.poll()
        assert (reading.live, reading.ready, reading.failures) == (True, None, ())
    assert script.calls["ServerReady"] == 1
    # Another server is another's models.
    scripted_triton.stop("grpc")
    assert (await watched.poll()).live is None
    scripted_triton.start("grpc")
    assert (await until_live(watched.poll)).ready is True


async def until_live(poll: Callable[[], Awaitable[TritonReading]]) -> TritonReading:
    """The first reading of a server that lives."""
    deadline = time.monotonic() + PATIENCE
    while not (reading := await poll()).live:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    return reading


@pytest.mark.parametrize("version", ["2.51.0", "2.64.0", "2.67.0", "2.70.0", "2.71.0"])
async def test_not_ready_is_an_answer_on_every_release(
    source: Open, scripted_triton: ScriptedTriton, version: str
) -> None:
    """False of a model that is loaded is an answer; of one that is not, false or an error, it is no news."""
    script = scripted_triton.script
    script.version = version
    script.models += [ScriptedModel("loading", state="LOADING"), ScriptedModel("dead", alive=False)]
    script.models.append(ScriptedModel("no", user_ready=False))
    loading, dead, no, absent = (ModelVersion(name, "1") for name in ("loading", "dead", "no", "absent"))
    told = await source().inquire(Inquiry(readiness=(loading, absent, ALPHA, dead, no)), budget=60.0)
    assert told.failures == ()
    minor = int(version.split(".")[1])
    assert told.readiness == ((ALPHA, True), (dead, minor < 64), (no, minor < 67))


async def test_a_model_that_is_unloaded_while_its_readiness_is_asked_is_not_called_unready(
    source: Open, scripted_triton: ScriptedTriton
) -> None:
    """It was loaded at the poll, and is gone when Triton says "not ready"."""
    script = scripted_triton.script
    script.version = "2.67.0"

    def unloaded() -> bool:
        script.model("alpha").state, script.model("alpha").reason = "UNAVAILABLE", "unloaded"
        return False

    script.model("alpha").look = unloaded
    told = await source().inquire(Inquiry(readiness=(ALPHA,)), budget=60.0)
    assert (told.readiness, told.failures) == ((), ())


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Server not ready"),
        (grpc.StatusCode.UNAVAILABLE, "Server exiting"),
        (grpc.StatusCode.INTERNAL, "Request for unknown model: 'alpha' is not found"),
        (grpc.StatusCode.INVALID_ARGUMENT, "something else"),
    ],
)
async def test_an_error_that_is_of_no_model_makes_none_unready(
    source: Open, scripted_triton: ScriptedTriton, code: grpc.StatusCode, text: str
) -> None:
    """While Triton exits, and for whatever else is wrong with the call itself."""
    scripted_triton.script.fail(code, text, "ModelReady")
    told = await source().inquire(Inquiry(readiness=(ALPHA,)), budget=60.0)
    assert told.readiness == ()
    assert [each.detail for each in told.failures] == [text]


async def test_slow_answers_on_readiness_are_told_with_how_long_they_took(
    source: Open, scripted_triton: ScriptedTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answered or not: who asks again too soon keeps Triton's one thread from everybody else."""
    script = scripted_triton.script
    script.version = "2.67.0"
    script.models += [ScriptedModel("late", user_seconds=0.7), ScriptedModel("never", user_seconds=4.5)]
    late, never = ModelVersion("late", "1"), ModelVersion("never", "1")
    monkeypatch.setattr(module, "READINESS_DEADLINE", 3.0)
    told = await source().inquire(Inquiry(readiness=(ALPHA, late, never)), budget=60.0)
    assert told.readiness == ((ALPHA, True), (late, True))
    assert [each.failure for each in told.failures] == [Failure.TIMEOUT]
    slow = dict(told.slow)
    assert slow.keys() == {late, never}
    assert 0.7 <= slow[late] < 2.9 < slow[never]


async def test_a_restricted_readiness_is_no_answer(source: Open, scripted_triton: ScriptedTriton) -> None:
    """UNAVAILABLE is "not ready" only where Triton says that."""
    scripted_triton.script.restricted["health"] = ("key", "value")
    told = await source().inquire(Inquiry(readiness=(ALPHA,)), budget=60.0)
    assert told.readiness == ()
    assert [each.failure for each in told.failures] == [Failure.RESTRICTED]


async def test_readiness_has_the_time_that_a_models_own_check_may_take(
    source: Open, scripted_triton: ScriptedTriton
) -> None:
    """From 26.03 Triton waits up to 5 s for a user's check; the probe's timeout is for other calls."""
    scripted_triton.script.delay(0.6, "ModelReady")
    told = await source(timeout=0.3).inquire(Inquiry(readiness=(ALPHA,)), budget=60.0)
    assert told.readiness == ((ALPHA, True),)


async def test_an_inquiry_stops_at_the_first_timeout(source: Open, scripted_triton: ScriptedTriton) -> None:
    """A blocked Triton is not asked the other nine questions, which would block it further."""
    script = scripted_triton.script
    script.models += [ScriptedModel(f"model_{index}") for index in range(9)]
    script.hang("ModelConfig")
    keys = tuple(ModelVersion(each.name, "1") for each in script.models)
    told = await source(timeout=TIMEOUT).inquire(
        Inquiry(configs=keys, readiness=keys, index=True), budget=60.0
    )
    assert [each.failure for each in told.failures] == [Failure.TIMEOUT]
    assert (script.calls["ModelConfig"], script.calls["ModelReady"]) == (1, 0)
    assert (told.configs, told.readiness, told.index) == ((), (), None)


async def test_an_inquiry_stops_when_its_budget_is_spent(
    source: Open, scripted_triton: ScriptedTriton
) -> None:
    """What was answered by then is told; the rest is asked another time."""
    script = scripted_triton.script
    script.models += [ScriptedModel(f"model_{index}") for index in range(30)]
    script.delay(0.1, "ModelConfig")
    keys = tuple(ModelVersion(each.name, "1") for each in script.models)
    told = await source().inquire(Inquiry(configs=keys), budget=0.25)
    assert 1 <= len(told.configs) < 10
    assert told.failures == ()


async def test_a_slow_index_keeps_no_configuration_from_being_told(
    source: Open, scripted_triton: ScriptedTriton
) -> None:
    """Listing a repository in an object store may take for ever; what is known without it comes first."""
    scripted_triton.script.hang("RepositoryIndex")
    told = await source(timeout=TIMEOUT).inquire(Inquiry(configs=(ALPHA,), index=True), budget=60.0)
    assert [each.key for each in told.configs] == [ALPHA]
    assert told.index is None
    assert [(each.call, each.failure) for each in told.failures] == [("index", Failure.TIMEOUT)]


async def test_the_index_keeps_a_models_own_text_on_one_line(
    source: Open, scripted_triton: ScriptedTriton
) -> None:
    """States that are unknown stay unknown; reasons are bounded and printable."""
    scripted_triton.script.models += [
        ScriptedModel("broken", state="UNAVAILABLE", reason="Internal: a\n\tb\x1b[31m" + "c" * 10_000),
        ScriptedModel("never", version="", state=""),
        ScriptedModel("odd", state="SOMETHING NEW"),
    ]
    told = await source().inquire(Inquiry(index=True), budget=60.0)
    entries = {each.key.name: each for each in told.index or ()}
    assert entries["broken"].reason.startswith("Internal: a b�[31mc")
    assert len(entries["broken"].reason) == 600
    assert entries["never"].key.version == ""
    assert entries["never"].state is entries["odd"].state is ModelState.UNKNOWN


async def test_calls_are_in_series_and_none_is_without_a_deadline(
    source: Open, scripted_triton: ScriptedTriton
) -> None:
    """However many tasks ask at once, Triton's one thread has one call of ours at a time."""
    script = scripted_triton.script
    script.delay(0.01, "*")
    watched = source(timeout=20.0)
    asked = Inquiry(configs=(ALPHA,), readiness=(ALPHA,), index=True)
    await asyncio.gather(
        *(watched.poll() for _ in range(3)),
        *(watched.inquire(asked, budget=60.0) for _ in range(3)),
        *(watched.still_ready("alpha") for _ in range(3)),
    )
    assert script.most_out == 1
    assert set(script.calls) >= {*GRPC, "ModelConfig", "ModelReady", "RepositoryIndex"}
    for call, seconds in script.deadlines:
        assert seconds is not None
        # On its way gRPC rounds it up.
        assert 0 < seconds <= (READINESS_DEADLINE if call == "ModelReady" else 20.0) + 1.0, call


async def test_headers_go_with_every_call(source: Open, scripted_triton: ScriptedTriton) -> None:
    """Over gRPC with Triton's prefix, over HTTP without it, whatever the case they are written in."""
    script = scripted_triton.script
    for category in ("health", "metadata", "statistics", "model-config", "model-repository"):
        script.restricted[category] = ("key", "value")
    assert how(await source().poll()) == {"live": Failure.RESTRICTED, "http_live": Failure.RESTRICTED}
    watched = source(headers={"Triton-GRPC-Protocol-Key": "value"})
    reading = await watched.poll()
    assert (reading.failures, reading.http_live) == ((), True)
    told = await watched.inquire(Inquiry((ALPHA,), (ALPHA,), index=True), budget=60.0)
    assert told.failures == ()


async def test_a_header_that_can_not_be_sent_is_told(source: Open) -> None:
    """Text beyond ASCII fails the calls and not the daemon; the value is in no message."""
    reading = await source(headers={"key": "sn\u2603wman"}).poll()
    assert how(reading) == {"live": Failure.ERROR, "http_live": Failure.GARBAGE}
    assert all("wman" not in each.detail for each in reading.failures)
    assert (await source(headers={"key-bin": "a name that promises bytes"}).poll()).live


async def test_still_ready_tells_every_failure(source: Open, scripted_triton: ScriptedTriton) -> None:
    """Garbage and silence are failures, an unknown model is an answer."""
    watched, script = source(timeout=TIMEOUT), scripted_triton.script
    answer = await watched.still_ready("alpha")
    assert isinstance(answer, tuple)
    assert answer[1] == (ALPHA,)
    script.garbage(b"\xff\xff", "ModelStatistics")
    garbage = await watched.still_ready("alpha")
    assert isinstance(garbage, CallFailure)
    assert garbage.failure is Failure.GARBAGE
    script.recover()
    script.hang("ModelStatistics")
    silence = await watched.still_ready("alpha")
    assert isinstance(silence, CallFailure)
    assert silence.failure is Failure.TIMEOUT
    script.recover()
    script.model("alpha").state = "UNLOADING"
    assert (await watched.still_ready("alpha"))[1:] == ((),)  # type: ignore[index]


async def test_a_server_that_is_replaced_tells_its_release_anew(
    source: Open, scripted_triton: ScriptedTriton
) -> None:
    """The release is asked for once a connection, not once for ever and not at every poll."""
    script, watched = scripted_triton.script, source()
    for _ in range(3):
        assert (await watched.poll()).version == "2.51.0"
    assert script.calls["ServerMetadata"] == 1
    scripted_triton.stop()
    assert (await watched.poll()).version is None
    script.version = "2.71.0"
    scripted_triton.start()
    assert (await until_live(watched.poll)).version == "2.71.0"


async def test_a_long_absence_does_not_slow_the_reunion(
    source: Open, scripted_triton: ScriptedTriton
) -> None:
    """The pause between two tries to connect grows to a second, and not to gRPC's two minutes."""
    watched = source()
    scripted_triton.stop()
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        assert not (await watched.poll()).live
        await asyncio.sleep(0.1)
    scripted_triton.start()
    assert (await until_live(watched.poll)).live
    # How long that takes is the machine's; the longest pause is what gRPC was told.
    assert dict(channel._OPTIONS)["grpc.max_reconnect_backoff_ms"] == 1000


async def test_a_page_of_metrics_full_of_garbage_is_read_as_far_as_it_goes(
    source: Open, scripted_triton: ScriptedTriton
) -> None:
    """Megabytes of other lines, broken lines, and no text at all: the good lines are found."""
    good = b'nv_inference_pending_request_count{model="alpha",version="1"} 7\n'
    noise = b'vllm:thing{a="b"} 1\n\xff\xfe\x00\nnv_inference_pending_request_count{model=\n' * 80_000
    assert len(noise) > 5_000_000
    scripted_triton.script.behave("metrics", behaviour=Behaviour(answer=noise + good + noise))
    reading = await source().poll()
    assert reading.failures == ()
    assert reading.pending == ((ALPHA, 7),)


@pytest.mark.parametrize(("status", "failure"), [(404, Failure.ERROR), (500, Failure.ERROR)])
async def test_other_http_statuses_are_errors(
    source: Open, scripted_triton: ScriptedTriton, status: int, failure: Failure
) -> None:
    """Neither 200 nor 400 says anything of Triton's liveness."""
    scripted_triton.script.behave("http_live", "metrics", behaviour=Behaviour(status=status))
    reading = await source().poll()
    assert how(reading) == {"http_live": failure, "metrics": failure}
    assert str(status) in reading.failures[0].detail
    scripted_triton.script.behave("http_live", behaviour=Behaviour(status=400))
    assert (await source().poll()).http_live is False


async def test_a_connection_dropped_without_a_word_is_refused(
    source: Open, scripted_triton: ScriptedTriton
) -> None:
    """A server that closes before it answers is on its way down."""
    scripted_triton.script.behave("http_live", behaviour=Behaviour(drop=True))
    assert how(await source().poll()) == {"http_live": Failure.REFUSED}


async def test_an_answer_that_drips_ends_with_the_deadline(source: Open) -> None:
    """A byte at a time, each in time, for ever: the deadline is for the whole; the thread is free again."""
    proper = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.recv(4096)
        if proper.is_set():
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return
        for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 10_000:
            connection.sendall(bytes((byte,)))
            time.sleep(0.02)

    with listening(talk) as address:
        watched = source(http=address, timeout=TIMEOUT)
        for _ in range(2):
            began = time.monotonic()
            assert how(await watched.poll()) == {"http_live": Failure.TIMEOUT}
            assert time.monotonic() - began < AT_MOST
        proper.set()
        assert (await watched.poll()).http_live is True


@pytest.mark.parametrize(
    ("greeting", "grpc_failure", "http_failure"),
    [
        (b"", Failure.TIMEOUT, Failure.TIMEOUT),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Failure.GARBAGE, Failure.GARBAGE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n", Failure.GARBAGE, Failure.TIMEOUT),
        (b"\x00\x01\x02\n\n\n\n" * 4, Failure.GARBAGE, Failure.GARBAGE),
        (b"HTTP/1.1 " + b"9" * 70_000 + b"\r\n\r\n", Failure.GARBAGE, Failure.GARBAGE),
    ],
    ids=["silence", "ssh", "a broken length", "zeros", "an endless status"],
)
async def test_what_speaks_another_protocol_is_told_from_what_is_silent(
    source: Open, greeting: bytes, grpc_failure: Failure, http_failure: Failure
) -> None:
    """On gRPC's port and on HTTP's, within the deadline; control characters do not reach a message."""
    with RawListener(greeting) as listener:
        reading = await source(grpc=listener.address, http=listener.address, timeout=2.0).poll()
    told = how(reading)
    assert told["live"] is grpc_failure
    assert told["http_live"] is http_failure
    assert all(each.detail.isprintable() for each in reading.failures)


async def test_a_port_that_closes_every_connection_is_refused(source: Open) -> None:
    """A proxy without its server, say: it took the connection, and it does not speak TLS either."""
    with listening(lambda _: None) as address:
        reading = await source(grpc=address).poll()
    assert how(reading) == {"live": Failure.REFUSED}


def test_the_client_library_writes_nothing_of_its_own(scripted_triton: ScriptedTriton) -> None:
    """Standard error belongs to our log; a failed handshake must not put lines of C in between."""
    code = f"""
import asyncio
from probe.settings import TritonSettings
from probe.settings.schema import TlsSettings
from probe.sources.triton.source import TritonSource
async def main():
    source = TritonSource(TritonSettings(grpc="{scripted_triton.grpc}", tls=TlsSettings(enabled=True)))
    print((await source.poll()).failed("live").failure)
    await source.close()
asyncio.run(main())
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert (ran.stdout, ran.stderr) == ("tls\n", "")


async def test_why_requests_failed_is_asked_for_models_that_only_fail(
    source: Open, scripted_triton: ScriptedTriton
) -> None:
    """From the first failure after a success to the next success; of all others nothing is read."""
    script, watched = scripted_triton.script, source()
    script.models.append(ScriptedModel("beta", failure=7, rejected=7))
    assert (await watched.poll()).failure_reasons == (), "what was before the first look is the past"
    alpha = script.model("alpha")
    alpha.failure, alpha.rejected, alpha.canceled = 9, 4, 2
    why = ((ALPHA, FailureReasons(rejected=4, canceled=2, other=3)),)
    assert (await watched.poll()).failure_reasons == why
    assert (await watched.poll()).failure_reasons == why, "until it succeeds"
    alpha.served()
    assert (await watched.poll()).failure_reasons == ()
    alpha.failure += 1
    assert len((await watched.poll()).failure_reasons) == 1
    alpha.forget()
    assert (await watched.poll()).failure_reasons == (), "another load"
