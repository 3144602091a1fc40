"""Tensors to bytes and back, and what is said of values that are none."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.sources.triton import tensors
from probe.sources.triton.tensors import close, decoded, elements, encoded, pattern, size_of, unfolded, zeros

WHOLE = {
    "UINT8": (0, 2**8 - 1),
    "UINT16": (0, 2**16 - 1),
    "UINT32": (0, 2**32 - 1),
    "UINT64": (0, 2**64 - 1),
    "INT8": (-(2**7), 2**7 - 1),
    "INT16": (-(2**15), 2**15 - 1),
    "INT32": (-(2**31), 2**31 - 1),
    "INT64": (-(2**63), 2**63 - 1),
}
FLOATS = {"FP16": 16, "FP32": 32, "FP64": 64}
EVERY = (*WHOLE, *FLOATS, "BF16", "BOOL", "BYTES")


def values(datatype: str) -> st.SearchStrategy[list[Any]]:
    """Lists of what this datatype holds exactly."""
    if datatype in WHOLE:
        return st.lists(st.integers(*WHOLE[datatype]))
    if datatype in FLOATS:
        return st.lists(st.floats(width=FLOATS[datatype], allow_nan=False))  # type: ignore[arg-type]
    if datatype == "BF16":
        return st.lists(
            st.integers(0, 0x7F7F).map(lambda bits: struct.unpack("<f", struct.pack("<HH", 0, bits))[0])
        )
    return st.lists(st.booleans()) if datatype == "BOOL" else st.lists(st.text())


@pytest.mark.parametrize("datatype", EVERY)
@given(data=st.data())
def test_what_was_encoded_is_decoded(datatype: str, data: st.DataObject) -> None:
    """Every datatype, every value that it holds."""
    told = data.draw(values(datatype))
    raw = encoded(datatype, told)
    tensors.check(datatype, raw, len(told))
    found = decoded(datatype, raw, len(told))
    assert found == ([each.encode() for each in told] if datatype == "BYTES" else told)
    size = size_of(datatype)
    assert size is None or len(raw) == size * len(told)


@pytest.mark.parametrize(
    ("datatype", "told", "raw"),
    [
        ("BOOL", [True, False], b"\x01\x00"),
        ("INT16", [-2], b"\xfe\xff"),
        ("UINT32", [1], b"\x01\0\0\0"),
        ("FP16", [1.0, -2], b"\x00\x3c\x00\xc0"),
        ("FP32", [1], b"\0\0\x80\x3f"),
        ("BF16", [1, -2.0, 3.140625], b"\x80\x3f\x00\xc0\x49\x40"),
        ("BF16", [1.00390625, 1.01171875], b"\x80\x3f\x82\x3f"),
        ("BF16", [math.nan, math.inf], b"\xc0\x7f\x80\x7f"),
        ("BYTES", ["", "é"], b"\0\0\0\0\x02\0\0\0\xc3\xa9"),
    ],
)
def test_bytes_are_those_of_the_protocol(datatype: str, told: list[Any], raw: bytes) -> None:
    """Little endian; BF16 is rounded to the nearest, of two to the even."""
    assert encoded(datatype, told) == raw


@pytest.mark.parametrize(
    ("datatype", "told", "says"),
    [
        ("INT8", [1, 128], "found '128', expected a number in the range of INT8"),
        ("UINT8", [-1], "found '-1', expected a number in the range of UINT8"),
        ("FP16", [1e6], "found '1000000.0', expected a number in the range of FP16"),
        ("BF16", [1e300], "in the range of BF16"),
        ("FP32", [10**400], "in the range of FP32"),
        ("INT32", [1.5], "found '1.5', expected a whole number (INT32)"),
        ("INT32", [True], "found 'True', expected a whole number"),
        ("FP32", ["x"], "found 'x', expected a number (FP32)"),
        ("FP32", [False], "found 'False', expected a number"),
        ("BOOL", [1], "found '1', expected true or false (BOOL)"),
        ("BYTES", [5], "found '5', expected a text (BYTES)"),
        ("FP32", [None], "found nothing, expected a number"),
        ("FP32", [{"a": 1}], "expected a number"),
    ],
)
def test_a_value_of_another_kind_is_told(datatype: str, told: list[Any], says: str) -> None:
    """What was found and what was expected."""
    with pytest.raises(ValueError, match=r"found .*, expected ") as raised:
        encoded(datatype, told)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("nested", "shape", "flat"),
    [
        (1, (), [1]),
        ([], (0,), []),
        ([1, 2], (2,), [1, 2]),
        ([[1], [2]], (2, 1), [1, 2]),
        ([[], []], (2, 0), []),
        (["ab"], (1,), ["ab"]),
    ],
)
def test_nested_lists_have_a_shape(nested: Any, shape: tuple[int, ...], flat: list[Any]) -> None:  # noqa: ANN401
    """And their elements in a row."""
    assert unfolded(nested) == (shape, flat)
    assert elements(shape) == len(flat)


@pytest.mark.parametrize("nested", [[[1], [1, 2]], [1, [2]], [[1], 2], [[[1]], [2]]])
def test_ragged_lists_have_none(nested: Any) -> None:  # noqa: ANN401
    """Told with the dimension."""
    with pytest.raises(ValueError, match="in dimension"):
        unfolded(nested)


def test_what_is_nested_without_end_is_no_tensor() -> None:
    """An answer is not worth the time."""
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    with pytest.raises(ValueError, match="dimension"):
        unfolded(deep)


@pytest.mark.parametrize("datatype", EVERY)
def test_made_up_tensors_are_proper_ones(datatype: str) -> None:
    """Zeros and the pattern, of every datatype; nothing is NaN or large."""
    for raw in (zeros(datatype, 3), pattern(datatype, 3)):
        found = decoded(datatype, raw, 3)
        if datatype == "BYTES":
            assert set(found) <= {b"", b"0", b"1"}
        else:
            assert set(found) <= {0, 1}
        assert tensors.known(datatype)
    assert not tensors.known("FP8")


@pytest.mark.parametrize(
    ("datatype", "raw", "count", "says"),
    [
        ("FP32", b"123", 1, "has 3 bytes, and its shape 4"),
        ("BYTES", b"\x01\0\0", 1, "ends within the length of a text"),
        ("BYTES", b"\x05\0\0\0abc", 1, "ends within a text of 5 bytes"),
        ("BYTES", b"\0\0\0\0", 2, "holds 1 texts, and its shape 2"),
    ],
)
def test_bytes_that_are_not_so_many_elements_are_told(
    datatype: str, raw: bytes, count: int, says: str
) -> None:
    """By both who only count and who decode."""
    for look in (tensors.check, decoded):
        with pytest.raises(ValueError, match=says):
            look(datatype, raw, count)


@pytest.mark.parametrize(
    ("datatype", "found", "expected", "same"),
    [
        ("INT32", 5, 5, True),
        ("INT32", 5, 6, False),
        ("BYTES", b"a", b"a", True),
        ("BOOL", True, False, False),
        ("FP32", 100.05, 100.0, True),
        ("FP32", 100.2, 100.0, False),
        ("FP32", 0.0005, 0.0, True),
        ("FP32", 0.01, 0.0, False),
        ("BF16", math.nan, math.nan, True),
        ("FP64", math.nan, 1.0, False),
        ("FP64", 1.0, math.nan, False),
        ("FP16", math.inf, math.inf, True),
        ("FP16", math.inf, -math.inf, False),
        ("FP16", math.inf, 1.0, False),
    ],
)
def test_floats_may_differ_by_the_tolerance_and_nothing_else_may(
    datatype: str, found: bytes | float, expected: bytes | float, *, same: bool
) -> None:
    """Of a part of the expected one, or in itself below 1."""
    assert close(datatype, found, expected, 1e-3) is same


def test_elements_are_shown_shortly() -> None:
    """In a message for people."""
    assert [tensors.shown(each) for each in (1.0, 2.5, 3, True, b"ab", b"\xff")] == [
        "1",
        "2.5",
        "3",
        "1",
        "'ab'",
        "'�'",
    ]
