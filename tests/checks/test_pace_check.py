"""Is a model that computes far more slowly than it used to told, with both figures?"""

from __future__ import annotations

import msgspec

from probe.checks.pace import judge
from tests.worlds import World, python_model, row, serving


def served(seen: World, polls: int, seconds: float) -> World:
    """Polls five seconds apart, each after ten requests of so many seconds."""
    for _ in range(polls):
        was = seen.record("m").statistics or row("m")
        now = msgspec.structs.replace(
            was,
            success=was.success + 10,
            inferences=was.inferences + 10,
            executions=was.executions + 10,
            compute_infer_count=was.compute_infer_count + 10,
            compute_infer_ns=was.compute_infer_ns + int(10 * seconds * 1e9),
            batch_infer_ns=was.batch_infer_ns + int(10 * seconds * 1e9),
        )
        seen = seen.with_row(now).later(4).polls()
    return seen


def test_a_model_that_is_slow_for_a_minute_is_told_with_both_figures() -> None:
    """It fails no gate, and a fast window ends it."""
    usual = served(serving(python_model("m")), 21, 0.02)
    assert usual.reasons(judge) == []
    assert served(usual, 12, 0.2).reasons(judge) == []
    slow = served(usual, 13, 0.2)
    claim = slow.only("InferenceSlow", judge)
    assert (
        "An inference takes 200 ms of computing, usual in this load is 20 ms; a request 200 ms"
        in claim.message
    )
    assert "So for 60 s." in claim.message
    assert claim.observed == slow.book.models.statistics_at
    assert claim.evidence == {
        "seconds_per_inference": 0.2,
        "usual_seconds_per_inference": 0.02,
        "seconds_per_request": 0.2,
        "usual_seconds_per_request": 0.02,
        "slow_seconds": 60.0,
    }
    assert slow.server_exits().reasons(judge) == []
    assert served(slow, 1, 0.02).reasons(judge) == []
