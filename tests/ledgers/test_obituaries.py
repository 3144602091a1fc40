"""Is it kept who died, how large it was, and what its container looked like?"""

from __future__ import annotations

from typing import Any

import pytest

from probe.facts.container import Limit, MemoryUse
from probe.facts.processes import Process
from probe.ledgers.obituaries import GROWTH_SECONDS, KEPT, Obituary, Role
from tests.worlds import GIB, MIB, World, python_model, server, serving, stub, worker

TWO = python_model("m", 2)


def used(world: World, size: int, kills: int = 0, **more: Any) -> World:  # noqa: ANN401
    """The container is looked at and uses so much of 2 GiB."""
    return world.contained(memory=MemoryUse(Limit(2.0 * GIB, "max"), size, size, oom_kills=kills, **more))


def of(world: World, pid: int) -> Obituary:
    """The obituary of this pid."""
    (found,) = (each for each in world.book.obituaries.kept if each.id.pid == pid)
    return found


def test_a_stub_that_served_is_kept_with_its_sizes_and_the_looks_around_its_end() -> None:
    """And what was learned of its exit later."""
    below = worker(110, rss=300 * MIB, parent=101)
    seen = used(used(serving(TWO).with_worker(101, below).scans(), GIB), GIB + 1)
    dead = used(used(seen.exits(101, signal=9), 5 * MIB, kills=1), 6 * MIB, kills=1)
    told = of(dead, 101)
    assert (told.role, told.name, told.served, told.epoch) == (Role.STUB, "m_0_1", True, 1)
    assert (told.rss_bytes, told.tree_bytes) == (100 * MIB, 400 * MIB)
    assert told.exit.oom_killed
    assert told.before is not None
    assert told.after is not None
    assert (told.before.memory.used_bytes, told.after.memory.used_bytes) == (GIB + 1, 5 * MIB)


def test_a_stub_that_ends_while_its_model_loads_is_kept_by_its_arguments() -> None:
    """No ledger of models knows it, neither where the kernel told nor where a scan missed it."""
    new = (stub(300, "n_0_0", "n", rss=MIB), stub(301, "n", "n", rss=MIB))
    seen = serving(TWO).with_stub(*new).scans()
    seen = seen.exits("n_0_0", signal=9).without_stub(301).scans().polls()
    for pid, name in ((300, "n_0_0"), (301, "n")):
        told = of(seen, pid)
        assert (told.role, told.name, told.served) == (Role.STUB, name, False)
        assert told.arguments is not None
        assert told.arguments.model_path == "/models/n/1/model.py"
    assert seen.book.stubs.dead == ()


def test_triton_itself_is_kept_over_epochs() -> None:
    """Everything else of it is forgotten; the counters of its successor begin anew."""
    seen = used(serving(TWO), GIB).server_exits(signal=9).having(stubs=())
    again = seen.having(server=server(pid=77)).scans()
    assert again.book.server.epoch == 2
    told = of(again, 5)
    assert (told.role, told.name, told.epoch, told.exit.signal) == (Role.SERVER, "tritonserver", 1, 9)
    assert {each.role for each in again.book.obituaries.kept} == {Role.SERVER, Role.STUB}


def test_a_triton_that_only_a_scan_missed_is_kept_and_its_status_comes_later() -> None:
    """Where no pidfd told of it in time; also where its successor is there already."""
    seen = serving(TWO)
    gone = seen.server
    assert gone is not None
    missed = seen.having(server=None).scans()
    assert of(missed, 5).exit.status is None
    assert of(missed.tells_exit(gone.process.id, code=3), 5).exit.code == 3
    replaced = seen.having(server=server(pid=77), stubs=()).scans()
    assert of(replaced, 5).epoch == 1


def test_a_kill_of_the_whole_container_is_known_of_triton_too() -> None:
    """Whatever is told first; after its successor began, an old count is nobody's."""
    begun = used(serving(TWO), GIB, oom_group_kills=0)
    first = begun.server_exits(signal=9).oom(3, path="", groups=1)
    last = begun.oom(3, path="", groups=1).server_exits(signal=9)
    for seen in (first, last):
        assert of(seen, 5).exit.oom is not None
        assert of(seen, 5).exit.oom_killed
    late = begun.server_exits(signal=9).having(server=server(pid=77)).scans().having(now=begun.now)
    assert late.oom(3, path="").book is late.book
    assert used(late, 5).book is late.book


def test_a_process_that_a_scan_missed_and_the_next_one_shows_is_not_dead() -> None:
    """The probe was out of file descriptors, for one."""
    seen = serving(TWO)
    missed = seen.having(server=None, stubs=()).scans()
    assert len(missed.book.obituaries.kept) == 3
    back = missed.having(server=seen.server, stubs=seen.stubs).scans()
    assert back.book.obituaries.kept == ()


def test_workers_are_kept_where_their_end_may_matter() -> None:
    """A death of one that served, a kill of any; most that runs below a stub comes and goes."""
    engine, child = worker(110, parent=100), worker(111, "python3 -c x", parent=100)
    seen = serving(TWO).with_worker(100, engine, child).scans()
    assert not seen.worker_exits(111, code=1).book.obituaries.kept
    assert of(seen.worker_exits(111, signal=9), 111).name == "python3"
    told = of(seen.worker_exits(110, signal=11), 110)
    assert (told.role, told.name, told.tree_bytes) == (Role.WORKER, "VLLM::EngineCore", GIB)
    assert told.arguments is not None
    assert told.arguments.name == "m_0_0"
    assert of(seen.without_worker(110).scans(), 110).exit.status is None


def test_an_exit_of_a_stranger_is_nobodys() -> None:
    """The kernel tells of what was watched before."""
    seen = serving(TWO)
    other = worker(999)
    assert seen.tells_exit(other.id, signal=9).book.obituaries.kept == ()


def test_growth_is_of_the_last_minute() -> None:
    """What was there all the time has not grown; who came since the last scan grew from nothing."""

    def sized(world: World, *sizes: int) -> World:
        new = (stub(100 + i, f"m_0_{i}", "m", rss=size * MIB) for i, size in enumerate(sizes))
        return world.with_stub(*new).scans()

    seen = sized(serving(TWO), 100, 100)
    seen = sized(seen.later(GROWTH_SECONDS), 300, 100)
    seen = sized(seen.later(GROWTH_SECONDS), 400, 50, 70)
    grown = {process.pid: size.grown // MIB for process, size in seen.book.obituaries.sizes.items()}
    assert grown == {5: 0, 100: 100, 101: 0, 102: 70}
    assert of(seen.exits(100, signal=9), 100).grown_bytes == 100 * MIB


@pytest.mark.parametrize("seconds", [1.0, 100.0])
def test_a_look_long_after_a_death_shows_nothing_of_it(seconds: float) -> None:
    """The first that comes soon is the one; later ones change nothing."""
    seen = used(serving(TWO), GIB).exits(101, signal=9).later(seconds)
    once = used(seen, MIB)
    after = of(once, 101).after
    assert (after is not None) == (seconds < 30)
    assert of(used(once, 2 * MIB), 101).after == after


def test_looks_find_a_death_that_is_told_after_them() -> None:
    """The scan that missed it began before."""
    seen = serving(TWO)
    moment = seen.now
    seen = used(seen, GIB)
    late = used(seen.having(now=moment.shifted(0.5)).exits(101, signal=9).having(now=seen.now), MIB)
    told = of(late, 101)
    assert told.before is not None
    assert told.after is not None
    assert told.after.memory.used_bytes == MIB
    reordered = seen.having(now=moment.shifted(-0.5)).exits(101, signal=9)
    assert of(reordered, 101).before is None
    assert of(reordered, 101).after == seen.book.scenes.looks[-1]


def test_a_look_between_a_kill_and_the_exit_shows_nothing_of_what_was_held() -> None:
    """The kernel told of the kill; who held much takes its time to go, and its memory is free by then."""
    seen = used(used(serving(TWO), GIB), 2 * GIB)
    killed = seen.later(1).oom(1, path="")
    for dead in (
        used(killed.later(0.1), MIB, kills=1).exits(101, signal=9),
        used(killed.later(1).exits(101, signal=9).having(now=killed.now.shifted(0.1)), MIB, kills=1),
    ):
        told = of(dead, 101)
        assert told.exit.oom_killed
        assert told.before is not None
        assert told.before.memory.used_bytes == 2 * GIB


def test_a_look_that_is_folded_late_is_still_the_last_before_a_death() -> None:
    """It began before the exit, and ended after it."""
    seen = used(serving(TWO), GIB)
    dead = seen.later(2).exits(101, signal=9)
    late = used(dead.having(now=seen.now.shifted(1)), 2 * GIB)
    told = of(late, 101)
    assert told.before is not None
    assert told.before.memory.used_bytes == 2 * GIB
    assert told.after is None


def test_the_memory_of_deaths_is_bounded_and_keeps_stubs_before_workers() -> None:
    """A model may start a worker for each request, and lose it."""
    workers: list[Process] = [worker(1000 + each, f"w{each}", parent=100) for each in range(60)]
    seen = serving(TWO).with_worker(100, *workers).scans()
    seen = seen.exits(101, signal=9)
    for each in workers:
        seen = seen.worker_exits(each.id.pid, signal=9)
    new = tuple(stub(3000 + each, f"n_0_{each}", "n") for each in range(KEPT - 10))
    seen = seen.with_stub(*new).scans()
    for one in new:
        seen = seen.exits(one.process.id.pid, signal=9)
    kept = seen.book.obituaries.kept
    assert len(kept) == KEPT
    assert sum(each.role is Role.WORKER for each in kept) == 9
    assert kept[0].id.pid == 101
    more = tuple(stub(5000 + each, f"o_0_{each}", "o") for each in range(20))
    seen = seen.with_stub(*more).scans()
    for one in more:
        seen = seen.exits(one.process.id.pid, signal=9)
    assert {each.role for each in seen.book.obituaries.kept} == {Role.STUB}
    assert seen.book.obituaries.of(kept[0].id) is None
