"""Loads and reloads through the Triton source: the real tritonserver's, and those that a scripted one refuses."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest

from probe.facts.triton import Failure
from probe.sandbox.client import TritonError
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from probe.settings import TritonSettings
from probe.sources.triton.orders import PARTING
from probe.sources.triton.source import TritonSource
from testbed.crashes import lives
from testbed.scripted.script import ScriptedModel
from testbed.scripted.server import ScriptedTriton
from testbed.tools import until

StartTriton = Callable[..., TritonServer]
Open = Callable[..., TritonSource]

TIMEOUT = 0.3
LOAD, UNLOAD = "RepositoryModelLoad", "RepositoryModelUnload"


@pytest.fixture
async def source() -> AsyncIterator[Open]:
    """Make a source for a server; all are closed with the test."""
    opened: list[TritonSource] = []

    def make(server: TritonServer | ScriptedTriton, timeout: float = 20.0) -> TritonSource:
        settings = TritonSettings(server.grpc, server.http, server.metrics, timeout)
        opened.append(TritonSource(settings))
        return opened[-1]

    yield make
    for each in opened:
        await each.close()


@pytest.fixture
def scripted(scripted_triton: ScriptedTriton) -> ScriptedTriton:
    """A scripted Triton with one model, in EXPLICIT mode."""
    scripted_triton.script.models.append(ScriptedModel("alpha"))
    return scripted_triton


# The real one


async def test_a_reload_brings_every_instance_back_whatever_the_unload_does(
    triton: StartTriton, repository: Repository, source: Open
) -> None:
    """The dead stub has failed a request, so that this unload never ends; the load works all the same."""
    repository.add_echo(instances=2, kind="KIND_CPU").add_ensemble("pipeline", steps=("echo",))
    server = triton(control_mode="explicit", load_models=("*",)).wait_ready()
    asked = source(server)
    # Its first load wrote __pycache__ beside the model, so that the next one finds another model.
    assert await asked.load_model("echo", 60) is None
    before = {each.inside_pid for each in server.stubs("echo")}
    os.kill(server.stubs("echo")[0].pid, signal.SIGKILL)
    for _ in range(2):
        with contextlib.suppress(TritonError):
            await asyncio.to_thread(server.client.infer, "echo", [1.0])
    assert await asked.load_model("echo", 60) is None
    left = {each.inside_pid for each in server.stubs("echo")}
    assert left < before, "a load of what is loaded and did not change does nothing"
    assert await asked.reload_model("echo", 60) is None
    assert len({each.inside_pid for each in server.stubs("echo")} - before) == 2
    for _ in range(4):
        assert await asyncio.to_thread(server.client.infer, "echo", [1.0]) == [1.0]
    # The ensemble above it went with the unload, and came back with the load.
    assert await asyncio.to_thread(server.client.infer, "pipeline", [1.0]) == [1.0]


async def test_polls_go_on_while_a_model_loads_and_a_load_goes_on_when_nobody_waits_for_it(
    triton: StartTriton, repository: Repository, source: Open, tmp_path: Path
) -> None:
    """A load that takes long holds up no other call; given 0.3 s, it is a timeout here and a load there."""
    loaded = tmp_path / "loaded"
    repository.add_waiting_initialize("slow", loaded, kind="KIND_CPU")
    server = triton(control_mode="explicit")
    asked = source(server)
    loading = asyncio.ensure_future(asked.load_model("slow", PARTING))
    assert (await asked.poll()).live
    failed = await loading
    assert failed is not None
    assert failed.failure is Failure.TIMEOUT
    assert (await asked.poll()).live
    assert not server.client.model_ready("slow"), "both polls were answered while it loads"
    loaded.touch()
    await asyncio.to_thread(until, lambda: server.client.model_ready("slow"))


async def test_what_triton_says_of_a_load_that_fails_is_passed_on(
    triton: StartTriton, repository: Repository, source: Open, servers: list[TritonServer]
) -> None:
    """A model that raises, one that is not there, and a server that loads nothing on demand."""
    repository.add_echo(kind="KIND_CPU").add_failing_initialize("fragile", kind="KIND_CPU")
    for life in lives(servers):
        with life:
            asked = source(triton(control_mode="explicit"))
            raised = await asked.load_model("fragile", 60)
            assert raised is not None
            assert "this sample model always fails" in raised.detail
            absent = await asked.reload_model("absent", 60)
            assert absent is not None
            assert absent.failure is Failure.ERROR
            assert "absent" in absent.detail
    servers[-1].stop()
    unwilling = source(triton())
    refused = await unwilling.load_model("echo", 60)
    assert refused is not None
    assert "explicit model load / unload is not allowed" in refused.detail


# Scripted


async def test_an_unload_that_never_answers_is_abandoned_and_the_load_follows(
    scripted: ScriptedTriton, source: Open
) -> None:
    """Each call with a deadline of its own."""
    scripted.script.hang(UNLOAD)
    began = time.monotonic()
    assert await source(scripted, TIMEOUT).reload_model("alpha", 50) is None
    assert time.monotonic() - began >= TIMEOUT
    # What is left of each deadline when the call has come in; on its way gRPC rounds it up.
    left = {call: seconds for call, seconds in scripted.script.deadlines if seconds is not None}
    assert 0 < left[UNLOAD] < 1 < left[LOAD] < 60


async def test_a_load_waits_for_no_other_call(scripted: ScriptedTriton, source: Open) -> None:
    """A poll that hangs holds it up no more than it holds up the poll."""
    scripted.script.hang("ServerLive")
    asked = source(scripted, 60.0)
    polling = asyncio.ensure_future(asked.poll())
    await asyncio.to_thread(until, lambda: scripted.script.calls["ServerLive"])
    assert await asked.load_model("alpha", 50) is None
    assert not polling.done()
    scripted.script.recover()
    assert (await polling).live


@pytest.mark.parametrize("call", ["load_model", "reload_model"])
async def test_every_failure_is_a_fact(scripted: ScriptedTriton, source: Open, call: str) -> None:
    """A timeout, garbage, an error, a header that is wanted, nobody there: none of them raises."""
    asked = getattr(source(scripted), call)
    script = scripted.script
    script.hang(LOAD)
    assert (await asked("alpha", 0.2)).failure is Failure.TIMEOUT
    script.recover()
    script.garbage(b"\xff\xff", LOAD)
    assert (await asked("alpha", 20)).failure is Failure.GARBAGE
    script.recover()
    script.fail(grpc.StatusCode.INTERNAL, "so it is", LOAD)
    failed = await asked("alpha", 20)
    assert (failed.failure, failed.detail, failed.call) == (Failure.ERROR, "so it is", "load alpha")
    script.recover()
    script.restricted["model-repository"] = ("key", "value")
    assert (await asked("alpha", 20)).failure is Failure.RESTRICTED
    scripted.stop()
    assert (await asked("alpha", 20)).failure is Failure.REFUSED


@pytest.mark.parametrize("hung", [UNLOAD, LOAD])
async def test_a_probe_that_is_stopped_in_the_midst_leaves_the_model_loaded(
    scripted: ScriptedTriton, source: Open, hung: str
) -> None:
    """Told to stop between unload and load it still sends the load, and waits for it no longer than a moment."""
    scripted.script.hang(hung)
    reloading = asyncio.ensure_future(source(scripted).reload_model("alpha", 60))
    await asyncio.to_thread(until, lambda: scripted.script.calls[hung])
    began = time.monotonic()
    reloading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reloading
    assert time.monotonic() - began < 30, "the load had 60 s"
    until(lambda: scripted.script.calls[LOAD] == 1)
