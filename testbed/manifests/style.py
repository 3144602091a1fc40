"""One style for the manifests of this project, as kubectl prints them: what a person may depart from unawares."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

_LONGEST_LINE = 120


def departures(text: str) -> Iterator[str]:
    """Where the text departs from it, a sentence each with its line; nothing where it does not.

    Two blanks a level, lists at the column of their key, no flow style, double quotes and only where they are needed,
    no key twice, no blank at a line's end.  Raises yaml.YAMLError.
    """
    for number, line in enumerate(text.splitlines(), 1):
        if line != line.rstrip() or "\t" in line:
            yield f"{number}: a blank at the end, or a tab"
        if len(line) > _LONGEST_LINE:
            yield f"{number}: {len(line)} characters"
    if not text.endswith("\n") or text.endswith("\n\n"):
        yield "its end: not one line feed"
    for document in yaml.compose_all(text, yaml.SafeLoader):
        yield from _node(document, 0)


def _node(node: yaml.Node, column: int) -> Iterator[str]:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode):
        yield from _scalar(node, line)
        return
    if isinstance(node, yaml.CollectionNode) and node.flow_style and node.value:
        yield f"{line}: flow style"
        return
    if node.value and node.start_mark.column != column:
        yield f"{line}: at column {node.start_mark.column}, expected {column}"
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _node(item, column + 2)
    elif isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value]
        yield from (f"{line}: {name} twice" for name in sorted(set(names)) if names.count(name) > 1)
        for _, value in node.value:
            yield from _node(value, column if isinstance(value, yaml.SequenceNode) else column + 2)


def _scalar(node: yaml.ScalarNode, line: int) -> Iterator[str]:
    if node.style == "'":
        yield f"{line}: single quotes"
    elif node.style == '"' and _reads_alike_bare(node.value):
        yield f"{line}: quotes that nothing needs"


def _reads_alike_bare(text: str) -> bool:
    try:
        return bool(yaml.safe_load(f"key: {text}\n") == {"key": text})
    except yaml.YAMLError:
        return False
