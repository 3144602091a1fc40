"""The tree over a manifest's text: every node knows the slice of the text that it was read from.

Positions count characters from 0.  ``end`` is where the node's own text ends: comments and blank lines behind it
are not part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import msgspec


class Scalar(msgspec.Struct):
    """A value; ``plain`` where it is not quoted, and ``tag`` where one is written before it."""

    start: int
    end: int
    value: str
    plain: bool
    tag: str | None = None
    anchor: str | None = None


class Alias(msgspec.Struct):
    """``*name``: the node of that anchor once more."""

    start: int
    end: int
    name: str


class Mapping(msgspec.Struct):
    """Keys and values, in their order; ``flow`` where it is written in braces."""

    start: int
    end: int
    flow: bool
    pairs: list[tuple[Node, Node]]
    tag: str | None = None
    anchor: str | None = None

    def find(self, name: str) -> int | None:
        """The place of the pair with this key, if it is written here."""
        for index, (key, _) in enumerate(self.pairs):
            if isinstance(key, Scalar) and key.value == name:
                return index
        return None

    def get(self, name: str) -> Node | None:
        """The value of this key, if it is written here."""
        index = self.find(name)
        return None if index is None else self.pairs[index][1]


class Sequence(msgspec.Struct):
    """Items, in their order; ``flow`` where it is written in brackets."""

    start: int
    end: int
    flow: bool
    items: list[Node]
    tag: str | None = None
    anchor: str | None = None


Node: TypeAlias = Scalar | Alias | Mapping | Sequence


def walk(root: Node) -> Iterator[Node]:
    """The node and everything below it; an alias is not followed."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, Mapping):
            for pair in node.pairs:
                waiting.extend(pair)
        elif isinstance(node, Sequence):
            waiting.extend(node.items)


def is_null(node: Node) -> bool:
    """Whether nothing is written there, or null in one of its spellings."""
    return (
        isinstance(node, Scalar)
        and node.plain
        and node.tag is None
        and node.value in ("", "~", "null", "Null", "NULL")
    )
