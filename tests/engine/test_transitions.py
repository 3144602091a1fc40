"""What changed between two judgements."""

from __future__ import annotations

import msgspec

from probe.engine import transitions
from probe.engine.standing import Gates
from probe.facts.findings import SERVER, Action, Finding, Key, Severity
from probe.facts.gates import Gate
from tests.worlds import at


def finding(reason: str = "TritonDown", *gates: Gate, since: float = 0.0) -> Finding:
    """A critical finding about the server."""
    moment = at(since).as_datetime()
    return Finding(
        reason, Severity.CRITICAL, SERVER, gates, "it is gone.", "Start it.", Action.NONE, {}, moment, moment
    )


def standing(*findings: Finding) -> dict[Key, Finding]:
    """By reason and subject."""
    return {(each.reason, each.subject): each for each in findings}


def test_a_new_epoch_names_its_process_where_one_is_seen() -> None:
    """And says nothing while it is the same."""
    assert not list(transitions.of_epoch(1, 1, 7, at(0)))
    (seen,) = transitions.of_epoch(0, 1, 7, at(0))
    assert (seen.kind, seen.epoch, seen.message) == ("epoch", 1, "epoch 1: tritonserver (pid 7)")
    (unseen,) = transitions.of_epoch(1, 2, None, at(0))
    assert unseen.message == "epoch 2: a tritonserver"


def test_findings_are_cleared_before_others_are_raised() -> None:
    """What stays is no change, also when its words changed; only what is raised carries a remedy."""
    stays = finding("StubDead")
    before = standing(finding("TritonStarting"), stays)
    after = standing(finding("TritonDown"), msgspec.structs.replace(stays, message="others words."))
    told = list(transitions.of_findings(before, after, 3, at(9)))
    assert [(each.kind, each.reason, each.remedy) for each in told] == [
        ("finding_cleared", "TritonStarting", None),
        ("finding_raised", "TritonDown", "Start it."),
    ]
    assert {each.epoch for each in told} == {3}
    assert {each.at for each in told} == {at(9).as_datetime()}


def test_a_finding_that_began_anew_is_cleared_and_raised() -> None:
    """Of two epochs, although nobody looked in between."""
    told = transitions.of_findings(standing(finding(since=1)), standing(finding(since=2)), 2, at(2))
    assert [each.kind for each in told] == ["finding_cleared", "finding_raised"]


def test_a_gate_that_moves_names_the_first_finding_that_fails_it() -> None:
    """With the delay of its detection where there is one; a gate that stays says nothing."""
    opened = Gates(epoch=4).with_findings((), at(0))
    guilty = (finding("TritonDown", Gate.READY), finding("StubDead", Gate.READY, Gate.LIVE))
    closed = opened.with_findings(guilty, at(1))
    told = list(transitions.of_gates(opened, closed, guilty, {("TritonDown", SERVER): 0.25}, at(1)))
    assert [(each.gate, each.kind, each.reason, each.delay_seconds) for each in told] == [
        (Gate.LIVE, "gate_failed", "StubDead", None),
        (Gate.READY, "gate_failed", "TritonDown", 0.25),
    ]
    assert told[1].message == "TritonDown server: it is gone."
    assert told[1].remedy == "Start it."
    assert {each.epoch for each in told} == {4}
    back = list(transitions.of_gates(closed, opened, (), {}, at(2)))
    assert [(each.gate, each.kind, each.reason, each.subject) for each in back] == [
        (Gate.LIVE, "gate_opened", None, "server"),
        (Gate.READY, "gate_opened", None, "server"),
    ]


def test_the_first_judgement_is_no_transition() -> None:
    """How the gates begin is no move, and is counted as none."""
    first = Gates().with_findings((finding("Initializing", Gate.READY, Gate.STARTUP),), at(0))
    told = transitions.of_gates(Gates(), first, (finding("Initializing", Gate.READY),), {}, at(0))
    assert list(told) == []
