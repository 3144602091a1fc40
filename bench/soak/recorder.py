"""Reads what the daemon says happened: its log line by line, and ``/events`` beside it.

Each of the two may lose something (a log drops lines, ``/events`` keeps 500), so what either tells counts,
once.  The log is emptied when it is large and was read: a soak of a day must not fill a disk.
"""

from __future__ import annotations

import contextlib
import datetime
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bench.soak.moves import FAILED, OPENED, Move
from probe.facts.gates import Gate

_REMEMBERED = 4000
"""Transitions that are recognised when they are told again: far more than ``/events`` keeps."""
_MOST_COMPLAINTS = 50
LARGE = 4 << 20
"""Bytes of the log after which it is emptied."""


class Told(msgspec.Struct, frozen=True):
    """One transition, as either source tells it; ``at`` in seconds since the Unix epoch."""

    at: float
    kind: str
    subject: str
    message: str
    reason: str = ""
    severity: str = ""
    gate: str = ""
    epoch: int = 0

    @property
    def move(self) -> Move | None:
        """The move of a gate that it is, if it is one."""
        if self.kind not in (FAILED, OPENED):
            return None
        return Move(self.at, Gate(self.gate), self.kind, self.reason, self.subject, self.message)


class Recorder:
    """Reads both sources; :meth:`read` returns what is new since the last time, oldest first."""

    def __init__(self, log: Path, events: Callable[[], list[dict[str, Any]]]) -> None:
        """``events`` answers what ``/events`` does, newest first; no answer is msgspec's DecodeError."""
        self.raised: Counter[tuple[str, str]] = Counter()
        """Findings of warning or critical severity by severity and reason."""
        self.complaints: list[str] = []
        """What the daemon logs beside transitions at level warning or above."""
        self._log = log
        self._events = events
        self._known: dict[Told, None] = {}
        self._rest = b""
        self._offset = 0

    def read(self) -> list[Told]:
        """Everything that is new."""
        told = [*self._from_log(), *self._from_events()]
        fresh = sorted(
            (each for each in dict.fromkeys(told) if each not in self._known),
            key=lambda each: each.at,
        )
        self._known.update(dict.fromkeys(fresh))
        while len(self._known) > _REMEMBERED:
            self._known.pop(next(iter(self._known)))
        for each in fresh:
            if each.kind == "finding_raised" and each.severity in ("warning", "critical"):
                self.raised[each.severity, each.reason] += 1
        return fresh

    def _from_events(self) -> list[Told]:
        try:
            return [told(each, "at", each["kind"]) for each in self._events()]
        except msgspec.DecodeError:
            return []

    def _from_log(self) -> list[Told]:
        found = []
        *lines, self._rest = (self._rest + self._more()).split(b"\n")
        for line in lines:
            try:
                entry: dict[str, Any] = json.loads(line)
            except ValueError:
                self._complain(line.decode(errors="replace"))
                continue
            if "epoch" in entry:
                found.append(told(entry, "timestamp", entry["event"]))
            elif entry.get("level") not in ("info", "debug"):
                self._complain(json.dumps(entry))
        return found

    def _more(self) -> bytes:
        data = b""
        with contextlib.suppress(OSError), self._log.open("r+b") as file:
            file.seek(self._offset)
            data = file.read(LARGE)
            self._offset += len(data)
            if self._offset >= LARGE:
                # The daemon appends, so it goes on at the new end.  A line that was written since the read is
                # lost, which /events makes good.
                file.truncate(0)
                self._offset = 0
        return data

    def _complain(self, line: str) -> None:
        if line.strip() and len(self.complaints) < _MOST_COMPLAINTS:
            self.complaints.append(line[:2000])


def told(entry: dict[str, Any], time_key: str, kind: str) -> Told:
    """Read one entry of either source; both leave out, or have null for, what there is not."""
    moment = datetime.datetime.fromisoformat(entry[time_key])
    return Told(
        at=moment.timestamp(),
        kind=kind,
        subject=entry.get("subject") or "",
        message=entry.get("message") or "",
        reason=entry.get("reason") or "",
        severity=entry.get("severity") or "",
        gate=entry.get("gate") or "",
        epoch=entry.get("epoch") or 0,
    )
