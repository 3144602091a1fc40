"""A second try for tests that meet real processes; the first failure is printed in full and is a defect.

The real tritonserver 2.51 crashes now and then while it takes a failed instance apart, and a scenario of a
dozen processes on two busy cores meets delays that nobody planned: one such chance in some thousand tests
would hide what the others say.  Judgement that is pure has no such excuse, and is tried once; so are the plays
in the small virtual machine, each of which goes on where the last one ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

MEETS_THE_WORLD = frozenset(
    ("bench", "commands", "engine", "image", "sandbox", "scenarios", "sources", "surfaces", "testbed")
)
"""Folders of tests whose subjects are processes, threads, sockets and clocks."""
_FOLDER = Path(__file__).parent


def allow(items: Iterable[pytest.Item]) -> None:
    """Let each of these tests that meets the world be tried once more where it fails."""
    for item in items:
        if item.path.is_relative_to(_FOLDER):
            top, *rest = item.path.relative_to(_FOLDER).parts
            if (not rest or top in MEETS_THE_WORLD) and "machine" not in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.flaky(reruns=1))


def tell(reporter: pytest.TerminalReporter) -> None:
    """Print each failure that a second try followed, in full."""
    for report in reporter.stats.get("rerun", ()):
        reporter.write_sep("!", f"failed at first: {report.nodeid}", yellow=True)
        reporter.write_line(report.longreprtext)
