"""Values as YAML: lines of a block at an indentation, or one flow text; as JSON where the file is JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

_PLAIN = re.compile(r"[A-Za-z/_][A-Za-z0-9/_.:@-]*(?<!:)")
"""Words that need no quotes wherever they stand."""
_NO_TEXT = re.compile(
    r"true|false|yes|no|on|off|y|n|null|nan|\.?inf|0x.*|[-+]?[0-9.][0-9._eE+:-]*", re.IGNORECASE
)
"""What a YAML reader takes for a bool, a number, a date or nothing."""
_QUANTITY = re.compile(r"[0-9]+(?:m|[kMGTPE]i?|Ki)")


class Style(msgspec.Struct, frozen=True):
    """How the file around is written: ``step`` blanks a level, ``dash`` blanks before a list's dashes."""

    step: int = 2
    dash: int = 0
    json: bool = False
    eol: str = "\n"


def scalar(value: object, style: Style, *, within_flow: bool = False) -> str:
    """One value on one line."""
    if isinstance(value, str) and style.json:
        return _quoted(value)
    if style.json or value is None or isinstance(value, bool):
        return json.dumps(value)
    return _word(value, within_flow=within_flow) if isinstance(value, str) else str(value)


def flow(value: Any, style: Style) -> str:  # noqa: ANN401  (any value of a manifest)
    """The value in braces and brackets, on one line; a scalar as it stands outside of them."""
    return _within(value, style) if _is_collection(value) else scalar(value, style)


def _within(value: Any, style: Style) -> str:  # noqa: ANN401  (as above)
    if isinstance(value, Mapping):
        pairs = (
            f"{scalar(key, style, within_flow=True)}: {_within(each, style)}" for key, each in value.items()
        )
        return f"{{{', '.join(pairs)}}}"
    if _is_list(value):
        return f"[{', '.join(_within(each, style) for each in value)}]"
    return scalar(value, style, within_flow=True)


def _is_collection(value: object) -> bool:
    return isinstance(value, Mapping) or _is_list(value)


def spread(value: Any, style: Style, indent: int) -> str:  # noqa: ANN401  (as above)
    """As :func:`flow`, with every pair and item on a line of its own; ``indent`` is that of the first line."""
    within = indent + style.step
    if isinstance(value, Mapping) and value:
        parts = [
            f"{scalar(key, style, within_flow=True)}: {spread(each, style, within)}"
            for key, each in value.items()
        ]
        opening, closing = "{}"
    elif _is_list(value) and value:
        parts = [spread(each, style, within) for each in value]
        opening, closing = "[]"
    else:
        return _within(value, style)
    start = f"{style.eol}{' ' * within}"
    return f"{opening}{start}{f',{start}'.join(parts)}{style.eol}{' ' * indent}{closing}"


def pair(key: str, value: Any, style: Style) -> list[str]:  # noqa: ANN401  (as above)
    """The lines of ``key: value`` in a block, indented from the key's own column."""
    head = scalar(key, style)
    if isinstance(value, Mapping) and value:
        return [f"{head}:", *indented(_pairs(value, style), style.step)]
    if _is_list(value) and any(not isinstance(each, str) for each in value):
        lines = [line for each in value for line in item(each, style)]
        return [f"{head}:", *indented(lines, style.dash)]
    return [f"{head}: {flow(value, style)}"]


def item(value: Any, style: Style) -> list[str]:  # noqa: ANN401  (as above)
    """The lines of ``- value`` in a block, indented from the dash's own column."""
    if isinstance(value, Mapping) and value:
        first, *rest = _pairs(value, style)
        return [f"- {first}", *indented(rest, 2)]
    return [f"- {flow(value, style)}"]


def indented(lines: list[str], blanks: int) -> list[str]:
    """The lines moved to the right."""
    return [f"{' ' * blanks}{line}" for line in lines]


def _pairs(value: Mapping[str, Any], style: Style) -> list[str]:
    return [line for key, each in value.items() for line in pair(key, each, style)]


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _word(value: str, *, within_flow: bool) -> str:
    """Some readers take a colon within braces for that of a key."""
    if _QUANTITY.fullmatch(value):
        return value
    if _PLAIN.fullmatch(value) and not _NO_TEXT.fullmatch(value) and not (within_flow and ":" in value):
        return value
    if value.isprintable() and value.isascii():
        return "'{}'".format(value.replace("'", "''"))
    return _quoted(value)


def _quoted(value: str) -> str:
    """As JSON and YAML both read it: half a surrogate pair, as JSON escapes what lies far out, is none for YAML."""
    far = 0x10000
    escaped = (
        each if (each.isprintable() and each not in '"\\') or ord(each) >= far else json.dumps(each)[1:-1]
        for each in value
    )
    return f'"{"".join(escaped)}"'
