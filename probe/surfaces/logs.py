"""Logs: one JSON line a transition, on standard error, written by a thread that may block alone.

Standard error, because the output of ``check``, ``doctor`` and ``inject`` is standard output's.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any, Literal

from probe.facts.status import Transition
from probe.surfaces.log_lines import LineWriter

# structlog imports rich wherever that is installed, for tracebacks that the daemon never prints: 3 MiB
# in every pod.  A None in sys.modules makes that one import fail as if rich were absent.
if "rich" in sys.modules:
    import structlog
else:
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog
    finally:
        del sys.modules["rich"]

Level = Literal["debug", "info", "warning", "error", "critical"]
Format = Literal["json", "text"]
_FIRST = ("timestamp", "level", "event")
_LEVELS = {"critical": "error", "warning": "warning", "info": "info"}
_UPSET = frozenset(("finding_raised", "gate_failed", "heal"))


def configure(level: Level, format: Format, *, descriptor: int = 2) -> LineWriter:  # noqa: A002  (the setting's name)
    """Send the logs of the whole process to a descriptor as JSON lines or text.

    Returns the writer, whose ``close`` flushes what the reader takes in time; ``dropped`` counts lines
    that found its queue full.
    """
    writer = LineWriter(descriptor)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    rendered: Any = (
        structlog.processors.JSONRenderer(serializer=_serialized)
        if format == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.MaybeTimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            _ordered,
            rendered,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: _Lines(writer),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _Bridge)]:
        root.removeHandler(handler)
    root.addHandler(_Bridge())
    root.setLevel(max(threshold, logging.INFO))
    logging.captureWarnings(True)
    return writer


class TransitionLog:
    """Writes what changed, one line each."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()

    def write(self, transitions: Iterable[Transition]) -> None:
        """Log these transitions in their order; the line's time is the transition's own."""
        for each in transitions:
            told = {
                "reason": each.reason,
                "severity": each.severity,
                "subject": each.subject or None,
                "gate": each.gate,
                "message": each.message,
                "remedy": each.remedy,
                "epoch": each.epoch,
                "delay_seconds": each.delay_seconds,
            }
            getattr(self._log, _level(each))(
                each.kind,
                timestamp=each.at.isoformat().replace("+00:00", "Z"),
                **{name: value for name, value in told.items() if value is not None},
            )


def _level(transition: Transition) -> str:
    """Severity as a level while something goes wrong; what clears, opens or begins is information."""
    if transition.kind not in _UPSET:
        return "info"
    fallback = "warning" if transition.kind == "gate_failed" else "info"
    return _LEVELS.get(transition.severity or "", fallback)


def _ordered(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    first = {name: event.pop(name) for name in _FIRST if name in event}
    return {**first, **event}


def _serialized(event: object, **options: Any) -> str:  # noqa: ANN401  (structlog's own options)
    # ASCII alone: a name with a lone surrogate must cost no line.
    return json.dumps(event, ensure_ascii=True, **options)


class _Lines:
    """structlog's innermost logger: hands the finished line to the writer."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def msg(self, line: str) -> None:
        """Queue the line; never waits."""
        self._writer.write(line)

    debug = info = warning = warn = error = critical = exception = fatal = failure = err = log = msg


class _Bridge(logging.Handler):
    """Lets what libraries log (asyncio, grpc, uvicorn) come out in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on, its logger's name beside it."""
        try:
            level = logging.getLevelName(record.levelno).lower()
            method = level if level in ("debug", "info", "warning", "error", "critical") else "info"
            getattr(structlog.get_logger(), method)(
                record.getMessage(), logger=record.name, exc_info=record.exc_info
            )
        except Exception:  # noqa: BLE001  (a handler must not raise into the code that logs)
            self.handleError(record)
