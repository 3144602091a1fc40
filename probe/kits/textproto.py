"""Where things stand in protobuf's text format: fields with their offsets, for messages and for edits.

It knows no schema and gives no values: those are the real parser's.  What that accepts, this accepts; both
follow the grammar of https://protobuf.dev/reference/protobuf/textformat-spec.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from probe.kits.words import quoted

DEEPEST = 64
"""Messages within messages; a configuration has six, and what has hundreds wants to exhaust a stack."""

_BLANK = re.compile(r"(?:[ \t\r\n\v\f]+|#[^\n]*)*")
_MARK = re.compile(
    r"""(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>(?:0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)[fF]?)
    |(?P<string>"(?:[^"\\\n]|\\[abfnrtvxXuU0-7?'"\\])*"|'(?:[^'\\\n]|\\[abfnrtvxXuU0-7?'"\\])*')
    |(?P<sign>[-:;,{}<>\[\]/.])""",
    re.VERBOSE,
)
_CLOSES = {"{": "}", "<": ">"}


class Spot(msgspec.Struct, frozen=True):
    """A place in a text, both counted from 1; the column in characters."""

    line: int
    column: int


class TextProtoError(ValueError):
    """What is not the text format: where, what was found, and what was expected."""

    def __init__(self, spot: Spot, what: str) -> None:
        """``what`` reads "found …, expected …"."""
        super().__init__(what)
        self.spot = spot


class Scalar(msgspec.Struct, frozen=True):
    """A value that is no message, as it is written; strings that follow each other are one."""

    text: str
    start: int


class Message(msgspec.Struct, frozen=True):
    """The fields of a message in their order."""

    fields: tuple[Field, ...]
    start: int

    def named(self, name: str) -> Iterator[Field]:
        """Every field of this name."""
        return (each for each in self.fields if each.name == name)

    def messages(self, *names: str) -> Iterator[Message]:
        """Every message at this path, in the order in which a parser appends them to a repeated field."""
        if not names:
            yield self
            return
        for field in self.named(names[0]):
            for value in field.values:
                if isinstance(value, Message):
                    yield from value.messages(*names[1:])


class Field(msgspec.Struct, frozen=True):
    """One field as written: ``name`` (an extension's or a type's in brackets), its values, where it stands.

    ``end`` is after the comma or semicolon that may follow it.
    """

    name: str
    values: tuple[Scalar | Message, ...]
    start: int
    end: int


class TextProto:
    """A scanned text.  Raises :class:`TextProtoError` for what is not the text format."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._at = self._ended = 0
        self._skip_blank()
        self.root = self._message(start=0, closing="", depth=0)

    def spot(self, offset: int) -> Spot:
        """Line and column of an offset."""
        begins = self.text.rfind("\n", 0, offset) + 1
        return Spot(self.text.count("\n", 0, offset) + 1, offset - begins + 1)

    def _message(self, start: int, closing: str, depth: int) -> Message:
        if depth > DEEPEST:
            raise self._error(f"found messages nested deeper than {DEEPEST}, expected no more", start)
        fields: list[Field] = []
        while True:
            kind, mark = self._peek()
            if closing and mark == closing:
                self._take(mark)
                return Message(tuple(fields), start)
            if not closing and self._at == len(self.text):
                return Message(tuple(fields), start)
            if kind != "word" and mark != "[":
                expected = f"a field's name or {closing!r}" if closing else "a field's name"
                raise self._unexpected(expected)
            fields.append(self._field(depth))

    def _field(self, depth: int) -> Field:
        start = self._at
        name = self._bracketed() if self._peek()[1] == "[" else self._take(self._peek()[1])
        colon = self._try(":")
        _, mark = self._peek()
        if mark == "[":
            values = tuple(self._list(depth))
        elif mark in _CLOSES or colon:
            values = (self._value(depth),)
        else:
            raise self._unexpected(f"':' or '{{' after the field's name {quoted(name)}")
        end = self._ended
        if self._try(",") or self._try(";"):
            end = self._ended
        return Field(name, values, start, end)

    def _list(self, depth: int) -> Iterator[Scalar | Message]:
        self._take("[")
        if self._try("]"):
            return
        while True:
            yield self._value(depth)
            if self._try("]"):
                return
            if not self._try(","):
                raise self._unexpected("',' or ']'")

    def _value(self, depth: int) -> Scalar | Message:
        start = self._at
        kind, mark = self._peek()
        if mark in _CLOSES:
            self._take(mark)
            return self._message(start, _CLOSES[mark], depth + 1)
        if mark == "-":
            self._take(mark)
            kind, mark = self._peek()
            if kind not in ("number", "word"):
                raise self._unexpected("a number")
        if kind not in ("number", "word", "string"):
            raise self._unexpected("a value")
        self._take(mark)
        while kind == "string" and self._peek()[0] == "string":
            self._take(self._peek()[1])
        return Scalar(self.text[start : self._ended], start)

    def _bracketed(self) -> str:
        """An extension's name, or the type of an Any: ``[a.b/c.d]``."""
        start = self._at
        self._take("[")
        while not self._try("]"):
            kind, mark = self._peek()
            if kind not in ("word", "number") and mark not in ("/", ".", "-"):
                raise self._unexpected("a name in brackets")
            self._take(mark)
        return self.text[start : self._ended]

    def _peek(self) -> tuple[str, str]:
        match = _MARK.match(self.text, self._at)
        return (match.lastgroup or "", match[0]) if match is not None else ("", "")

    def _try(self, mark: str) -> bool:
        if self._peek()[1] != mark:
            return False
        self._take(mark)
        return True

    def _take(self, mark: str) -> str:
        self._ended = self._at + len(mark)
        self._at = self._ended
        self._skip_blank()
        return mark

    def _skip_blank(self) -> None:
        match = _BLANK.match(self.text, self._at)
        self._at = match.end() if match is not None else self._at

    def _unexpected(self, expected: str) -> TextProtoError:
        if self._at >= len(self.text):
            return self._error(f"found the end of the file, expected {expected}", self._at)
        mark = self._peek()[1]
        if not mark:
            mark = self.text[self._at : self._at + 40].partition("\n")[0].rstrip() or self.text[self._at]
        return self._error(f"found {quoted(mark)}, expected {expected}", self._at)

    def _error(self, what: str, offset: int) -> TextProtoError:
        return TextProtoError(self.spot(offset), what)
