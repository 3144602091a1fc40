"""Canaries to a scripted Triton: answers that are late, missing, garbage, or never end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from probe.facts.canaries import CanaryOrder, CanaryOrigin, CanaryOutcome, CanaryResult
from probe.settings import TritonSettings
from probe.sources.triton.protos import messages
from probe.sources.triton.source import TritonSource
from testbed.scripted.script import Group, ScriptedModel
from testbed.scripted.server import STREAM, ScriptedTriton
from testbed.tools import PATIENCE
from tests.worlds import key

PASSED, ERROR, TIMEOUT, WRONG, UNSENDABLE = CanaryOutcome
PATIENT = 25.0
"""The deadline of canaries that are answered."""
DEADLINE = 2.0
"""Of those that are not."""

Open = Callable[..., TritonSource]
TENSOR = (("INPUT", "TYPE_FP32", (-1,)),)
BACK = (("OUTPUT", "TYPE_FP32", (-1,)),)


@pytest.fixture
async def source(scripted_triton: ScriptedTriton) -> AsyncIterator[Open]:
    """Make a source for the scripted Triton, which has a plain model ``m`` and a decoupled one ``d``."""
    opened: list[TritonSource] = []

    def make(**settings: Any) -> TritonSource:  # noqa: ANN401
        told = {
            "grpc": scripted_triton.grpc,
            "http": scripted_triton.http,
            "metrics": "",
            "timeout": 20.0,
            **settings,
        }
        opened.append(TritonSource(TritonSettings(**told)))
        return opened[-1]

    scripted_triton.script.models += [
        ScriptedModel("m", groups=(Group("m_0"),), inputs=TENSOR, outputs=BACK),
        ScriptedModel("d", groups=(Group("d_0"),), inputs=TENSOR, outputs=BACK, decoupled=True, responses=3),
    ]
    yield make
    for each in opened:
        await each.close()


def order(name: str = "m", *origins: CanaryOrigin, **more: Any) -> CanaryOrder:  # noqa: ANN401
    """A canary with one value."""
    told = {"inputs": {"INPUT": [1.5]}, "deadline": PATIENT, **more}
    return CanaryOrder(key(name), origins or (CanaryOrigin.INPUTS,), **told)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what happens on the server's threads."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s"
        await asyncio.sleep(0.02)


async def came_in(server: ScriptedTriton, call: str) -> None:
    """Wait for a call to reach the server."""
    await until(lambda: server.script.calls[call])


def ended(result: CanaryResult | None) -> tuple[CanaryOutcome, str]:
    """Its outcome and detail."""
    assert result is not None
    return result.outcome, result.detail


async def test_an_answer_that_is_whole_passes(source: Open, scripted_triton: ScriptedTriton) -> None:
    """It carries our id and version, and its own deadline; the configuration is asked first."""
    script = scripted_triton.script
    result = await source().canary(order(expected={"OUTPUT": [1.5]}))
    assert ended(result) == (PASSED, "")
    assert script.calls == {"ModelConfig": 1, "ModelInfer": 1}
    (seconds,) = [each for call, each in script.deadlines if call == "ModelInfer"]
    # What is left of it when the call has come in; on its way gRPC rounds it up.
    assert seconds is not None
    assert 20.0 < seconds < PATIENT + 1.0


async def test_a_stream_is_read_to_its_final_response(source: Open) -> None:
    """All responses count, the empty last one too."""
    assert ended(await source().canary(order("d", expected={"OUTPUT": [1.5, 1.5, 1.5]}))) == (PASSED, "")
    short = await source().canary(order("d", expected={"OUTPUT": [1.5, 1.5]}))
    assert ended(short) == (WRONG, "the output OUTPUT has 3 values, expected 2")


@pytest.mark.parametrize(
    ("name", "call", "says"),
    [
        ("m", "ModelInfer", "no answer within 2 s"),
        ("d", STREAM, "1 responses and no end within 2 s"),
    ],
)
async def test_an_answer_that_never_comes_times_out_and_nothing_is_left(
    source: Open, scripted_triton: ScriptedTriton, name: str, call: str, says: str
) -> None:
    """After its own deadline the call is gone on both sides; polls go on beside it."""
    scripted_triton.script.hang(call)
    watched = source()
    begun = time.monotonic()
    out = asyncio.ensure_future(watched.canary(order(name, deadline=DEADLINE)))
    await came_in(scripted_triton, call)
    polled = await watched.poll()
    assert polled.live is True
    assert not out.done(), "the poll did not wait for the canary"
    result = await out
    assert ended(result) == (TIMEOUT, says)
    assert time.monotonic() - begun < PATIENT, "without a deadline, never"
    assert result is not None
    assert result.seconds >= DEADLINE - 0.05
    await until(lambda: scripted_triton.script.out == 0)


def message(*outputs: tuple[str, str, tuple[int, ...], bytes]) -> bytes:
    """A response with these outputs, as bytes."""
    answer = messages.ModelInferResponse()
    for name, datatype, shape, raw in outputs:
        answer.outputs.add(name=name, datatype=datatype, shape=shape)
        answer.raw_output_contents.append(raw)
    raw_answer: bytes = answer.SerializeToString()
    return raw_answer


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"\xff\xff\xff garbage \x00", "the answer of 13 bytes is not a ModelInferResponse"),
        (b"", "the answer lacks the output OUTPUT"),
        (message(("OTHER", "FP32", (1,), bytes(4))), "the answer lacks the output OUTPUT"),
        (message(("OUTPUT", "FP32", (2,), bytes(4))), "the output OUTPUT has 4 bytes, and its shape 8"),
        (message(("OUTPUT", "INT8", (1,), bytes(1))), "the output OUTPUT is INT8, declared as FP32"),
        (message(("OUTPUT", "FP32", (40_000,), bytes(160_000))), ""),
        (message(("OUTPUT", "FP32", (40_001,), bytes(160_000))), "has 160000 bytes, and its shape 160004"),
    ],
)
async def test_an_answer_that_makes_no_sense_is_wrong(
    source: Open, scripted_triton: ScriptedTriton, answer: bytes, says: str
) -> None:
    """Told in words; a large one is checked aside."""
    scripted_triton.script.garbage(answer, "ModelInfer")
    outcome, detail = ended(await source().canary(order()))
    assert outcome is (WRONG if says else PASSED)
    assert says in detail


async def test_garbage_in_a_stream_is_wrong(source: Open, scripted_triton: ScriptedTriton) -> None:
    """Also after a good response."""
    scripted_triton.script.garbage(b"\xff\xff\xff", STREAM)
    assert ended(await source().canary(order("d"))) == (
        WRONG,
        "the answer of 3 bytes is not a ModelStreamInferResponse",
    )


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("Failed to process the request(s): RuntimeError", ERROR),
        ("RuntimeError: unexpected shape for input 'X'", ERROR),
        ("unexpected inference input 'X' for model 'd'", UNSENDABLE),
        ("[request id: triton-probe-canary] expected 2 inputs but got 1 inputs for model 'd'", UNSENDABLE),
    ],
)
async def test_an_error_in_a_stream_is_told(
    source: Open, scripted_triton: ScriptedTriton, text: str, outcome: CanaryOutcome
) -> None:
    """It has no code, only Triton's text."""
    error = messages.ModelStreamInferResponse(error_message=text)
    scripted_triton.script.garbage(error.SerializeToString(), STREAM)
    refused = "canary.d.inputs: Triton does not take the request: " if outcome is UNSENDABLE else ""
    assert ended(await source().canary(order("d"))) == (outcome, refused + text)


async def test_a_stream_that_ends_without_a_final_response_has_ended(
    source: Open, scripted_triton: ScriptedTriton
) -> None:
    """Older releases mark none."""
    last = messages.ModelStreamInferResponse()
    scripted_triton.script.garbage(last.SerializeToString(), STREAM)
    assert ended(await source().canary(order("d"))) == (PASSED, "")


@pytest.mark.parametrize(
    ("code", "text", "outcome"),
    [
        (grpc.StatusCode.INTERNAL, "Stub process 'm_0_0' is not healthy.", ERROR),
        (grpc.StatusCode.UNKNOWN, "", ERROR),
        (grpc.StatusCode.INTERNAL, "RuntimeError: failed to connect to redis: connection reset", ERROR),
        (grpc.StatusCode.NOT_FOUND, "no such user", ERROR),
        (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", ERROR),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", TIMEOUT),
        (grpc.StatusCode.INVALID_ARGUMENT, "inference request batch-size must be <= 4 for 'm'", UNSENDABLE),
        (grpc.StatusCode.UNIMPLEMENTED, "no such call", UNSENDABLE),
        (grpc.StatusCode.UNAVAILABLE, "This protocol is restricted, expecting header 'x'", UNSENDABLE),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'm' is not found", None),
        (grpc.StatusCode.UNAVAILABLE, "Server exiting", None),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", None),
        (grpc.StatusCode.CANCELLED, "", None),
    ],
)
async def test_each_status_is_told_for_what_it_is(
    source: Open,
    scripted_triton: ScriptedTriton,
    code: grpc.StatusCode,
    text: str,
    outcome: CanaryOutcome | None,
) -> None:
    """The model's failure, our own fault, or nothing that says anything of the model."""
    scripted_triton.script.fail(code, text, "ModelInfer")
    result = await source().canary(order())
    assert (result.outcome if result is not None else None) is outcome
    if outcome is ERROR:
        assert result is not None
        assert result.detail == (text or "UNKNOWN")


async def test_what_the_configuration_call_says_is_no_word_of_the_model(
    source: Open, scripted_triton: ScriptedTriton
) -> None:
    """Silence teaches nothing; a refusal is told, and nothing is sent."""
    script = scripted_triton.script
    script.hang("ModelConfig")
    assert await source(timeout=0.3).canary(order()) is None
    script.recover()
    watched = source()
    script.restricted["model-config"] = ("key", "value")
    outcome, detail = ended(await watched.canary(order()))
    assert outcome is UNSENDABLE
    assert "Triton does not tell the model's configuration: This protocol is restricted" in detail
    script.restricted.clear()
    assert await watched.canary(order("absent")) is None
    script.fail(grpc.StatusCode.INTERNAL, "no", "ModelConfig")
    assert ended(await watched.canary(order()))[0] is UNSENDABLE
    assert script.calls["ModelInfer"] == 0


async def test_a_triton_that_is_away_teaches_nothing(source: Open, scripted_triton: ScriptedTriton) -> None:
    """Before, and while a canary is out; the next one after it came back passes."""
    watched = source()
    scripted_triton.stop()
    assert await watched.canary(order()) is None
    scripted_triton.start()
    deadline = time.monotonic() + PATIENCE
    while not (await watched.poll()).live:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    scripted_triton.script.hang("ModelInfer")
    out = asyncio.ensure_future(watched.canary(order(deadline=60.0)))
    await came_in(scripted_triton, "ModelInfer")
    await asyncio.to_thread(scripted_triton.stop)
    assert await out is None
    scripted_triton.script.recover()
    scripted_triton.start()
    while (again := await watched.canary(order())) is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert again.outcome is PASSED


async def test_a_channel_closed_under_a_canary_ends_it_and_not_its_task(
    source: Open, scripted_triton: ScriptedTriton
) -> None:
    """GRPC cancels the call; who awaits it was not cancelled.  A task that is cancelled ends."""
    scripted_triton.script.hang("ModelInfer", STREAM)
    for name, call in (("m", "ModelInfer"), ("d", STREAM)):
        watched = source()
        out = asyncio.ensure_future(watched.canary(order(name, deadline=60.0)))
        await came_in(scripted_triton, call)
        await watched.close()
        assert await out is None
    watched = source()
    calls = scripted_triton.script.calls["ModelInfer"]
    out = asyncio.ensure_future(watched.canary(order(deadline=60.0)))
    await until(lambda: scripted_triton.script.calls["ModelInfer"] > calls)
    out.cancel()
    with pytest.raises(asyncio.CancelledError):
        await out


async def test_inputs_that_do_not_fit_are_never_sent(source: Open, scripted_triton: ScriptedTriton) -> None:
    """The key is told."""
    outcome, detail = ended(await source().canary(order(inputs={"INPTU": [1]})))
    assert outcome is UNSENDABLE
    assert detail == "canary.m.inputs.INPTU: the model has no such input, did you mean INPUT?"
    assert scripted_triton.script.calls["ModelInfer"] == 0


async def test_what_triton_refuses_for_its_inputs_names_the_key(
    source: Open, scripted_triton: ScriptedTriton
) -> None:
    """The probe's own check can not know all that Triton does."""
    scripted_triton.script.fail(grpc.StatusCode.INVALID_ARGUMENT, "too many", "ModelInfer")
    assert (
        ended(await source().canary(order()))[1]
        == "canary.m.inputs: Triton does not take the request: too many"
    )
    made_up = await source().canary(order("m", CanaryOrigin.GENERATED, inputs={}))
    assert ended(made_up)[1] == "canary.m: Triton does not take the request: too many"


async def test_a_long_text_of_tritons_is_bounded(source: Open, scripted_triton: ScriptedTriton) -> None:
    """One line, printable."""
    scripted_triton.script.fail(grpc.StatusCode.INTERNAL, "line\nline\x00" * 500, "ModelInfer")
    outcome, detail = ended(await source().canary(order()))
    assert outcome is ERROR
    assert len(detail) <= 600
    assert detail.isprintable()


async def test_headers_that_can_not_be_sent_are_told(source: Open) -> None:
    """They are the probe's own configuration."""
    watched = source(headers={"x": "é"})
    outcome, detail = ended(await watched.canary(order()))
    assert outcome is UNSENDABLE
    assert "printable ASCII" in detail
