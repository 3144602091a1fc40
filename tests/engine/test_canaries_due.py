"""Which canary is due, and when."""

from __future__ import annotations

import pytest

from probe.engine.canaries import BACK_OFF_AT_MOST, UNSENDABLE_AGAIN, due, order_of, tallies
from probe.facts.canaries import CanaryOrder, CanaryOrigin, CanaryOutcome
from probe.facts.models import ModelConfig
from probe.facts.triton import Failure
from probe.settings import CanarySettings, ModelsSettings, Settings
from tests.worlds import World, ensemble, key, python_model, row, server, serving

PASSED, ERROR, TIMEOUT, WRONG, UNSENDABLE = CanaryOutcome
INPUTS, WARMUP, GENERATED = CanaryOrigin
M = python_model("m")
GIVEN = CanarySettings(inputs={"X": [1]}, expected={"Y": [2]}, deadline=7.0, idle=30.0, tolerance=0.5)


def told(**canary: CanarySettings) -> Settings:
    """Settings with canaries for these models."""
    return Settings(canary=canary)


def watched(*configs: ModelConfig, settings: Settings | None = None) -> World:
    """A Triton whose models are idle for 100 s, and were polled just now."""
    names = {each.key.name: GIVEN for each in configs}
    return serving(*configs, settings=settings or told(**names)).later(100).polls()


def next_of(world: World) -> str | None:
    """The model whose canary is due."""
    order = due(world.book, world.settings, world.now)
    return order.key.name if order is not None else None


def order(world: World, name: str = "m") -> CanaryOrder | None:
    """What would be sent to this model."""
    return order_of(world.record(name), world.book, world.settings)


def waits(world: World) -> float:
    """Seconds of polls until a canary is due, to a quarter of one."""
    for quarter in range(4 * 1000):
        later = world.later(quarter / 4 - 1).polls()
        if next_of(later):
            return quarter / 4
    return float("inf")


def test_a_model_is_asked_after_it_was_idle_for_long_enough() -> None:
    """Counted from when its load was first seen; a request of others counts anew, one that waits too."""
    world = serving(M, settings=told(m=GIVEN))
    assert 25 <= waits(world) <= 30
    idle = watched(M)
    assert next_of(idle) == "m"
    assert next_of(idle.with_row(row("m", success=1)).polls()) is None
    assert next_of(idle.with_row(row("m", failure=1)).polls()) is None
    assert next_of(idle.polls(pending=((key("m"), 1),))) is None
    assert next_of(idle.polls(pending=((key("m"), 0),))) == "m"


@pytest.mark.parametrize(
    "world",
    [
        World(settings=told(m=GIVEN)),
        watched(M).server_exits(signal=9),
        watched(M).fails(Failure.TIMEOUT),
        watched(M).later(30),
        watched(M).polls(live=False),
        watched(M, settings=Settings()),
        watched(M, settings=Settings(canary={"m": GIVEN}, models=ModelsSettings(ignore=("m",)))),
        watched(M).without_model("m").polls(),
        watched(python_model("m", parameters={"triton_probe.canary": "off"})),
    ],
    ids=[
        "nothing seen",
        "gone",
        "silent",
        "counted long ago",
        "not live",
        "not asked for",
        "ignored",
        "not ready",
        "off",
    ],
)
def test_nobody_else_is_asked(world: World) -> None:
    """Where nobody wants a canary, or nothing says that the model is idle."""
    assert next_of(world) is None


def test_a_model_whose_configuration_was_not_read_is_not_asked() -> None:
    """It may say for itself that it wants none."""
    world = World(settings=told(m=GIVEN), server=server(), rows=(row("m"),)).scans().polls()
    assert next_of(world.later(100).polls()) is None


def test_the_pause_depends_on_what_the_last_one_brought() -> None:
    """After a pass its whole period; after the first failure one soon; then ever more seldom."""
    world = watched(M)
    assert 29 <= waits(world.canary("m")) <= 31
    assert waits(world.canary("m", ERROR)) <= 3
    times = []
    for _ in range(9):
        world = world.canary("m", TIMEOUT)
        times.append(waits(world))
        world = world.later(400).polls()
    assert times[1:3] == pytest.approx([10, 20], abs=1)
    assert times == sorted(times)
    assert times[-1] == pytest.approx(BACK_OFF_AT_MOST, abs=1)
    assert waits(world.canary("m", UNSENDABLE)) == pytest.approx(UNSENDABLE_AGAIN, abs=1)
    slow = watched(M, settings=told(m=CanarySettings(idle=90.0)))
    assert waits(slow.canary("m", UNSENDABLE)) == pytest.approx(90, abs=1)


def test_what_taught_nothing_is_tried_again_after_an_interval() -> None:
    """And does not stand before other models until then."""
    world = watched(M, python_model("n"))
    assert next_of(world) == "m"
    lost = world.having(book=world.book.without_canary(key("m"), world.now))
    assert next_of(lost) == "n"
    assert next_of(lost.canary("n")) is None
    assert next_of(lost.canary("n").later(6).polls()) == "m"


def test_the_one_that_waits_longest_comes_first() -> None:
    """So that none starves."""
    world = watched(M, python_model("n")).canary("m").later(1).canary("n").later(100).polls()
    assert next_of(world) == "m"
    assert next_of(world.canary("m")) == "n"


def test_a_step_is_not_asked_for_what_its_ensemble_has_shown() -> None:
    """The ensemble goes first; its pass counts for every step, unless the step failed, or more is expected."""
    plain = CanarySettings(inputs={"X": [1]})
    settings = told(m=plain, e=plain)
    world = watched(M, ensemble("e", "m"), settings=settings)
    assert next_of(world) == "e"
    assert next_of(world.canary("e")) is None
    assert next_of(world.canary("e").later(100).polls()) == "e"
    assert next_of(world.canary("e", ERROR)) == "m"
    assert next_of(world.canary("m", ERROR).later(3).canary("e")) == "m"
    assert next_of(world.having(settings=told(m=GIVEN, e=plain)).canary("e")) == "m"
    two = watched(M, ensemble("d", "m"), ensemble("e", "m"), settings=told(m=plain, d=plain, e=plain))
    assert next_of(two.canary("d").canary("e")) is None
    assert next_of(two.canary("e").canary("d")) is None


def test_an_order_carries_what_the_file_says() -> None:
    """With the folders where a warmup's files may lie, as Triton sees them first."""
    told_order = order(watched(M))
    assert told_order is not None
    assert told_order.origins == (INPUTS,)
    assert (told_order.inputs, told_order.expected) == ({"X": [1]}, {"Y": [2]})
    assert (told_order.tolerance, told_order.deadline, told_order.misspelt) == (0.5, 7.0, "")
    assert told_order.folders == ("/proc/5/root/models/m/warmup", "/models/m/warmup")
    assert told_order.touches == ((key("m"), 1),)
    odd = server("--model-repository=s3://bucket/x", "--model-store=models")
    world = serving(M, server=odd, settings=told(m=GIVEN))
    assert (order(world) or told_order).folders[2:] == ("/proc/5/cwd/models/m/warmup",)
    assert (order(serving(M, server=None, settings=told(m=GIVEN))) or told_order).folders == ()


@pytest.mark.parametrize(
    ("own", "file", "origins", "expected"),
    [
        (None, GIVEN, (INPUTS,), True),
        (None, CanarySettings(), (WARMUP,), False),
        (None, CanarySettings(generate=True), (WARMUP, GENERATED), False),
        (None, CanarySettings(expected={"Y": [2]}), (WARMUP,), True),
        ("warmup", None, (WARMUP,), False),
        (" Generate ", None, (GENERATED,), False),
        ("generate", GIVEN, (GENERATED,), False),
        ("warmup", CanarySettings(expected={"Y": [2]}), (WARMUP,), True),
        ("", GIVEN, (INPUTS,), True),
    ],
)
def test_a_model_may_speak_for_itself(
    own: str | None, file: CanarySettings | None, origins: tuple[CanaryOrigin, ...], *, expected: bool
) -> None:
    """Its own word wins over the file; what is expected belongs to the inputs that it was written for."""
    parameters = {} if own is None else {"triton_probe.canary": own}
    settings = Settings(canary={} if file is None else {"m": file})
    found = order(watched(python_model("m", parameters=parameters), settings=settings))
    assert found is not None
    assert (found.origins, bool(found.expected), found.misspelt) == (origins, expected, "")


def test_a_word_that_means_nothing_is_passed_on_to_be_told() -> None:
    """Rather than taken for one that does."""
    world = watched(python_model("m", parameters={"triton_probe.canary": "yes"}), settings=Settings())
    assert (order(world) or CanaryOrder(key("m"), ())).misspelt == "yes"


def test_an_ensembles_canary_touches_every_step_as_often_as_it_is_one() -> None:
    """Through ensembles of ensembles; a step that is not ready, or a circle, is followed no further."""
    world = watched(M, ensemble("d", "m", "m", "absent", "e"), ensemble("e", "d", "m"))
    found = order(world, "e")
    assert found is not None
    assert found.touches == ((key("e"), 1), (key("d"), 1), (key("m"), 3))


def test_every_model_with_a_canary_is_counted_from_zero() -> None:
    """By the file, by its own word, and for as long as Triton knows it also one that had one."""
    models = (M, python_model("own", parameters={"triton_probe.canary": "warmup"}), python_model("n"))
    never = python_model("never", parameters={"triton_probe.canary": "off"})
    world = watched(*models, never, settings=told(m=GIVEN, absent=GIVEN))
    assert set(tallies(world.seen)) == {"m", "own", "absent"}
    had = world.canary("n", ERROR)
    assert tallies(had.seen)["n"].failures == 1
    assert tallies(had.seen)["m"].failures == 0
    gone = had.without_model("n").polls().asks()
    assert "n" not in tallies(gone.seen)
    ignoring = Settings(canary={"m": GIVEN}, models=ModelsSettings(ignore=("m", "own")))
    assert tallies(world.having(settings=ignoring).seen) == {}
