"""A document while it is edited: places are named by paths, and every edit is read back before it counts."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from probe.manifests import editing
from probe.manifests.data import aliased, data
from probe.manifests.editing import style_of
from probe.manifests.errors import ManifestError
from probe.manifests.nodes import Alias, Mapping, Node, Scalar, Sequence, is_null
from probe.manifests.reading import line_of, parse

Path: TypeAlias = tuple[str | int, ...]
"""Keys and places in lists, from the document's root."""

_Shape: TypeAlias = Any
"""A tree as tuples, with everything that the text says and nothing of where it says it."""


class Draft:
    """One object's text and its tree.  Raises ManifestError where an edit is not safe; the text then stays."""

    def __init__(self, text: str) -> None:
        root = parse(text)
        if root is None:
            raise ManifestError(1, "is empty, expected a Kubernetes object")
        self.text = text
        self.root: Node = root
        self.style = style_of(text, root)
        self._shared = aliased(root)
        self._read: Any = data(root, root, text)

    def read(self, path: Path = ()) -> Any:  # noqa: ANN401  (any YAML)
        """The plain value there, aliases and merge keys followed; None where there is none."""
        found = self._read
        for step in path:
            try:
                found = found[step]
            except (KeyError, IndexError, TypeError):
                return None
        return found

    def line(self, path: Path) -> int:
        """The line of the node there, or of the nearest one above it."""
        node: Node = self.root
        for step in path:
            below = _below(node, step)
            if below is None:
                break
            node = below
        return line_of(self.text, node.start)

    def has(self, path: Path) -> bool:
        """Whether something is written there, null too.  Raises ManifestError as :meth:`node` does."""
        return self.node(path) is not None

    def node(self, path: Path) -> Node | None:
        """The node that is written there, to be edited.

        Raises ManifestError where an alias or a merge key stands in the way: an edit would be one of another place
        too.
        """
        node: Node = self.root
        for depth, step in enumerate(path):
            self._check_own(node, path[:depth])
            below = _below(node, step)
            if below is None:
                if isinstance(node, Mapping) and self.read(path[: depth + 1]) is not None:
                    raise self._shared_place(node, path[: depth + 1], "comes through a merge key (<<)")
                return None
            node = below
        self._check_own(node, path)
        return node

    def add_pair(self, path: Path, key: str, value: Any) -> None:  # noqa: ANN401  (any value of a manifest)
        """``key: value`` into the mapping at the path."""
        into = self._mapping(path)
        before = shape(self.root)
        self._take(editing.insert_pair(self.text, into, key, value, self.style))
        self._confirm((*path, key), value, before)

    def add_item(self, path: Path, value: Any) -> None:  # noqa: ANN401  (as above)
        """``- value`` into the list at the path."""
        into = self.node(path)
        if not isinstance(into, Sequence):
            raise self._not(path, "a list")
        before = shape(self.root)
        self._take(editing.insert_item(self.text, into, value, self.style))
        self._confirm((*path, len(into.items)), value, before)

    def fill(self, path: Path, value: Any) -> str:  # noqa: ANN401  (as above)
        """A value where null is written; how it was written."""
        node = self.node(path)
        if not isinstance(node, Scalar) or not is_null(node):
            raise self._not(path, "nothing there")
        was = self.text[node.start : node.end]
        before = shape(self.root, node)
        self._take(editing.fill(self.text, node, value, self.style))
        self._confirm(path, value, before)
        return was

    def unfill(self, path: Path, was: str) -> None:
        """Null again, as it was written."""
        node = self.node(path)
        if node is not None:
            self._take(editing.unfill(self.text, node, was))

    def replace_pair(self, path: Path, value: Any) -> str:  # noqa: ANN401  (as above)
        """Another value for the pair at the path; the text of the pair before."""
        into, index = self._pair(path)
        start, end = editing.pair_slice(self.text, into, index)
        was = self.text[start:end]
        before = shape(self.root, into.pairs[index][1])
        self._take(editing.rewrite_pair(self.text, into, index, value, self.style))
        self._confirm(path, value, before)
        return was

    def restore_pair(self, path: Path, was: str) -> None:
        """The pair's text as it was before, moved where the manifest was indented anew since."""
        into, index = self._pair(path)
        start, end = editing.pair_slice(self.text, into, index)
        others = shape(self.root, into.pairs[index][1])
        for written in (was, editing.moved(was, self.text, start, self.style)):
            text = self.text[:start] + written + self.text[end:]
            if _differs_only_at(path, text, others):
                self._take(text)
                return
        raise ManifestError(
            self.line(path),
            f"{dotted(path)} can not be put back as it was, for the manifest was written anew since: put back what "
            "the annotation says",
        )

    def drop(self, path: Path) -> None:
        """The pair or item at the path goes; nothing happens where there is none."""
        if not self.has(path):
            return
        step = path[-1]
        if isinstance(step, str):
            into, index = self._pair(path)
            self._take(editing.delete_pair(self.text, into, index))
            return
        of = self.node(path[:-1])
        if isinstance(of, Sequence):
            self._take(editing.delete_item(self.text, of, step))

    def _take(self, text: str) -> None:
        """The text is the new one, if it can be read."""
        try:
            root = parse(text)
        except ManifestError as error:
            raise ManifestError(error.line, f"can not be edited safely here ({error.what})") from None
        if root is None:
            raise ManifestError(1, "can not be edited safely: nothing would be left")
        self.text, self.root, self._shared = text, root, aliased(root)
        self._read = data(root, root, text)

    def _confirm(self, path: Path, value: Any, before: _Shape) -> None:  # noqa: ANN401  (as above)
        """The value is there, and everything else as it was before."""
        written = self.node(path)
        meant = msgspec.json.decode(msgspec.json.encode(value))
        if written is None or self.read(path) != meant or shape(self.root, written) != before:
            raise ManifestError(
                self.line(path), f"can not be edited safely: {dotted(path)} would not read as meant"
            )

    def _mapping(self, path: Path) -> Mapping:
        node = self.node(path)
        if not isinstance(node, Mapping):
            raise self._not(path, "a mapping")
        return node

    def _pair(self, path: Path) -> tuple[Mapping, int]:
        into = self._mapping(path[:-1])
        index = into.find(str(path[-1]))
        if index is None:
            raise self._not(path, "it there")
        return into, index

    def _check_own(self, node: Node, path: Path) -> None:
        if isinstance(node, Alias):
            raise self._shared_place(node, path, f"is the alias *{node.name}")
        if node.anchor is not None and node.anchor in self._shared:
            raise self._shared_place(
                node, path, f"is the anchor &{node.anchor}, which an alias repeats elsewhere"
            )

    def _shared_place(self, node: Node, path: Path, how: str) -> ManifestError:
        return ManifestError(
            line_of(self.text, node.start),
            f"{dotted(path)} {how}: an edit would change both places; expected it written out",
        )

    def _not(self, path: Path, expected: str) -> ManifestError:
        return ManifestError(self.line(path), f"{dotted(path)} is something else, expected {expected}")


def shape(node: Node, without: Node | None = None) -> _Shape:
    """What a tree says, place for place, to be compared; ``without`` is left out, with its key."""
    match node:
        case Scalar():
            return (node.value, node.plain, node.tag, node.anchor)
        case Alias():
            return ("*", node.name)
        case Sequence():
            return (
                "[",
                node.tag,
                node.anchor,
                *(shape(each, without) for each in node.items if each is not without),
            )
        case Mapping():
            pairs = (
                (shape(key, without), shape(value, without))
                for key, value in node.pairs
                if value is not without
            )
            return ("{", node.tag, node.anchor, *pairs)


def _differs_only_at(path: Path, text: str, others: _Shape) -> bool:
    """Whether the text is the object of that shape but for the value at the path."""
    try:
        root = parse(text)
    except ManifestError:
        return False
    found: Node | None = root
    for step in path:
        found = None if found is None else _below(found, step)
    return root is not None and found is not None and shape(root, found) == others


def dotted(path: Path) -> str:
    """``spec.containers[0].image``; the document itself has no name."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".") or "the document"


def _below(node: Node, step: str | int) -> Node | None:
    if isinstance(node, Mapping) and isinstance(step, str):
        return node.get(step)
    if isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
        return node.items[step]
    return None
