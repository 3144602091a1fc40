"""Does the check speak up for a canary that did not pass, and for no other?"""

from __future__ import annotations

import pytest

from probe.checks.canaries import CLIPPED, judge
from probe.facts.canaries import CanaryOutcome
from probe.facts.findings import Action, Severity, Subject, SubjectKind
from probe.facts.gates import Gate
from probe.facts.models import ModelState
from probe.settings import CanarySettings, ModelsSettings, Settings
from tests.worlds import World, entry, python_model, row, server, serving

PASSED, ERROR, TIMEOUT, WRONG, UNSENDABLE = CanaryOutcome
M = python_model("m")


def after(*outcomes: CanaryOutcome, detail: str = "what Triton said") -> World:
    """After these canaries of ``m``."""
    world = serving(M, server=server("--model-control-mode=explicit"))
    for each in outcomes:
        world = world.sends("m").canary("m", each, detail, seconds=2.0).polls()
    return world


@pytest.mark.parametrize("outcomes", [(), (PASSED,), (ERROR, TIMEOUT, PASSED)])
def test_a_canary_that_passed_or_was_never_sent_is_no_finding(outcomes: tuple[CanaryOutcome, ...]) -> None:
    """A passing one clears what the ones before it said."""
    assert after(*outcomes).reasons(judge) == []


@pytest.mark.parametrize(
    ("outcome", "message", "remedy"),
    [
        (ERROR, "ended with an error after 2 s: what Triton said", "Triton's log"),
        (TIMEOUT, "was not answered: what Triton said", "raise canary.m.deadline"),
        (WRONG, "was answered after 2 s, and wrongly: what Triton said", "canary.m.expected"),
    ],
)
def test_each_failure_says_what_happened_and_what_to_do(
    outcome: CanaryOutcome, message: str, remedy: str
) -> None:
    """Seconds, Triton's text, how often, since when, and how to reload the model."""
    claim = after(outcome).only("CanaryFailed", judge)
    assert claim.subject == Subject(SubjectKind.MODEL, model="m", version="1")
    assert message in claim.message
    assert "failed once; none has passed since it was loaded" in claim.message
    assert remedy in claim.remedy
    assert "/v2/repository/models/m/load" in claim.remedy
    assert claim.severity is None
    assert claim.spares == frozenset()
    assert claim.evidence["outcome"] == outcome.value
    assert claim.evidence["seconds"] == 2.0


def test_a_model_that_may_hang_is_not_to_be_unloaded() -> None:
    """Its unload would never end, and a load that finds no changed file does nothing."""
    remedy = after(TIMEOUT).only("CanaryFailed", judge).remedy
    assert "/unload" not in remedy
    assert "touch a file" in remedy
    assert "/unload" in after(ERROR).only("CanaryFailed", judge).remedy


def test_each_canary_is_one_look() -> None:
    """Judging the last one again, or polling, is none."""
    world = after(PASSED, ERROR)
    first = world.only("CanaryFailed", judge)
    assert "the last passed 3 s before" in first.message
    assert world.later(60).polls().only("CanaryFailed", judge).observed == first.observed
    second = world.sends("m").canary("m", ERROR).only("CanaryFailed", judge)
    assert second.observed.mono > first.observed.mono
    assert "failed 2 times in a row" in second.message


def test_a_long_text_is_clipped_in_the_message_and_whole_in_the_evidence() -> None:
    """A traceback fills no line of a gate."""
    claim = after(ERROR, detail="x" * 600).only("CanaryFailed", judge)
    assert "x" * CLIPPED + "… (" in claim.message
    assert claim.evidence["detail"] == "x" * 600


def test_what_can_not_be_sent_is_a_warning_that_closes_nothing() -> None:
    """The fault is in a configuration, and the model may be well."""
    claim = after(ERROR, ERROR, UNSENDABLE, detail="canary.m.inputs.X: not given").only("CanaryFailed", judge)
    assert claim.message == "No canary can be sent to it: canary.m.inputs.X: not given"
    assert (claim.severity, claim.action) == (Severity.WARNING, Action.CHECK_CONFIG)
    assert claim.spares == frozenset((Gate.READY,))


def test_requests_of_others_that_succeed_since_say_that_it_works() -> None:
    """Under traffic no canary would come to clear it; a wrong answer they do not disprove."""
    for outcome, reasons in ((ERROR, []), (TIMEOUT, []), (WRONG, ["CanaryFailed"])):
        world = after(outcome).later(60).polls()
        assert world.reasons(judge) == ["CanaryFailed"]
        assert world.with_row(row("m", success=9)).polls().reasons(judge) == reasons
    unsure = serving(M).sends("m").polls().canary("m", ERROR, seconds=3.0)
    served = unsure.with_row(row("m", success=9)).polls()
    assert served.reasons(judge) == ["CanaryFailed"], "it may have succeeded before the canary failed"


def test_a_name_that_nobody_knows_is_told() -> None:
    """A typing error would else be a model that is silently never asked."""
    settings = Settings(canary={"mm": CanarySettings(), "m": CanarySettings()})
    world = serving(M, settings=settings)
    claim = world.only("CanaryFailed", judge)
    assert "canary.mm names a model that Triton's repository does not have" in claim.message
    assert (claim.severity, claim.spares) == (Severity.WARNING, frozenset((Gate.READY,)))
    unloaded = entry("mm", ModelState.UNAVAILABLE, "unloaded")
    assert world.asks(index=(entry("m", ModelState.READY), unloaded)).reasons(judge) == []
    ignoring = Settings(canary=settings.canary, models=ModelsSettings(ignore=("mm", "m")))
    assert serving(M, settings=ignoring).reasons(judge) == []


def test_nothing_is_said_without_a_triton_or_of_a_model_that_is_not_ready_or_ignored() -> None:
    """Their own reasons say it."""
    world = after(ERROR)
    assert world.server_exits(signal=9).reasons(judge) == []
    assert world.having(settings=Settings(models=ModelsSettings(ignore=("m",)))).reasons(judge) == []
    settings = Settings(canary={"x": CanarySettings()})
    blind = World(settings=settings, server=server(), rows=(row("m"),), configs=(M,)).scans().polls()
    assert blind.asks(index=None).reasons(judge) == [], "nobody listed the repository yet"
    left = world.without_model("m").polls()
    late = left.having(book=left.book.with_canary(world.book.canaries.records[M.key].last))
    assert late.reasons(judge) == []
