"""Has Triton each model ready, and is the reason why not the right one?"""

from __future__ import annotations

import pytest

from probe.checks.models import judge
from probe.facts.container import ContainerReading
from probe.facts.findings import Action
from probe.facts.gates import Gate
from probe.facts.models import ModelState
from probe.facts.triton import Failure
from probe.settings import Settings
from probe.settings.schema import ModelsSettings, TritonSettings
from tests.worlds import (
    START,
    World,
    ensemble,
    entry,
    failing,
    key,
    python_model,
    row,
    server,
    serving,
    stub,
)

M = python_model("m")
REQUIRED = Settings(models=ModelsSettings(required=("m",)))


def without(state: ModelState, reason: str = "", *, settings: Settings = Settings()) -> World:  # noqa: B008
    """The model left, and the index says so."""
    seen = serving(M, settings=settings).without_model("m").having(stubs=()).polls()
    return seen.asks(index=(entry("m", state, reason),))


def reasons(seen: World) -> list[str]:
    """What this check says."""
    return seen.reasons(judge)


@pytest.mark.parametrize(
    ("state", "reason", "free", "required"),
    [
        (ModelState.LOADING, "", ["ModelLoading"], ["ModelLoading"]),
        (ModelState.UNLOADING, "", [], ["ModelNotReady"]),
        (ModelState.UNAVAILABLE, "unloaded", [], ["ModelNotReady"]),
        (ModelState.UNAVAILABLE, "", [], ["ModelNotReady"]),
        (ModelState.UNAVAILABLE, "Internal: no", ["ModelLoadFailed"], ["ModelLoadFailed"]),
        (ModelState.UNKNOWN, "", [], ["ModelNotReady"]),
    ],
)
def test_each_state_of_the_index_has_its_reason(
    state: ModelState, reason: str, free: list[str], required: list[str]
) -> None:
    """An unload on demand is nobody's fault unless the model is required."""
    assert reasons(without(state, reason)) == free
    assert reasons(without(state, reason, settings=REQUIRED)) == required


def test_nothing_is_said_of_models_before_triton_answered_or_after_it_ended() -> None:
    """Its state is told by the server's check alone."""
    assert reasons(World(settings=REQUIRED).scans().fails(Failure.REFUSED)) == []
    assert reasons(without(ModelState.LOADING).having(server=server()).scans().server_exits()) == []


def test_a_load_that_somebody_requires_fails_ready_and_another_does_not() -> None:
    """A model may load beside those that serve."""
    claim = without(ModelState.LOADING).later(30).only("ModelLoading")
    assert claim.spares == {Gate.READY}
    assert "for 31 s so far" in claim.message
    wanted = without(ModelState.LOADING, settings=REQUIRED).only("ModelLoading")
    assert wanted.spares == frozenset()
    assert wanted.evidence == {"required": True}


def test_a_further_version_that_loads_beside_a_ready_one_is_not_told() -> None:
    """The model serves."""
    seen = serving(M, settings=REQUIRED).asks(index=(entry("m", ModelState.LOADING, version="2"),))
    assert reasons(seen) == []


@pytest.mark.parametrize("serves", [True, False])
def test_a_failed_load_fails_ready_unless_another_version_serves(*, serves: bool) -> None:
    """It is told either way, with Triton's own text."""
    text = "Internal: ImportError: no module named torch\n\nAt:\n  model.py(1): <module>"
    seen = serving(*([M] if serves else [])).asks(
        index=(entry("m", ModelState.UNAVAILABLE, text, version="2"),)
    )
    claim = seen.only("ModelLoadFailed")
    assert claim.spares == (frozenset((Gate.READY,)) if serves else frozenset())
    assert ("Another version" in claim.message) == serves
    assert claim.evidence == {"cause": "model_code", "triton": text}
    assert f"(model_code): {text}." in claim.message


def test_the_moment_of_a_claim_is_that_of_the_index() -> None:
    """It went into this state then."""
    seen = without(ModelState.UNAVAILABLE, "Internal: no")
    assert seen.later(100).only("ModelLoadFailed").observed == seen.book.models.index_at


# Required


def test_a_required_model_that_nobody_has_is_missing() -> None:
    """With where Triton looks for models."""
    seen = serving(settings=REQUIRED, server=server("--model-repository=/more", "--model-store", "/old"))
    claim = seen.only("ModelMissing")
    assert claim.subject.model == "m"
    assert claim.evidence == {"repositories": "/models /more /old"}
    assert reasons(seen) == ["ModelMissing"]


def test_a_missing_model_of_a_server_that_can_not_be_seen_is_missing_all_the_same() -> None:
    """Its repositories are unknown."""
    seen = serving(settings=REQUIRED, server=None)
    assert seen.only("ModelMissing").evidence == {"repositories": None}


def test_a_required_model_of_the_repository_that_was_never_loaded_is_told_so() -> None:
    """The remedy loads it."""
    seen = serving(settings=REQUIRED).asks(index=(entry("m", ModelState.UNKNOWN, version=""),))
    claim = seen.only("ModelNotReady")
    assert "never loaded" in claim.message
    assert claim.action is Action.RELOAD_MODEL
    assert "--load-model=m" in claim.remedy


def test_an_index_that_is_not_answered_makes_nothing_missing() -> None:
    """What is not known is not ready; it may be there."""
    seen = World(server=server(), settings=REQUIRED).scans().polls()
    assert reasons(seen) == []
    seen = seen.asks(index=None, failures=(failing("index", Failure.TIMEOUT),))
    assert "is not answered" in seen.only("ModelNotReady").message
    assert reasons(seen) == ["ModelNotReady"]


def test_what_just_left_the_statistics_is_not_judged_before_the_index_was_asked() -> None:
    """It may be loading, which has another reason."""
    seen = serving(M, settings=REQUIRED).without_model("m").polls()
    assert reasons(seen) == []
    assert reasons(seen.asks(index=None)) == ["ModelNotReady"]
    assert "does not tell" in seen.asks(index=None).only("ModelNotReady").message


def test_one_ready_version_is_enough_for_a_required_model() -> None:
    """The other was unloaded."""
    seen = serving(M, python_model("m", version="2"), settings=REQUIRED).having(rows=(row("m", "2"),)).polls()
    assert reasons(seen.asks(index=(entry("m", ModelState.UNAVAILABLE, "unloaded"),))) == []


@pytest.mark.parametrize(
    ("written", "wanted"), [("true", True), (" Yes ", True), ("1", True), ("no", False), ("", False)]
)
def test_a_model_may_require_itself(written: str, *, wanted: bool) -> None:
    """By a parameter of its config.pbtxt, remembered after it left."""
    own = python_model("m", parameters={"triton_probe.required": written})
    seen = serving(own, python_model("n")).without_model("m").having(stubs=()).polls()
    seen = seen.asks(index=(entry("m", ModelState.UNAVAILABLE, "unloaded"),))
    assert reasons(seen) == (["ModelNotReady"] if wanted else [])


def test_of_an_ignored_model_nothing_is_said() -> None:
    """Not even that it is missing."""
    ignoring = Settings(models=ModelsSettings(required=("m",), ignore=("m", "x")))
    assert reasons(serving(settings=ignoring)) == []
    assert reasons(without(ModelState.UNAVAILABLE, "Internal: no", settings=ignoring)) == []


# Told not ready


def test_what_triton_said_before_a_stub_was_replaced_says_nothing_of_the_new_one() -> None:
    """Until it is asked again: a cured model is not held for what its dead instance was."""
    ensembled = (M, ensemble("e", "m"))
    seen = serving(*ensembled).exits("m_0_0", signal=9).scans().polls().asks(readiness=((key("m"), False),))
    assert set(seen.reasons()) == {"StubDead", "EnsembleStepUnready"}
    cured = seen.with_stub(stub(300, "m_0_0")).scans()
    assert cured.reasons() == []
    assert set(cured.asks(readiness=((key("m"), False),)).reasons()) == {
        "ModelNotReady",
        "EnsembleStepUnready",
    }


def test_a_model_that_triton_itself_says_is_not_ready_is_told() -> None:
    """``is_ready()`` on 26.03, dead instances on 25.12."""
    seen = serving(M).asks(readiness=((key("m"), False),))
    claim = seen.only("ModelNotReady")
    assert "answers ModelReady with false" in claim.message
    assert claim.observed == seen.book.models.asked
    assert claim.evidence == {"triton_version": "2.51.0", "seconds": None}
    assert "its is_ready() says no" in claim.message
    slow = seen.asks(readiness=((key("m"), False),), slow=((key("m"), 5.0),)).only("ModelNotReady")
    assert "it took 5.0 s" in slow.message
    assert slow.evidence["seconds"] == 5.0
    assert reasons(seen.asks(readiness=((key("m"), True),))) == []


def test_a_witnessed_death_says_it_better() -> None:
    """StubDead carries the cause, and one trouble is told once."""
    seen = serving(M).exits(100, signal=9).scans().polls().asks(readiness=((key("m"), False),))
    assert seen.reasons() == ["StubDead"]
    assert "says so too" in seen.only("StubDead").message


def test_a_reload_remedy_is_one_that_works_here() -> None:
    """A model is reloaded alone only in explicit mode."""
    answers = {"readiness": ((key("m"), False),)}
    alone = serving(M, server=server("--model-control-mode=explicit")).asks(**answers)
    assert "models/m/unload" in alone.only("ModelNotReady").remedy
    assert alone.only("ModelNotReady").action is Action.RELOAD_MODEL
    for other in (server(), server("--model-control-mode", "poll"), None):
        claim = serving(M, server=other).asks(**answers).only("ModelNotReady")
        assert claim.remedy.startswith("Restart the Triton container")
        assert claim.action is Action.RESTART_CONTAINER
        # Where no process can be seen, nobody knows how Triton was started.
        assert ("models/m/unload" in claim.remedy) is (other is None)
        assert ("does not run with" in claim.remedy) is (other is not None)


@pytest.mark.parametrize(
    ("address", "name", "said"),
    [
        ("127.0.0.1:8000", "m", "curl -X POST http://127.0.0.1:8000/v2/repository/models/m/load"),
        ("127.0.0.1:8000", "a b", "http://127.0.0.1:8000/v2/repository/models/a%20b/unload"),
        ("unix:/run/t", "m", "--unix-socket /run/t http://localhost/v2/repository/models/m/load"),
    ],
)
def test_a_reload_remedy_can_be_pasted(address: str, name: str, said: str) -> None:
    """With the address that the probe itself was given."""
    settings = Settings(triton=TritonSettings(http=address))
    seen = World(server=server("--model-control-mode=explicit"), settings=settings).scans()
    assert said in seen.seen.reload_remedy(name)


def test_a_reading_of_the_container_without_trouble_adds_nothing() -> None:
    """An empty reading is silence."""
    seen = without(ModelState.UNAVAILABLE, "Internal: Stub process 'm_0_0' is not healthy.").contained()
    assert seen.book.container == ContainerReading(seen.now.shifted(-1))
    assert "beside" not in seen.only("ModelLoadFailed").message
    assert START.mono < seen.now.mono


# Stuck


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        (ModelState.LOADING, "ModelStuckLoading", "without its model.py"),
        (ModelState.UNLOADING, "ModelStuckUnloading", "hangs in execute()"),
    ],
)
def test_a_load_or_an_unload_that_does_not_end_is_stuck(state: ModelState, reason: str, said: str) -> None:
    """From models.stuck_after on, with the known causes; also beside a version that serves."""
    quick = Settings(models=ModelsSettings(stuck_after=60.0))
    seen = without(state, settings=quick)
    assert reason not in reasons(seen.later(58))
    stuck = seen.later(90).asks(index=(entry("m", state),))
    claim = stuck.only(reason)
    assert "for 92 s, longer than models.stuck_after (60 s)." in claim.message
    assert claim.observed == stuck.book.models.index_at
    assert said in claim.remedy
    assert claim.evidence == {"seconds": 92.0, "state": state.value, "another_version_ready": False}
    assert reason not in reasons(without(state).later(90))
    beside = serving(M, settings=quick).asks(index=(entry("m", state, version="2"),)).later(90)
    assert "Another version of it serves" in beside.only(reason).message
    assert reasons(beside) == [reason]
    ready = beside.having(rows=(row("m"), row("m", "2"))).polls()
    assert reasons(ready) == []


def test_a_version_of_which_the_index_was_never_read_is_dated_by_its_state() -> None:
    """Nothing else is known."""
    seen = without(ModelState.LOADING).later(900)
    assert seen.only("ModelStuckLoading").observed == seen.book.models.index_at
