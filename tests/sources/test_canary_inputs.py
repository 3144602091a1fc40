"""With which inputs a canary is sent, and what is said where it can not be made."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from probe.facts.canaries import CanaryOrder, CanaryOrigin
from probe.sources.triton.canary_files import warmup_file
from probe.sources.triton.canary_inputs import LARGEST, Making, UnsendableError
from probe.sources.triton.protos import messages
from probe.sources.triton.signatures import Port, Signature, WarmupInput, signature
from tests.worlds import key

INPUTS, WARMUP, GENERATED = CanaryOrigin
X = Port("X", "FP32", (-1,))
Y = Port("Y", "INT64", (2, 2))


def making(told: Signature, *origins: CanaryOrigin, read: Any = None, **order: Any) -> Making:  # noqa: ANN401
    """How a canary of this signature is made."""
    return Making(CanaryOrder(key("m"), origins or (INPUTS,), **order), told, read or (lambda *_: b""))


def plain(*inputs: Port, outputs: tuple[Port, ...] = (), batch: int = 0, **more: Any) -> Signature:  # noqa: ANN401
    """A model that takes these."""
    return Signature(inputs, outputs, batch, **more)


@pytest.mark.parametrize(
    ("told", "given", "shape"),
    [
        (plain(X), {"X": [1, 2.5]}, (2,)),
        (plain(X), {"X": 1}, (1,)),
        (plain(X, batch=4), {"X": [1, 2.5]}, (1, 2)),
        (plain(X, batch=4), {"X": [[1], [2], [3]]}, (3, 1)),
        (plain(X, batch=4), {"X": 1}, (1, 1)),
        (plain(Y), {"Y": [[1, 2], [3, 4]]}, (2, 2)),
        (plain(Port("B", "BYTES", (1,))), {"B": "hello"}, (1,)),
        (plain(Port("Z", "FP32", ())), {"Z": 1.0}, ()),
        (plain(X, Port("O", "FP32", (1,), optional=True)), {"X": [0]}, (1,)),
    ],
)
def test_given_inputs_are_sent_as_they_are(
    told: Signature, given: dict[str, Any], shape: tuple[int, ...]
) -> None:
    """The batch of one may be left out, and the brackets of a single value."""
    (made,) = making(told, inputs=given).inputs()
    assert made.shape == shape
    assert made.datatype == told.inputs[0].datatype


@pytest.mark.parametrize(
    ("told", "given", "says"),
    [
        (plain(X), {"x": [1]}, "canary.m.inputs.x: the model has no such input, did you mean X?"),
        (plain(X), {"foo": [1]}, "canary.m.inputs.foo: the model has no such input, expected one of X"),
        (plain(), {"foo": [1]}, "canary.m.inputs.foo: the model has no such input, expected one of none"),
        (plain(X, Y), {"X": [1]}, "canary.m.inputs.Y: not given, expected a tensor of INT64 [2, 2]"),
        (plain(Y), {"Y": [1, 2]}, "canary.m.inputs.Y: found the shape [2], expected [2, 2] of INT64"),
        (plain(X, batch=2), {"X": [[1], [1], [1]]}, "found the shape [3, 1], expected [1..2, -1] of FP32"),
        (plain(X), {"X": ["a"]}, "canary.m.inputs.X: found 'a', expected a number (FP32)"),
        (
            plain(X),
            {"X": [[1], [1, 2]]},
            "canary.m.inputs.X: found lists of different lengths in dimension 2",
        ),
        (
            plain(Port("X", "", (1,))),
            {"X": [1]},
            "the model's own configuration gives X a datatype of no meaning",
        ),
    ],
)
def test_given_inputs_that_do_not_fit_are_told_with_their_key(
    told: Signature, given: dict[str, Any], says: str
) -> None:
    """What was found and what was expected."""
    with pytest.raises(UnsendableError) as raised:
        making(told, inputs=given).inputs()
    assert says in str(raised.value)


def test_generated_inputs_are_the_least_that_fit() -> None:
    """Zeros, a batch of one, 1 for any, an empty text; what is optional is left out."""
    told = plain(X, Y, Port("B", "BYTES", (2,)), Port("O", "FP32", (1,), optional=True), batch=8)
    made = making(told, GENERATED).inputs()
    assert [(each.name, each.shape) for each in made] == [("X", (1, 1)), ("Y", (1, 2, 2)), ("B", (1, 2))]
    assert made[0].raw == bytes(4)
    assert made[2].raw == bytes(8)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (plain(Port("S", "INT32", (2,), shape_tensor=True)), "the input S is a shape tensor"),
        (plain(Port("L", "FP32", (1 << 40,))), f"expected at most {LARGEST}"),
        (plain(Port("A", "INT8", (LARGEST,)), Port("B", "BYTES", (1,))), "or more, expected at most"),
    ],
)
def test_what_can_not_be_made_up_is_told(told: Signature, says: str) -> None:
    """With the key that can say it."""
    with pytest.raises(UnsendableError, match=says) as raised:
        making(told, GENERATED).inputs()
    assert "canary.m.inputs" in str(raised.value)


def test_a_warmup_is_sent_as_triton_sends_it() -> None:
    """Its zeros, small numbers for random ones, and its file; a batch becomes a batch of one."""
    told = plain(
        X,
        batch=8,
        warmup=(
            WarmupInput("X", "FP32", (2,), "zero"),
            WarmupInput("R", "INT64", (3,), "random"),
            WarmupInput("F", "FP32", (2,), "file", "raw"),
        ),
    )
    asked: list[tuple[str, int]] = []

    def read(name: str, most: int) -> bytes:
        asked.append((name, most))
        return struct.pack("<2f", 1.5, 2.5)

    assert making(told, WARMUP, read=read).reads_files
    assert not making(told, INPUTS, read=read).reads_files
    assert not making(plain(X), WARMUP, read=read).reads_files
    made = making(told, WARMUP, read=read).inputs()
    assert [(each.name, each.shape) for each in made] == [("X", (1, 2)), ("R", (1, 3)), ("F", (1, 2))]
    assert made[1].raw == struct.pack("<3q", 0, 1, 0)
    assert made[2].raw == struct.pack("<2f", 1.5, 2.5)
    assert asked == [("raw", 8)]


def test_the_warmup_comes_before_what_would_be_made_up() -> None:
    """Only a model without one gets generated inputs."""
    zeros = (WarmupInput("X", "FP32", (7,), "zero"),)
    (made,) = making(plain(X, warmup=zeros), WARMUP, GENERATED).inputs()
    assert made.shape == (7,)
    (made,) = making(plain(X), WARMUP, GENERATED).inputs()
    assert made.shape == (1,)


@pytest.mark.parametrize(
    ("told", "order", "says"),
    [
        (plain(X), {}, "the model has no model_warmup, expected canary.m.inputs"),
        (plain(X), {"misspelt": "yes"}, "found 'yes', expected warmup, generate or off"),
        (plain(X, warmup=(WarmupInput("X", "", (1,), "zero"),)), {}, "its model_warmup gives X a datatype"),
        (plain(X, warmup=(WarmupInput("X", "INT8", (1 << 40,), "zero"),)), {}, "expected at most"),
        (plain(X, warmup=(WarmupInput("X", "INT8", (1,), ""),)), {}, "its model_warmup gives X no data"),
    ],
)
def test_a_warmup_that_can_not_be_sent_is_told(told: Signature, order: dict[str, Any], says: str) -> None:
    """Or that there is none, or a word that means nothing."""
    with pytest.raises(UnsendableError, match=says):
        making(told, WARMUP, **order).inputs()


def test_awarmup_file_that_can_not_be_used_is_told_with_the_way_out(tmp_path: Path) -> None:
    """Not there, not readable, too short, no file, or outside of its folder."""
    (tmp_path / "short").write_bytes(b"123")
    (tmp_path / "long").write_bytes(bytes(9))
    (tmp_path / "folder").mkdir()
    (tmp_path / "right").write_bytes(bytes(8))
    (tmp_path / "texts").write_bytes(b"\x02\0\0\0ab\0\0\0\0")

    def attempt(name: str, datatype: str = "FP32", folders: tuple[str, ...] = (str(tmp_path),)) -> str:
        told = plain(X, warmup=(WarmupInput("X", datatype, (2,), "file", name),))
        try:
            making(told, WARMUP, read=lambda name, most: warmup_file(folders, name, most)).inputs()
        except UnsendableError as error:
            return str(error)
        return "sent"

    assert attempt("right") == "sent"
    assert attempt("right", folders=("/absent", str(tmp_path))) == "sent"
    assert attempt("texts", "BYTES") == "sent"
    assert "has 3 bytes, and its shape 8; expected canary.m.inputs instead" in attempt("short")
    assert "has 9 bytes, and its shape 8" in attempt("long")
    assert "not a regular file" in attempt("folder")
    assert f"{tmp_path}/absent: No such file or directory" in attempt("absent")
    assert "command line" in attempt("right", folders=())
    for outside in ("../right", "/etc/passwd", "", "a\0b"):
        assert "leads out of the model's warmup folder" in attempt(outside)


def test_expected_outputs_must_be_ones_the_model_declares() -> None:
    """Name, type and shape are checked before anything is sent."""
    told = plain(X, outputs=(Port("O", "INT32", (2,)), Port("T", "BYTES", (-1,))), batch=4)
    found = making(told, expected={"O": [1, 2], "T": ["a"]}).expected()
    assert found == {"O": ((1, 2), [1, 2]), "T": ((1, 1), [b"a"])}
    for wrong, says in (
        ({"o": [1, 2]}, "canary.m.expected.o: the model has no such output, did you mean O?"),
        ({"O": [1]}, "canary.m.expected.O: found the shape [1], expected [1..4, 2] of INT32"),
        ({"O": [1.5, 2]}, "canary.m.expected.O: found '1.5', expected a whole number"),
    ):
        with pytest.raises(UnsendableError) as raised:
            making(told, expected=wrong).expected()
        assert says in str(raised.value)
    stream = plain(X, outputs=(Port("O", "INT32", (1,)),), decoupled=True)
    assert making(stream, expected={"O": [1, 2, 3]}).expected() == {"O": ((3,), [1, 2, 3])}


def test_a_signature_is_what_the_resolved_configuration_says() -> None:
    """Tensors, batch, transaction policy, the first warmup sample, and the type of correlation ids."""
    answer = messages.ModelConfigResponse()
    told = answer.config
    told.max_batch_size = 4
    told.input.add(name="X", data_type=11, dims=[-1, 3])
    told.input.add(name="B", data_type=13, dims=[1], optional=True)
    told.input.add(name="G", data_type=99, dims=[1], is_shape_tensor=True)
    told.output.add(name="O", data_type=14, dims=[2])
    told.model_transaction_policy.decoupled = True
    sample = told.model_warmup.add(name="first", batch_size=2)
    sample.inputs["X"].data_type = 11
    sample.inputs["X"].dims.extend([5, 3])
    sample.inputs["X"].input_data_file = "x"
    sample.inputs["B"].data_type = 13
    sample.inputs["B"].dims.append(1)
    sample.inputs["B"].zero_data = True
    told.model_warmup.add(name="second")
    control = told.sequence_batching.control_input.add(name="ID").control.add()
    control.kind, control.data_type = 3, 13
    assert signature(answer) == Signature(
        inputs=(
            Port("X", "FP32", (-1, 3)),
            Port("B", "BYTES", (1,), optional=True),
            Port("G", "", (1,), shape_tensor=True),
        ),
        outputs=(Port("O", "BF16", (2,)),),
        max_batch_size=4,
        decoupled=True,
        warmup=(WarmupInput("B", "BYTES", (1,), "zero"), WarmupInput("X", "FP32", (5, 3), "file", "x")),
        sequence="BYTES",
    )
    assert signature(messages.ModelConfigResponse()) == Signature((), ())
    plain_sequence = messages.ModelConfigResponse()
    plain_sequence.config.sequence_batching.max_sequence_idle_microseconds = 1
    assert signature(plain_sequence).sequence == "UINT64"
