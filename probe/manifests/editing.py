"""One edit of a text by its tree: a pair or an item put in, taken out, or put in another's place.

Blocks are edited by whole lines, braces and brackets within their line.  What is put in stands last, behind what
was there and the comments that belong to it, so that taking it out gives the text back byte for byte.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from probe.manifests.errors import ManifestError
from probe.manifests.nodes import Mapping, Node, Scalar, Sequence, walk
from probe.manifests.reading import line_of
from probe.manifests.writing import Style, flow, indented, item, pair, spread

_KEY = "key"
"""Stands for a key that is there already."""


def style_of(text: str, root: Node) -> Style:
    """How this document is indented, what ends its lines, and whether it is JSON."""
    steps: Counter[int] = Counter()
    dashes: Counter[int] = Counter()
    for node in walk(root):
        if not isinstance(node, Mapping) or node.flow:
            continue
        for key, value in node.pairs:
            column = _column(text, key.start)
            if isinstance(value, Mapping) and not value.flow:
                steps[_column(text, value.pairs[0][0].start) - column] += 1
            elif isinstance(value, Sequence) and not value.flow:
                dashes[_dash(text, value, 0) - _line_start(text, _dash(text, value, 0)) - column] += 1
    return Style(
        step=max(1, _most(steps, _json_step(text, root))),
        dash=max(0, _most(dashes, 0)),
        json=_is_json(text, root),
        eol="\r\n" if "\r\n" in text else "\n",
    )


def insert_pair(text: str, into: Mapping, key: str, value: Any, style: Style) -> str:  # noqa: ANN401  (any value)
    """``key: value`` behind the last pair."""
    if into.flow:
        return _insert_in_flow(text, into, {key: value}, style)
    column = _column(text, into.pairs[0][0].start)
    return _insert_lines(text, into.end, indented(pair(key, value, style), column), column, style)


def insert_item(text: str, into: Sequence, value: Any, style: Style) -> str:  # noqa: ANN401  (as above)
    """``- value`` behind the last item."""
    if into.flow:
        return _insert_in_flow(text, into, value, style)
    column = _column(text, _dash(text, into, 0))
    return _insert_lines(text, into.end, indented(item(value, style), column), column + 1, style)


def fill(text: str, empty: Scalar, value: Any, style: Style) -> str:  # noqa: ANN401  (as above)
    """The value where nothing, or null, stands."""
    blank = "" if text[empty.start - 1 : empty.start].isspace() else " "
    return f"{text[: empty.start]}{blank}{flow(value, style)}{text[empty.end :]}"


def unfill(text: str, filled: Node, was: str) -> str:
    """What :func:`fill` found there."""
    start = filled.start
    if not was and text[start - 1 : start] == " ":
        start -= 1
    return text[:start] + was + text[filled.end :]


def pair_slice(text: str, of: Mapping, index: int) -> tuple[int, int]:
    """From where to where a pair is written; in a block up to the end of its last line, comment included."""
    key, value = of.pairs[index]
    end = max(key.end, value.end)
    return key.start, end if of.flow else _line_end(text, end)


def rewrite_pair(text: str, of: Mapping, index: int, value: Any, style: Style) -> str:  # noqa: ANN401  (as above)
    """Another value for a pair; its key stays as it is written."""
    start, end = pair_slice(text, of, index)
    key = of.pairs[index][0]
    column = _column(text, start)
    if of.flow:
        style = msgspec.structs.replace(style, json=_quotes(text, of, style))
        spreads = _own_line(text, start)
        written = spread({_KEY: value}, style, column - style.step) if spreads else flow({_KEY: value}, style)
        written = _unwrapped(written)
    else:
        first, *rest = pair(_KEY, value, style)
        written = style.eol.join([first, *indented(rest, column)])
    return text[: key.end] + written[written.index(":") :] + text[end:]


def moved(pair: str, text: str, position: int, style: Style) -> str:
    """A block's pair as it was cut out elsewhere, its further lines indented for this position."""
    first, *rest = pair.split("\n")
    column = min((len(each) - len(each.lstrip(" ")) for each in rest if each.strip()), default=0)
    blanks = " " * (_column(text, position) + style.step)
    return "\n".join([first, *(f"{blanks}{each[column:]}" if each.strip() else each for each in rest)])


def delete_pair(text: str, of: Mapping, index: int) -> str:
    """The text without this pair.  Raises ManifestError where a block would be left broken."""
    if of.flow:
        slices = [(key.start, max(key.end, value.end)) for key, value in of.pairs]
        return _delete_in_flow(text, slices, index)
    start, end = pair_slice(text, of, index)
    return _delete_lines(text, start, end)


def delete_item(text: str, of: Sequence, index: int) -> str:
    """The text without this item.  Raises ManifestError where a block would be left broken."""
    if of.flow:
        return _delete_in_flow(text, [(each.start, each.end) for each in of.items], index)
    return _delete_lines(text, _dash(text, of, index), _line_end(text, of.items[index].end))


def _insert_lines(text: str, end: int, lines: list[str], least_column: int, style: Style) -> str:
    """Behind the line of ``end``, and behind comment lines that are indented at least so far."""
    position = _line_end(text, end)
    while position < len(text):
        after = _next_line(text, position)
        line = text[after : _line_end(text, after)]
        comment = line.lstrip(" ")
        if after == position or not comment.startswith("#") or len(line) - len(comment) < least_column:
            break
        position = _line_end(text, after)
    return text[:position] + "".join(f"{style.eol}{line}" for line in lines) + text[position:]


def _delete_lines(text: str, start: int, end: int) -> str:
    begin = _line_start(text, start)
    if text[begin:start].strip(" ") or begin == 0:
        raise ManifestError(line_of(text, start), "can not be taken out: something else stands on its line")
    break_ = 2 if text[begin - 2 : begin] == "\r\n" else 1
    return text[: begin - break_] + text[end:]


def _insert_in_flow(text: str, into: Mapping | Sequence, value: Any, style: Style) -> str:  # noqa: ANN401
    style = msgspec.structs.replace(style, json=_quotes(text, into, style))
    last = _last(into)
    if last is None:
        position = text.index("{" if isinstance(into, Mapping) else "[", into.start) + 1
        written = flow(value, style)
        between = ""
    else:
        start, position = last
        if _own_line(text, start):
            column = _column(text, start)
            written = spread(value, style, column - style.step if isinstance(into, Mapping) else column)
            between = f",{style.eol}{' ' * column}"
        else:
            written = flow(value, style)
            between = ", "
    if isinstance(into, Mapping):
        written = _unwrapped(written)
    return text[:position] + between + written + text[position:]


def _unwrapped(written: str) -> str:
    """The one pair of a mapping without its braces."""
    return written[1:-1].strip()


def _delete_in_flow(text: str, slices: list[tuple[int, int]], index: int) -> str:
    start, end = slices[index]
    if index:
        start = slices[index - 1][1]
    elif len(slices) > 1:
        end = slices[1][0]
    return text[:start] + text[end:]


def _last(of: Mapping | Sequence) -> tuple[int, int] | None:
    if isinstance(of, Mapping):
        return max(((key.start, max(key.end, value.end)) for key, value in of.pairs[-1:]), default=None)
    return max(((each.start, each.end) for each in of.items[-1:]), default=None)


def _quotes(text: str, of: Mapping | Sequence, style: Style) -> bool:
    """Whether keys are quoted around here, as JSON must."""
    if isinstance(of, Mapping) and of.pairs:
        return text.startswith('"', of.pairs[0][0].start)
    return style.json


def _is_json(text: str, root: Node) -> bool:
    return (
        isinstance(root, Mapping)
        and root.flow
        and bool(root.pairs)
        and text.startswith('"', root.pairs[0][0].start)
    )


def _json_step(text: str, root: Node) -> int:
    """The first key's column where it stands on a line of its own, less that of the opening brace."""
    if isinstance(root, Mapping) and root.flow and root.pairs and _own_line(text, root.pairs[0][0].start):
        opened = len(text[_line_start(text, root.start) :]) - len(
            text[_line_start(text, root.start) :].lstrip(" ")
        )
        return _column(text, root.pairs[0][0].start) - opened
    return 2


def _dash(text: str, of: Sequence, index: int) -> int:
    """Where the dash of an item stands: the first one behind the item before, outside of comments."""
    position = of.items[index - 1].end if index else of.start
    while position < of.items[index].start:
        if text[position] == "#":
            position = _line_end(text, position)
        elif text[position] in "&!":  # properties of the sequence itself
            position += len(text[position:].split(None, 1)[0])
        elif text[position] == "-":
            return position
        else:
            position += 1
    raise ManifestError(
        line_of(text, of.start), "found a list that is not understood, expected a dash before each item"
    )


def _own_line(text: str, position: int) -> bool:
    begin = _line_start(text, position)
    return begin > 0 and not text[begin:position].strip(" ")


def _column(text: str, position: int) -> int:
    return position - _line_start(text, position)


def _line_start(text: str, position: int) -> int:
    return text.rfind("\n", 0, position) + 1


def _line_end(text: str, position: int) -> int:
    """Before the line break, of one or two characters."""
    end = text.find("\n", position)
    if end < 0:
        return len(text)
    return end - 1 if end > position and text[end - 1] == "\r" else end


def _next_line(text: str, line_end: int) -> int:
    begin = text.find("\n", line_end)
    return len(text) if begin < 0 else begin + 1


def _most(counted: Counter[int], default: int) -> int:
    return counted.most_common(1)[0][0] if counted else default
