"""What kinds of value a knob can have: how each is written, read, and shown again.

A scalar is read from its text as it stands in the file, never from what YAML makes of it: so ``off`` is a
word, ``1:30`` no number of base 60, and a file, an environment variable and a flag mean the same.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import Any

import msgspec

from probe.facts.catalogue import CATALOGUE
from probe.facts.gates import Gate, Hold
from probe.kits.addresses import parse_endpoint, parse_listen
from probe.kits.quantities import format_duration, parse_duration
from probe.kits.words import nearest, quoted

Plain = None | bool | int | float | str | list[Any] | dict[str, Any]
"""What YAML and JSON can say."""


class Text(msgspec.Struct, frozen=True):
    """A value written as one scalar.

    ``parse`` raises ValueError, whose text says what was found and expected; ``spell`` is its inverse, to
    what a YAML file would say.  A ``secret`` is never shown.
    """

    name: str
    expected: str
    parse: Callable[[str], Any]
    spell: Callable[[Any], Plain] = str
    secret: bool = False


class Many(msgspec.Struct, frozen=True):
    """A list of scalars, kept as a tuple in which nothing repeats."""

    item: Text


class Table(msgspec.Struct, frozen=True):
    """A mapping whose keys the user names."""

    key: Text
    value: Text | Table | Record | Anything


class Record(msgspec.Struct, frozen=True):
    """A mapping with the fields of a struct, each annotated with its own kind."""

    struct: type[msgspec.Struct]


class Anything(msgspec.Struct, frozen=True):
    """Whatever YAML can say, taken as it is."""


Kind = Text | Many | Table | Record | Anything


def name_of(kind: Kind) -> str:
    """The kind in the words of the documentation."""
    match kind:
        case Text():
            return kind.name
        case Many():
            return f"list of {kind.item.name}"
        case Table():
            return f"mapping of {kind.key.name} to {name_of(kind.value)}"
        case Record():
            return "mapping"
        case Anything():
            return "any value"


def duration(least: float, most: float) -> Text:
    """A duration between two others, in seconds."""
    limits = f"{format_duration(least)} to {format_duration(most)}"

    def parse(text: str) -> float:
        seconds = parse_duration(text)
        if not least <= seconds <= most:
            raise ValueError(f"found {quoted(text)}, expected a duration from {limits}")
        return seconds

    return Text(f"duration ({limits})", "a duration such as 5s or 2m", parse, format_duration)


def count(least: int, most: int) -> Text:
    """A whole number between two others."""
    expected = f"a whole number from {least} to {most}"

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,12}", text) or not least <= int(text) <= most:
            raise ValueError(f"found {quoted(text)}, expected {expected}")
        return int(text)

    return Text(f"whole number ({least} to {most})", expected, parse, int)


def choice(options: type[enum.StrEnum]) -> Text:
    """One of an enumeration's words."""
    words = [str(option) for option in options]

    def parse(text: str) -> enum.StrEnum:
        if text not in words:
            close = nearest(text, words)
            hint = f" (did you mean {close}?)" if close else ""
            raise ValueError(f"found {quoted(text)}, expected one of {', '.join(words)}{hint}")
        return options(text)

    return Text(" or ".join(words), f"one of {', '.join(words)}", parse)


def matching(name: str, expected: str, form: str) -> Text:
    """A text of a certain form, given as a regular expression."""

    def parse(text: str) -> str:
        if not re.fullmatch(form, text):
            raise ValueError(f"found {quoted(text)}, expected {expected}")
        return text

    return Text(name, expected, parse)


def optional(kind: Text, *, unset: str, words: tuple[str, ...], spelled: Plain) -> Text:
    """The kind, or None where one of the words is written; ``unset`` names what None means."""

    def parse(text: str) -> Any:  # noqa: ANN401 - as the kind's own parse
        return None if text.casefold() in words else kind.parse(text)

    def spell(value: Any) -> Plain:  # noqa: ANN401 - as the kind's own spell
        return spelled if value is None else kind.spell(value)

    return Text(f"{kind.name}, or {unset}", f"{kind.expected}, or {unset}", parse, spell, kind.secret)


def _parse_switch(text: str) -> bool:
    folded = text.casefold()
    if folded in {"true", "yes", "on"}:
        return True
    if folded in {"false", "no", "off"}:
        return False
    raise ValueError(f"found {quoted(text)}, expected true or false")


def _parse_ratio(text: str) -> float:
    if not re.fullmatch(r"[0-9]{0,3}(?:\.[0-9]{1,12})?", text) or not text or not 0 < float(text) <= 1:
        raise ValueError(f"found {quoted(text)}, expected a ratio above 0 and at most 1, such as 0.95")
    return float(text)


def _parse_reason(text: str) -> str:
    if text not in CATALOGUE:
        close = nearest(text, CATALOGUE)
        hint = f" (did you mean {close}?)" if close else ""
        raise ValueError(
            f"found {quoted(text)}, expected a reason as `triton-probe reasons` lists them{hint}",
        )
    return text


def parse_hold(text: str) -> Hold | None:
    """How long a reason must hold: ``0s``, ``30s``, ``3 looks``, ``30s and 3 looks``; ``never`` is None."""
    if text == "never":
        return None
    seconds, looks = 0.0, 0
    for part in re.split(r"\s+and\s+", text, maxsplit=1):
        if match := re.fullmatch(r"([0-9]{1,4})\s+looks?", part):
            looks = int(match[1])
            continue
        try:
            seconds = parse_duration(part)
        except ValueError:
            raise ValueError(
                f"found {quoted(text)}, expected a duration such as 30s, `3 looks`, or `never`",
            ) from None
    return Hold(seconds, looks)


def format_hold(hold: Hold | None) -> str:
    """The hold as :func:`parse_hold` reads it back."""
    if hold is None:
        return "never"
    looks = f"{hold.looks} look" if hold.looks == 1 else f"{hold.looks} looks"
    if hold.seconds and hold.looks:
        return f"{format_duration(hold.seconds)} and {looks}"
    return looks if hold.looks else format_duration(hold.seconds)


SWITCH = Text("true or false", "true or false", _parse_switch, bool)
RATIO = Text("ratio (above 0 to 1)", "a ratio such as 0.95", _parse_ratio, float)
ENDPOINT = Text("address (host:port or unix:/path)", "host:port or unix:/path", parse_endpoint)
LISTEN = Text("address (host:port)", "host:port such as [::]:8003", parse_listen)
REASON = Text("reason", "a reason as `triton-probe reasons` lists them", _parse_reason)
HOLD = Text(
    "hold (duration, `3 looks` or never)", "a duration, `3 looks` or `never`", parse_hold, format_hold
)
GATE = choice(Gate)
MODEL = matching("model", "a model's name", r"[^\s/][^\n\r\0/]{0,254}")
NAME = matching("name", "a name", r"[^\n\r\0]{1,255}")
PATH = matching("path", "a path", r"[^\n\r\0]{1,4095}")
GPU = matching(
    "GPU UUID", "a GPU's UUID as `nvidia-smi -L` prints it, GPU-… or MIG-…", r"(?:GPU|MIG)-[0-9A-Za-z/-]+"
)
HEADER_NAME = matching("header", "a header's name", r"[0-9A-Za-z_.-]{1,128}")
HEADER_VALUE = Text(
    "text",
    "a text in printable ASCII",
    matching("", "a text in printable ASCII", r"[ -~]*").parse,
    secret=True,
)
