"""Do the peaks of the container and of the models belong together: loads, requests, GPUs, who is gone for good?"""

from __future__ import annotations

from typing import Any

import pytest

from probe.facts.container import CpuUse, MemoryUse
from probe.facts.models import InstanceKind
from probe.ledgers.model_peaks import LOADS_AT_MOST, SETTLE
from probe.ledgers.peaks import GONE_SECONDS, PeaksLedger
from tests.worlds import (
    GIB,
    MIB,
    SERVER_PID,
    World,
    config,
    ensemble,
    gpu,
    group,
    key,
    python_model,
    row,
    server,
    serving,
    stub,
    stubs_of,
)

ONE, OTHER = python_model("m"), python_model("n")
INSIDE = config("onnx", group("onnx_0"), backend="onnxruntime")
NEW = 99_000_000
"""Ticks at which a tritonserver began that is a second old at the first moment."""


def peaks(world: World) -> PeaksLedger:
    """All of them."""
    return world.book.peaks


def holding(world: World, working_set: int, **memory: Any) -> World:  # noqa: ANN401
    """Triton's container is looked at and holds so much."""
    use = MemoryUse(None, working_set, working_set, **memory)
    return world.contained(path="/c", memory=use, cpu=CpuUse(used_seconds=world.now.mono))


def passing(world: World, seconds: float, working_set: int = GIB) -> World:
    """The world after everybody looked every ten seconds for so long."""
    end = world.now.mono + seconds
    while world.now.mono < end:
        world = holding(world.scans().polls(), working_set).later(10)
    return world


# Loading and serving


def test_before_the_first_poll_of_a_triton_that_was_there_nothing_is_known() -> None:
    """Neither that it loads nor that it serves."""
    world = holding(World(server=server(), stubs=tuple(stubs_of((ONE,)))).scans(), GIB)
    assert peaks(world) == PeaksLedger()


def test_a_triton_that_began_under_the_probes_eyes_is_loading_until_it_is_up() -> None:
    """Its container's memory is that of the load."""
    world = holding(World(server=server(start=NEW)).scans(), GIB)
    assert peaks(world).container.memory.load == GIB
    assert peaks(world).since is not None


def test_a_triton_that_was_there_before_serves_from_the_first_poll_on() -> None:
    """That the probe sees its models ready for the first time is no load."""
    world = holding(serving(ONE, INSIDE), GIB)
    assert peaks(world).container.memory.load is None
    assert peaks(world).container.memory.present == GIB


def test_a_look_at_a_triton_that_is_gone_teaches_nothing() -> None:
    """Its container is going down."""
    world = serving(ONE).server_exits(signal=9)
    assert peaks(holding(world, GIB)).container.memory.highest is None


def test_a_model_inside_tritonserver_that_comes_is_a_load() -> None:
    """It has no process; Triton's statistics tell."""
    world = passing(serving(ONE), 60)
    world = world.with_row(row("onnx")).with_config(INSIDE).polls()
    assert peaks(holding(world, 3 * GIB)).container.memory.load == 3 * GIB
    later = holding(world.later(SETTLE).polls(), 2 * GIB)
    later = holding(later.polls(), 2 * GIB)
    assert peaks(later).container.memory.present == 2 * GIB


def test_a_load_between_two_looks_is_one_in_the_second() -> None:
    """A stub that began and settled in between is remembered by the scans."""
    world = holding(serving(ONE), GIB).later(2)
    world = world.with_stub(stub(200, "m_0_0")).scans().without_stub(200).scans().later(1)
    assert peaks(holding(world, 3 * GIB)).container.memory.load == 3 * GIB


def test_a_model_that_loads_for_ever_does_not_hide_that_the_others_serve() -> None:
    """After ten minutes it is taken for stuck."""
    world = passing(serving(ONE), 60).having(rows=()).polls()
    assert peaks(holding(world.later(30), 3 * GIB)).container.memory.load == 3 * GIB
    later = holding(holding(world.later(LOADS_AT_MOST), GIB).later(10), 4 * GIB)
    assert peaks(later).container.memory.present == 4 * GIB


# Requests


def test_requests_from_before_are_not_the_probes() -> None:
    """Of a Triton that was there already; a model that comes later was watched from its first on."""
    world = serving(ONE, OTHER, rows=(row("m", success=7), row("n")))
    assert (peaks(world).seen_requests(world.record("m")), peaks(world).earlier) == (
        0,
        {key("m"): 7, key("n"): 0},
    )
    world = world.with_row(row("m", success=9, failure=1), row("late", success=2)).polls()
    assert [peaks(world).seen_requests(world.record(name)) for name in ("m", "n", "late")] == [3, 0, 2]


def test_of_a_triton_that_was_watched_from_its_start_all_requests_were_seen() -> None:
    """The first poll may be late."""
    world = World(server=server(start=NEW), rows=(row("m", success=7),), configs=(ONE,)).scans().polls()
    assert peaks(world).seen_requests(world.record("m")) == 7


def test_a_minute_with_requests_is_a_busy_one() -> None:
    """Whichever model was asked; what was counted before the first look is none."""
    world = serving(ONE, OTHER, rows=(row("m", success=7), row("n")))
    world = passing(world, 60)
    assert peaks(world).container.minutes[1] == 0
    world = passing(world.with_row(row("n", success=1)), 60)
    assert peaks(world).container.minutes[1] == 1


# GPUs


def test_gpu_memory_is_told_by_gpu_of_all_of_triton_and_by_model() -> None:
    """The highest of each, whoever held it when; workers that another process adopted count too."""
    world = serving(python_model("m", 1, InstanceKind.GPU, (0,)))
    world = world.with_stub(stub(100, "m_0_0", workers=(150,))).scans().adopted(150).scans()
    first = gpu("GPU-a", {SERVER_PID: GIB, 100: 2 * GIB, 150: 3 * GIB}), gpu("GPU-b", {100: MIB})
    world = world.looks(*first).scans(existing=(150,)).looks(*first)
    world = world.looks(gpu("GPU-a", {SERVER_PID: GIB, 100: GIB}), gpu("GPU-b", {100: 5 * MIB}))
    assert peaks(world).gpus == {"GPU-a": 6 * GIB, "GPU-b": 5 * MIB}
    assert peaks(world).models.records[key("m")].gpus == {"GPU-a": 5 * GIB, "GPU-b": 5 * MIB}


def test_a_mig_device_is_counted_in_the_place_of_its_gpu() -> None:
    """The list of the whole GPU has the same processes."""
    world = serving(python_model("m", 1, InstanceKind.GPU, (0,)))
    world = world.looks(gpu("GPU-a", {100: GIB}), gpu("MIG-a", {100: GIB}, mig=True, parent="GPU-a"))
    assert peaks(world).gpus == {"MIG-a": GIB}


def test_a_lower_figure_changes_nothing_and_a_missing_one_is_none() -> None:
    """Of some processes the driver may not tell."""
    world = serving(python_model("m", 1, InstanceKind.GPU, (0,)))
    world = world.looks(gpu("GPU-a", {100: GIB, SERVER_PID: None}))
    again = world.looks(gpu("GPU-a", {100: MIB, SERVER_PID: None}))
    assert peaks(again).models.records == peaks(world).models.records
    assert peaks(again).gpus == {"GPU-a": GIB}


@pytest.mark.parametrize("used", [None, 0])
def test_figures_that_can_not_be_trusted_are_none(used: int | None) -> None:
    """The driver lists pids without memory, or there is no process to be seen."""
    world = serving(python_model("m", 1, InstanceKind.GPU, (0,)))
    assert peaks(world.looks(gpu("GPU-a", {100: used}))).gpus == {}
    assert peaks(World().looks(gpu("GPU-a", {100: GIB}))).gpus == {}


def test_a_stub_that_nobody_named_yet_counts_for_the_gpu_alone() -> None:
    """And a look without any of Triton's changes no model."""
    world = serving(ONE).with_stub(stub(300, "other_0_0")).scans()
    world = world.looks(gpu("GPU-a", {300: GIB, SERVER_PID: GIB}))
    assert peaks(world).gpus == {"GPU-a": 2 * GIB}
    assert peaks(world).models.records[key("m")].gpus == {}


# Who is gone for good


def test_a_model_that_is_gone_for_good_no_longer_counts() -> None:
    """All figures begin anew, for it held much; the container's highest stays known."""
    world = serving(ONE, OTHER).with_stub(stub(101, "n_0_0", rss=3 * GIB))
    world = passing(world, 120, 4 * GIB)
    world = world.without_model("n").without_stub(101).polls().asks()
    kept = passing(world, GONE_SECONDS - 60)
    assert peaks(kept).container.memory.highest == 4 * GIB
    world = passing(kept, 200)
    assert peaks(world).gone == ("n",)
    assert peaks(world).container.memory.highest == GIB
    assert peaks(world).container.life_bytes == 4 * GIB
    assert key("n") not in peaks(world).models.records


def test_a_model_that_comes_back_was_not_gone() -> None:
    """A reload by unload and load, a restart."""
    world = passing(serving(ONE, OTHER), 120, 4 * GIB)
    away = world.without_model("n").without_stub(101).polls().asks()
    away = passing(away, 300)
    world = passing(
        away.having(rows=world.rows, configs=world.configs, stubs=world.stubs), GONE_SECONDS + 100
    )
    assert (peaks(world).gone, peaks(world).left) == ((), {})
    assert peaks(world).container.memory.highest == 4 * GIB


def test_a_model_that_held_little_goes_without_a_word() -> None:
    """An end of it is no reason to forget what the others take."""
    world = passing(serving(ONE, OTHER), 120, 4 * GIB)
    world = passing(world.without_model("n").without_stub(101).polls().asks(), GONE_SECONDS + 100)
    assert peaks(world).gone == ()
    assert key("n") not in peaks(world).models.records
    assert peaks(world).container.memory.highest == 4 * GIB


def test_a_model_that_had_gpu_memory_held_much() -> None:
    """Whatever it had of the container's."""
    world = serving(ONE, OTHER).looks(gpu("GPU-a", {101: GIB, SERVER_PID: MIB}))
    world = passing(world, 120, 4 * GIB)
    world = passing(world.without_model("n").without_stub(101).polls().asks(), GONE_SECONDS + 100)
    assert (peaks(world).gone, peaks(world).gpus) == (("n",), {})


def test_what_a_model_inside_tritonserver_held_nobody_can_tell() -> None:
    """It may have been most of it: all figures begin anew."""
    world = passing(serving(ONE, INSIDE), 120, 4 * GIB)
    world = passing(world.without_model("onnx").polls().asks(), GONE_SECONDS + 100)
    assert peaks(world).gone == ("onnx",)


def test_an_ensemble_holds_nothing() -> None:
    """Its steps do."""
    world = passing(serving(ONE, ensemble("e", "m")), 120, 4 * GIB)
    world = passing(world.without_model("e").polls().asks(), GONE_SECONDS + 100)
    assert (peaks(world).gone, peaks(world).left) == ((), {})


def test_a_version_that_another_one_replaced_is_no_model_that_is_gone() -> None:
    """The next update has both loaded for a moment again."""
    world = passing(serving(ONE), 120, 4 * GIB)
    newer = python_model("m", version="2")
    world = world.having(rows=(row("m", "2"),), configs=(newer,), stubs=(stub(300, "m_0_0", version="2"),))
    world = passing(world.polls().asks(), GONE_SECONDS + 100)
    assert peaks(world).gone == ()
    assert peaks(world).models.records.keys() == {key("m", "2")}
    assert peaks(world).container.memory.highest == 4 * GIB


def test_while_triton_is_down_nobody_is_gone() -> None:
    """It forgets its models, and they come back with it."""
    world = passing(serving(ONE, INSIDE), 120, 4 * GIB).server_exits(signal=9)
    for _ in range(10):
        world = world.scans().later(120)
    assert (peaks(world).gone, peaks(world).left) == ((), {})
    again = world.having(server=server(pid=900), stubs=(stub(901, "m_0_0"),)).scans().polls().asks()
    again = passing(again, 100, GIB)
    assert peaks(again).container.memory.highest == 4 * GIB
    assert peaks(again).since == peaks(world).since


def test_a_kill_that_the_kernel_tells_is_counted_at_once() -> None:
    """Of a container that is killed whole there is no other look."""
    world = holding(serving(ONE), GIB, oom_kills=0).oom(2)
    assert peaks(world).container.oom_kills == 2
