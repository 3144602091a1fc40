"""``config``: which settings are in force, and where each came from.

What it prints as YAML is itself a configuration file, but for the secrets in it.
"""

from __future__ import annotations

import json

import click
import yaml

from probe.settings import Loaded, leaves, spelled, value_at
from probe.settings.kinds import Plain

_WIDEST = 60
"""Columns up to which values push their comments to the right."""


def config(loaded: Loaded, *, output_format: str) -> int:
    """Print every setting with its origin and return the exit status."""
    values = {path: spelled(value_at(loaded.settings, path), about.kind) for path, about in leaves().items()}
    if output_format == "json":
        found = {path: {"value": values[path], "origin": loaded.origins[path]} for path in values}
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(_as_yaml(values, loaded.origins))
    return 0


def _as_yaml(values: dict[str, Plain], origins: dict[str, str]) -> str:
    lines: list[tuple[str, str]] = []
    open_sections: tuple[str, ...] = ()
    for path, value in values.items():
        *sections, name = path.split(".")
        for depth, section in enumerate(sections):
            if open_sections[: depth + 1] != tuple(sections[: depth + 1]):
                lines.append((f"{'  ' * depth}{section}:", ""))
        open_sections = tuple(sections)
        lines.append((f"{'  ' * len(sections)}{name}: {_flow(value)}", origins[path]))
    width = max((len(line) for line, _ in lines if len(line) <= _WIDEST), default=0)
    return "\n".join(
        f"{line.ljust(width)}  # {_one_line(origin)}" if origin else line for line, origin in lines
    )


def _flow(value: Plain) -> str:
    """The value in YAML on one line."""
    text: str = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("...\n").strip()


def _one_line(origin: str) -> str:
    """A file's name may hold anything."""
    return "".join(each if each.isprintable() else "?" for each in origin)
