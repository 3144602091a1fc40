"""What is asked of Triton beyond the poll, and what is not."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from probe.engine.agenda import CONFIGS_AT_MOST, READINESS_AT_MOST, agenda
from probe.facts.models import ModelState, ModelVersion
from probe.facts.processes import Server
from probe.facts.triton import Failure, Inquiry
from probe.settings import ModelsSettings, Settings
from tests.worlds import (
    World,
    config,
    ensemble,
    entry,
    group,
    key,
    python_model,
    row,
    server,
    serving,
    stub,
)

ONE = python_model("m")


def asked(world: World, *suspects: str) -> Inquiry:
    """The questions due in this world."""
    return agenda(world.book, world.settings, frozenset(suspects), world.now)


@pytest.mark.parametrize(
    "world",
    [
        World(),
        World(server=server()).scans(),
        World(server=server()).scans().fails(Failure.REFUSED),
        World(server=server()).scans().polls(statistics=None),
        serving(ONE).server_exits(signal=9),
    ],
    ids=["nothing seen", "not polled", "refused", "no statistics", "gone"],
)
def test_a_triton_that_is_not_there_is_asked_nothing(world: World) -> None:
    """There is nobody to answer, or nothing to ask about."""
    assert not asked(world, "m")


def test_the_first_look_asks_for_every_configuration_and_the_index() -> None:
    """Nothing is known yet."""
    world = (
        World(server=server(), rows=(row("m"), row("n")), configs=(ONE, python_model("n"))).scans().polls()
    )
    assert asked(world) == Inquiry(configs=(key("m"), key("n")), index=True)


def test_a_settled_triton_is_asked_nothing_within_a_minute() -> None:
    """Each question is work on the one thread that answers everybody's health checks."""
    world = serving(ONE)
    assert not asked(world)
    assert not asked(world.later(55))


def test_a_configuration_is_read_again_when_its_model_was_reloaded() -> None:
    """Counters that went back tell of it."""
    world = serving(ONE, rows=(row("m", success=9),)).with_row(row("m", success=1)).polls()
    assert asked(world).configs == (key("m"),)
    assert asked(world.asks().polls()).configs == ()


def test_a_suspect_is_asked_about_at_every_look_as_long_as_it_is_ready() -> None:
    """So that a cure shows at once; an unloaded model has no configuration to ask for."""
    world = serving(ONE, python_model("n"))
    assert asked(world, "n", "unknown").configs == (key("n"),)
    assert asked(world.without_model("n").polls(), "n").configs == ()


@pytest.mark.parametrize(
    ("how", "expected"), [({"code": 0}, (key("m"),)), ({}, (key("m"),)), ({"signal": 9}, ())]
)
def test_a_quiet_exit_lets_the_configuration_be_read_until_it_was(
    how: dict[str, int], expected: tuple[ModelVersion, ...]
) -> None:
    """It may be that of an instance that is no longer called for, which nothing else tells."""
    world = serving(ONE, python_model("n")).exits("m_0_0", **how).polls()
    assert asked(world).configs == asked(world.polls()).configs == expected
    assert asked(world.asks()).configs == ()


def test_an_exit_of_no_known_model_asks_for_nothing() -> None:
    """An auto-complete stub that did its work, or a model that was unloaded."""
    world = serving(ONE).with_stub(stub(300, "late_0_0")).scans().exits("late_0_0", code=0)
    assert asked(world.polls()).configs == ()
    assert asked(serving(ONE).without_model("m").exits("m_0_0", code=0)).configs == (key("m"),)
    assert asked(serving(ONE).exits("m_0_0", code=0).without_model("m").polls()).configs == ()


def test_of_all_others_the_oldest_is_read_again_after_a_minute() -> None:
    """One a look, so that a reload without traffic is found without a burst."""
    world = serving(ONE, python_model("n"), python_model("o"))
    world = world.later(5).asks(configs=(ONE,)).later(61)
    assert asked(world).configs == (key("n"),)
    assert asked(world, "n").configs == (key("n"), key("o"))
    assert asked(world.asks(configs=(python_model("n"),))).configs == (key("o"),)


def test_the_cap_delays_a_model_and_starves_none() -> None:
    """However many suspects there are: unread configurations come first, then the oldest."""
    many = [python_model(f"s{number:03d}") for number in range(CONFIGS_AT_MOST + 50)]
    world = serving(*many, python_model("z")).with_row(row("late")).polls()
    suspects = [each.key.name for each in many]
    configs = asked(world, *suspects).configs
    assert len(configs) == CONFIGS_AT_MOST
    assert configs[0] == key("late")
    read = {each.key for each in many[:CONFIGS_AT_MOST]}
    world = world.asks(configs=tuple(each for each in many if each.key in read))
    again = asked(world, *suspects).configs
    assert again[0] == key("late")
    assert set(again[1:51]) == {each.key for each in many[CONFIGS_AT_MOST:]}


# Readiness


@pytest.mark.parametrize(
    ("version", "ready", "expected"),
    [
        ("2.51.0", True, False),
        ("2.63.0", True, False),
        ("2.64.0", True, True),
        ("2.67.0", False, True),
        ("2.68.0", True, False),
        ("2.68.0", False, True),
        ("2.68.0", None, True),
        ("2.71.0", True, False),
        ("2.999.0", False, True),
        ("not a version", True, False),
        (None, True, False),
    ],
)
def test_readiness_is_asked_only_where_the_answer_says_more_than_the_statistics(
    version: str | None,
    ready: bool | None,  # noqa: FBT001  (a table)
    expected: bool,  # noqa: FBT001
) -> None:
    """Before 25.12 it is the lifecycle's state; from 26.04 on a ready server has asked every model itself."""
    world = serving(ONE, ensemble("e", "m"), config("t", backend="tensorrt"), version=version, ready=ready)
    assert asked(world).readiness == ((key("m"),) if expected else ())


def test_a_model_that_was_told_unready_is_asked_until_it_is_ready() -> None:
    """Also under a server that says that all is well: that may be the cure."""
    world = serving(ONE, python_model("n"), version="2.68.0").asks(readiness=((key("m"), False),))
    assert asked(world.polls(version="2.68.0")).readiness == (key("m"),)
    assert asked(world.asks(readiness=((key("m"), True),))).readiness == ()


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        (server(), False),
        (server("--strict-readiness=true"), False),
        (server("--strict-readiness", "1"), False),
        (server("--strict-readiness=false"), True),
        (server("--strict-readiness=0"), True),
        (msgspec.structs.replace(server(), arguments=()), True),
        (None, True),
    ],
)
def test_a_ready_server_speaks_for_its_models_only_where_it_is_known_to_be_strict(
    process: Server | None,
    expected: bool,  # noqa: FBT001  (a table)
) -> None:
    """``--strict-readiness=false`` makes it ready whatever its models are; what is not seen may be that."""
    world = serving(ONE, server=process, version="2.68.0")
    assert asked(world).readiness == ((key("m"),) if expected else ())


def test_backends_on_top_of_the_python_backend_are_asked_too() -> None:
    """They are known by name, or by the stubs that they were seen with."""
    known = config("v", group("v_0"), backend="vllm")
    own = config("o", group("o_0"), backend="my_backend")
    world = serving(known, own, version="2.64.0")
    assert asked(world).readiness == (key("v"),)
    world = world.with_stub(stub(300, "o_0_0", runtime="/opt/backends/my_backend")).scans()
    assert set(asked(world).readiness) == {key("o"), key("v")}


def test_a_slow_is_ready_is_asked_last_and_left_alone_for_ten_times_as_long() -> None:
    """Triton answers nobody while it waits for it; another load is another model."""
    world = serving(ONE, python_model("slow"), version="2.67.0").with_row(row("slow", success=9))
    world = world.polls(version="2.67.0").asks(
        readiness=((key("slow"), False), (key("m"), True)), slow=((key("slow"), 5.0),)
    )
    assert asked(world.later(40)).readiness == (key("m"),)
    assert asked(world.later(50)).readiness == (key("m"), key("slow"))
    assert world.record("slow").told_ready is False
    # Never answered within the deadline: that rests too.
    late = world.later(60).asks(readiness=(), slow=((key("slow"), 6.0),))
    assert asked(late.later(50)).readiness == (key("m"),)
    reloaded = world.with_row(row("slow", success=1)).polls(version="2.67.0")
    assert reloaded.record("slow").told_ready is None
    assert set(asked(reloaded).readiness) == {key("m"), key("slow")}
    quick = world.later(60).asks(readiness=((key("slow"), True),))
    assert key("slow") in asked(quick.later(1)).readiness
    assert (
        world.asks(slow=((key("nobody"), 9.0),)).book.models.records.keys()
        == world.book.models.records.keys()
    )


def test_readiness_is_capped_and_asked_in_turns() -> None:
    """Who was asked longest ago comes first."""
    models = [python_model(f"m{number:03d}") for number in range(READINESS_AT_MOST + 1)]
    world = serving(*models, version="2.64.0")
    first = asked(world).readiness
    assert len(first) == READINESS_AT_MOST
    again = asked(world.asks(readiness=tuple((each, True) for each in first))).readiness
    assert again[0] == models[-1].key


# The index


def unsettled(state: ModelState) -> Callable[[World], World]:
    """A model in this state joins the index."""
    return lambda world: world.asks(index=(entry("m", ModelState.READY), entry("late", state)))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda world: world, False),
        (unsettled(ModelState.LOADING), True),
        (unsettled(ModelState.UNLOADING), True),
        (unsettled(ModelState.UNAVAILABLE), False),
        (lambda world: world.without_model("m").polls(), True),
        (lambda world: world.polls(ready=False), True),
        (lambda world: world.having(settings=Settings(models=ModelsSettings(required=("x",)))), True),
        (lambda world: world.having(settings=Settings(models=ModelsSettings(required=("m",)))), False),
    ],
    ids=["settled", "loading", "unloading", "failed", "vanished", "not ready", "required", "required, there"],
)
def test_the_index_is_read_for_a_cause_once_an_interval(
    change: Callable[[World], World],
    expected: bool,  # noqa: FBT001  (a table)
) -> None:
    """It lists every model's folder, so it is not read to find that nothing changed."""
    world = change(serving(ONE))
    last = world.book.models.index_at
    assert last is not None
    assert asked(world.having(now=last.shifted(4.4))).index is False
    assert asked(world.having(now=last.shifted(5.0))).index is expected
    assert asked(world.having(now=last.shifted(61.0))).index is True


@pytest.mark.parametrize("store", ["s3://bucket", "gs://bucket", "as://account/container"])
def test_the_index_of_an_object_store_is_read_once_a_minute_at_most(store: str) -> None:
    """Each reading is many requests to the store, whatever the cause is."""
    world = serving(ONE, server=server(f"--model-repository={store}")).polls(ready=False)
    last = world.book.models.index_at
    assert last is not None
    assert asked(world.having(now=last.shifted(59.0))).index is False
    assert asked(world.having(now=last.shifted(60.0))).index is True
    assert asked(serving(ONE, server=None).polls(ready=False).later(4)).index is True
