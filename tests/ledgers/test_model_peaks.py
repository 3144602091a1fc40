"""Is each model's highest use its own, and a load told from serving?"""

from __future__ import annotations

import msgspec
import pytest

from probe.facts.models import ModelState
from probe.ledgers.levels import SPIKES_FROM
from probe.ledgers.model_peaks import LOADS_AT_MOST, SETTLE, ModelPeaks
from tests.worlds import GIB, MIB, START, World, entry, key, python_model, row, server, serving, stub

ONE = python_model("m")
NEW = 99_000_000
"""Ticks at which a tritonserver began that is a second old at the first moment."""


def peaks(world: World, name: str = "m") -> ModelPeaks:
    """What is known of this model."""
    return world.book.peaks.models.records[key(name)]


def watched(world: World, seconds: float, every: float = 2.0, *, success: int | None = None) -> World:
    """The world after scans and polls for so long; ``success``: requests at each poll."""
    end = world.now.mono + seconds
    count = 0
    while world.now.mono < end:
        if success is not None:
            count += success
            world = world.with_row(row("m", success=count))
        world = world.scans().polls().later(every)
    return world


def test_memory_is_that_of_all_stubs_and_all_below_them() -> None:
    """Added up, at the moment when it was highest."""
    world = serving(python_model("m", 2)).with_stub(
        stub(100, "m_0_0", rss=GIB, workers=(150,), shm=3 * MIB), stub(101, "m_0_1", rss=2 * GIB, shm=None)
    )
    world = world.scans().with_stub(stub(101, "m_0_1", rss=MIB)).scans()
    assert peaks(world).memory.highest == 4 * GIB
    assert peaks(world).shm.highest == 4 * MIB


def test_regions_that_can_not_be_seen_are_no_zero() -> None:
    """Nothing is known of /dev/shm then."""
    world = serving(ONE).with_stub(stub(100, "m_0_0", shm=None))
    fresh = World(server=world.server, rows=world.rows, configs=world.configs, stubs=world.stubs)
    assert peaks(fresh.scans().polls().asks().scans()).shm.highest is None


def test_a_probe_that_came_late_saw_no_load() -> None:
    """What was there at the first poll had loaded before."""
    world = watched(serving(ONE), 30)
    assert peaks(world).memory.load is None
    assert peaks(world).memory.highest == 100 * MIB
    assert world.book.peaks.models.stirred == float("-inf")


def test_a_model_that_becomes_ready_under_the_probes_eyes_loads_until_it_has_settled() -> None:
    """What its stub took before Triton named it is its load too."""
    world = World(
        server=server(start=NEW), stubs=(stub(100, "m_0_0", start=NEW, rss=3 * GIB),), configs=(ONE,)
    ).scans()
    world = world.with_stub(stub(100, "m_0_0", start=NEW, rss=GIB)).scans()
    assert world.book.peaks.models.waiting
    world = world.having(rows=(row("m"),)).polls().asks().scans()
    assert peaks(world).memory.load == 3 * GIB
    assert peaks(world).memory.present is None
    world = world.later(SETTLE).with_stub(stub(100, "m_0_0", start=NEW, rss=2 * GIB)).scans()
    assert peaks(world).memory.present == 2 * GIB
    assert not world.book.peaks.models.waiting


def test_an_orphan_is_no_model_that_loads() -> None:
    """A stub of an earlier server waits for nobody."""
    world = serving(ONE, server=server(start=2000)).with_stub(stub(300, "x_0_0", start=1))
    assert world.scans().book.peaks.models.stirred == float("-inf")


def test_a_stub_that_nobody_names_is_taken_to_load_for_a_while() -> None:
    """And not for ever: it would hide that all others serve."""
    world = serving(ONE).with_stub(stub(300, "other_0_0")).scans()
    began = world.now
    assert world.book.peaks.models.stirred == world.now.mono - 1
    world = world.later(LOADS_AT_MOST).scans()
    assert world.book.peaks.models.stirred < began.mono


def test_a_reload_does_not_double_what_serving_comes_up_to() -> None:
    """Triton starts the new stubs beside the old ones and says nothing of it."""
    world = watched(serving(ONE), 70)
    world = world.with_stub(stub(200, "m_0_0", rss=100 * MIB)).scans()
    world = watched(world.later(SETTLE), 60)
    assert peaks(world).memory.load == 200 * MIB
    world = watched(world.without_stub(100), 130)
    assert peaks(world).memory.load == 200 * MIB
    assert peaks(world).memory.steady(busy=False) == 100 * MIB


def test_stubs_too_many_for_long_are_what_the_model_takes() -> None:
    """An unload that never ends keeps those of the old load."""
    world = serving(ONE).with_stub(stub(200, "m_0_0")).scans().later(LOADS_AT_MOST).scans()
    assert peaks(world).memory.present == 200 * MIB


def test_a_model_that_leaves_is_unloading() -> None:
    """Its stubs end a moment later."""
    world = watched(serving(ONE), 10).without_model("m").polls()
    assert key("m") in world.scans().book.peaks.models.loading


def test_what_lingers_after_an_unload_hides_nobody() -> None:
    """An unload that never ends keeps stubs: they are taken as they are."""
    world = watched(serving(ONE), 10).without_model("m").polls()
    world = world.asks(index=(entry("m", ModelState.UNAVAILABLE),)).scans()
    assert not world.book.peaks.models.loading


def test_a_spike_of_a_minute_is_set_aside_and_a_load_of_requests_is_not() -> None:
    """Among minutes of the same kind."""
    world = watched(serving(ONE), 120 * SPIKES_FROM, 12.0, success=1)
    world = world.with_stub(stub(100, "m_0_0", rss=GIB)).scans().with_stub(stub(100, "m_0_0"))
    world = watched(world, 60, 12.0, success=1)
    assert peaks(world).memory.highest == GIB
    assert peaks(world).memory.steady(busy=True) == 100 * MIB


def test_minutes_with_requests_are_told_from_others() -> None:
    """By what came to its end since the scan before."""
    world = watched(serving(ONE), 70)
    assert (peaks(world).memory.busy.slots, peaks(world).memory.idle.slots, peaks(world).busy) == (
        0,
        1,
        False,
    )
    world = watched(world, 20, success=1)
    assert peaks(world).busy
    world = watched(world, 60)
    assert (peaks(world).memory.busy.slots, peaks(world).memory.idle.slots) == (1, 1)


@pytest.mark.parametrize("below", [0, 1])
def test_cores_are_those_of_the_whole_tree_over_some_seconds(below: int) -> None:
    """Ticks are hundredths of a second; a process that began in between counts from its start."""
    world = serving(ONE).later(10).scans()
    spent = stub(100, "m_0_0", ticks=10 + 300 * (1 - below))
    world = world.later(5).with_stub(spent)
    if below:
        world = world.with_worker(100, *stub(1, "x", workers=(700,)).descendants)
        (tree,) = world.stubs
        busy = tuple(msgspec.structs.replace(each, cpu_ticks=300) for each in tree.descendants)
        world = world.with_worker(100, *busy)
    cores = peaks(world.scans()).cores.highest
    assert cores == pytest.approx(3.0 / 6.0)


def test_a_process_that_ends_is_no_negative_rate() -> None:
    """It takes along what it did."""
    world = serving(ONE).with_worker(100, *stub(1, "x", workers=(700,)).descendants).later(10).scans()
    before = peaks(world).cores.highest
    assert peaks(world.later(5).without_worker(700).scans()).cores.highest == before


def test_a_stub_that_is_new_has_no_rate_yet() -> None:
    """Its whole life is no span of five seconds."""
    world = serving(ONE).later(10).scans()
    world = world.later(5).with_stub(stub(100, "m_0_0", start=7, ticks=100_000)).scans()
    assert peaks(world).cores.highest == 0.0


def test_cpu_time_of_a_load_is_the_loads() -> None:
    """Also where it settled before the next figure."""
    world = serving(ONE).later(10).scans().later(1)
    world = world.with_stub(stub(200, "m_0_0")).scans().without_stub(200).later(SETTLE)
    world = world.with_stub(stub(100, "m_0_0", ticks=2010)).scans()
    assert (peaks(world).cores.load or 0.0) > 1.0
    assert peaks(world).cores.present == 0.0


def test_a_restart_of_triton_goes_on() -> None:
    """The same model, other processes: no rate from one to the other."""
    world = watched(serving(ONE), 10)
    again = world.server_exits(signal=9).having(
        server=server(pid=900), stubs=(stub(901, "m_0_0", rss=GIB),), now=START.shifted(100)
    )
    again = again.scans().polls().asks().scans()
    assert peaks(again).memory.highest == GIB
    assert peaks(again).cores.highest == 0.0 or peaks(again).cores.highest is None


def test_a_thousand_scans_take_no_more_space_than_one() -> None:
    """But for the few highest figures."""
    few, many = watched(serving(ONE), 200), watched(serving(ONE), 4000, 11.0)
    sizes = [len(msgspec.json.encode(msgspec.to_builtins(peaks(each).memory))) for each in (few, many)]
    assert sizes[1] <= sizes[0] + 64
