"""How often /livez may fail, and what is said when it may not."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.engine.budget import RestartBudget
from probe.facts.findings import SERVER
from probe.settings import RestartSettings
from tests.worlds import at

PLAIN = RestartSettings()
"""Three times within an hour."""


@dataclasses.dataclass
class Judged:
    """A budget that is judged again and again."""

    settings: RestartSettings = PLAIN
    budget: RestartBudget = dataclasses.field(default_factory=RestartBudget)

    def __call__(self, now: float, *, wanted: bool, epoch: int = 1) -> bool:
        """Judge this moment; whether the live gate fails."""
        self.budget = self.budget.judged(at(now), epoch, self.settings, wanted=wanted)
        assert self.budget.refused == (wanted and self.budget.failing is None)
        return self.budget.failing is not None

    def failing(self, *moments: float) -> Judged:
        """It failed at these moments, a second each."""
        for each in moments:
            assert self(each, wanted=True)
            assert not self(each + 1, wanted=False)
        return self


def test_the_fourth_failure_within_the_hour_is_refused() -> None:
    """What three restarts did not cure, a fourth will not."""
    judged = Judged().failing(0, 100, 200)
    assert not judged(300, wanted=True)
    assert judged.budget.refused
    assert judged.budget.spent(at(300), PLAIN)


def test_a_failure_that_goes_on_is_one_failure_and_keeps_failing() -> None:
    """No restart happened: taking the answer back would only make sure that none does."""
    judged = Judged().failing(0, 100)
    for moment in range(200, 3600, 100):
        assert judged(moment, wanted=True)
        assert not judged.budget.spent(at(moment), PLAIN)
    assert len(judged.budget.failures) == 3


def test_a_failure_that_goes_on_in_a_new_epoch_is_another() -> None:
    """A restart lies between, and it cured nothing."""
    judged = Judged()
    for epoch in (1, 2, 3):
        assert judged(epoch * 10, wanted=True, epoch=epoch)
    assert not judged(40, wanted=True, epoch=4)
    assert len(judged.budget.failures) == 3


def test_when_the_oldest_failure_is_an_hour_ago_live_may_fail_again() -> None:
    """And ``due`` says when, to be judged then."""
    judged = Judged().failing(0, 1000, 2000)
    assert judged.budget.due(at(2500), PLAIN) is None
    assert not judged(3000, wanted=True)
    assert judged.budget.due(at(3000), PLAIN) == 600
    assert not judged(3599.9, wanted=True)
    assert judged(3600, wanted=True)
    assert judged.budget.due(at(3600), PLAIN) is None


def test_no_budget_never_fails_and_never_will() -> None:
    """``restarts.max: 0``."""
    none = RestartSettings(max=0)
    judged = Judged(none)
    assert not judged(0, wanted=True)
    assert judged.budget.spent(at(0), none)
    assert judged.budget.due(at(0), none) is None
    claim = judged.budget.claim(at(0), none, ("TritonHung server",))
    assert claim.message == (
        "restarts.max is 0: /livez answers 200 although TritonHung server would fail it. It never fails."
    )
    assert claim.evidence["next_possible"] is None
    assert claim.evidence["times"] is None


def test_the_claim_says_how_often_since_when_why_and_when_it_may_fail_again() -> None:
    """Everything that somebody needs who is called at night."""
    judged = Judged().failing(0, 100, 200)
    judged(300, wanted=True)
    claim = judged.budget.claim(at(300), PLAIN, ("StubDead m/1 m_0_1", "TritonHung server"))
    assert claim.subject == SERVER
    assert claim.message == (
        "/livez failed 3 times within 1 h, since 2026-09-21T14:13:20Z, and that cured nothing for good: "
        "/livez answers 200 although StubDead m/1 m_0_1 and 1 more would fail it. "
        "It may fail again at 2026-09-21T15:13:20Z."
    )
    assert "kubectl delete pod" in claim.remedy
    assert claim.evidence == {
        "failures": 3,
        "times": "2026-09-21T14:13:20Z 2026-09-21T14:15:00Z 2026-09-21T14:16:40Z",
        "max": 3,
        "window_seconds": 3600.0,
        "wants": "StubDead m/1 m_0_1; TritonHung server",
        "next_possible": "2026-09-21T15:13:20Z",
    }


@pytest.mark.parametrize(
    ("window", "spelled"),
    [(3600.0, "1 h"), (7200.0, "2 h"), (5400.0, "90 min"), (90.0, "90 s"), (1.5, "1.5 s")],
)
def test_the_window_is_told_as_people_say_it(window: float, spelled: str) -> None:
    """Hours, minutes, or seconds."""
    settings = RestartSettings(max=1, window=window)
    judged = Judged(settings).failing(0)
    judged(1.2, wanted=True)
    assert f"failed once within {spelled}," in judged.budget.claim(at(1.2), settings, ("x",)).message


@given(
    st.lists(st.tuples(st.floats(0, 500), st.booleans(), st.booleans()), max_size=80),
    st.integers(0, 4),
    st.floats(1, 2000),
)
def test_live_never_begins_to_fail_oftener_than_the_budget_allows(
    steps: list[tuple[float, bool, bool]], most: int, window: float
) -> None:
    """Within any window; what is refused is refused for no longer than ``due`` says; memory is bounded."""
    settings = RestartSettings(max=most, window=window)
    judged, now, epoch, began = Judged(settings), 0.0, 1, list[float]()
    was = (False, 1)
    for pause, wanted, restarted in steps:
        now, epoch = now + pause, epoch + restarted
        fails = judged(now, wanted=wanted, epoch=epoch)
        if fails and was != (True, epoch):
            began.append(at(now).mono)
        was = (fails, epoch)
        assert sum(each + window > at(now).mono for each in began) <= max(most, 0)
        assert len(judged.budget.failures) <= most
        left = judged.budget.due(at(now), settings)
        assert (left is not None) == (judged.budget.refused and most > 0)
        if left is not None:
            after = Judged(settings, judged.budget)
            assert after(now + left + 1e-6, wanted=True, epoch=epoch)
