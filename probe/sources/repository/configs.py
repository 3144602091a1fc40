"""One configuration file, read with Triton's own schema: what it says, and where it says it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

from google.protobuf import text_format

from probe.facts.models import InstanceKind
from probe.facts.repository import (
    UnknownName,
    VersionPolicy,
    WrittenAccelerator,
    WrittenConfig,
    WrittenGroup,
    WrittenParameter,
    WrittenStep,
)
from probe.kits.textproto import Message, Scalar, TextProto, TextProtoError
from probe.kits.words import nearest, quoted
from probe.sources.triton.protos import configurations

_KINDS = {1: InstanceKind.GPU, 2: InstanceKind.CPU, 3: InstanceKind.MODEL}
_ACCELERATORS = (("gpu", InstanceKind.GPU), ("cpu", InstanceKind.CPU))
_PLACED = re.compile(r"(?:\d+:\d+ : )?(?:'.*': )?(.*)", re.DOTALL)
"""What the parser says, behind the place and the line that it quotes."""
_TEMPLATE = re.compile(r"\$\{|\{\{|\{%|<%")
_LONGEST = 200
_BOM = b"\xef\xbb\xbf"


class ConfigError(Exception):
    """A file that is no configuration: what was found and expected, with line and column from 1."""

    def __init__(self, what: str, line: int, column: int) -> None:
        """Where nothing better is known, the file's first place."""
        super().__init__(what)
        self.line = line
        self.column = column


def parse(data: bytes) -> WrittenConfig:
    """What the file says.  Raises ConfigError."""
    scanned, message, unknown = read(data)
    return _Written(scanned, message).config(unknown)


def read(data: bytes) -> tuple[TextProto, Any, tuple[UnknownName, ...]]:
    """The scanned text, the real message, and the names that this schema does not have.

    Those are left out before the real parser sees the text, as a release that knows them would not.
    Raises ConfigError.
    """
    if data.startswith(_BOM):
        # Seen in 24.10: "failed to read text proto".
        raise ConfigError("found a byte order mark, which Triton refuses; expected plain UTF-8", 1, 1)
    text = data.decode("utf-8", "surrogateescape")
    try:
        scanned = TextProto(text)
    except TextProtoError as error:
        raise ConfigError(f"{error}{_hint(text)}", error.spot.line, error.spot.column) from None
    descriptor = configurations.ModelConfig.DESCRIPTOR
    strange = list(_strangers(scanned, scanned.root, descriptor, ""))
    known = [each.name for each in scanned.root.fields if each.name in descriptor.fields_by_name]
    if scanned.root.fields and not known:
        first = scanned.root.fields[0]
        spot = scanned.spot(first.start)
        expected = "expected those of Triton's ModelConfig, such as name, backend, instance_group"
        raise ConfigError(
            f"found no field but {quoted(first.name)} and its like, {expected}", spot.line, spot.column
        )
    for _, start, end in strange:
        text = text[:start] + re.sub(r"[^\n]", " ", text[start:end]) + text[end:]
    return scanned, _message(text), tuple(name for name, _, _ in strange)


def _message(text: str) -> Any:  # noqa: ANN401  (generated code has no types)
    message = configurations.ModelConfig()
    try:
        # Bytes that are no UTF-8 are nothing to Triton (24.10 takes them), and something to this parser.
        # What it thinks of an escape beyond \\377 is for its authors.
        with warnings.catch_warnings(action="ignore"):
            text_format.Parse(text.encode("utf-8", "replace"), message)
    except text_format.ParseError as error:
        words = _PLACED.fullmatch(str(error))
        what = " ".join((words[1] if words is not None else str(error)).split())
        what = what if len(what) <= _LONGEST else f"{what[: _LONGEST - 1]}…"
        raise ConfigError(f"{what}{_hint(text)}", error.GetLine() or 1, error.GetColumn() or 1) from None
    except (ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"no value of the kind that its field wants: {error}", 1, 1) from None
    return message


def _hint(text: str) -> str:
    return " (this looks like a template that has not been filled in)" if _TEMPLATE.search(text) else ""


def _strangers(
    scanned: TextProto,
    message: Message,
    descriptor: Any,  # noqa: ANN401
    path: str,
) -> Iterator[tuple[UnknownName, int, int]]:
    """Each name that the schema does not have, with the span of its field."""
    for field in message.fields:
        told = descriptor.fields_by_name.get(field.name)
        dotted = f"{path}{field.name}"
        spot = scanned.spot(field.start)
        if told is None:
            close = nearest(field.name, descriptor.fields_by_name) or ""
            yield UnknownName(dotted, "", close, spot.line, spot.column), field.start, field.end
        elif told.enum_type is not None:
            words = told.enum_type.values_by_name
            wrong = [
                each.text
                for each in field.values
                if isinstance(each, Scalar) and each.text.isidentifier() and each.text not in words
            ]
            if wrong:
                close = nearest(wrong[0], words) or ""
                yield UnknownName(dotted, wrong[0], close, spot.line, spot.column), field.start, field.end
        elif told.message_type is not None:
            for value in field.values:
                if isinstance(value, Message):
                    yield from _strangers(scanned, value, told.message_type, f"{dotted}.")


class _Written:
    """From the message and the places of its parts to the facts."""

    def __init__(self, scanned: TextProto, message: Any) -> None:  # noqa: ANN401
        self._scanned = scanned
        self._root = scanned.root
        self._message = message

    def config(self, unknown: tuple[UnknownName, ...]) -> WrittenConfig:
        """All of it."""
        told = self._message
        return WrittenConfig(
            name=told.name,
            name_line=self._first("name", self._root),
            backend=told.backend,
            platform=told.platform,
            default_file=told.default_model_filename,
            ensemble=told.HasField("ensemble_scheduling") or told.platform == "ensemble",
            groups=tuple(self._groups()),
            steps=tuple(
                WrittenStep(
                    step.model_name, None if step.model_version < 0 else step.model_version, self._line(place)
                )
                for step, place in zip(
                    told.ensemble_scheduling.step,
                    self._root.messages("ensemble_scheduling", "step"),
                    strict=True,
                )
            ),
            parameters=tuple(self._parameters()),
            accelerators=tuple(self._accelerators()),
            policy=self._policy(),
            unknown=unknown,
        )

    def _groups(self) -> Iterator[WrittenGroup]:
        places = self._root.messages("instance_group")
        for group, place in zip(self._message.instance_group, places, strict=True):
            line = self._line(place)
            yield WrittenGroup(
                name=group.name,
                kind=_KINDS.get(group.kind, InstanceKind.AUTO),
                count=group.count,
                gpus=tuple(group.gpus),
                line=line,
                kind_line=self._first("kind", place) or line,
                passive=group.passive,
            )

    def _parameters(self) -> Iterator[WrittenParameter]:
        lines = {}
        for entry in self._root.messages("parameters"):
            for key in entry.named("key"):
                for value in key.values:
                    if isinstance(value, Scalar):
                        lines[value.text[1:-1]] = self._line(entry)
        for key, value in sorted(self._message.parameters.items()):
            yield WrittenParameter(key, value.string_value, lines.get(key, 1))

    def _accelerators(self) -> Iterator[WrittenAccelerator]:
        told = self._message.optimization.execution_accelerators
        for device, kind in _ACCELERATORS:
            field = f"{device}_execution_accelerator"
            places = self._root.messages("optimization", "execution_accelerators", field)
            for each, place in zip(getattr(told, field), places, strict=True):
                yield WrittenAccelerator(each.name, kind, self._line(place))

    def _policy(self) -> VersionPolicy:
        told = self._message.version_policy
        line = self._first("version_policy", self._root)
        match told.WhichOneof("policy_choice"):
            case "specific":
                return VersionPolicy(None, tuple(told.specific.versions), line)
            case "latest":
                return VersionPolicy(told.latest.num_versions, None, line)
            case "all":
                return VersionPolicy(None, None, line)
        # An empty policy loads all: only where none is written does Triton put the latest in its place.
        return VersionPolicy(None, None, line) if line else VersionPolicy()

    def _first(self, name: str, message: Message) -> int:
        return next((self._scanned.spot(each.start).line for each in message.named(name)), 0)

    def _line(self, place: Message) -> int:
        return self._scanned.spot(place.start).line
