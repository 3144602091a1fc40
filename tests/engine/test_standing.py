"""What holds, since when, and which gates it fails."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.engine.standing import Gates, Held, Rules, Standing
from probe.facts.catalogue import CATALOGUE
from probe.facts.findings import SERVER, Action, Claim, Finding, Severity, Subject, SubjectKind
from probe.facts.gates import AT_ONCE, Gate, Hold
from probe.settings import Settings
from tests.worlds import at

MODEL = Subject(SubjectKind.MODEL, model="m", version="1")
GPU = Subject(SubjectKind.GPU, gpu_uuid="GPU-a")
NONE: frozenset[Gate] = frozenset()


def claim(reason: str, seconds: float = 0.0, subject: Subject = SERVER) -> Claim:
    """What a check says of a reading of this moment."""
    return Claim(reason, subject, f"{reason} since long.", "Do something.", at(seconds))


def standing(*claims: Claim, since: float = 0.0) -> Standing:
    """These claims, first made at this moment."""
    return Standing().with_claims(claims, at(since))


def only(stands: Standing) -> Held:
    """The one that holds."""
    (held,) = stands.held.values()
    return held


def failing(stands: Standing, now: float, settings: Settings | None = None) -> tuple[Gate, ...]:
    """The gates that the one that holds fails at this moment."""
    return Rules(settings or Settings()).failing(only(stands), at(now))


# Holds


@pytest.mark.parametrize(
    ("reason", "seconds", "looks", "expected"),
    [
        ("StubDead", 0.0, 1, (Gate.READY,)),
        ("StubDead", 59.999, 1, (Gate.READY,)),
        ("StubDead", 60.0, 1, (Gate.READY, Gate.LIVE)),
        ("StubFrozen", 4.999, 9, ()),
        ("StubFrozen", 5.0, 1, (Gate.READY,)),
        ("TritonHung", 0.0, 1, ()),
        ("TritonHung", 9.0, 2, ()),
        ("TritonHung", 10.0, 3, (Gate.READY,)),
        ("TritonHung", 30.0, 2, ()),
        ("TritonHung", 30.0, 3, (Gate.READY, Gate.LIVE)),
        ("GpuNotUsed", 3600.0, 2, ()),
        ("GpuNotUsed", 0.0, 3, (Gate.READY,)),
        ("Initializing", 0.0, 1, (Gate.READY, Gate.STARTUP)),
        ("MemoryUnlimited", 3600.0, 100, ()),
    ],
)
def test_a_gate_fails_when_both_parts_of_the_hold_are_met(
    reason: str, seconds: float, looks: int, expected: tuple[Gate, ...]
) -> None:
    """Seconds since it was first seen without a break, and fresh looks that showed it."""
    stands = standing(claim(reason))
    for look in range(1, looks):
        stands = stands.with_claims((claim(reason, look / 100),), at(look / 100))
    assert failing(stands, seconds) == expected


def test_judging_one_reading_again_is_no_further_look() -> None:
    """Looks count readings, whatever woke the judgement."""
    stands = standing(claim("GpuNotUsed", 0))
    for _ in range(10):
        stands = stands.with_claims((claim("GpuNotUsed", 0),), at(1))
    assert only(stands).looks == 1
    stands = stands.with_claims((claim("GpuNotUsed", 5),), at(5))
    assert only(stands).looks == 2
    # An older reading that comes late is none either.
    assert only(stands.with_claims((claim("GpuNotUsed", 4),), at(6))).looks == 2


def test_a_finding_that_flaps_restarts_its_hold() -> None:
    """Cleared is cleared: what comes back is first seen then."""
    stands = (
        standing(claim("StubFrozen")).with_claims((), at(4)).with_claims((claim("StubFrozen", 5),), at(5))
    )
    assert failing(stands, 9.9) == ()
    assert failing(stands, 10.0) == (Gate.READY,)


def test_findings_of_one_reason_hold_each_for_itself() -> None:
    """Two subjects, two histories."""
    other = Subject(SubjectKind.MODEL, model="n", version="1")
    stands = standing(claim("InstancesMissing", 0, MODEL))
    stands = stands.with_claims(
        (claim("InstancesMissing", 3, MODEL), claim("InstancesMissing", 3, other)), at(3)
    )
    assert [each.since for each in stands.held.values()] == [at(0), at(3)]


def test_a_new_epoch_drops_what_was_said_of_the_old_triton_and_keeps_the_rest() -> None:
    """A hold about a dead server's model must not run on under the next one."""
    mine = (claim("StubDead", 0, MODEL), claim("TritonDown"))
    others = (claim("GpuLost", 0, GPU), claim("NvmlHung", 0, Subject(SubjectKind.PROBE, source="nvml")))
    stands = standing(*mine, *others).in_new_epoch()
    assert {reason for reason, _ in stands.held} == {"GpuLost", "NvmlHung"}


# Rules


def test_a_reason_in_shadow_moves_no_gate_and_says_so() -> None:
    """It is listed, and neither fails nor will fail anything."""
    settings = Settings(shadow=("StubDead",), gates={"StubDead": {Gate.LIVE: AT_ONCE}})
    stands = standing(claim("StubDead"))
    assert failing(stands, 3600, settings) == ()
    assert stands.due(Rules(settings), at(1)) is None
    found = Rules(settings).finding(only(stands), at(3600), NONE)
    assert (found.gates, found.pending, found.shadow) == ((), (), True)


@pytest.mark.parametrize(
    ("gates", "seconds", "expected"),
    [
        ({Gate.READY: None}, 3600.0, (Gate.LIVE,)),
        ({Gate.READY: None, Gate.LIVE: None}, 3600.0, ()),
        ({Gate.LIVE: AT_ONCE}, 0.0, (Gate.READY, Gate.LIVE)),
        ({Gate.LIVE: Hold(seconds=5)}, 4.9, (Gate.READY,)),
        ({Gate.READY: Hold(looks=3)}, 59.0, ()),
        ({Gate.STARTUP: AT_ONCE}, 0.0, (Gate.READY, Gate.STARTUP)),
        ({}, 60.0, (Gate.READY, Gate.LIVE)),
    ],
)
def test_gates_that_the_user_wrote_replace_the_catalogues(
    gates: dict[Gate, Hold | None], seconds: float, expected: tuple[Gate, ...]
) -> None:
    """Never, a duration and looks; what is not named stays as it is."""
    assert failing(standing(claim("StubDead")), seconds, Settings(gates={"StubDead": gates})) == expected


def test_a_gate_that_a_claim_spares_is_not_failed_unless_the_user_wrote_so() -> None:
    """A case may be milder than its reason, and the user's word stands above both."""
    mild = msgspec.structs.replace(claim("StubDead"), spares=frozenset((Gate.LIVE,)))
    assert failing(standing(mild), 3600) == (Gate.READY,)
    told = Settings(gates={"StubDead": {Gate.LIVE: Hold(seconds=5)}})
    assert failing(standing(mild), 3600, told) == (Gate.READY, Gate.LIVE)


def test_the_finding_shows_which_gates_it_fails_and_which_it_will() -> None:
    """``gates`` and ``pending``; severity and action are the catalogue's unless the claim has its own."""
    stands = standing(claim("StubDead", 7, MODEL), since=7)
    found = Rules(Settings()).finding(only(stands), at(8), NONE)
    assert (found.gates, found.pending) == ((Gate.READY,), (Gate.LIVE,))
    assert (found.severity, found.action) == (Severity.CRITICAL, Action.RELOAD_MODEL)
    assert (found.since, found.observed_at) == (at(7).as_datetime(), at(7).as_datetime())
    own = msgspec.structs.replace(claim("GpuXid"), severity=Severity.WARNING, action=Action.NONE)
    found = Rules(Settings()).finding(only(standing(own)), at(0), NONE)
    assert (found.severity, found.action) == (Severity.WARNING, Action.NONE)


def test_a_gate_that_is_open_for_good_is_neither_failed_nor_pending() -> None:
    """Startup, once it opened in an epoch."""
    stands = standing(claim("ModelLoading", 0, MODEL))
    found = Rules(Settings()).finding(only(stands), at(0), frozenset((Gate.STARTUP,)))
    assert (found.gates, found.pending) == ((Gate.READY,), ())


# When to judge again


def test_due_is_the_next_hold_to_run_out() -> None:
    """And None where none is running: a pending look is not a matter of time."""
    rules = Rules(Settings())
    stands = standing(claim("StubDead"), claim("StubFrozen"), claim("GpuNotUsed"))
    assert stands.due(rules, at(0)) == 5
    assert stands.due(rules, at(4)) == 1
    assert stands.due(rules, at(5)) == 55
    assert stands.due(rules, at(60)) is None
    assert Standing().due(rules, at(0)) is None


@given(
    st.sampled_from(sorted(CATALOGUE)),
    st.floats(0, 1e7, allow_nan=False),
    st.lists(st.floats(0, 100), max_size=5),
)
def test_a_gate_moves_only_with_a_claim_or_when_due_says(
    reason: str, since: float, steps: list[float]
) -> None:
    """Between two judgements nothing changes before ``due``; once it is over, the hold is met."""
    rules, stands = Rules(Settings()), standing(claim(reason, since), since=since)
    held, now = only(stands), at(since)
    for step in steps:
        due = stands.due(rules, now)
        before = rules.failing(held, now)
        later = now.shifted(step)
        if due is None or later.mono < now.mono + due:
            assert rules.failing(held, later) == before
        now = later
        if stands.due(rules, now) is None:
            assert set(rules.failing(held, now)) == {
                gate for gate, hold in rules.holds(held) if held.looks >= hold.looks
            }


@given(st.floats(0, 1e9, allow_nan=False), st.sampled_from([0.1, 5.0, 30.0, 60.0, 120.0]))
def test_a_hold_that_is_no_longer_due_is_met_however_clocks_round(since: float, seconds: float) -> None:
    """Else a gate would wait for somebody else's look."""
    settings = Settings(gates={"StubDead": {Gate.READY: Hold(seconds=seconds), Gate.LIVE: None}})
    stands = standing(claim("StubDead", since), since=since)
    end = msgspec.structs.replace(at(since), mono=at(since).mono + seconds)
    assert stands.due(Rules(settings), end) is None
    assert Rules(settings).failing(only(stands), end) == (Gate.READY,)


# Delays


def test_a_finding_remembers_every_gate_that_it_ever_failed() -> None:
    """So that the delay of its detection is taken once, also when a case grows milder for a while."""
    rules, harsh = Rules(Settings()), claim("StubDead")
    mild = msgspec.structs.replace(harsh, spares=frozenset(Gate))
    stands = standing(harsh).with_moves(rules, at(0))
    assert only(stands).moved == {Gate.READY}
    stands = stands.with_claims((mild,), at(1)).with_moves(rules, at(1))
    assert only(stands).moved == {Gate.READY}
    stands = stands.with_claims((harsh,), at(60)).with_moves(rules, at(60))
    assert only(stands).moved == {Gate.READY, Gate.LIVE}


# Gates


def finding(*gates: Gate) -> Finding:
    """A finding that fails these gates."""
    (held,) = standing(claim("StubDead")).held.values()
    return msgspec.structs.replace(Rules(Settings()).finding(held, at(0), NONE), gates=gates)


def test_gates_are_open_unless_a_finding_fails_them() -> None:
    """Each for itself, and ``since`` is the moment it last moved."""
    gates = Gates().with_findings((finding(Gate.READY),), at(1))
    assert {gate: each.ok for gate, each in gates.records.items()} == {
        Gate.LIVE: True,
        Gate.READY: False,
        Gate.STARTUP: True,
    }
    gates = gates.with_findings((finding(Gate.READY), finding(Gate.READY, Gate.LIVE)), at(2))
    assert gates.records[Gate.READY].since == at(1)
    assert gates.records[Gate.LIVE].since == at(2)
    assert gates.with_findings((), at(3)).records[Gate.READY].since == at(3)


def test_startup_is_open_for_good_once_it_opened_and_anew_with_the_next_epoch() -> None:
    """A model that is loaded later does not make a server start again; a new server does."""
    gates = Gates().in_epoch(1).with_findings((finding(Gate.STARTUP),), at(0))
    assert gates.open_for_good == NONE
    gates = gates.in_epoch(1).with_findings((), at(1))
    assert gates.open_for_good == {Gate.STARTUP}
    assert gates.in_epoch(1) is gates
    assert gates.with_findings((finding(Gate.STARTUP),), at(2)).open_for_good == {Gate.STARTUP}
    anew = gates.in_epoch(2)
    assert anew.open_for_good == NONE
    assert anew.records == gates.records


@dataclasses.dataclass(frozen=True)
class Step:
    """A judgement: seconds after the last, and what is claimed."""

    seconds: float
    reasons: frozenset[str]
    fresh: bool


STEPS = st.builds(
    Step,
    st.floats(0, 40),
    st.frozensets(st.sampled_from(["StubDead", "TritonHung", "StubFrozen", "ModelLoading", "NvmlHung"])),
    st.booleans(),
)


@given(st.lists(STEPS, max_size=12), st.frozensets(st.sampled_from(["StubDead", "StubFrozen"])))
def test_no_gate_fails_without_a_standing_finding_whose_hold_is_over(
    steps: list[Step], shadow: frozenset[str]
) -> None:
    """Whatever happened before: each failing gate is failed by one that is claimed now, and long enough.

    One that came and went too often may keep ready failing for a while, and never live.
    """
    settings = Settings(shadow=tuple(sorted(shadow)))
    rules, stands, gates, now, read = Rules(settings), Standing(), Gates(), at(0), 0.0
    first: dict[str, float] = {}
    for step in steps:
        now = now.shifted(step.seconds)
        read = now.mono - at(0).mono if step.fresh else read
        stands = stands.with_claims(tuple(claim(each, read) for each in sorted(step.reasons)), now)
        first = {each: first.get(each, now.mono) for each in step.reasons}
        found = tuple(rules.finding(each, now, gates.open_for_good) for each in stands.held.values())
        gates = gates.with_findings(found, now)
        for gate, record in gates.records.items():
            guilty = {
                each
                for each in step.reasons - shadow
                for at_gate, hold in CATALOGUE[each].fails
                if at_gate is gate and first[each] + hold.seconds <= now.mono
            }
            kept = {reason for (reason, _), each in stands.held.items() if gate in each.kept} - shadow
            assert record.ok or guilty or (kept and gate is not Gate.LIVE)
        stands = stands.with_moves(rules, now)
        for held in stands.held.values():
            assert set(rules.failing(held, now)) <= held.moved
