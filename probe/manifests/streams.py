"""A stream of documents: which objects are in it, and the same text with some of them changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from probe.manifests.data import data
from probe.manifests.drafts import Draft
from probe.manifests.errors import ManifestError
from probe.manifests.injecting import Fate, Outcome
from probe.manifests.nodes import Mapping, Node, Scalar, Sequence
from probe.manifests.reading import duplicates, line_of, parse, pieces
from probe.manifests.triton import tritons
from probe.manifests.workloads import Platform, Workload, is_list, title_of, workload

_MARK = "\ufeff"
_INDENTED = re.compile(r"[ -]*")

Edit: TypeAlias = Callable[[str, Workload], Outcome]


class Report(msgspec.Struct, frozen=True):
    """What became of one object: ``advice`` are lines of the stream, from 1, with what is to be said of them."""

    document: int
    line: int
    title: str
    fate: Fate
    told: tuple[str, ...] = ()
    advice: tuple[tuple[int, str], ...] = ()


class _Slot(msgspec.Struct, frozen=True):
    """An object in the stream: its place in the whole text, and the column that its first line begins at."""

    start: int
    end: int
    column: int
    document: int
    line: int
    work: Workload


class _Document(msgspec.Struct, frozen=True):
    """A document: its text, where that begins in the stream, the number of its first line, and its own."""

    text: str
    start: int
    line: int
    number: int


class Stream:
    """The text, read once.  Raises ManifestError with the line in the stream."""

    def __init__(self, text: str, *, knative: bool = False) -> None:
        self._knative = knative
        self._mark = _MARK if text.startswith(_MARK) else ""
        self._text = text.removeprefix(_MARK)
        self._slots: list[_Slot] = []
        self.unknown: list[Report] = []
        """Documents of a kind that is not known, and that seem to run Triton."""
        position, document = 0, 0
        for piece in pieces(self._text):
            try:
                root = parse(piece.text)
                if root is not None and not (isinstance(root, Scalar) and not root.value):
                    document += 1
                    self._read(root, _Document(piece.text, position, piece.line, document))
            except ManifestError as error:
                raise ManifestError(error.line + piece.line - 1, error.what) from None
            position += len(piece.text)

    def runtimes(self) -> frozenset[str]:
        """The names of the serving runtimes that run Triton."""
        found = set()
        for slot in self._slots:
            if slot.work.platform is Platform.RUNTIME and tritons(self._draft(slot).read(), slot.work, None):
                found.add(slot.work.name)
        return frozenset(found)

    def edited(self, edit: Edit) -> tuple[str, list[Report]]:
        """The text with every object as this makes it, and what it told of each."""
        parts: list[str] = [self._mark]
        reports = list(self.unknown)
        position = 0
        for slot in self._slots:
            source = self._source(slot)
            try:
                outcome = edit(source, slot.work)
                reports.append(self._report(slot, outcome))
            except ManifestError as error:
                raise ManifestError(error.line + slot.line - 1, f"{slot.work.title}: {error.what}") from None
            parts += [self._text[position : slot.start], outcome.text[slot.column :]]
            position = slot.end
        parts.append(self._text[position:])
        return "".join(parts), sorted(reports, key=lambda each: (each.document, each.line))

    def _read(self, root: Node, document: _Document) -> None:
        items = root.get("items") if isinstance(root, Mapping) and is_list(_head(root)) else None
        if not isinstance(items, Sequence):
            self._object(root, document, 0, len(document.text))
            return
        for index, each in enumerate(items.items):
            self._object(each, document, each.start, _item_end(document.text, items, index))

    def _object(self, node: Node, document: _Document, start: int, end: int) -> None:
        text, head = document.text, _head(node)
        line = line_of(text, start) + document.line - 1
        if workload(head, knative=self._knative) is None:
            if "tritonserver" in text[start:end] and "containers" in text[start:end]:
                told = f"left as it is: inject does not know {head.get('kind') or 'such a document'}"
                self.unknown.append(Report(document.number, line, title_of(head), Fate.LEFT, (told,)))
            return
        for each in duplicates(node, text):
            raise each
        work = workload(data(node, node, text), knative=self._knative)
        if work is not None:
            column = _column(text, start)
            place = (document.start + start, document.start + end)
            self._slots.append(_Slot(*place, column, document.number, line, work))

    def _source(self, slot: _Slot) -> str:
        """The object by itself, every line where it stood, so that it reads and is written as it is indented."""
        return " " * slot.column + self._text[slot.start : slot.end]

    def _draft(self, slot: _Slot) -> Draft:
        return Draft(self._source(slot))

    def _report(self, slot: _Slot, outcome: Outcome) -> Report:
        draft = self._draft(slot)
        advised = tuple((draft.line(each.path) + slot.line - 1, each.says) for each in outcome.advice)
        return Report(slot.document, slot.line, slot.work.title, outcome.fate, outcome.told, advised)


def _head(node: Node) -> dict[str, Any]:
    """What a document says of itself, without reading the rest; lists of it stand for themselves."""
    found: dict[str, Any] = {}
    if isinstance(node, Mapping):
        for key, value in node.pairs:
            if isinstance(key, Scalar) and isinstance(value, Scalar):
                found[key.value] = value.value
            elif isinstance(key, Scalar) and isinstance(value, Sequence):
                found[key.value] = []
            elif isinstance(key, Scalar) and key.value == "metadata":
                found[key.value] = _head(value)
    return found


def _column(text: str, start: int) -> int:
    """How far an object is indented; behind a brace or a word, as its line is, which may be a megabyte long."""
    line = text.rfind("\n", 0, start) + 1
    indented = _INDENTED.match(text, line, start)
    return 0 if start == 0 or indented is None else indented.end() - line


def _item_end(text: str, items: Sequence, index: int) -> int:
    """Where an item's lines end: a block's run up to the next item, comments included, but for the last one."""
    item = items.items[index]
    if items.flow or (isinstance(item, Mapping) and item.flow):
        return item.end
    end = text.find("\n", item.end)
    return len(text) if end < 0 else end - (1 if text[end - 1] == "\r" else 0)
