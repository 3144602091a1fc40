"""Which model is reloaded next, and which is not: the planner, without a Triton."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.engine.healing import ATTEMPTS, CURABLE, WITHIN, Healing, back_off, still_wanted
from probe.engine.standing import Circumstances, Rules, Standing
from probe.facts.catalogue import CATALOGUE
from probe.facts.findings import SERVER, Action, Claim, Subject, SubjectKind
from probe.facts.gates import Gate
from probe.facts.models import ModelState
from probe.facts.triton import Failure
from probe.settings import ModelsSettings, Settings
from tests.worlds import World, at, entry, python_model, server, serving

EXPLICIT = server("--model-control-mode=explicit")
M = Subject(SubjectKind.INSTANCE, model="m", version="1", instance="m_0_1")


def claim(reason: str = "StubDead", subject: Subject = M, **more: object) -> Claim:
    """A finding of long ago."""
    return msgspec.structs.replace(Claim(reason, subject, "So it is.", "Do something.", at(0)), **more)


def about(model: str, reason: str = "StubDead", version: str = "1") -> Claim:
    """A finding about this model."""
    return claim(reason, Subject(SubjectKind.MODEL, model=model, version=version))


def explicit(settings: Settings = Settings(), **more: object) -> World:  # noqa: B008  (frozen)
    """A Triton in EXPLICIT mode with models m and n."""
    told = {"server": EXPLICIT, **more}
    return serving(python_model("m", 2), python_model("n"), settings=settings, **told)  # type: ignore[arg-type]


def standing(*claims: Claim, since: float = 0.0) -> Standing:
    """These claims, first made at this moment."""
    return Standing().with_claims(claims, at(since))


def chosen(world: World, stands: Standing, healing: Healing = Healing()) -> str | None:  # noqa: B008  (frozen)
    """The model that is to be reloaded."""
    return healing.next(stands, Rules(world.settings), world.seen)


# Which


@pytest.mark.parametrize("reason", sorted(CURABLE))
def test_a_model_whose_processes_are_gone_is_reloaded(reason: str) -> None:
    """The three reasons that a load cures, and all of them say so themselves."""
    assert CATALOGUE[reason].action is Action.RELOAD_MODEL
    assert chosen(explicit().later(10), standing(about("m", reason))) == "m"


@pytest.mark.parametrize("reason", sorted(set(CATALOGUE) - CURABLE))
def test_no_other_reason_has_a_model_reloaded(reason: str) -> None:
    """Neither what is failing or slow, nor what only configuration can mend."""
    assert chosen(explicit().later(3600), standing(about("m", reason))) is None


def test_the_model_with_the_oldest_finding_comes_first() -> None:
    """And by name where they are of one moment."""
    world = explicit().later(10)
    both = standing(about("n")).with_claims((about("m"), about("n")), at(1))
    assert chosen(world, both) == "n"
    assert chosen(world, standing(about("n"), about("m"))) == "m"


def test_a_finding_that_must_last_to_fail_a_gate_must_last_to_be_acted_on() -> None:
    """InstancesMissing for 5 s; a user's own holds likewise; what fails nothing is acted on at once."""
    stands = standing(about("m", "InstancesMissing"), since=10)
    world = explicit()
    assert chosen(world.later(at(14.9).mono - world.now.mono), stands) is None
    assert chosen(world.later(at(15).mono - world.now.mono), stands) == "m"
    settings = Settings(gates={"StubDead": dict.fromkeys(Gate, None)})
    assert chosen(explicit(settings), standing(about("m"))) == "m"


def test_shadow_and_ignore_keep_a_model_from_being_touched() -> None:
    """A reason that is only watched acts on nothing, and an ignored model is nobody's patient."""
    stands = standing(about("m"))
    assert chosen(explicit(Settings(shadow=("StubDead",))), stands) is None
    assert chosen(explicit(Settings(models=ModelsSettings(ignore=("m",)))), stands) is None


def test_a_finding_whose_action_is_another_is_left_alone() -> None:
    """The check knows the case better than the catalogue."""
    assert chosen(explicit(), standing(claim(action=Action.RESTART_CONTAINER))) is None


def test_a_finding_that_is_only_kept_is_not_acted_on() -> None:
    """It is no longer seen."""
    stands = standing(about("m")).with_moves(Rules(Settings()), at(0))
    kept = stands.with_claims((), at(1), Circumstances(treated=frozenset("m")))
    assert kept.held
    assert chosen(explicit(), kept) is None
    assert not still_wanted("m", kept, explicit().seen)


# Which not, and when not


@pytest.mark.parametrize("mode", ["none", "poll", ""])
def test_only_in_explicit_mode_is_anything_reloaded(mode: str) -> None:
    """As tritonserver's own command line says; where it can not be seen nothing is."""
    told = server(f"--model-control-mode={mode}") if mode else server()
    assert chosen(explicit(server=told), standing(about("m"))) is None
    assert chosen(explicit(server=None), standing(about("m"))) is None


@pytest.mark.parametrize("reason", ["ModelStalled", "StubFrozen", "ModelStuckLoading", "ModelStuckUnloading"])
def test_a_model_that_hangs_is_never_touched(reason: str) -> None:
    """Its unload would never end; another model is another matter."""
    assert chosen(explicit(), standing(about("m"), about("m", reason))) is None
    assert chosen(explicit(), standing(about("m"), about("n", reason))) == "m"


@pytest.mark.parametrize(
    "reason",
    [
        "Initializing",
        "TritonStarting",
        "TritonDown",
        "TritonHung",
        "ControlPlaneBlocked",
        "ProtocolRestricted",
        "TlsMismatch",
    ],
)
def test_nothing_is_reloaded_while_triton_is_down_hung_blocked_or_starting(reason: str) -> None:
    """It is asked for no work then."""
    assert chosen(explicit(), standing(about("m"), claim(reason, SERVER))) is None


@pytest.mark.parametrize(
    "world",
    [
        explicit().fails(Failure.TIMEOUT),
        explicit().fails(Failure.REFUSED),
        explicit().server_exits(signal=9),
        World(server=EXPLICIT).scans(),
        explicit().asks(index=(entry("late", ModelState.LOADING),)),
        explicit().asks(index=(entry("late", ModelState.UNLOADING),)),
        explicit().without_model("m").polls(),
    ],
    ids=["one miss", "refused", "gone", "never up", "loading", "unloading", "not ready"],
)
def test_nothing_is_reloaded_on_doubtful_ground(world: World) -> None:
    """Triton must have answered its last poll, nothing may be on the move, and the model must be loaded."""
    assert chosen(world, standing(about("m"))) is None


@pytest.mark.parametrize("state", [ModelState.LOADING, ModelState.UNLOADING])
def test_a_model_that_is_stuck_keeps_no_other_from_its_cure(state: ModelState) -> None:
    """An unload after a death may never end; after ``models.stuck_after`` nobody waits for it."""
    settings = Settings(models=ModelsSettings(stuck_after=600))
    moving = explicit(settings).asks(index=(entry("late", state),))
    assert chosen(moving.later(590).polls(), standing(about("m"))) is None
    assert chosen(moving.later(600).polls(), standing(about("m"))) == "m"


def test_another_version_being_ready_does_not_make_this_one_a_patient() -> None:
    """The finding's version is the one that counts; a finding without one is about any."""
    world = explicit()
    assert chosen(world, standing(about("m", version="2"))) is None
    assert chosen(world, standing(about("m", version=""))) == "m"


# How often


def test_one_at_a_time() -> None:
    """In the whole daemon."""
    world, stands = explicit(), standing(about("m"), about("n"))
    under_way = Healing().started("m", world.now)
    assert under_way.treated == {"m"}
    assert Healing().treated == frozenset()
    assert chosen(world, stands, under_way) is None
    ended = under_way.ended("m", world.now, ok=True)
    assert chosen(world, stands, ended) == "n"


def test_after_a_reload_its_model_waits_longer_each_time_and_then_it_is_left() -> None:
    """10 s, 20 s, and after the third within an hour until the first is an hour ago."""
    world, stands, rules = explicit(), standing(about("m")), Rules(Settings())
    healing, first = Healing(), world.now
    for pause in (10, 20):
        healing = healing.started("m", world.now).ended("m", world.now, ok=False)
        assert chosen(world.later(pause - 0.1), stands, healing) is None
        world = world.later(pause)
        assert chosen(world, stands, healing) == "m"
    healing = healing.started("m", world.now).ended("m", world.now, ok=False)
    assert healing.attempts("m", world.now) == ATTEMPTS == 3
    assert chosen(world.later(300), stands, healing) is None
    assert healing.exhausted(stands, rules, world.seen) == "m"
    given_up = healing.gave_up("m")
    assert given_up.exhausted(stands, rules, world.seen) is None
    assert given_up.counts == {("m", "ok"): 0, ("m", "failed"): 3}
    free = world.later(first.mono + WITHIN - world.now.mono)
    assert chosen(free, stands, given_up) == "m"
    assert chosen(free.later(-0.1), stands, given_up) is None
    assert given_up.started("m", free.now).of("m").given_up is False


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(0, 10), (1, 10), (2, 20), (3, 40), (5, 160), (6, 300), (99, 300)]
)
def test_back_off_doubles_up_to_five_minutes(attempts: int, seconds: float) -> None:
    """From ten seconds."""
    assert back_off(attempts) == seconds


# What was taken away is brought back


def away() -> World:
    """Model m is no longer loaded, and nothing stands about it."""
    world = explicit().without_model("m").without_stub(100, 101)
    return world.polls().asks(index=(entry("m", ModelState.UNAVAILABLE, "unloaded"),)).scans()


def test_a_model_that_was_unloaded_for_its_reload_is_loaded_again_without_a_finding() -> None:
    """What healing took away it brings back: by itself an unloaded model is no fault."""
    world = away()
    owed = Healing().started("m", world.now).unloading("m")
    assert owed.treated == {"m"}
    owed = owed.ended("m", world.now, ok=False)
    assert chosen(world, Standing(), owed) is None
    assert chosen(world.later(10), Standing(), owed) == "m"
    assert chosen(world.later(10), standing(about("m", "StubFrozen")), owed) == "m"
    assert (
        chosen(world.later(10), Standing(), Healing().started("m", world.now).ended("m", world.now, ok=False))
        is None
    )
    assert still_wanted("m", Standing(), world.seen)


def test_nothing_is_owed_once_the_model_was_ready_or_triton_is_another() -> None:
    """Who unloads it later means it."""
    owed = Healing().started("m", at(0)).unloading("m").ended("m", at(1), ok=False)
    world = away().later(100)
    assert owed.after(world.seen) is owed
    # What was read before the reload ended knows the model as it was.
    assert owed.after(explicit().having(now=at(100)).seen) is owed
    assert chosen(world, Standing(), owed.after(explicit().later(10).polls().seen)) is None
    assert chosen(world, Standing(), owed.in_new_epoch()) is None
    done = Healing().started("m", at(0)).unloading("m").ended("m", at(1), ok=True)
    assert chosen(world, Standing(), done) is None
    assert done.of("m").cured == 1


def test_what_was_done_long_ago_is_forgotten() -> None:
    """Names of models may come and go for ever; what is owed is not forgotten."""
    healing = Healing()
    for each in range(50):
        healing = healing.started(f"m{each}", at(each)).ended(f"m{each}", at(each), ok=True)
    healing = healing.started("owed", at(60)).unloading("owed").ended("owed", at(61), ok=False)
    late = healing.started("m", at(WITHIN + 100))
    assert set(late.treatments) == {"owed", "m"}


@dataclasses.dataclass(frozen=True)
class Step:
    """Seconds pass, these models are ill, and a reload that is due ends so."""

    seconds: float
    ill: frozenset[str]
    ok: bool


@given(
    st.lists(
        st.builds(Step, st.floats(0, 600), st.frozensets(st.sampled_from("mn")), st.booleans()), max_size=40
    )
)
def test_no_model_is_reloaded_oftener_than_the_limit(steps: list[Step]) -> None:
    """Whatever happens: three within any hour, ten seconds apart, and only one that is ill."""
    world, healing, stands = explicit(), Healing(), Standing()
    began: dict[str, list[float]] = {"m": [], "n": []}
    for step in steps:
        world = world.later(step.seconds)
        stands = stands.with_claims(tuple(map(about, sorted(step.ill))), world.now)
        name = chosen(world, stands, healing)
        if name is None:
            continue
        assert name in step.ill
        now = world.now.mono
        assert sum(now - each < WITHIN for each in began[name]) < ATTEMPTS
        assert not began[name] or now - began[name][-1] >= 10
        began[name].append(now)
        healing = healing.started(name, world.now).ended(name, world.now, ok=step.ok)
    assert sum(healing.counts.values()) == sum(map(len, began.values()))
