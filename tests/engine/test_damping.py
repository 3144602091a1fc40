"""Findings that come and go: what is kept, for how long, and what keeping must never do."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.engine.damping import FINDINGS_REMEMBERED, KEPT_AT_MOST, REMEMBERED, WITHIN, Damping
from probe.engine.standing import Circumstances, Rules, Standing
from probe.facts.catalogue import CATALOGUE
from probe.facts.findings import SERVER, Claim, Severity, Subject, SubjectKind
from probe.facts.gates import AT_ONCE, Gate, Hold
from probe.settings import Settings
from tests.worlds import START, at

MODEL = Subject(SubjectKind.MODEL, model="m", version="1")
GPU = Subject(SubjectKind.GPU, gpu_uuid="GPU-a")
RULES = Rules(Settings())


def claim(reason: str = "StubDead", seconds: float = 0.0, subject: Subject = MODEL) -> Claim:
    """What a check says of a reading of this moment."""
    return Claim(reason, subject, f"{reason} since long.", "Do something.", at(seconds))


@dataclasses.dataclass
class Judged:
    """A standing that is judged again and again, as the publisher does."""

    rules: Rules = RULES
    stands: Standing = dataclasses.field(default_factory=Standing)

    def __call__(self, now: float, *claims: Claim, load: object = None, treated: str = "") -> Judged:
        """Judge this moment."""
        around = Circumstances(lambda _: load, frozenset((treated,)) - {""})
        stands = self.stands.with_claims(claims, at(now), around)
        self.stands = stands.with_moves(self.rules, at(now))
        return self

    def failing(self, now: float) -> set[Gate]:
        """The gates that anything fails at this moment."""
        return {gate for each in self.stands.held.values() for gate in self.rules.failing(each, at(now))}

    def flapping(self, times: int, reason: str = "StubDead", subject: Subject = MODEL) -> Judged:
        """It came so often, a second each, two seconds apart, and last went at ``2 * times - 1``."""
        for each in range(times):
            self(2 * each, claim(reason, 2 * each, subject))(2 * each + 1)
        return self


# For how long


@pytest.mark.parametrize(
    ("comings", "seconds"), [(1, 0), (2, 0), (3, 30), (4, 60), (5, 120), (6, 240), (7, 300), (40, 300)]
)
def test_what_came_often_is_kept_for_longer_the_oftener_it_came(comings: int, seconds: float) -> None:
    """30 s from the third time within 10 minutes on, doubling up to 5 minutes."""
    went = 2.0 * comings - 1
    kept = Judged().flapping(comings)
    if not seconds:
        assert kept.failing(went) == set()
        assert kept.stands.held == {}
        return
    assert kept.failing(went) == {Gate.READY}
    assert kept.stands.due(RULES, at(went)) == seconds
    assert kept(went + seconds - 0.01).failing(went) == {Gate.READY}
    assert kept(went + seconds).stands.held == {}
    assert kept.stands.due(RULES, at(went + seconds)) is None


def test_comings_long_ago_no_longer_count() -> None:
    """Ten minutes are looked back on."""
    judged = Judged().flapping(2)
    judged(WITHIN - 2, claim(seconds=WITHIN - 2))(WITHIN - 1)
    assert judged.stands.held
    judged = Judged().flapping(2)
    judged(WITHIN + 10, claim(seconds=WITHIN + 10))(WITHIN + 11)
    assert judged.stands.held == {}


def test_a_finding_that_goes_on_came_once() -> None:
    """However often it is judged."""
    judged = Judged()
    for moment in range(10):
        judged(moment, claim(seconds=moment))
    assert judged(10).stands.held == {}


def test_a_finding_that_failed_no_gate_is_never_kept() -> None:
    """There is no gate that it could make toggle: a warning, a hold that is never met, one in shadow."""
    for reason in ("PlacementImplicit", "GpuNotUsed", "StubFrozen"):
        assert Judged().flapping(10, reason).stands.held == {}
    assert Judged(Rules(Settings(shadow=("StubDead",)))).flapping(10).stands.held == {}


def test_a_flicker_that_would_fail_nothing_does_not_prolong_what_is_kept() -> None:
    """Only what met its hold by itself is another coming."""
    judged = Judged(Rules(Settings(gates={"StubDead": {Gate.READY: Hold(seconds=1)}})))
    for start in (0, 10, 20):
        for second in range(3):
            judged(start + second, claim(seconds=start + second))
        judged(start + 5)
    assert judged.stands.due(judged.rules, at(25)) == 30
    judged(30, claim(seconds=30))(30.5)
    assert judged.stands.due(judged.rules, at(30.5)) == 30
    assert judged.failing(60) == {Gate.READY}
    assert judged(60.5).stands.held == {}


@pytest.mark.parametrize("reason", ["Initializing", "TritonStarting", "ModelLoading", "RestartBudgetSpent"])
def test_what_is_on_its_way_up_and_what_says_how_livez_answers_is_never_kept(reason: str) -> None:
    """It must not outlast itself by a second."""
    assert Judged().flapping(5, reason).stands.held == {}


# What it says


def test_the_message_says_how_often_it_came_and_for_how_long_it_is_kept() -> None:
    """And the finding that comes back is the same one, with its first moment."""
    judged = Judged().flapping(4)
    (held,) = judged.stands.held.values()
    found = RULES.finding(held, at(7), frozenset())
    assert found.message.endswith(
        " (came and went 4 times in 10 min; kept until 60 s have passed without it)"
    )
    assert found.since == at(4).as_datetime()
    assert (found.gates, found.pending) == ((Gate.READY,), ())
    (back,) = judged(8, claim(seconds=8)).stands.held.values()
    found = RULES.finding(back, at(8), frozenset())
    assert found.since == at(4).as_datetime()
    assert found.pending == (Gate.LIVE,)
    assert "came and went 4 times" in found.message


def test_a_count_beyond_what_is_remembered_is_told_as_or_more() -> None:
    """No figure is made up."""
    damping = Damping()
    for each in range(REMEMBERED + 5):
        damping = damping.with_coming(("StubDead", MODEL), at(each))
    assert f"{REMEMBERED} times or more" in damping.note(("StubDead", MODEL), at(REMEMBERED + 5))


# What ends it


def test_a_new_load_of_its_model_ends_the_keeping_at_once() -> None:
    """A cured model gets traffic within one look, however often it was ill."""
    judged = Judged().flapping(5)
    assert judged(10).stands.held
    assert judged(10.1, load="the next").stands.held == {}


def test_a_finding_that_goes_with_a_new_load_is_not_kept_at_all() -> None:
    """Its cure is what was seen."""
    judged = Judged().flapping(4)
    judged(8, claim(seconds=8), load="one")
    assert judged(9, load="two").stands.held == {}


def test_a_new_epoch_ends_the_keeping_and_forgets_how_often_it_came() -> None:
    """A restart is a cure too; what is not about Triton is another matter."""
    judged = Judged().flapping(5).flapping(5, "GpuLost", GPU)
    judged.stands = judged.stands.in_new_epoch()
    assert {subject for _, subject in judged.stands.held} == {GPU}
    assert {subject for _, subject in judged.stands.damping.comings} == {GPU}


def test_what_is_said_of_a_model_stands_while_it_is_reloaded() -> None:
    """New stubs that do not serve yet are no cure; the end of the reload decides, not a time."""
    judged = Judged()(0, claim(), treated="m")(1, treated="m")
    assert judged.failing(1) == {Gate.READY}
    assert judged(500, treated="m", load="new").failing(500) == {Gate.READY}
    (held,) = judged.stands.held.values()
    assert RULES.finding(held, at(500), frozenset()).message == "StubDead since long."
    assert judged(501, load="new").stands.held == {}
    other = Judged()(0, claim(), treated="other")(1, treated="other")
    assert other.stands.held == {}


# The live gate


def test_live_counts_unbroken_time_alone() -> None:
    """Two minutes of coming and going, and 59 s in one piece, restart nothing; the 60th does."""
    judged = Judged().flapping(60)
    assert judged.failing(120) == {Gate.READY}
    judged(120, claim(seconds=120))(179, claim(seconds=179))
    assert judged.failing(179) == {Gate.READY}
    assert judged(180, claim(seconds=180)).failing(180) == {Gate.READY, Gate.LIVE}


def test_a_live_gate_that_failed_opens_when_the_finding_goes() -> None:
    """Keeping is for traffic: nothing is restarted for what is no longer there."""
    judged = Judged(Rules(Settings(gates={"StubDead": {Gate.LIVE: AT_ONCE}}))).flapping(5)
    assert judged.failing(10) == {Gate.READY}
    live_alone = {"StubDead": {Gate.LIVE: AT_ONCE, Gate.READY: None}}
    assert Judged(Rules(Settings(gates=live_alone))).flapping(5).stands.held == {}


# For all histories


@dataclasses.dataclass(frozen=True)
class Step:
    """A judgement: seconds after the last, and what is claimed."""

    seconds: float
    reasons: frozenset[str]
    load: int
    treated: bool


STEPS = st.lists(
    st.builds(
        Step,
        st.floats(0, 70),
        st.frozensets(st.sampled_from(["StubDead", "StubFrozen", "InstancesMissing", "GpuNotUsed"])),
        st.integers(0, 1),
        st.booleans(),
    ),
    max_size=40,
)


@given(STEPS)
def test_keeping_never_hides_never_fails_live_and_always_ends(steps: list[Step]) -> None:
    """Whatever came and went: what is claimed stands, live wants unbroken time, nothing is kept for ever."""
    judged, now, begun = Judged(), 0.0, dict[str, float]()
    for step in steps:
        now += step.seconds
        begun = {each: begun.get(each, now) for each in step.reasons}
        claims = [claim(each, now) for each in sorted(step.reasons)]
        before = judged.stands
        judged(now, *claims, load=step.load, treated="m" if step.treated else "")
        assert step.reasons <= {reason for reason, _ in judged.stands.held}
        for (reason, subject), held in judged.stands.held.items():
            failing = judged.rules.failing(held, at(now))
            hold = CATALOGUE[reason].hold(Gate.LIVE)
            if Gate.LIVE in failing:
                assert hold is not None
                assert reason in step.reasons
                assert START.mono + begun[reason] + hold.seconds <= at(now).mono
            if reason not in step.reasons:
                assert held.gone is not None
                was = before.held[reason, subject]
                assert set(failing) <= was.moved
                assert step.treated or at(now).mono < held.until <= held.gone.mono + KEPT_AT_MOST
    assert judged(now + KEPT_AT_MOST + 1, load=2).stands.held == {}


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 400)), max_size=60))
def test_patience_is_bounded_and_comings_are_counted(times: list[tuple[str, float]]) -> None:
    """0, or 30 s to 5 minutes; by the comings of the last ten minutes."""
    damping, now, all_of = Damping(), 0.0, dict[str, list[float]]()
    for name, pause in times:
        now += pause
        damping = damping.with_coming(("StubDead", Subject(SubjectKind.MODEL, model=name)), at(now))
        all_of.setdefault(name, []).append(now)
        for other, came in all_of.items():
            recent = sum(at(now).mono - at(each).mono < WITHIN for each in came)
            told = damping.patience(("StubDead", Subject(SubjectKind.MODEL, model=other)), at(now))
            assert told == (0 if recent < 3 else min(300, 30 * 2 ** (recent - 3)))


def test_memory_is_bounded_by_count_and_by_time() -> None:
    """Names of models may come and go for ever."""
    damping = Damping()
    for each in range(FINDINGS_REMEMBERED + 10):
        damping = damping.with_coming(("StubDead", Subject(SubjectKind.MODEL, model=str(each))), at(0))
    assert len(damping.comings) == FINDINGS_REMEMBERED
    for _ in range(REMEMBERED + 10):
        damping = damping.with_coming(("StubDead", MODEL), at(1))
    assert len(damping.comings["StubDead", MODEL]) == REMEMBERED
    assert list(damping.with_coming(("TritonHung", SERVER), at(WITHIN + 2)).comings) == [
        ("TritonHung", SERVER)
    ]


def test_a_claim_may_be_milder_than_its_reason() -> None:
    """One that a check calls info is on its way up."""
    mild = Claim("GpuXid", GPU, "An Xid.", "Look.", at(0), severity=Severity.INFO)
    judged = Judged()
    for each in range(5):
        judged(2 * each, mild)(2 * each + 1)
    assert judged.stands.held == {}
