"""How long does ``triton-probe check`` take from its start to its exit, beside an interpreter that does nothing?"""

from __future__ import annotations

import subprocess
import sys
import time

from bench.harness import MILLISECONDS, BenchError, Options, Result, of_values

NAME = "start"
BUDGET_MS = 150.0

_NO_ANSWER = 3


def run(options: Options) -> list[Result]:
    """Ask a port where nobody listens, and start a bare interpreter, in turns."""
    times = 10 if options.quick else 50
    check = [sys.executable, "-m", "probe", "check", "--url", "http://127.0.0.1:1"]
    bare = [sys.executable, "-c", "pass"]
    took, nothing = [], []
    for _ in range(times):
        nothing.append(_seconds(bare, 0) * MILLISECONDS)
        took.append(_seconds(check, _NO_ANSWER) * MILLISECONDS)
    conditions = f"{times} starts of each, in turns; nobody listens at the port that is asked"
    return [
        of_values(NAME, "check, from start to exit", took, "ms", budget=BUDGET_MS, conditions=conditions),
        of_values(NAME, "python -c pass", nothing, "ms", conditions=conditions),
    ]


def _seconds(command: list[str], code: int) -> float:
    began = time.monotonic()
    ran = subprocess.run(command, capture_output=True, check=False)
    took = time.monotonic() - began
    if ran.returncode != code:
        raise BenchError(f"{command[1:]} exits with {ran.returncode}: {ran.stderr.decode(errors='replace')}")
    return took
