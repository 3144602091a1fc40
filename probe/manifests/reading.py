"""From text to trees, by libyaml's events: the parser that ``kubectl``'s own is a translation of."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import msgspec
import yaml

from probe.kits.words import quoted
from probe.manifests.errors import ManifestError
from probe.manifests.nodes import Alias, Mapping, Node, Scalar, Sequence, walk

DEEPEST = 100
"""Levels; a manifest of a custom resource definition has about 40."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DOCUMENT_LINE = re.compile(r"^(?:---(?=[ \t\r\n]|\Z)|\.\.\.[^\n]*(?:\n|\Z))", re.MULTILINE)
_NO_CONTENT = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?(?:\n|\Z)|%[^\n]*(?:\n|\Z))*")
_RENDER = "a Helm template has to be rendered first: helm template … | triton-probe inject"
_STANDARD_TAG = "tag:yaml.org,2002:"


class Piece(msgspec.Struct, frozen=True):
    """The part of a stream that holds one document at most, its separator line included.

    ``line`` is the number of its first line in the stream, from 1.
    """

    text: str
    line: int


def pieces(text: str) -> list[Piece]:
    """The stream cut at its separator lines; put together again, the pieces are the text.

    A line that begins with ``---`` or ``...`` ends whatever was open, quoted texts and block scalars too
    (YAML 1.2, production ``c-forbidden``), so that no parser is needed to cut.
    """
    cuts = [0]
    for match in _DOCUMENT_LINE.finditer(text):
        if match[0].startswith("..."):
            cuts.append(match.end())
        elif not _only_directives(text[cuts[-1] : match.start()]):
            cuts.append(match.start())
    cuts.append(len(text))
    found = []
    line = 1
    for start, end in itertools.pairwise(cuts):
        if start != end:
            found.append(Piece(text[start:end], line))
            line += text.count("\n", start, end)
    return found


def _only_directives(text: str) -> bool:
    return "%" in text and _NO_CONTENT.fullmatch(text) is not None


def line_of(text: str, position: int) -> int:
    """The line of a position, from 1."""
    return 1 + text.count("\n", 0, position)


def parse(text: str) -> Node | None:
    """The tree of a piece's text, or None where it holds no document.  Raises ManifestError."""
    builder = _Builder(text)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else line_of(text, min(mark.index, len(text.rstrip())))
        raise _not_yaml(text, line, " ".join(filter(None, (error.context, error.problem)))) from None
    except yaml.YAMLError as error:
        position = getattr(error, "position", 0)
        raise _not_yaml(text, line_of(text, position), getattr(error, "reason", str(error))) from None
    root = builder.root
    if root is not None:
        _check_templates(text, builder.flows)
    return root


def _not_yaml(text: str, line: int, what: str) -> ManifestError:
    near = _template_near(text, line)
    if near:
        return ManifestError(near, f"found '{{{{', expected YAML ({what}); {_RENDER}")
    return ManifestError(line, f"is not YAML: {what}")


def _template_near(text: str, line: int) -> int:
    """The first line of a template that may be the cause: an action by itself, or one beside the error; else 0."""
    for number, each in enumerate(text.splitlines()[: line + 1], 1):
        bare = each.lstrip(" -")
        if bare.startswith("{{") or ("{{" in bare and abs(number - line) <= 1 and not bare.startswith("#")):
            return number
    return 0


def _check_templates(text: str, flows: list[Mapping]) -> None:
    """``{{ .Values.x }}`` is YAML by accident: a mapping whose key is a mapping."""
    for each in flows:
        if text.startswith("{{", each.start):
            raise ManifestError(line_of(text, each.start), f"found '{{{{', expected YAML; {_RENDER}")


def _start(event: yaml.Event) -> int:
    return event.start_mark.index if event.start_mark is not None else 0


def _end(event: yaml.Event) -> int:
    return event.end_mark.index if event.end_mark is not None else 0


class _Builder:
    """Puts events together; an explicit stack, so that no depth ends the interpreter."""

    def __init__(self, text: str) -> None:
        self.root: Node | None = None
        self.anchors: set[str] = set()
        self.flows: list[Mapping] = []
        self._text = text
        self._open: list[tuple[Mapping | Sequence, Node | None]] = []

    def take(self, event: yaml.Event) -> None:
        """Add what this event tells."""
        match event:
            case yaml.ScalarEvent():
                self._anchor(event.anchor)
                self._put(self._scalar(event))
            case yaml.AliasEvent():
                alias = Alias(_start(event), _end(event), event.anchor or "")
                if alias.name not in self.anchors:
                    line = line_of(self._text, alias.start)
                    raise ManifestError(line, f"found the alias *{alias.name}, expected its anchor before it")
                self._put(alias)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._begin(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._end(event)
            case _:
                pass

    def _anchor(self, name: str | None) -> None:
        if name is not None:
            self.anchors.add(name)

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        start, end = _start(event), _end(event)
        if event.style in ("|", ">"):
            end = self._block_end(start, end)
        plain = event.style in (None, "")
        return Scalar(start, end, event.value, plain, _tag(event.tag), event.anchor)

    def _block_end(self, start: int, end: int) -> int:
        """Where a block scalar's last line ends; with ``+`` blank lines behind it are part of it."""
        text = self._text[start:end]
        header = text.split("\n", 1)[0]
        if "+" not in header.split("#", 1)[0]:
            return start + len(text.rstrip())
        for line_break in ("\r\n", "\n"):
            if text.endswith(line_break):
                return end - len(line_break)
        return end

    def _begin(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        if len(self._open) >= DEEPEST:
            line = line_of(self._text, _start(event))
            raise ManifestError(
                line, f"is nested deeper than {DEEPEST} levels, expected a Kubernetes manifest"
            )
        self._anchor(event.anchor)
        start, flow = _start(event), bool(event.flow_style)
        common = (_tag(event.tag), event.anchor)
        if isinstance(event, yaml.MappingStartEvent):
            mapping = Mapping(start, start, flow, [], *common)
            if flow:
                self.flows.append(mapping)
            self._open.append((mapping, None))
        else:
            self._open.append((Sequence(start, start, flow, [], *common), None))

    def _end(self, event: yaml.CollectionEndEvent) -> None:
        node, _ = self._open.pop()
        last = self._last(node)
        node.end = _end(event) if node.flow or last is None else last
        self._put(node)

    @staticmethod
    def _last(node: Mapping | Sequence) -> int | None:
        if isinstance(node, Mapping):
            return max((max(key.end, value.end) for key, value in node.pairs[-1:]), default=None)
        return max((each.end for each in node.items[-1:]), default=None)

    def _put(self, node: Node) -> None:
        if not self._open:
            if self.root is not None:
                raise ManifestError(
                    line_of(self._text, node.start),
                    "found a second document, expected `---` on a line of its own",
                )
            self.root = node
            return
        parent, key = self._open[-1]
        if isinstance(parent, Sequence):
            parent.items.append(node)
        elif key is None:
            self._open[-1] = (parent, node)
        else:
            parent.pairs.append((key, node))
            self._open[-1] = (parent, None)


def _tag(tag: str | None) -> str | None:
    return None if tag is None or tag == "!" else tag.removeprefix(_STANDARD_TAG)


def duplicates(root: Node, text: str) -> Iterator[ManifestError]:
    """Every key that a mapping has twice: which one counts, no two readers agree."""
    for node in walk(root):
        if isinstance(node, Mapping):
            seen: set[str] = set()
            for key, _ in node.pairs:
                if isinstance(key, Scalar):
                    if key.value in seen and key.value != "<<":
                        yield ManifestError(
                            line_of(text, key.start),
                            f"found the key {quoted(key.value)} twice, expected once",
                        )
                    seen.add(key.value)
