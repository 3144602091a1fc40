"""Text from outside made fit to be printed: names and messages are whatever a model repository holds."""

from __future__ import annotations

from typing import Any

import msgspec


def one_line(text: str) -> str:
    """Put the text on one line: what is not printable (newlines, lone surrogates) is escaped."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text
    )


def encodable(text: str) -> str:
    """Replace lone surrogates, which no UTF-8 can carry; everything else stays as it is."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def to_json(value: object) -> bytes:
    """Encode as JSON.  Lone surrogates (a command line in no known encoding) become ``?``."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_encodable_within(msgspec.to_builtins(value, str_keys=True)))


def _encodable_within(value: Any) -> Any:  # noqa: ANN401  (any JSON)
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, dict):
        return {encodable(key): _encodable_within(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable_within(each) for each in value]
    return value
