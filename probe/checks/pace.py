"""Does a model compute far more slowly than it did before, in the same load?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.observation import Observation
from probe.facts.findings import Claim, Subject, SubjectKind

SLOW_SECONDS = 60.0
"""Seconds from the first slow window to the last: a burst of large inputs passes."""


def judge(seen: Observation) -> Iterator[Claim]:
    """One claim a ready model that has been slow for that long; it fails no gate."""
    if not seen.watching:
        return
    for record in seen.records():
        pace = record.progress.pace
        usual, latest, until = pace.usual, pace.latest, pace.slow_until
        if usual is None or latest is None or until is None or pace.slow_seconds < SLOW_SECONDS:
            continue
        yield Claim(
            "InferenceSlow",
            Subject(SubjectKind.MODEL, model=record.key.name, version=record.key.version),
            f"An inference takes {_ms(latest.per_inference)} of computing, usual in this load is "
            f"{_ms(usual.per_inference)}; a request {_ms(latest.per_request)} instead of {_ms(usual.per_request)}. So "
            f"for {pace.slow_seconds:.0f} s.",
            "Compare with what changed: the size of inputs (tokens, pixels), another model on the same GPU or CPUs, a "
            "GPU that throttles (nvidia-smi -q -d PERFORMANCE), a container at its CPU limit "
            "(cpu.throttled_seconds in /status).",
            until,
            {
                "seconds_per_inference": latest.per_inference,
                "usual_seconds_per_inference": usual.per_inference,
                "seconds_per_request": latest.per_request,
                "usual_seconds_per_request": usual.per_request,
                "slow_seconds": round(pace.slow_seconds, 1),
            },
        )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
