"""Is an answer whole, of the declared types and shapes, and the expected one?"""

from __future__ import annotations

import struct
from typing import Any

import pytest

from probe.sources.triton.canary_answers import Answer
from probe.sources.triton.protos import messages
from probe.sources.triton.signatures import Port, Signature

O = Port("O", "FP32", (-1,))  # noqa: E741  (an output)
T = Port("T", "BYTES", (1,))


def response(*outputs: tuple[str, str, tuple[int, ...], bytes]) -> Any:  # noqa: ANN401
    """A response with these outputs."""
    answer = messages.ModelInferResponse()
    for name, datatype, shape, raw in outputs:
        answer.outputs.add(name=name, datatype=datatype, shape=shape)
        answer.raw_output_contents.append(raw)
    return answer


def floats(*values: float, name: str = "O") -> tuple[str, str, tuple[int, ...], bytes]:
    """An output of these."""
    return name, "FP32", (len(values),), struct.pack(f"<{len(values)}f", *values)


def verdict(answer: Answer, *responses: Any) -> str:  # noqa: ANN401
    """What is wrong with these responses, ``right`` where nothing is."""
    try:
        for each in responses:
            answer.take(each)
        answer.finish()
    except ValueError as error:
        return str(error)
    return "right"


def of(*ports: Port, batch: int = 0, decoupled: bool = False, **expected: Any) -> Answer:  # noqa: ANN401
    """An answer of a model with these outputs, of which this is expected."""
    return Answer(Signature((), ports, batch, decoupled=decoupled), expected, 1e-3)


TEXT = ("T", "BYTES", (1,), b"\x02\0\0\0ab")


@pytest.mark.parametrize(
    ("answer", "given", "said"),
    [
        (of(O), [response(floats(1, 2))], "right"),
        (of(O, T), [response(floats(1), TEXT)], "right"),
        (of(O), [response(floats(1), floats(1, name="extra"))], "right"),
        (of(O, T), [response(floats(1))], "the answer lacks the output T"),
        (of(O, T), [response()], "the answer lacks the output O, T"),
        (of(O), [], "the answer lacks the output O"),
        (of(O), [response(("O", "FP16", (1,), b"12"))], "the output O is FP16, declared as FP32"),
        (of(O), [response(("O", "", (1,), b"12"))], "the output O is of no type, declared as FP32"),
        (of(O), [response(("O", "FP32", (1, 1), b"1234"))], "has the shape [1, 1], declared as [-1]"),
        (of(O), [response(("O", "FP32", (-1,), b""))], "has the shape [-1], declared as [-1]"),
        (of(O, batch=2), [response(("O", "FP32", (3, 1), bytes(12)))], "declared as [1..2, -1]"),
        (of(O, batch=2), [response(("O", "FP32", (), bytes(4)))], "declared as [1..2, -1]"),
        (of(O, batch=2), [response(("O", "FP32", (1, 3), bytes(12)))], "right"),
        (of(O), [response(("O", "FP32", (2,), b"1234"))], "the output O has 4 bytes, and its shape 8"),
        (
            of(T),
            [response(("T", "BYTES", (1,), b"\x09\0\0\0a"))],
            "the output T ends within a text of 9 bytes",
        ),
    ],
)
def test_a_whole_answer_has_every_declared_output(answer: Answer, given: list[Any], said: str) -> None:
    """In the declared type, in a shape that fits, with as many bytes as that takes."""
    assert said in verdict(answer, *given)


def test_outputs_and_contents_must_be_as_many() -> None:
    """Else nobody knows which belong together."""
    lame = response(floats(1))
    del lame.raw_output_contents[:]
    assert verdict(of(O), lame) == "the answer has 1 outputs and the contents of 0"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (floats(1, 2.0001), "right"),
        (floats(1, 2.1), "the output O is 2.1 in value 2 of 2, expected 2"),
        (floats(1), "the output O has the shape [1], expected [2]"),
    ],
)
def test_the_expected_answer_is_compared_value_by_value(
    given: tuple[str, str, tuple[int, ...], bytes], said: str
) -> None:
    """The first that differs is told."""
    assert verdict(of(O, O=((2,), [1.0, 2.0])), response(given)) == said


def test_texts_are_compared_exactly() -> None:
    """And shown as text."""
    assert verdict(of(T, T=((1,), [b"ab"])), response(TEXT)) == "right"
    wrong = of(T, T=((1,), [b"b"]))
    assert verdict(wrong, response(TEXT)) == "the output T is 'ab' in value 1 of 1, expected 'b'"


def test_a_stream_is_right_with_any_response_and_no_output_need_come() -> None:
    """A decoupled model gives what it has; that it gives something, and what is expected, is asked of it."""
    assert verdict(of(O, T, decoupled=True), response(floats(1)), response(floats(2)), response()) == "right"
    assert verdict(of(O, decoupled=True), response()) == "the stream ended without any response"
    assert (
        verdict(of(O, T, decoupled=True, T=((1,), [b"a"])), response(floats(1)))
        == "the answer lacks the output T"
    )


def test_the_values_of_a_stream_are_compared_in_a_row() -> None:
    """Whatever the responses are that they come in."""
    told = of(O, decoupled=True, O=((3,), [1.0, 2.0, 3.0]))
    assert verdict(told, response(floats(1)), response(floats(2, 3)), response()) == "right"
    told = of(O, decoupled=True, O=((3,), [1.0, 2.0, 3.0]))
    assert verdict(told, response(floats(1))) == "the output O has 1 values, expected 3"


def test_more_values_than_anybody_expects_are_not_kept() -> None:
    """A stream may be long; what is compared is bounded."""
    told = of(O, decoupled=True, O=((1,), [1.0]))
    long = response(floats(*([1.0] * 600_000)))
    assert "more values than any that is expected" in verdict(told, long, long)
