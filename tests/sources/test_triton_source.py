"""The Triton source against the real tritonserver: what it answers, and each way in which it can not."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from probe.facts.models import InstanceGroup, InstanceKind, ModelState, ModelStatistics, ModelVersion
from probe.facts.processes import ProcessState
from probe.facts.triton import CallFailure, Failure, FailureReasons, Inquiry, TritonReading
from probe.sandbox.client import TritonError
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer, free_ports
from probe.settings import TritonSettings
from probe.sources.triton.source import TritonSource
from testbed import tools

StartTriton = Callable[..., TritonServer]
Open = Callable[..., TritonSource]

ECHO = ModelVersion("echo", "1")


@pytest.fixture
async def source() -> AsyncIterator[Open]:
    """Make a source for a server (or for addresses), with patience; all are closed with the test."""
    opened: list[TritonSource] = []

    def make(server: TritonServer | None = None, **settings: Any) -> TritonSource:  # noqa: ANN401
        if server is not None:
            where = {"grpc": server.grpc, "http": server.http, "metrics": server.metrics}
            settings = {**where, **settings}
        opened.append(TritonSource(TritonSettings(**{"timeout": 20.0, **settings})))
        return opened[-1]

    yield make
    for each in opened:
        await each.close()


async def until(
    look: Callable[[], Awaitable[TritonReading]], wanted: Callable[[TritonReading], object]
) -> TritonReading:
    """Look again and again until the reading is what is wanted."""
    deadline = time.monotonic() + tools.PATIENCE
    while not wanted(reading := await look()):
        assert time.monotonic() < deadline, f"not in {tools.PATIENCE} s: {reading}"
        await asyncio.sleep(0.02)
    return reading


async def test_a_poll_brings_everything_that_is_cheap(source: Open, shared_triton: TritonServer) -> None:
    """Version, liveness over both protocols, strict readiness, every ready version's counters and queue."""
    watched = source(shared_triton)
    reading = await watched.poll()
    assert (reading.version, reading.live, reading.http_live) == ("2.51.0", True, True)
    assert reading.ready is False, "some models of this server failed to load"
    assert "model_repository" in reading.extensions
    assert reading.failures == ()
    assert reading.statistics is not None
    keys = {each.key for each in reading.statistics}
    assert {ECHO, ModelVersion("batched", "3"), ModelVersion("pipeline", "1")} <= keys
    assert ModelVersion("wants_gpu", "1") not in keys, "statistics know only ready versions"
    assert reading.pending is not None
    assert dict(reading.pending)[ECHO] == 0
    assert reading.gpu_memory_used == ()


def rows(reading: TritonReading) -> dict[ModelVersion, ModelStatistics]:
    """What was counted, by model version."""
    return {each.key: each for each in reading.statistics or ()}


async def test_counters_follow_the_requests(source: Open, shared_triton: TritonServer) -> None:
    """An inference moves its model's counters, and nothing else's."""
    watched = source(shared_triton)
    before = rows(await watched.poll())
    await asyncio.to_thread(shared_triton.client.infer, "echo", [1.0])
    # Triton counts after it has answered.
    after = rows(await until(watched.poll, lambda seen: rows(seen)[ECHO] != before[ECHO]))
    assert after[ECHO].success == before[ECHO].success + 1
    assert after[ECHO].compute_infer_ns > before[ECHO].compute_infer_ns
    assert abs(after[ECHO].last_inference_ms / 1000 - time.time()) < 60
    implicit = ModelVersion("implicit", "1")
    assert after[implicit] == before[implicit]


async def test_an_inquiry_brings_configurations_readiness_and_the_index(
    source: Open, shared_triton: TritonServer
) -> None:
    """As Triton resolved them: groups with their kinds and names, steps, load errors with their texts."""
    pipeline, absent = ModelVersion("pipeline", "1"), ModelVersion("absent", "1")
    inquiry = Inquiry(
        configs=(ECHO, ModelVersion("implicit", "1"), pipeline, absent), readiness=(ECHO, absent), index=True
    )
    told = await source(shared_triton).inquire(inquiry, budget=60.0)
    echo, implicit, ensemble = told.configs
    assert echo.key == ECHO
    assert echo.backend == "python"
    assert echo.groups == (InstanceGroup("echo_0", InstanceKind.CPU, 2),)
    assert implicit.groups == (InstanceGroup("implicit", InstanceKind.CPU, 1),)
    assert ensemble.ensemble
    assert ensemble.steps == (ModelVersion("implicit", ""), ModelVersion("echo", ""))
    assert told.readiness == ((ECHO, True),), "of what is not loaded, not ready is no news"
    index = {each.key.name: each for each in told.index or ()}
    assert index["echo"].state is ModelState.READY
    assert index["wants_gpu"].state is ModelState.UNAVAILABLE
    assert "KIND_GPU but no GPUs are available" in index["wants_gpu"].reason
    assert [(each.call, each.failure) for each in told.failures] == [("config absent/1", Failure.ERROR)]


async def test_still_ready_tells_an_unload_from_a_death(source: Open, shared_triton: TritonServer) -> None:
    """A loaded model's versions, none once it is unloaded or for a name that is unknown."""
    watched, client = source(shared_triton), shared_triton.client

    async def versions(name: str) -> tuple[ModelVersion, ...]:
        answer = await watched.still_ready(name)
        assert not isinstance(answer, CallFailure)
        return answer[1]

    assert await versions("batched") == (ModelVersion("batched", "1"), ModelVersion("batched", "3"))
    assert await versions("absent") == ()
    await asyncio.to_thread(client.unload, "batched")
    try:
        deadline = time.monotonic() + tools.PATIENCE
        while await versions("batched"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
    finally:
        await asyncio.to_thread(client.load, "batched")
    assert len(await versions("batched")) == 2


async def test_nothing_that_listens_is_refused(source: Open) -> None:
    """Over both protocols, at once, with the kernel's words."""
    grpc, http = free_ports(2)
    reading = await source(grpc=f"127.0.0.1:{grpc}", http=f"127.0.0.1:{http}").poll()
    assert (reading.live, reading.ready, reading.http_live, reading.statistics) == (None, None, None, None)
    assert {each.call: each.failure for each in reading.failures} == {
        "live": Failure.REFUSED,
        "http_live": Failure.REFUSED,
    }
    assert all("onnection refused" in each.detail for each in reading.failures)


@pytest.mark.parametrize("connected", [True, False], ids=["a connection of old", "a new connection"])
async def test_a_stopped_server_is_a_timeout_and_comes_back(
    source: Open, triton: StartTriton, *, connected: bool
) -> None:
    """Both protocols time out within the deadline, and answer on the same channel once it goes on."""
    server = triton()
    watched = source(server, timeout=0.4)
    if connected:
        await until(watched.poll, lambda seen: seen.live and seen.http_live)
    server.kill(signal.SIGSTOP)
    # The signal is sent before its threads have stopped.
    tools.until(lambda: (process := server.program.look()) and process.state is ProcessState.STOPPED)
    for _ in range(2):
        began = time.monotonic()
        reading = await watched.poll()
        assert time.monotonic() - began < 20, "each call has 0.4 s"
        assert {each.call: each.failure for each in reading.failures} == {
            "live": Failure.TIMEOUT,
            "http_live": Failure.TIMEOUT,
        }
    server.program.send_signal(signal.SIGCONT)
    await until(watched.poll, lambda seen: seen.live and seen.http_live)


async def test_a_server_that_was_started_again_is_seen(source: Open, triton: StartTriton) -> None:
    """Killed: refused.  Started again on the same ports: answered by the same source, with its release."""
    first = triton()
    watched = source(first)
    assert (await watched.poll()).live
    first.kill(signal.SIGKILL)
    await asyncio.to_thread(first.program.wait, tools.PATIENCE)
    gone = await watched.poll()
    assert {each.failure for each in gone.failures} == {Failure.REFUSED}
    assert gone.version is None, "the next one may be another release"
    refused = asyncio.create_task(until(watched.poll, lambda seen: seen.live and seen.version))
    await asyncio.to_thread(triton, ports=first.ports)
    assert (await refused).version == "2.51.0"


async def test_a_restricted_protocol_says_so_and_opens_for_the_header(
    source: Open, triton: StartTriton
) -> None:
    """Triton says UNAVAILABLE, as a dead one would; the header of the settings opens both protocols."""
    server = triton(
        arguments=(
            "--grpc-restricted-protocol=health,metadata,statistics:secret=open sesame",
            "--http-restricted-api=health:secret=open sesame",
        ),
        live=False,
    )
    bare = source(server)
    reading = await until(bare.poll, _came_up)
    assert {each.call: each.failure for each in reading.failures} == {
        "live": Failure.RESTRICTED,
        "http_live": Failure.RESTRICTED,
    }
    assert "triton-grpc-protocol-secret" in reading.failures[0].detail
    wrong = source(server, headers={"triton-grpc-protocol-secret": "Open Sesame"})
    assert {each.failure for each in (await wrong.poll()).failures} == {Failure.RESTRICTED}
    opened = source(server, headers={"Triton-Grpc-Protocol-Secret": "open sesame"})
    # The metrics port opens last.
    reading = await until(opened.poll, lambda seen: not seen.failures)
    assert (reading.live, reading.http_live, reading.version) == (True, True, "2.51.0")
    assert reading.failures == ()


def _came_up(reading: TritonReading) -> bool:
    return not {each.failure for each in reading.failures} & {Failure.REFUSED, Failure.TIMEOUT}


async def test_unix_sockets_serve_as_well_as_ports(
    source: Open, triton: StartTriton, repository: Repository, tmp_path: Path
) -> None:
    """All three addresses may be sockets; gRPC's has the port's number at its end."""
    repository.add_echo()
    sockets = {each: tmp_path / each for each in ("grpc", "http", "metrics")}
    server = triton(arguments=[f"--{name}-address=unix:{path}" for name, path in sockets.items()], live=False)
    watched = source(
        grpc=f"unix:{sockets['grpc']}:{server.ports[0]}",
        http=f"unix:{sockets['http']}",
        metrics=f"unix:{sockets['metrics']}",
    )
    reading = await until(watched.poll, lambda seen: seen.pending and not seen.failures)
    assert (reading.live, reading.http_live) == (True, True)
    assert reading.pending == ((ECHO, 0),)


async def test_no_proxy_of_the_environment_comes_between(
    source: Open, shared_triton: TritonServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sidecar reaches its own pod, whatever the cluster's proxy settings say."""
    (dead,) = free_ports(1)
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{dead}")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    reading = await source(shared_triton).poll()
    assert (reading.live, reading.http_live, reading.failures) == (True, True, ())
    assert reading.pending


async def test_why_requests_failed_and_how_long_executions_took_is_told(
    source: Open, triton: StartTriton, repository: Repository
) -> None:
    """A model that raises is at fault (BACKEND); an execution of several requests counts its time once."""
    repository.add_raise(kind="KIND_CPU").add_python(
        "batched",
        kind="KIND_CPU",
        max_batch_size=4,
        # The instance is busy with the first request while the others gather.
        parameters={"execute_seconds": "1.0"},
    )
    written = repository.path / "batched" / "config.pbtxt"
    written.write_text(f"{written.read_text()}dynamic_batching {{ max_queue_delay_microseconds: 100000 }}\n")
    server = await asyncio.to_thread(triton)
    watched = source(server)
    await watched.poll()
    for _ in range(3):
        with pytest.raises(TritonError):
            await asyncio.to_thread(server.client.infer, "raise")
    asked = (asyncio.to_thread(server.client.infer, "batched", [1.0], batched=True) for _ in range(5))
    await asyncio.gather(*asked)
    raising, together = ModelVersion("raise", "1"), ModelVersion("batched", "1")
    # Triton counts after it has answered, and the reasons apart from the failures.
    reading = await until(
        watched.poll,
        lambda seen: (
            seen.failure_reasons == ((raising, FailureReasons(other=3)),)
            and rows(seen)[raising].failure == 3
            and rows(seen)[together].inferences == 5
        ),
    )
    batched = rows(reading)[together]
    assert batched.executions < batched.inferences
    assert 0 < batched.batch_infer_ns < batched.compute_infer_ns
    told = await watched.inquire(Inquiry(configs=(together,)), budget=60.0)
    assert told.configs[0].held_back_seconds == 0.1
