"""What a tree says, as plain values: aliases followed, merge keys merged, words read as Kubernetes reads them.

For judgement alone.  What is edited is the text, and an edit goes by the nodes.
"""

from __future__ import annotations

import bisect
import re
from typing import Any

from probe.manifests.errors import ManifestError
from probe.manifests.nodes import Alias, Mapping, Node, Scalar, Sequence, is_null, walk
from probe.manifests.reading import line_of

MOST_VALUES = 200_000
"""Values of one object with its aliases followed; more is an alias that names itself many times over."""
_DEEPEST = 200
_WORDS = {
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
}
"""YAML 1.1, as Kubernetes reads it."""
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})")
_OTHER_BASES = re.compile(r"0o?([0-7]{1,20})|0x([0-9A-Fa-f]{1,16})")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?")


def value_of(scalar: Scalar) -> Any:  # noqa: ANN401  (any scalar of YAML)
    """Text, number, bool or None."""
    if not scalar.plain or scalar.tag == "str":
        return scalar.value
    if is_null(scalar):
        return None
    if scalar.value in _WORDS:
        return _WORDS[scalar.value]
    if _WHOLE.fullmatch(scalar.value):
        return int(scalar.value)
    if match := _OTHER_BASES.fullmatch(scalar.value):
        return int(match[1], 8) if match[1] else int(match[2], 16)
    if _FLOAT.fullmatch(scalar.value):
        return float(scalar.value)
    return scalar.value


def data(node: Node, root: Node, text: str) -> Any:  # noqa: ANN401  (any YAML)
    """The node with everything below it as dicts, lists and scalars.  Raises ManifestError.

    ``root`` is the document, in which anchors are looked up.
    """
    return _Reader(root, text).read(node, 0)


class _Reader:
    def __init__(self, root: Node, text: str) -> None:
        self._text = text
        self._left = MOST_VALUES
        self._anchors: dict[str, list[Node]] = {}
        for each in walk(root):
            if not isinstance(each, Alias) and each.anchor is not None:
                self._anchors.setdefault(each.anchor, []).append(each)
        for named in self._anchors.values():
            named.sort(key=lambda each: each.start)

    def read(self, node: Node, depth: int) -> Any:  # noqa: ANN401  (any YAML)
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            raise ManifestError(
                line_of(self._text, node.start),
                f"has aliases that make more than {MOST_VALUES} values of it, or that name themselves; "
                "expected a Kubernetes manifest",
            )
        match node:
            case Scalar():
                return value_of(node)
            case Alias():
                return self.read(self._target(node), depth + 1)
            case Sequence():
                return [self.read(each, depth + 1) for each in node.items]
            case Mapping():
                return self._mapping(node, depth)

    def _mapping(self, node: Mapping, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: list[Any] = []
        for key, value in node.pairs:
            if not isinstance(key, Scalar):
                raise ManifestError(
                    line_of(self._text, key.start),
                    "found a key that is no plain word, expected a field's name",
                )
            read = self.read(value, depth + 1)
            if key.value == "<<" and key.plain:
                merged.extend(read if isinstance(read, list) else [read])
            else:
                found[key.value] = read
        for each in merged:
            if isinstance(each, dict):
                found.update({name: value for name, value in each.items() if name not in found})
        return found

    def _target(self, alias: Alias) -> Node:
        """The last node of that anchor before the alias."""
        named = self._anchors.get(alias.name, [])
        index = bisect.bisect_left(named, alias.start, key=lambda each: each.start)
        if not index:
            raise ManifestError(
                line_of(self._text, alias.start),
                f"found the alias *{alias.name}, expected its anchor before it",
            )
        return named[index - 1]


def aliased(root: Node) -> set[str]:
    """The anchors that an alias names: what is changed under one is changed in two places."""
    return {each.name for each in walk(root) if isinstance(each, Alias)}
