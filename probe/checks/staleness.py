"""Has a source stopped delivering?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.observation import Observation
from probe.facts.findings import Claim, Subject, SubjectKind

_BLIND_TO = {
    "triton": "the state of the server and its models",
    "nvml": "GPU memory and processes, so placement",
    "processes": "stub processes and their exits",
    "container": "the limits and use of Triton's container",
}


def judge(seen: Observation) -> Iterator[Claim]:
    """One claim a source."""
    for stale in seen.stale:
        age = stale.age_seconds
        ago = "has not delivered yet" if age is None else f"last delivered {age:.0f} s ago"
        yield Claim(
            "ObservationStale",
            Subject(SubjectKind.PROBE, source=stale.source),
            f"The source {stale.source} {ago}: {stale.error or 'no answer'}. "
            f"Not known now: {_BLIND_TO.get(stale.source, 'what it shows')}; verdicts stand as last seen.",
            "See probe.sources in /status for its last error.",
            stale.observed,
            {"source": stale.source, "age_seconds": stale.age_seconds, "error": stale.error},
        )
