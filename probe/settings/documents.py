"""YAML as nodes that know their line: files, and the values of variables and flags."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import yaml

from probe.settings.errors import SettingsError

LARGEST_BYTES = 1024 * 1024
"""Nobody writes more by hand, and YAML is slow to read: a log or a model given by mistake is told at once."""

_BARE_ADDRESS = re.compile(r"[:-]\s+\[[0-9A-Fa-f:.]*\]:")
_TEXT_TAG = "tag:yaml.org,2002:str"


class Place(msgspec.Struct, frozen=True):
    """Where a value came from: ``name`` of the file, variable or flag, and what kind of source it is."""

    name: str
    source: str = "file"

    def origin(self, node: yaml.Node | None = None) -> str:
        """As the ``config`` command shows it: ``file probe.yaml:12``, ``environment TRITON_PROBE_LISTEN``."""
        return f"{self.source} {self._with_line(node)}"

    def error(self, what: str, node: yaml.Node | None = None) -> SettingsError:
        """The error that starts with this place."""
        where = self._with_line(node)
        return SettingsError(where if self.source == "file" else f"{self.source} {where}", what)

    def _with_line(self, node: yaml.Node | None) -> str:
        in_file = self.source == "file" and node is not None and node.start_mark is not None
        return f"{self.name}:{node.start_mark.line + 1}" if in_file and node is not None else self.name


def read_file(path: Path, named_by: str) -> tuple[Place, yaml.MappingNode | None]:
    """The file's mapping, or None where it is empty; ``named_by`` is the flag or variable that names it.

    Raises SettingsError.
    """
    place = Place(str(path))
    expected = f"expected the YAML file that {named_by} names"
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_BYTES + 1)
    except IsADirectoryError:
        raise place.error(f"is a directory, {expected}") from None
    except FileNotFoundError:
        raise place.error(f"does not exist, {expected}") from None
    except OSError as error:
        raise place.error(f"can not be read ({error.strerror or error}), {expected}") from None
    except ValueError as error:  # a zero byte in the path
        raise place.error(f"can not be read ({error}), {expected}") from None
    if len(raw) > LARGEST_BYTES:
        raise place.error(f"is larger than {LARGEST_BYTES} bytes, expected a configuration file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise place.error(f"is not UTF-8 at byte {error.start}, expected a YAML file in UTF-8") from None
    node = compose(text, place)
    if node is None or is_nothing(node):
        return place, None
    if not isinstance(node, yaml.MappingNode):
        raise place.error(f"found {shape(node)}, expected a mapping of settings such as `interval: 5s`", node)
    return place, node


def compose(text: str, place: Place, key: str = "") -> yaml.Node | None:
    """The text's one YAML document, or None where it has none.  Raises SettingsError."""
    prefix = f"{key}: " if key else ""
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error, text, place, prefix) from None
    except yaml.YAMLError as error:
        what = getattr(error, "reason", None) or type(error).__name__
        raise place.error(f"{prefix}is not YAML: {what}") from None
    except RecursionError:
        raise place.error(f"{prefix}is nested too deep, expected plain settings") from None
    return node


def _not_yaml(error: yaml.MarkedYAMLError, text: str, place: Place, prefix: str) -> SettingsError:
    what = f"{prefix}is not YAML: {error.problem or error.context}"
    mark = error.problem_mark
    if mark is None:
        return place.error(what)
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    hint = "; an address that begins with a bracket needs quotes" if _BARE_ADDRESS.search(line) else ""
    if place.source == "file":
        return Place(f"{place.name}:{mark.line + 1}").error(f"{what} at column {mark.column + 1}{hint}")
    return place.error(f"{what} at character {mark.index + 1}{hint}")


def text_node(text: str) -> yaml.ScalarNode:
    """A scalar that was not written in YAML."""
    return yaml.ScalarNode(_TEXT_TAG, text)


def list_node(texts: list[str]) -> yaml.SequenceNode:
    """A list of scalars that was not written in YAML."""
    return yaml.SequenceNode("tag:yaml.org,2002:seq", [text_node(text) for text in texts])


def shape(node: yaml.Node) -> str:
    """What the node is, in a word."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return "nothing" if is_nothing(node) else "a single value"


def is_nothing(node: yaml.Node) -> bool:
    """Whether a key stands there without a value, as where all below it is commented out."""
    return isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")
