"""Is a model that answers nothing but errors told, and whose fault is it?"""

from __future__ import annotations

import pytest

from probe.checks.failing import judge
from probe.facts.canaries import CanaryOutcome
from probe.facts.findings import Action, Severity
from probe.facts.gates import Gate
from probe.facts.models import ModelConfig
from tests.worlds import World, config, ensemble, group, python_model, row, server, serving

M = python_model("m", 2)
BOTH = frozenset((Gate.LIVE, Gate.READY))


def failing(seen: World, *failures: int, name: str = "m", success: int = 0, **poll: object) -> World:
    """Polls five seconds apart, with so many failures in all at each."""
    for each in failures:
        told = {"pending": (), **poll}
        seen = seen.with_row(row(name, success=success, failure=each)).later(4).polls(**told)
    return seen


def long(seen: World, **more: object) -> World:
    """Failures over half a minute."""
    return failing(seen, 1, 2, 3, 4, 5, 6, 7, **more)  # type: ignore[arg-type]


def reasons(seen: World) -> list[str]:
    """What this check says."""
    return seen.reasons(judge)


def test_nothing_but_failures_for_half_a_minute_is_a_failing_model() -> None:
    """With the figures, and for how long nothing succeeded."""
    seen = long(serving(M).with_row(row("m", success=9)).polls(), success=9)
    claim = seen.only("ModelFailing")
    assert (
        "All of the last 7 requests to it failed, over 30 s, the last 1 s ago; none succeeded for"
        in claim.message
    )
    assert (claim.severity, claim.spares) == (None, frozenset())
    assert claim.observed == seen.book.models.statistics_at
    assert claim.evidence == {
        "failures": 7,
        "failing_seconds": 30.0,
        "failure_total": 7,
        "success_total": 9,
        "reasons_known": True,
        "backend": "python",
    }
    assert "since the probe first saw it" in long(serving(M)).only("ModelFailing").message


@pytest.mark.parametrize(
    ("failures", "told"), [((9,), False), ((3, 4), False), ((4, 5), True), ((5, 5), False)]
)
def test_a_mistake_is_no_failing_model(failures: tuple[int, ...], *, told: bool) -> None:
    """Five failures at least, over two polls at least."""
    assert reasons(failing(serving(M), *failures)) == (["ModelFailing"] if told else [])


def test_a_burst_of_failures_is_told_and_closes_nothing() -> None:
    """Behind a closed gate nothing could come that opens it; failures that go on do close it."""
    seen = failing(serving(M), 5, 10)
    claim = seen.only("ModelFailing")
    assert (claim.severity, claim.spares) == (Severity.WARNING, BOTH)
    assert "is not told yet" in claim.message
    assert seen.later(3600).polls(pending=()).only("ModelFailing").spares == BOTH
    assert failing(seen.later(60), 11).only("ModelFailing").spares == frozenset()


def test_it_stands_until_something_succeeds() -> None:
    """A closed ready gate stops the traffic that could show more."""
    seen = long(serving(M)).later(600).polls(pending=())
    assert reasons(seen) == ["ModelFailing"]
    assert reasons(seen.with_row(row("m", success=1, failure=8)).polls(pending=())) == []
    assert reasons(seen.with_row(row("m")).polls(pending=())) == [], "loaded anew"
    assert reasons(seen.without_model("m").polls()) == []
    assert reasons(seen.server_exits()) == []


def test_live_is_spared_where_nobody_knows_why_requests_fail() -> None:
    """Without metrics, clients that gave up look like failures."""
    claim = long(serving(M), pending=None).only("ModelFailing")
    assert claim.spares == {Gate.LIVE}
    assert claim.evidence["reasons_known"] is False


PASSED, ERROR = CanaryOutcome.PASSED, CanaryOutcome.ERROR


def test_a_canary_that_passes_makes_it_the_clients_requests() -> None:
    """As long as they go on failing; else the model is well."""
    seen = long(serving(M)).canary("m", PASSED)
    assert reasons(seen) == []
    claim = failing(seen, 8).only("ModelFailing")
    assert "it is the clients' requests that fail" in claim.message
    assert (claim.severity, claim.action, claim.spares) == (Severity.WARNING, Action.NONE, BOTH)
    assert claim.evidence["canary"] == "passed"
    assert failing(seen, 8).canary("m", ERROR).only("ModelFailing").spares == frozenset()
    before = long(serving(M).canary("m", PASSED)).only("ModelFailing")
    assert before.spares == frozenset()


def test_a_death_says_it_better() -> None:
    """StubDead carries the cause."""
    seen = long(serving(M)).exits(100, signal=9).believes(100)
    assert reasons(seen) == []


E = ensemble("e", "m")


def test_an_ensemble_fails_with_its_steps() -> None:
    """Unless they are well: then no restart cures it."""
    seen = serving(M, E)
    steps = long(failing(seen, 1, 2, name="e"), name="m")
    assert [each.subject.model for each in long(steps, name="e").claims(judge)] == ["m"]
    dead = long(seen, name="e").exits(100, signal=9).believes(100)
    assert reasons(dead) == []
    alone = long(seen, name="e").only("ModelFailing")
    assert alone.spares == {Gate.LIVE}
    assert "steps answer when they are asked themselves" in alone.remedy
    assert reasons(long(serving(ensemble("e", "gone")), name="e")) == ["ModelFailing"]


@pytest.mark.parametrize(
    ("model", "explicit", "action", "said"),
    [
        (M, True, Action.RELOAD_MODEL, "Reload the model: curl"),
        (M, False, Action.RESTART_CONTAINER, "can not be reloaded alone"),
        (
            config("m", group("m"), backend="onnxruntime"),
            True,
            Action.RESTART_CONTAINER,
            "inside tritonserver",
        ),
        (
            config("m", group("m"), backend="onnxruntime"),
            False,
            Action.RESTART_CONTAINER,
            "inside tritonserver",
        ),
    ],
)
def test_the_cure_is_the_smallest_that_works(
    model: ModelConfig, action: Action, said: str, *, explicit: bool
) -> None:
    """A stub takes its own CUDA context along; tritonserver's own ends with it."""
    options = ("--model-control-mode=explicit",) if explicit else ()
    claim = long(serving(model, server=server(*options))).only("ModelFailing")
    assert claim.action is action
    assert said in claim.remedy


def test_a_backend_that_is_written_in_python_is_reloaded_too() -> None:
    """It is known by its stubs."""
    engine = config("m", group("m_0"), backend="vllm")
    like = python_model("m")
    seen = serving(like, server=server("--model-control-mode=explicit")).with_config(engine).asks()
    assert long(seen).only("ModelFailing").action is Action.RELOAD_MODEL


def test_of_a_model_whose_configuration_is_unknown_only_the_restart_is_sure() -> None:
    """Its backend is not known."""
    seen = World(server=None, rows=(row("m"),)).scans().polls(pending=())
    claim = long(seen).only("ModelFailing")
    assert claim.action is Action.RESTART_CONTAINER
    assert claim.evidence["backend"] is None
