from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from probe.facts.gates import Gate
from probe.facts.status import Transition
from probe.surfaces import logs
from probe.surfaces.log_lines import LineWriter
from tests.surfaces.snapshots import HOSTILE_NAMES, SEEN, utc


class Pipe:
    """A pipe whose reading end the test holds."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()

    def lines(self, writer: LineWriter) -> list[dict[str, Any]]:
        """Everything written until now, one JSON object a line; closes the writing end."""
        writer.close(60.0)
        self.close_writing()
        with os.fdopen(os.dup(self.read_end), encoding="utf-8") as reader:
            return [json.loads(each) for each in reader]

    def close_writing(self) -> None:
        """Close the writing end once."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe, closed afterwards."""
    made = Pipe()
    yield made
    made.close_writing()
    os.close(made.read_end)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Give the process its own logging back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def fill(descriptor: int) -> int:
    """Fill a pipe with short lines until it takes no more; how many it took."""
    os.set_blocking(descriptor, False)
    count = 0
    try:
        while os.write(descriptor, b"x" * 63 + b"\n"):
            count += 1
    except BlockingIOError:
        os.set_blocking(descriptor, True)
    return count


def transition(kind: str, severity: str | None = "critical", subject: str = "resnet/1") -> Transition:
    """A transition of this kind."""
    return Transition(
        SEEN, kind, subject, "stub 101 ended.", "StubDead", severity, Gate.READY, 2, "Reload it.", 0.02
    )


def test_a_transition_is_one_json_line(pipe: Pipe) -> None:
    """Time of the event, level, event and every field of the transition, in one object."""
    writer = logs.configure("info", "json", descriptor=pipe.write_end)
    logs.TransitionLog().write([transition("finding_raised")])

    assert pipe.lines(writer) == [
        {
            "timestamp": SEEN.isoformat().replace("+00:00", "Z"),
            "level": "error",
            "event": "finding_raised",
            "reason": "StubDead",
            "severity": "critical",
            "subject": "resnet/1",
            "gate": "ready",
            "message": "stub 101 ended.",
            "remedy": "Reload it.",
            "epoch": 2,
            "delay_seconds": 0.02,
        }
    ]


@pytest.mark.parametrize(
    ("kind", "severity", "level"),
    [
        ("finding_raised", "critical", "error"),
        ("finding_raised", "warning", "warning"),
        ("finding_raised", "info", "info"),
        ("finding_cleared", "critical", "info"),
        ("gate_failed", "critical", "error"),
        ("gate_failed", None, "warning"),
        ("gate_opened", None, "info"),
        ("epoch", None, "info"),
    ],
)
def test_the_level_follows_severity_while_it_gets_worse(
    pipe: Pipe, kind: str, severity: str | None, level: str
) -> None:
    """What goes wrong has the level of its severity; what gets better is information."""
    writer = logs.configure("debug", "json", descriptor=pipe.write_end)
    logs.TransitionLog().write([transition(kind, severity)])

    assert [each["level"] for each in pipe.lines(writer)] == [level]


def test_the_level_of_the_settings_holds(pipe: Pipe) -> None:
    """Below ``log.level`` nothing is written."""
    writer = logs.configure("warning", "json", descriptor=pipe.write_end)
    logs.TransitionLog().write([transition("gate_opened"), transition("gate_failed")])

    assert [each["event"] for each in pipe.lines(writer)] == ["gate_failed"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_are_one_line_each(pipe: Pipe, name: str) -> None:
    """Whatever a model is called, a line of the log is one JSON object."""
    writer = logs.configure("info", "json", descriptor=pipe.write_end)
    logs.TransitionLog().write([transition("finding_raised", subject=name)])

    assert [each.get("subject", "") for each in pipe.lines(writer)] == [name]


def test_what_libraries_log_has_the_same_form(pipe: Pipe) -> None:
    """Records of the standard library, with their traceback, come out as JSON with a UTC time."""
    writer = logs.configure("info", "json", descriptor=pipe.write_end)
    try:
        raise ValueError("too large")  # noqa: TRY301
    except ValueError:
        logging.getLogger("asyncio").exception("task %s died", "x")

    (line,) = pipe.lines(writer)
    assert (line["level"], line["event"], line["logger"]) == ("error", "task x died", "asyncio")
    assert "ValueError: too large" in line["exception"]
    assert utc(line["timestamp"]).utcoffset() is not None


def test_the_console_format_is_for_people(pipe: Pipe) -> None:
    """``log.format: console`` writes the same fields without JSON."""
    writer = logs.configure("info", "text", descriptor=pipe.write_end)
    logs.TransitionLog().write([transition("finding_raised")])
    writer.close(60.0)

    line = os.read(pipe.read_end, 10_000).decode()
    assert "finding_raised" in line
    assert "reason=StubDead" in line


def test_a_stuck_reader_stalls_nobody_and_the_loss_is_told(pipe: Pipe) -> None:
    """With a full pipe, logging returns at once; dropped lines are counted and told when it drains."""
    filled = fill(pipe.write_end)
    writer = LineWriter(pipe.write_end, most=10)
    # Had one of them waited for the reader, this test would never come to an end.
    for _ in range(500):
        writer.write("x" * 1000)

    assert writer.dropped in (489, 490)
    writer.close(0.2)

    seen = b""
    while b"log_lines_dropped" not in seen:
        seen += os.read(pipe.read_end, 65536)
    assert b'"count":%d' % writer.dropped in seen
    assert len(seen.splitlines()) == filled + 500 - writer.dropped + 1


def test_a_non_blocking_descriptor_loses_nothing(pipe: Pipe) -> None:
    """Lines are written in whole even where the descriptor takes only part of one."""
    os.set_blocking(pipe.write_end, False)
    writer = LineWriter(pipe.write_end)
    writer.write(json.dumps({"long": "x" * 200_000}))
    seen = b""
    while not seen.endswith(b"\n"):
        seen += os.read(pipe.read_end, 65536)

    assert len(json.loads(seen)["long"]) == 200_000
    assert writer.dropped == 0
    writer.close(60.0)


def test_a_reader_that_is_gone_costs_only_the_log() -> None:
    """A broken pipe drops lines and raises nothing."""
    other_read, other_write = os.pipe()
    os.close(other_read)
    writer = LineWriter(other_write)
    writer.write("into the void")
    writer.close(60.0)
    os.close(other_write)

    assert writer.dropped == 1


def test_importing_the_logs_does_not_import_rich() -> None:
    """The daemon pays nothing for a terminal library that it never uses, and others can still import it."""
    code = "import sys, probe.surfaces.logs; assert 'rich' not in sys.modules; import rich"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (0, b"")
