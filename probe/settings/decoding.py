"""From a YAML node to a value of the kind that a knob calls for, or an error that says where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
import yaml

from probe.kits.words import nearest, quoted
from probe.settings.documents import Place, is_nothing, shape
from probe.settings.errors import SettingsError
from probe.settings.kinds import Anything, Kind, Many, Plain, Record, Table, Text
from probe.settings.knobs import fields

_STANDARD_TAG = "tag:yaml.org,2002:"
_DEEPEST = 32
"""Tensors have fewer dimensions; an alias that holds itself has more."""
_EXPONENT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+")
"""A float, as YAML 1.2 and everybody reads it; PyYAML calls ``1e-3`` and ``1.0e3`` texts."""
_MOST_VALUES = 100_000
"""A canary is small; nested aliases would make any number out of a few lines."""


def decode(node: yaml.Node, kind: Kind, key: str, place: Place) -> Any:  # noqa: ANN401 - as the kind says
    """The node's value; ``key`` is its dotted path, for errors.  Raises SettingsError."""
    if not node.tag.startswith(_STANDARD_TAG):
        raise place.error(f"{key}: found the YAML tag {quoted(node.tag)}, expected a plain value", node)
    match kind:
        case Text():
            return _scalar(node, kind, key, place)
        case Many():
            if is_nothing(node):
                return ()
            if not isinstance(node, yaml.SequenceNode):
                example = "a list such as [first, second]"
                raise place.error(f"{key}: found {_found(node, kind.item)}, expected {example}", node)
            return tuple(dict.fromkeys(decode(item, kind.item, key, place) for item in node.value))
        case Table():
            return {
                _scalar(key_node, kind.key, key, place): decode(item, kind.value, f"{key}.{name}", place)
                for name, key_node, item in items_of(node, key, place)
            }
        case Record():
            return _record(node, kind, key, place)
        case Anything():
            return _Plainly(key, place).value(node)


def unknown(key: str, name: str, known: Iterable[str], place: Place, node: yaml.Node) -> SettingsError:
    """The error for a key that nothing is known by, with the nearest that is."""
    prefix = f"{key}." if key else ""
    names = list(known)
    close = nearest(name, names)
    hint = f"did you mean {prefix}{close}?" if close else f"expected one of {', '.join(names)}"
    return place.error(f"{prefix}{name[:80]}: unknown key, {hint}", node)


def _scalar(node: yaml.Node, kind: Text, key: str, place: Place) -> Any:  # noqa: ANN401 - as the kind says
    if not isinstance(node, yaml.ScalarNode):
        raise place.error(f"{key}: found {shape(node)}, expected {kind.expected}", node)
    _spelled_in_unicode(node, key, place)
    try:
        return kind.parse(node.value)
    except ValueError as error:
        what = f"found a secret, expected {kind.expected}" if kind.secret else str(error)
        raise place.error(f"{key}: {what}", node) from None


def _spelled_in_unicode(node: yaml.ScalarNode, key: str, place: Place) -> None:
    """Refuse half a surrogate pair: YAML can escape one, bytes in the environment become some.

    No JSON, metric or log line could carry it.
    """
    try:
        node.value.encode()
    except UnicodeEncodeError:
        raise place.error(f"{key}: found text that is not Unicode, expected UTF-8", node) from None


def _found(node: yaml.Node, kind: Text | None) -> str:
    """What stands there, with its text where that may be shown."""
    if isinstance(node, yaml.ScalarNode) and kind is not None and not kind.secret:
        return quoted(node.value)
    return shape(node)


def items_of(node: yaml.Node, key: str, place: Place) -> list[tuple[str, yaml.Node, yaml.Node]]:
    """Name, key and value of each entry, none of which repeats.  Raises SettingsError."""
    if is_nothing(node):
        return []
    prefix = f"{key}: " if key else ""
    if not isinstance(node, yaml.MappingNode):
        raise place.error(f"{prefix}found {shape(node)}, expected a mapping such as {{key: value}}", node)
    found: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
    for key_node, item in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise place.error(f"{prefix}found {shape(key_node)} as a key, expected a name", key_node)
        _spelled_in_unicode(key_node, key, place)
        name = key_node.value
        if name in found:
            dotted = f"{key}.{name}" if key else name
            first = found[name][1].start_mark
            before = f" (first on line {first.line + 1})" if first is not None else ""
            raise place.error(f"{dotted}: stands here a second time{before}, expected once", key_node)
        found[name] = (name, key_node, item)
    return list(found.values())


def _record(node: yaml.Node, kind: Record, key: str, place: Place) -> msgspec.Struct:
    known = {field.name: field.about for field in fields(kind.struct) if field.about is not None}
    values = {}
    for name, key_node, item in items_of(node, key, place):
        if name not in known:
            raise unknown(key, name, known, place, key_node)
        values[name] = decode(item, known[name].kind, f"{key}.{name}", place)
    return kind.struct(**values)


class _Plainly:
    """YAML as plain values, within limits that a file written in good faith never meets."""

    def __init__(self, key: str, place: Place) -> None:
        self._key, self._place, self._count = key, place, 0
        maker = yaml.constructor.SafeConstructor()
        self._readers = {
            f"{_STANDARD_TAG}bool": maker.construct_yaml_bool,
            f"{_STANDARD_TAG}int": maker.construct_yaml_int,
            f"{_STANDARD_TAG}float": maker.construct_yaml_float,
            f"{_STANDARD_TAG}null": maker.construct_yaml_null,
        }

    def value(self, node: yaml.Node, depth: int = 0) -> Plain:
        self._count += 1
        if depth > _DEEPEST or self._count > _MOST_VALUES:
            what = f"is deeper than {_DEEPEST} or holds more than {_MOST_VALUES} values"
            raise self._place.error(f"{self._key}: {what}, expected a small tensor", node)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, depth + 1) for item in node.value]
        if isinstance(node, yaml.MappingNode):
            items = items_of(node, self._key, self._place)
            return {name: self.value(item, depth + 1) for name, _, item in items}
        return self._leaf(node)

    def _leaf(self, node: yaml.Node) -> Plain:
        reader = self._readers.get(node.tag)
        try:
            if isinstance(node, yaml.ScalarNode):
                _spelled_in_unicode(node, self._key, self._place)
                if node.style is None and _EXPONENT.fullmatch(node.value):
                    return float(node.value)
                return reader(node) if reader is not None else str(node.value)
            return str(node.value)
        except (ValueError, OverflowError):
            what = f"found {quoted(str(node.value))}, expected a number"
            raise self._place.error(f"{self._key}: {what}", node) from None
