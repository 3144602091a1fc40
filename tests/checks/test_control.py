"""Is a busy control thread told from a server that hangs?"""

from __future__ import annotations

import pytest

from probe.checks.control import judge
from probe.facts.triton import Failure
from tests.worlds import World, failing, python_model, server, serving

M = python_model("m")
UP = serving(M)


def blocked(seen: World, looks: int, call: str = "live", *, http: bool | None = True) -> World:
    """Looks at which this gRPC call timed out."""
    answered = {} if call != "live" else {"live": None, "version": None}
    for _ in range(looks):
        failures = (failing(call, Failure.TIMEOUT),)
        seen = seen.polls(
            **{"statistics": None, "ready": None, "http_live": http, "failures": failures, **answered}
        )
    return seen


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ("live", "ServerLive"),
        ("metadata", "ServerMetadata"),
        ("ready", "ServerReady"),
        ("statistics", "ModelStatistics"),
    ],
)
def test_three_looks_without_an_answer_over_grpc_while_http_answers(call: str, named: str) -> None:
    """Nothing else is said: what models do is not known, and none of them is called anything for it."""
    assert blocked(UP, 2, call).reasons() == []
    seen = blocked(UP, 3, call)
    claim = seen.only("ControlPlaneBlocked")
    assert (
        f"the gRPC call for {named} got no answer within 2 s at 3 looks in a row, since 3 s" in claim.message
    )
    assert claim.evidence == {"call": call, "misses": 3, "blocked_seconds": 3.0, "timeout_seconds": 2.0}
    assert claim.observed == seen.now.shifted(-1)
    assert seen.reasons() == ["ControlPlaneBlocked"]
    assert seen.polls().reasons() == []
    assert blocked(seen.polls(), 2, call).reasons() == []


def test_http_that_says_not_live_answers_all_the_same() -> None:
    """An answer is an answer."""
    assert blocked(UP, 3, http=False).reasons(judge) == ["ControlPlaneBlocked"]


def test_where_http_is_silent_too_it_is_a_hang() -> None:
    """And where it fails otherwise nobody knows."""
    seen = blocked(UP, 3)
    assert seen.fails(Failure.TIMEOUT).reasons() == ["TritonHung"]
    assert seen.fails(Failure.TIMEOUT, Failure.ERROR).reasons() == []


@pytest.mark.parametrize("call", ["http_live", "metrics"])
def test_calls_of_other_threads_say_nothing_of_it(call: str) -> None:
    """HTTP and the metrics have threads of their own."""
    failures = (failing(call, Failure.TIMEOUT),)
    seen = UP
    for _ in range(4):
        seen = seen.polls(failures=failures)
    assert seen.reasons(judge) == []


def test_before_any_look_and_after_the_end_nothing_is_blocked() -> None:
    """TritonDown says the latter."""
    assert World().reasons(judge) == []
    assert "ControlPlaneBlocked" not in blocked(UP, 3).server_exits().reasons()


def test_a_new_server_begins_anew() -> None:
    """Its thread is another."""
    seen = blocked(UP, 3).having(server=server(pid=6)).scans()
    assert seen.reasons(judge) == []
