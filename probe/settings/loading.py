"""Layer on layer: defaults, file, environment, flags.  All of it holds, or none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from probe.kits.addresses import split_host_port
from probe.kits.words import nearest, quoted
from probe.settings.decoding import decode, items_of, unknown
from probe.settings.documents import Place, compose, list_node, read_file, text_node
from probe.settings.errors import SettingsError
from probe.settings.kinds import Text
from probe.settings.knobs import PREFIX, environment_name, fields, leaves
from probe.settings.schema import Settings

DEFAULT = "default"
"""The origin of what nobody set."""
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
NO_KNOBS = frozenset(f"{PREFIX}{name}" for name in ("CONFIG", "REQUIRE_ALL", "SANDBOX", "URL"))
"""Ours, and no knobs: the file's path, switches of tests and demo, the address for ``check``."""
_OF_A_SERVICE = re.compile(
    "(?:.*_)?(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)
"""What the kubelet adds to every container for a Service: one named ``triton-probe`` would else stop us."""

Found = dict[str, tuple[Any, str]]
"""Value and origin by dotted path."""


class Loaded(msgspec.Struct, frozen=True):
    """The settings in force, and by each knob's dotted path where its value came from.

    Origins read ``default``, ``file probe.yaml:12``, ``environment TRITON_PROBE_INTERVAL`` or
    ``flag --interval``.
    """

    settings: Settings
    origins: dict[str, str]


def load(config: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Loaded:
    """Read every layer and put them together.

    ``config`` is the file of ``--config``, None for the one that ``TRITON_PROBE_CONFIG`` names, if any.
    ``flags`` are values by the dotted path of their knob (or ``--set`` and that path), None where a flag
    was not given.  Raises SettingsError, whose text is one line.
    """
    found: Found = {}
    if config is not None:
        found |= _from_file(config, "--config")
    elif environ.get(CONFIG_VARIABLE):
        found |= _from_file(Path(environ[CONFIG_VARIABLE]), CONFIG_VARIABLE)
    found |= _from_environment(environ)
    found |= _from_flags(flags)
    settings = _built(Settings, "", found)
    origins = {path: found[path][1] if path in found else DEFAULT for path in leaves()}
    _agree(settings, origins)
    return Loaded(settings, origins)


def _from_file(path: Path, named_by: str) -> Found:
    place, root = read_file(path, named_by)
    return dict(_in_section(root, Settings, "", place)) if root is not None else {}


def _in_section(
    node: yaml.Node, struct: type[msgspec.Struct], section: str, place: Place
) -> Iterator[tuple[str, tuple[Any, str]]]:
    known = {field.name: field for field in fields(struct)}
    for name, key_node, item in items_of(node, section, place):
        path = f"{section}.{name}" if section else name
        field = known.get(name)
        if field is None:
            raise _misplaced(section, name, known, place, key_node)
        if field.about is not None:
            yield path, (decode(item, field.about.kind, path, place), place.origin(key_node))
        elif field.struct is not None:
            yield from _in_section(item, field.struct, path, place)


def _misplaced(
    section: str, name: str, known: Mapping[str, object], place: Place, node: yaml.Node
) -> SettingsError:
    """An unknown key: perhaps a known one of another section."""
    elsewhere = [path for path in leaves() if path.rpartition(".")[2] == name]
    if elsewhere and nearest(name, known) is None:
        dotted = f"{section}.{name}" if section else name
        return place.error(f"{dotted}: unknown key, did you mean {elsewhere[0]}?", node)
    return unknown(section, name, known, place, node)


def _from_environment(environ: Mapping[str, str]) -> Found:
    known = {environment_name(path): path for path in leaves()}
    found: Found = {}
    for name, value in environ.items():
        variable = name.upper()
        if not variable.startswith(PREFIX) or variable in NO_KNOBS:
            continue
        place = Place(name, "environment")
        if variable not in known:
            if _OF_A_SERVICE.fullmatch(variable.removeprefix(PREFIX)):
                continue
            above = next((each for each in known if variable.startswith(f"{each}__")), None)
            if above is not None:
                raise place.error(f"{known[above]} is set as a whole, expected {above}='{{…}}'")
            close = nearest(variable.removeprefix(PREFIX), (each.removeprefix(PREFIX) for each in known))
            hint = f"did you mean {PREFIX}{close}?" if close else f"expected {PREFIX} and a setting's path"
            raise place.error(f"unknown name, {hint}")
        if value:  # an empty one is how manifests and compose files say "not set"
            found[known[variable]] = (_from_text(value, known[variable], place), place.origin())
    return found


def _from_flags(flags: Mapping[str, object]) -> Found:
    known = leaves()
    found: Found = {}
    for name, value in flags.items():
        if value is None:
            continue
        path = name.removeprefix("--set ")
        about = known.get(path)
        if about is None:
            raise _unknown_path(path, known)
        flag = about.flag if name == path and about.flag else f"--set {path}"
        place = Place(flag, "flag")
        if isinstance(value, list | tuple):
            decoded = decode(list_node([str(item) for item in value]), about.kind, path, place)
        else:
            decoded = _from_text(str(value), path, place)
        found[path] = (decoded, place.origin())
    return found


def _unknown_path(path: str, known: Mapping[str, object]) -> SettingsError:
    place = Place(f"--set {path[:80]}", "flag")
    above = next((each for each in known if path.startswith(f"{each}.")), None)
    if above is not None:
        return place.error(f"{above} is set as a whole, expected --set {above}='{{…}}'")
    below = [each for each in known if each.startswith(f"{path}.")]
    if below:
        return place.error(f"{path} is a section, expected one of {', '.join(below)}")
    close = nearest(path, known)
    return place.error(f"unknown key, did you mean {close}?" if close else "unknown key of a setting")


def _from_text(text: str, path: str, place: Place) -> Any:  # noqa: ANN401 - as the knob's kind says
    """A scalar as it stands, so that ``[::]:8003`` needs no quotes; anything else as YAML."""
    kind = leaves()[path].kind
    node = text_node(text) if isinstance(kind, Text) else compose(text, place, path)
    return decode(node if node is not None else text_node(""), kind, path, place)


def _built(struct: type[msgspec.Struct], prefix: str, found: Found) -> Any:  # noqa: ANN401 - that struct
    values = {}
    for field in fields(struct):
        path = f"{prefix}{field.name}"
        if field.struct is not None:
            values[field.name] = _built(field.struct, f"{path}.", found)
        elif path in found:
            values[field.name] = found[path][0]
    return struct(**values)


def _agree(settings: Settings, origins: Mapping[str, str]) -> None:
    """What no knob can tell alone."""
    both = [name for name in settings.models.required if name in settings.models.ignore]
    if both:
        raise _error(origins, "models.ignore", f"holds {both[0]}, which models.required asks for")
    tls = settings.triton.tls
    if (tls.cert is None) != (tls.key is None):
        given, missing = ("cert", "key") if tls.key is None else ("key", "cert")
        what = f"given without triton.tls.{missing}, expected both or neither"
        raise _error(origins, f"triton.tls.{given}", what)
    for name in ("ca", "cert", "key"):
        path = getattr(tls, name)
        if path is not None and (trouble := _unreadable(Path(path))):
            raise _error(
                origins, f"triton.tls.{name}", f"found {quoted(path)} {trouble}, expected a PEM file"
            )
    if settings.grpc_listen == settings.listen and split_host_port(settings.listen)[1]:
        raise _error(
            origins, "grpc_listen", f"found {settings.listen}, where listen is too, expected another port"
        )


def _unreadable(path: Path) -> str:
    # Only that it can be read: what is in it may be renewed at any time, and is read anew then.
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return f"({error.strerror or error})"
    return ""


def _error(origins: Mapping[str, str], path: str, what: str) -> SettingsError:
    return SettingsError(origins[path].removeprefix("file "), f"{path}: {what}")
