"""The schema as a list: what documentation, environment variables and flags are made from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from probe.settings.kinds import Kind, Many, Plain, Record, Table, Text, name_of
from probe.settings.schema import About, Settings

PREFIX = "TRITON_PROBE_"
"""What names of environment variables begin with."""


class Field(msgspec.Struct, frozen=True):
    """One field of a settings record: a knob where it has ``about``, else a section of its own ``struct``."""

    name: str
    default: Any
    about: About | None = None
    struct: type[msgspec.Struct] | None = None


class Knob(msgspec.Struct, frozen=True):
    """One knob as documentation shows it.

    ``path`` is dotted; ``*`` in it stands for a name that the user chooses, and such a knob has no
    variable or flag of its own: its whole mapping does.  ``default`` is spelled as in a file.
    """

    path: str
    type: str
    default: Plain
    says: str
    environment: str = ""
    flag: str = ""


def fields(struct: type[msgspec.Struct]) -> list[Field]:
    """The fields of a settings record, in order."""
    found = []
    for field in msgspec.structs.fields(struct):
        made = field.default_factory is not msgspec.NODEFAULT
        default = field.default_factory() if made else field.default
        metadata = getattr(field.type, "__metadata__", None)
        if metadata:
            found.append(Field(field.name, default, about=metadata[0]))
        else:
            found.append(Field(field.name, default, struct=field.type))
    return found


def leaves() -> dict[str, About]:
    """Every knob that can be set on its own, by dotted path, in the order of the schema."""
    return {path: about for path, about, _ in _walk("", Settings)}


def knobs() -> tuple[Knob, ...]:
    """Every knob with its dotted path, type, default and description, in the order of the schema."""
    return tuple(_described())


def environment_name(path: str) -> str:
    """The variable that sets the knob: ``TRITON_PROBE_TRITON__GRPC``."""
    return PREFIX + path.replace(".", "__").upper()


def value_at(settings: Settings, path: str) -> Any:  # noqa: ANN401 - as the knob's kind says
    """The value of the knob with this dotted path."""
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def spelled(value: Any, kind: Kind) -> Plain:  # noqa: ANN401 - as the knob's kind says
    """The value as a file would say it; secrets as ``***``."""
    match kind:
        case Text():
            return "***" if kind.secret else kind.spell(value)
        case Many():
            return [kind.item.spell(item) for item in value]
        case Table():
            return {str(kind.key.spell(key)): spelled(item, kind.value) for key, item in value.items()}
        case Record():
            return _record(value, kind)
        case _:
            plain: Plain = value
            return plain


def _record(value: msgspec.Struct, kind: Record) -> dict[str, Plain]:
    """What differs from the defaults, as a user would write it."""
    found = {}
    for field in fields(kind.struct):
        part = getattr(value, field.name)
        if field.about is not None and part != field.default:
            found[field.name] = spelled(part, field.about.kind)
    return found


def _walk(prefix: str, struct: type[msgspec.Struct]) -> Iterator[tuple[str, About, Any]]:
    for field in fields(struct):
        path = f"{prefix}{field.name}"
        if field.about is not None:
            yield path, field.about, field.default
        elif field.struct is not None:
            yield from _walk(f"{path}.", field.struct)


def _described() -> Iterator[Knob]:
    for path, about, default in _walk("", Settings):
        plain = spelled(default, about.kind)
        yield Knob(path, name_of(about.kind), plain, about.says, environment_name(path), about.flag)
        if isinstance(about.kind, Table) and isinstance(about.kind.value, Record):
            for field in fields(about.kind.value.struct):
                if field.about is not None:
                    kind = field.about.kind
                    inner = None if field.default is None else spelled(field.default, kind)
                    yield Knob(f"{path}.*.{field.name}", name_of(kind), inner, field.about.says)
