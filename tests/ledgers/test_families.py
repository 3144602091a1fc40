"""Which processes belong to which stub, whatever becomes of their parents?"""

from __future__ import annotations

from probe.facts.processes import ProcessId, ProcessState
from probe.ledgers.families import ALL_AT_MOST, EACH_AT_MOST
from probe.ledgers.kinds import WorkerKind
from tests.worlds import World, process, python_model, serving, stub, worker

ONE = python_model("m")


def family(seen: World, *workers: int) -> World:
    """The world with these engines below its one stub, scanned."""
    return seen.with_worker(100, *(worker(pid, parent=100) for pid in workers)).scans()


def members(seen: World) -> set[int]:
    """Who belongs to anybody."""
    return {each.pid for each in seen.book.families.members}


def test_what_runs_below_a_stub_is_its_family_but_helpers() -> None:
    """A compiler comes and goes."""
    seen = serving(ONE).with_worker(
        100, worker(110, parent=100), process(111, name="gcc", parent=100), process(112, name="x", parent=100)
    )
    seen = seen.scans()
    assert members(seen) == {110, 112}
    (engine, child) = seen.book.families.of(ProcessId(100, 1000))
    assert (engine.kind, child.kind) == (WorkerKind.ENGINE, WorkerKind.CHILD)
    assert engine.arguments.name == "m_0_0"


def test_a_process_whose_parent_ended_stays_in_the_family() -> None:
    """Init adopts it, and no tree leads to it; asked about by pid and start, it is found."""
    seen = family(serving(ONE), 110, 111).adopted(111).scans()
    assert members(seen) == {110, 111}
    assert seen.book.families.lost == {}
    gone = seen.without_worker(111).scans()
    assert members(gone) == {110}
    assert {each.pid for each in gone.book.families.lost} == {111}


def test_a_family_outlives_its_stub() -> None:
    """So that it is known whose they were."""
    seen = family(serving(ONE), 110).adopted(110).exits(100, signal=9).scans()
    assert members(seen) == {110}
    assert seen.book.families.members[ProcessId(110, 1100)].stub == ProcessId(100, 1000)


def test_a_zombie_is_nobody_any_more() -> None:
    """It waits for its parent to look."""
    seen = family(serving(ONE), 110)
    seen = seen.with_worker(100, worker(110, parent=100, state=ProcessState.ZOMBIE)).scans()
    assert members(seen) == set()
    assert {each.pid for each in seen.book.families.lost} == {110}


def test_a_pid_that_is_reused_is_another_process() -> None:
    """The first is lost, the second new."""
    seen = family(serving(ONE), 110).with_worker(100, worker(110, parent=100, start=9000)).scans()
    assert set(seen.book.families.members) == {ProcessId(110, 9000)}
    assert set(seen.book.families.lost) == {ProcessId(110, 1100)}


def test_a_scan_that_began_before_an_exit_brings_nobody_back() -> None:
    """Its list was read while the worker still ran; a later one of the same says otherwise of nobody."""
    whole = family(serving(ONE), 110)
    seen = whole.worker_exits(110, signal=9)
    late = seen.having(stubs=whole.stubs).later(-2).scans()
    assert members(late) == set()
    assert members(late.later(5).without_worker(110).scans()) == set()


def test_an_exit_of_nobody_changes_nothing() -> None:
    """A pid and a start time that no member has."""
    seen = family(serving(ONE), 110)
    assert seen.tells_exit(ProcessId(7, 7), signal=9).book.families == seen.book.families


def test_a_child_that_renames_itself_is_what_it_is_now() -> None:
    """An engine begins as a python that was spawned; Ray's processes become idle."""
    seen = serving(ONE).with_worker(100, process(110, name="python3", title="python3 -c x", parent=100))
    first = seen.scans()
    assert first.book.families.members[ProcessId(110, 1100)].kind is WorkerKind.CHILD
    renamed = family(first, 110)
    assert renamed.book.families.members[ProcessId(110, 1100)].kind is WorkerKind.ENGINE
    idle = renamed.with_worker(100, process(110, name="ray::IDLE", parent=100)).scans()
    assert members(idle) == set()
    assert idle.book.families.lost == {}


def test_who_was_there_before_its_model_served_is_a_founder() -> None:
    """Others may have been started by a request."""
    world = serving(ONE)
    begun = World(server=world.server, rows=world.rows, configs=world.configs, stubs=world.stubs)
    begun = family(begun, 110).polls().asks().scans()
    late = family(begun.polls(), 111)
    founding = {each.pid: member.founding for each, member in late.book.families.members.items()}
    assert founding == {110: True, 111: False}
    assert [each.ready_looks for each in late.book.families.members.values()] == [2, 1]


def test_a_flood_of_children_drives_no_engine_out() -> None:
    """Engines first, then whom we know, then the oldest; no more than so many of one stub."""
    flood = [process(1000 + index, name="child", parent=100) for index in range(3 * EACH_AT_MOST)]
    seen = serving(ONE).with_worker(100, *flood).scans()
    assert members(seen) == set(range(1000, 1000 + EACH_AT_MOST))
    seen = seen.with_worker(100, worker(9000, parent=100)).scans()
    assert members(seen) == {9000, *range(1000, 1000 + EACH_AT_MOST - 1)}
    again = seen.with_worker(100, process(1, name="child", parent=100)).scans()
    assert members(again) == members(seen)
    assert again.book.families.lost == {}


def test_all_families_together_are_bounded() -> None:
    """Each member is a descriptor and a question at every scan."""
    stubs = tuple(
        stub(
            100_000 * (1 + index),
            f"m_0_{index}",
            workers=[100_000 * (1 + index) + 1 + pid for pid in range(60)],
        )
        for index in range(20)
    )
    assert len(serving(ONE).having(stubs=stubs).scans().book.families.members) == ALL_AT_MOST
