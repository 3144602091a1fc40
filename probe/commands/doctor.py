"""``triton-probe doctor``: look once at everything here, without a daemon."""

from __future__ import annotations

import asyncio
import logging
import sys

import msgspec

from probe import __version__, daemon
from probe.engine.engine import Engine
from probe.facts.findings import Severity
from probe.facts.status import Status
from probe.settings import Settings
from probe.surfaces.plain import to_json

LOOK_DEADLINE = 30.0
"""Seconds for all looks together; each source's own deadline is far below."""
COULD_NOT_LOOK = 3

_EXITS = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


def doctor(settings: Settings, *, output_format: str = "text") -> int:
    """Print what is seen; 0 nothing above info, 1 warnings, 2 critical, 3 where it could not look.

    It could not look where neither Triton answers nor a tritonserver is to be seen: that is no verdict on
    a Triton, but none to give.
    """
    logging.disable(logging.CRITICAL)
    try:
        status = asyncio.run(_look(settings))
    except TimeoutError:
        sys.stderr.write(f"triton-probe: doctor: no complete look within {LOOK_DEADLINE:.0f} s\n")
        return COULD_NOT_LOOK
    if output_format == "json":
        sys.stdout.write(to_json(status).decode() + "\n")
    else:
        from probe.surfaces import terminal  # noqa: PLC0415  (rich is imported only to draw)

        terminal.show_status(terminal.console(), status)
    if status.triton.pid is None and not status.triton.reachable:
        sys.stderr.write(
            f"triton-probe: doctor: nothing answers at {settings.triton.grpc} and no tritonserver process is to be "
            "seen here; give --grpc and --http, and run it in the pid namespace of Triton\n"
        )
        return COULD_NOT_LOOK
    return max((_EXITS[finding.severity] for finding in status.findings), default=0)


async def _look(settings: Settings) -> Status:
    engine = Engine(settings, daemon.eyes(settings), __version__)
    try:
        async with asyncio.timeout(LOOK_DEADLINE):
            status = (await engine.look_once()).status
            # One look sees no peaks: a size would be a guess.
            return msgspec.structs.replace(status, sizing=None)
    finally:
        await engine.close()
