"""Has every ready ensemble all of its steps?"""

from __future__ import annotations

import pytest

from probe.checks.ensembles import judge
from probe.facts.models import ModelState
from probe.facts.triton import Failure
from tests.worlds import World, ensemble, entry, key, python_model, row, serving

A, B = python_model("a"), python_model("b", 2)
E = ensemble("e", "a", "b")
WORLD = serving(A, B, E)
"""Stubs 100 (a_0_0), 101 and 102 (b_0_0, b_0_1)."""


def reasons(seen: World) -> list[str]:
    """What this check says."""
    return seen.reasons(judge)


def killed(seen: World, pid: int) -> World:
    """This stub died, and everybody looked."""
    return seen.exits(pid, signal=9).scans().polls()


def test_an_ensemble_with_all_its_steps_is_fine() -> None:
    """Whatever order they have."""
    assert reasons(WORLD) == []


def test_a_dead_instance_of_a_step_fails_the_ensemble() -> None:
    """Triton calls it ready on every release."""
    seen = killed(WORLD, 102)
    claim = seen.only("EnsembleStepUnready")
    assert claim.subject.model == "e"
    assert "its step b/1 has 1 of 2 instances dead" in claim.message
    assert claim.evidence == {"step": "b/1"}
    assert claim.observed == WORLD.now
    assert seen.reasons() == ["StubDead", "EnsembleStepUnready"]


def test_the_first_unfit_step_is_named() -> None:
    """One claim an ensemble."""
    claim = killed(killed(WORLD, 102), 100).only("EnsembleStepUnready")
    assert claim.evidence == {"step": "a/1"}


def test_a_step_that_left_while_its_ensemble_stayed_is_not_ready() -> None:
    """One and the same answer has the ensemble and not the step."""
    seen = WORLD.without_model("b").having(stubs=WORLD.stubs[:1]).polls()
    claim = seen.only("EnsembleStepUnready")
    assert "its step b is not ready" in claim.message
    assert claim.remedy == seen.seen.reload_remedy("b")
    assert claim.observed == seen.now.shifted(-1)
    assert reasons(seen.having(rows=(row("a"),)).polls()) == []


def test_a_step_that_left_after_the_ensemble_was_last_told_is_waited_for() -> None:
    """An unload of a step unloads the ensemble with it: the next poll tells whether it stayed."""
    models = WORLD.book.models.without(key("b"), WORLD.now)
    left = (
        WORLD.having(book=WORLD.book.with_models(models), stubs=WORLD.stubs[:1]).without_model("b").later(1)
    )
    assert reasons(left) == []
    assert reasons(left.polls()) == ["EnsembleStepUnready"]
    assert reasons(left.without_model("e").polls()) == []


def test_a_step_that_was_never_loaded_is_not_ready() -> None:
    """Nothing of that name was ever seen."""
    assert reasons(serving(A, ensemble("e", "a", "z"))) == ["EnsembleStepUnready"]


def test_a_step_that_triton_says_is_not_ready_fails_the_ensemble() -> None:
    """Its own ``is_ready()`` says no."""
    seen = WORLD.asks(readiness=((key("a"), False),))
    claim = seen.only("EnsembleStepUnready")
    assert "a/1 is said not ready by Triton" in claim.message
    assert claim.observed == seen.book.models.asked


def test_a_step_may_name_its_version() -> None:
    """An empty one is the latest that is ready, which is the highest number."""
    two = python_model("a", version="2")
    ten = python_model("a", version="10")
    base = serving(A, two, ten, ensemble("e", key("a", "2")), ensemble("latest", "a"))
    pids = {each.arguments.model_path.split("/")[3]: each.process.id.pid for each in base.stubs}
    assert killed(base, pids["2"]).only("EnsembleStepUnready").subject.model == "e"
    assert killed(base, pids["10"]).only("EnsembleStepUnready").subject.model == "latest"
    assert reasons(killed(base, pids["1"])) == []
    missing = serving(A, ensemble("e", key("a", "2")))
    assert missing.only("EnsembleStepUnready").evidence == {"step": "a/2"}


def test_an_ensemble_within_an_ensemble_is_followed() -> None:
    """The step that is named is the one that is unfit."""
    seen = killed(serving(A, ensemble("inner", "a"), ensemble("outer", "inner")), 100)
    told = {claim.subject.model: claim.evidence["step"] for claim in seen.claims(judge)}
    assert told == {"inner": "a/1", "outer": "a/1"}


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_cycle_is_not_followed_for_ever(length: int) -> None:
    """Triton refuses them; garbage ends all the same, and what else is wrong is found."""
    names = [f"e{index}" for index in range(length)]
    ring = [ensemble(name, names[(index + 1) % length], "a") for index, name in enumerate(names)]
    seen = serving(A, *ring)
    assert reasons(seen) == []
    assert reasons(killed(seen, 100)) == ["EnsembleStepUnready"] * length


def test_a_chain_longer_than_any_is_cut() -> None:
    """Judged as far as sixteen deep, and never slower than that."""
    chain = [ensemble(f"e{index:02}", f"e{index + 1:02}") for index in range(40)]
    seen = killed(serving(A, *chain, ensemble("e40", "a")), 100)
    told = {claim.subject.model for claim in seen.claims(judge)}
    assert "e40" in told
    assert "e00" not in told


def test_a_step_named_many_times_is_judged_once() -> None:
    """A model may be several steps."""
    assert reasons(killed(serving(A, ensemble("e", *["a"] * 50)), 100)) == ["EnsembleStepUnready"]


def test_only_a_ready_ensemble_of_a_triton_that_answers_is_judged() -> None:
    """Others say the rest."""
    died = killed(WORLD, 100)
    gone = died.without_model("e").polls().asks(index=(entry("e", ModelState.UNAVAILABLE, "unloaded"),))
    assert reasons(gone) == []
    assert reasons(died.server_exits(signal=9)) == []
    assert reasons(World().scans().fails(Failure.REFUSED)) == []
    unread = World(server=WORLD.server, rows=(row("e"),)).scans().polls()
    assert reasons(unread) == []
