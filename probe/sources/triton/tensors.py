"""Tensors as Triton sends them: bytes in a row, little endian, and what they say; without numpy.

The layouts are those of the protocol's binary tensor data extension: a BYTES element is its length in four
bytes and its bytes; BF16 is the upper half of an FP32.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from probe.kits.words import quoted

BYTES, BF16 = "BYTES", "BF16"

_CODES = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
_FLOATS = frozenset(("FP16", BF16, "FP32", "FP64"))
_LENGTH = struct.Struct("<I")
_DEEPEST = 32


class Tensor(msgspec.Struct, frozen=True):
    """One tensor: its datatype as the protocol spells it, its shape, and its elements as bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes


def known(datatype: str) -> bool:
    """Whether this is a datatype of the protocol."""
    return datatype in _CODES or datatype in (BYTES, BF16)


def size_of(datatype: str) -> int | None:
    """Bytes of one element, None for BYTES, whose elements have their own."""
    if datatype == BYTES:
        return None
    return 2 if datatype == BF16 else struct.calcsize(f"<{_CODES[datatype]}")


def elements(shape: Sequence[int]) -> int:
    """How many elements a tensor of this shape has."""
    return math.prod(shape)


def zeros(datatype: str, count: int) -> bytes:
    """So many zeros; of BYTES so many empty texts."""
    return bytes(count * (size_of(datatype) or _LENGTH.size))


def pattern(datatype: str, count: int) -> bytes:
    """So many small numbers, the same each time: harmless as indexes, and never NaN."""
    numbers = [index % 2 for index in range(count)]
    if datatype == BYTES:
        return encoded(BYTES, [str(each) for each in numbers])
    if datatype == "BOOL":
        return encoded("BOOL", [bool(each) for each in numbers])
    return encoded(datatype, numbers)


def unfolded(nested: Any) -> tuple[tuple[int, ...], list[Any]]:  # noqa: ANN401 - whatever YAML can say
    """The shape of nested lists, and their elements in a row.  Raises ValueError where they are ragged."""
    shape: list[int] = []
    level = [nested]
    while level and isinstance(level[0], list):
        lengths = {len(each) if isinstance(each, list) else -1 for each in level}
        if len(lengths) > 1 or len(shape) >= _DEEPEST:
            raise ValueError(
                f"found lists of different lengths in dimension {len(shape) + 1}, expected equal"
            )
        shape.append(len(level[0]))
        level = [each for one in level for each in one]
    if any(isinstance(each, list) for each in level):
        raise ValueError(
            f"found values beside lists in dimension {len(shape) + 1}, expected one or the other"
        )
    return tuple(shape), level


def encoded(datatype: str, values: Sequence[Any]) -> bytes:
    """The values as bytes.  Raises ValueError, whose text says what was found and expected."""
    for each in values:
        _fitting(datatype, each)
    if datatype == BYTES:
        texts = [each.encode() for each in values]
        return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    try:
        if datatype == BF16:
            return b"".join(map(_bf16, values))
        return struct.pack(f"<{len(values)}{_CODES[datatype]}", *values)
    except (struct.error, OverflowError) as error:
        wrong = next((each for each in values if not _packs(datatype, each)), None)
        raise ValueError(
            f"found {quoted(str(wrong))}, expected a number in the range of {datatype}"
        ) from error


def decoded(datatype: str, raw: bytes, count: int) -> list[Any]:
    """The elements, BYTES as bytes.  Raises ValueError where the bytes are not so many elements."""
    size = size_of(datatype)
    if size is None:
        texts = list(_texts(raw))
        if len(texts) != count:
            raise ValueError(f"holds {len(texts)} texts, and its shape {count}")
        return texts
    if len(raw) != count * size:
        raise ValueError(f"has {len(raw)} bytes, and its shape {count * size}")
    if datatype == BF16:
        return [_from_bf16(raw[start : start + 2]) for start in range(0, len(raw), 2)]
    return list(struct.unpack(f"<{count}{_CODES[datatype]}", raw))


def check(datatype: str, raw: bytes, count: int) -> None:
    """Raise ValueError where the bytes are not so many elements; decodes no more than it must."""
    size = size_of(datatype)
    if size is None:
        found = sum(1 for _ in _texts(raw))
        if found != count:
            raise ValueError(f"holds {found} texts, and its shape {count}")
    elif len(raw) != count * size:
        raise ValueError(f"has {len(raw)} bytes, and its shape {count * size}")


def close(datatype: str, found: Any, expected: Any, tolerance: float) -> bool:  # noqa: ANN401
    """Whether an element is the expected one: floats within the tolerance, all else exactly."""
    if datatype not in _FLOATS:
        return bool(found == expected)
    if math.isnan(expected) or math.isinf(expected) or not math.isfinite(found):
        return bool(found == expected) or (math.isnan(found) and math.isnan(expected))
    return bool(abs(found - expected) <= tolerance * max(1.0, abs(expected)))


def shown(value: Any) -> str:  # noqa: ANN401 - an element of any tensor
    """An element in a message."""
    return quoted(value.decode(errors="replace")) if isinstance(value, bytes) else f"{value:.6g}"


def _fitting(datatype: str, value: Any) -> None:  # noqa: ANN401
    if datatype == BYTES:
        fits, expected = isinstance(value, str), "a text"
    elif datatype == "BOOL":
        fits, expected = isinstance(value, bool), "true or false"
    elif datatype in _FLOATS:
        fits, expected = isinstance(value, int | float) and not isinstance(value, bool), "a number"
    else:
        fits, expected = isinstance(value, int) and not isinstance(value, bool), "a whole number"
    if not fits:
        found = "nothing" if value is None else quoted(str(value))
        raise ValueError(f"found {found}, expected {expected} ({datatype})")


def _packs(datatype: str, value: Any) -> bool:  # noqa: ANN401
    try:
        _bf16(value) if datatype == BF16 else struct.pack(f"<{_CODES[datatype]}", value)
    except (struct.error, OverflowError):
        return False
    return True


def _bf16(value: float) -> bytes:
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    if math.isnan(value):
        return b"\xc0\x7f"
    # To the nearest, and to the even one of two that are as near.
    return struct.pack("<H", (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)


def _from_bf16(raw: bytes) -> float:
    value: float = struct.unpack("<f", b"\0\0" + raw)[0]
    return value


def _texts(raw: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(raw):
        if start + _LENGTH.size > len(raw):
            raise ValueError("ends within the length of a text")
        (length,) = _LENGTH.unpack_from(raw, start)
        start += _LENGTH.size
        if start + length > len(raw):
            raise ValueError(f"ends within a text of {length} bytes")
        yield raw[start : start + length]
        start += length
