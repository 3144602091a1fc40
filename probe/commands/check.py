"""``check``: what a running daemon answers, for exec probes and scripts.

It starts in a tenth of a second because it needs nothing but the standard library: an exec probe pays
for every import at every period.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

import click

from probe.commands.asking import Target, ask, no_answer

PATHS = {"live": "/livez", "ready": "/readyz", "startup": "/startupz", "health": "/healthz"}
OPEN, FAILING = 0, 1
_OK, _UNAVAILABLE = 200, 503


def check(
    target: Target,
    gate: str,
    timeout_seconds: float,
    *,
    models: Sequence[str] = (),
    excluded: Sequence[str] = (),
    verbose: bool = False,
    output_format: str = "text",
) -> int:
    """Print the daemon's answer about a gate, or about its own health, and return the exit status.

    0 open, 1 failing, 3 no answer: refused, not in time, not HTTP, or a status that no gate has.
    """
    query = [("model", model) for model in models] + [("exclude", reason) for reason in excluded]
    query += [("verbose", "1")] if verbose else []
    query += [("format", "json")] if output_format == "json" else []
    path = f"{target.prefix}{PATHS[gate]}{'?' if query else ''}{urlencode(query, errors='surrogateescape')}"
    answer = ask(target, path, timeout_seconds)
    if isinstance(answer, str):
        return no_answer(target, answer)
    if answer.status not in (_OK, _UNAVAILABLE):
        return no_answer(target, f"status {answer.status} for {path}, which no triton-probe gives")
    click.echo(f"{answer.body}\n".encode(), nl=False)
    return OPEN if answer.status == _OK else FAILING
