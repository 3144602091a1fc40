"""Does the probe say when it has watched too little to tell a size, and what it tells when it has enough?"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from probe.checks.sizing.told import sizing
from probe.checks.sizing.watch import NAMED, WATCHED_SECONDS
from probe.facts.container import CpuUse, Limit, MemoryUse, ShmUse
from probe.facts.models import InstanceKind, ModelState
from probe.facts.sizing import ContainerPeak, SizingStatus
from probe.ledgers.peaks import GONE_SECONDS
from probe.settings import ModelsSettings, Settings
from tests.worlds import (
    GIB,
    MIB,
    SERVER_PID,
    World,
    config,
    ensemble,
    entry,
    gpu,
    group,
    python_model,
    row,
    server,
    serving,
    stub,
)

NEW = 99_000_000
"""Ticks at which a tritonserver began that is a second old at the first moment."""
MODELS = (python_model("m"), python_model("n"))


def told(world: World) -> SizingStatus:
    """What is told of this moment."""
    return sizing(world.seen)


def holding(world: World, **more: Any) -> World:  # noqa: ANN401
    """Triton's container is looked at."""
    reading = {
        "path": "/c",
        "memory": MemoryUse(Limit(4 * GIB, "memory.max"), GIB, GIB, GIB),
        "cpu": CpuUse(Limit(None, "cpu.max"), used_seconds=2 * world.now.mono),
        "shm": ShmUse(64 * MIB, 2 * MIB),
        **more,
    }
    return world.contained(**reading)


def asked(world: World, seconds: float, *names: str) -> World:
    """The world after everybody looked every few seconds for so long, and these were asked in between."""
    end = world.now.mono + seconds
    while world.now.mono < end:
        world = world.with_row(*(row(name, success=int(world.now.mono)) for name in names))
        world = holding(world.scans().polls()).later(7)
    return world


def from_its_start(*models: Any) -> World:  # noqa: ANN401
    """A Triton that the probe saw begin, load these models and be up."""
    world = World(server=server(start=NEW), configs=models)
    world = holding(world.scans())
    rows = tuple(row(each.key.name) for each in models)
    stubs = (stub(100 + index, f"{each.key.name}_0_0", start=NEW) for index, each in enumerate(models))
    return world.having(rows=rows, stubs=tuple(stubs)).polls().asks().scans()


def test_what_was_watched_long_enough_is_enough() -> None:
    """Ten minutes of serving, requests to each model, and their load."""
    status = told(asked(from_its_start(*MODELS), WATCHED_SECONDS + 60, "m", "n"))
    assert (status.enough, status.why_not) == (True, ())
    assert status.watched_seconds >= WATCHED_SECONDS
    assert status.busy_minutes == status.minutes > 5
    assert [each.what for each in status.proposal] == [
        "requests.cpu", "limits.cpu", "requests.memory", "limits.memory", "shm.sizeLimit",
    ]  # fmt: skip
    assert {each.what: each.value for each in status.proposal} == {
        "requests.cpu": "2500m",
        "limits.cpu": None,
        "requests.memory": "1280Mi",
        "limits.memory": "1280Mi",
        "shm.sizeLimit": "64Mi",
    }


def test_figures_are_told_although_they_rest_on_little() -> None:
    """A minute of load already has a proposal, and a word on what is missing."""
    status = told(asked(serving(*MODELS), 60, "m"))
    assert not status.enough
    assert {each.what for each in status.proposal} >= {"requests.cpu", "limits.memory", "shm.sizeLimit"}
    assert status.why_not == (
        "It has watched Triton serve for 50 s: 10 min at least.",
        "It has looked 5 times: 30 at least.",
        "Requests came in 1 of 1 minutes: 5 at least.",
        "No model was seen to load: what a load takes at its highest is not among the figures.",
        "Nobody asked n/1 since the probe watches: what they take for it is not known.",
    )


def test_models_that_nobody_asked_are_named_and_not_all_of_a_thousand() -> None:
    """Ensembles hold nothing, ignored models are nobody's business."""
    models = tuple(python_model(f"m{index}") for index in range(NAMED + 3))
    settings = Settings(models=ModelsSettings(ignore=("m0",)))
    world = holding(serving(*models, ensemble("e", "m1"), settings=settings))
    (sentence,) = (each for each in told(world).why_not if "Nobody" in each)
    assert sentence.startswith("Nobody asked m1/1, m2/1, m3/1, m4/1, m5/1 and 2 more since")


def tried(world: World, state: ModelState, reason: str = "") -> SizingStatus:
    """What is told once the index names another model, in this state."""
    loaded = tuple(entry(each.key.name, ModelState.READY) for each in world.rows)
    return told(world.asks(index=(*loaded, entry("o", state, reason))))


def test_a_model_that_is_not_loaded_is_not_among_the_figures() -> None:
    """Its load failed or goes on; one that was unloaded on demand is no part of it."""
    world = asked(from_its_start(*MODELS), WATCHED_SECONDS + 60, "m", "n")
    sentence = "Triton has not loaded o/1: what they take is not among the figures."
    assert tried(world, ModelState.LOADING).why_not == (sentence,)
    assert tried(world, ModelState.UNAVAILABLE, "Stub process is not healthy").why_not == (sentence,)
    assert tried(world, ModelState.UNAVAILABLE, "unloaded").why_not == ()


def test_a_version_that_is_not_loaded_beside_one_that_serves_says_nothing() -> None:
    """The model is among the figures."""
    world = asked(from_its_start(*MODELS), WATCHED_SECONDS + 60, "m", "n")
    loaded = tuple(entry(each.key.name, ModelState.READY) for each in world.rows)
    assert told(world.asks(index=(*loaded, entry("m", ModelState.LOADING, version="2")))).why_not == ()


def test_what_stubs_need_of_shm_is_proposed() -> None:
    """One whose region grows by much more than it holds."""
    one = stub(100, "m_0_0")
    arguments = msgspec.structs.replace(one.arguments, shm_growth_bytes=256 * MIB)
    world = serving(MODELS[0]).having(stubs=(msgspec.structs.replace(one, arguments=arguments),)).scans()
    assert {each.what: each.value for each in told(holding(world)).proposal}["shm.sizeLimit"] == "257Mi"


@pytest.mark.parametrize(
    ("world", "sentence"),
    [
        (World(), "Triton has not been seen to serve yet."),
        (
            serving(*MODELS),
            "What Triton's container takes was not read yet, or can not be seen from here.",
        ),
        (
            serving(*MODELS).contained(denied=("cgroup",)),
            "What Triton's container takes may not be read: nothing can be told of its size.",
        ),
    ],
    ids=["nothing", "unread", "denied"],
)
def test_without_any_figure_the_reason_is_told_and_nothing_proposed(world: World, sentence: str) -> None:
    """No zero, and no size."""
    status = told(world)
    assert (status.enough, status.why_not, status.proposal) == (False, (sentence,), ())
    assert status.container == ContainerPeak()
    assert status.since is None


def test_after_a_model_left_for_good_the_figures_begin_anew_and_say_so() -> None:
    """What is left was not seen to load since."""
    world = asked(from_its_start(*MODELS), WATCHED_SECONDS + 60, "m", "n")
    light = asked(world.without_model("n").without_stub(101).polls().asks(), GONE_SECONDS + 100, "m")
    assert told(light).enough
    world = asked(from_its_start(*MODELS).with_stub(stub(101, "n_0_0", start=NEW, rss=GIB)), 100, "m", "n")
    world = asked(world.without_model("n").without_stub(101).polls().asks(), GONE_SECONDS + 100, "m")
    status = told(world)
    assert status.why_not[0] == "n left for good and held much: the figures begin anew with that."
    assert status.since is not None
    assert status.container.memory_life_bytes == GIB


def test_a_model_is_told_with_what_its_processes_took() -> None:
    """Those inside tritonserver have none of their own."""
    inside = config("onnx", group("onnx_0"), backend="onnxruntime")
    world = serving(python_model("m", 1, InstanceKind.GPU, (0,)), inside)
    world = world.looks(gpu("GPU-a", {100: GIB, SERVER_PID: MIB}))
    status = told(asked(world, 60, "m"))
    (model,) = status.models
    assert (model.name, model.version, model.memory_bytes, model.shm_bytes) == ("m", "1", 100 * MIB, MIB)
    assert (model.memory_steady_bytes, model.memory_load_bytes) == (100 * MIB, None)
    assert model.gpu_memory_bytes == {"GPU-a": GIB}
    assert status.container.gpu_memory_bytes == {"GPU-a": GIB + MIB}
    assert status.container.shm_bytes == 2 * MIB


@pytest.mark.parametrize(
    ("minors", "metered", "mig", "value"),
    [
        ((0, 1), {}, False, "2"),
        ((), {"gpu_memory_used": (("GPU-a", GIB),)}, False, "1"),
        (None, {}, False, "1"),
        ((0,), {}, True, None),
    ],
)
def test_gpus_are_those_that_triton_was_given(
    minors: tuple[int, ...] | None,
    metered: dict[str, Any],
    mig: bool,  # noqa: FBT001  (a column of the table)
    value: str | None,
) -> None:
    """By its own metrics, its device nodes, or else where it holds memory."""
    world = serving(*MODELS, server=server(minors=minors), **metered)
    world = world.looks(gpu("GPU-a", {SERVER_PID: GIB}, mig=mig))
    (line,) = (each for each in told(holding(world)).proposal if each.what == "limits.nvidia.com/gpu")
    assert line.value == value


def test_a_triton_that_is_not_seen_has_no_gpu_line() -> None:
    """Nothing is known of its GPUs."""
    assert told(serving(*MODELS, server=None)).proposal == ()
