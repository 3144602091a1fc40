"""``size``: from what a running daemon saw to resources that can be pasted into a manifest."""

from __future__ import annotations

import re

import click
import msgspec

from probe.commands.asking import Target, ask, no_answer
from probe.facts.sizing import SizingStatus
from probe.surfaces.plain import to_json
from probe.surfaces.sizes import as_yaml

_OK = 200
_LARGEST_BYTES = 64 * 1024 * 1024
"""The status of 1,000 models with findings is some MiB."""
_SCHEMA = 1
_QUANTITY = re.compile(r"[0-9]{1,19}(m|Mi|Gi)?")
_NAME = re.compile(r"[A-Za-z0-9./-]{1,100}")
"""What a line may be called: it becomes a key of the YAML."""


class Told(msgspec.Struct, frozen=True):
    """The part of ``/status`` that is needed here."""

    schema: int
    sizing: SizingStatus | None = None


def size(target: Target, timeout_seconds: float, *, output_format: str = "yaml") -> int:
    """Print the proposal and return the exit status: 0, or 3 where no daemon gave one."""
    path = f"{target.prefix}/status"
    answer = ask(target, path, timeout_seconds, _LARGEST_BYTES)
    if isinstance(answer, str):
        return no_answer(target, answer)
    if answer.status != _OK:
        return no_answer(target, f"status {answer.status} for {path}, which no triton-probe gives")
    sizing = _read(answer.body)
    if isinstance(sizing, str):
        return no_answer(target, sizing)
    try:
        text = to_json(sizing).decode() if output_format == "json" else as_yaml(sizing)
    except OverflowError:  # whole numbers of any length are JSON
        return no_answer(target, "not a triton-probe's /status (a figure that is no size)")
    click.echo(f"{text}\n".encode(), nl=False)
    return 0


def _read(body: str) -> SizingStatus | str:
    """The part of ``/status``, or why there is none that could be pasted."""
    try:
        told = msgspec.json.decode(body, type=Told)
    except msgspec.MsgspecError as error:
        return f"not a triton-probe's /status ({str(error)[:200]})"
    if told.schema != _SCHEMA:
        return f"its /status has schema {told.schema}, this release reads schema {_SCHEMA}"
    sizing = told.sizing
    if sizing is None:
        return "its /status tells no sizes: that triton-probe is of an older release"
    if not all(_QUANTITY.fullmatch(each) for each in _quantities(sizing)):
        return "not a triton-probe's /status (a value that is no quantity)"
    if not all(_NAME.fullmatch(each.what) for each in sizing.proposal):
        return "not a triton-probe's /status (a line that is none of a manifest)"
    return sizing


def _quantities(sizing: SizingStatus) -> tuple[str, ...]:
    values = (value for each in sizing.proposal for value in (each.value, each.if_demanded))
    return tuple(value for value in values if value is not None)
