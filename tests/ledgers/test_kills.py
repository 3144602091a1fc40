"""Which exit does a rise of the container's count of OOM kills explain?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.facts.container import ContainerReading, MemoryUse
from probe.facts.processes import Exit, OomCount, ProcessId
from probe.ledgers.kills import RISES_AT_MOST, WAITING_AT_MOST, WINDOW, Count, KillsLedger
from tests.worlds import at

PATH = "/sys/fs/cgroup/memory.events"


def reading(seconds: float, kills: int | None, path: str = PATH) -> ContainerReading:
    """A look at the container at this moment."""
    return ContainerReading(at(seconds), memory=MemoryUse(oom_kills=kills, oom_kills_path=path))


def exit_(pid: int, seconds: float, status: int | None = 9) -> Exit:
    """An exit at this moment."""
    return Exit(ProcessId(pid, pid), at(seconds), status)


def folded(*events: ContainerReading | Exit) -> dict[int, OomCount | None]:
    """What was told of each exit in the end, by pid."""
    ledger = KillsLedger()
    told: dict[int, OomCount | None] = {}
    for event in events:
        if isinstance(event, Exit):
            ledger, exits = ledger.with_exit(event)
            told.update({each.id.pid: each.oom for each in exits})
        else:
            ledger, exits = ledger.with_reading(event)
            told.update({each.id.pid: each.oom for each in exits})
    return told


def rose(before: int, after: int, seconds: float) -> OomCount:
    """A count that rose."""
    return OomCount(PATH, before, after, at(seconds))


def test_a_look_after_the_exit_tells_that_it_was_killed_for_want_of_memory() -> None:
    """The count rose between the last look and this one, and the exit lies between them."""
    assert folded(reading(0, 0), exit_(1, 5), reading(5.01, 1)) == {1: rose(0, 1, 5.01)}


def test_a_look_before_the_exit_may_show_the_kill_already() -> None:
    """The kernel counts first, and a process that frees much memory dies seconds later."""
    assert folded(reading(0, 3), reading(5, 4), exit_(1, 5 + WINDOW)) == {1: rose(3, 4, 5)}


def test_an_exit_long_after_the_kill_is_another_one() -> None:
    """Nobody claims it then; a later look tells that nothing was counted for this one."""
    seen = folded(reading(0, 0), reading(5, 1), exit_(1, 15.01), reading(15.02, 1))
    assert seen == {1: OomCount(PATH, 1, 1, at(15.02))}


def test_a_count_that_did_not_move_is_no_oom_kill() -> None:
    """Somebody sent the SIGKILL."""
    told = folded(reading(0, 7), exit_(1, 5), reading(5.01, 7))[1]
    assert told == OomCount(PATH, 7, 7, at(5.01))
    assert not told.rose


@pytest.mark.parametrize("status", [0, 11, 3 << 8])
def test_only_sigkill_or_an_unknown_end_can_be_an_oom_kill(status: int) -> None:
    """A segmentation fault beside a kill is its own; what nobody can tell may be one."""
    assert folded(reading(0, 0), exit_(1, 5, status), reading(6, 1)) == {1: None}
    assert folded(reading(0, 0), exit_(1, 5, None), reading(6, 1)) == {1: rose(0, 1, 6)}


def test_each_kill_explains_one_exit_and_the_first_of_them_first() -> None:
    """Two exits and one kill: who ended first was the victim, the other was killed by somebody."""
    seen = folded(reading(0, 0), exit_(2, 5.1), exit_(1, 5.0), reading(5.2, 1))
    assert seen == {1: rose(0, 1, 5.2), 2: OomCount(PATH, 1, 1, at(5.2))}
    both = folded(reading(0, 0), exit_(1, 5.0), exit_(2, 5.1), exit_(3, 5.15), reading(5.2, 2))
    assert {pid: oom.rose for pid, oom in both.items() if oom is not None} == {1: True, 2: True, 3: False}


def test_of_two_kills_an_exit_takes_the_later_one() -> None:
    """The earlier may have been of a process that nobody watches."""
    seen = folded(reading(0, 0), reading(1, 1), reading(5, 2), exit_(1, 5.1), exit_(2, 5.2), exit_(3, 5.3))
    assert seen == {1: rose(1, 2, 5), 2: rose(0, 1, 1), 3: None}


def test_without_a_look_before_the_exit_nothing_is_told() -> None:
    """A count of three may be of last week."""
    assert folded(exit_(1, 5), reading(6, 3)) == {1: None}
    assert folded(reading(5.5, 3), exit_(1, 5), reading(6, 3)) == {1: None}


def test_a_look_that_began_before_the_exit_does_not_clear_it() -> None:
    """It may have read the count before the kill: the next one tells, also where it is the first of all."""
    late = folded(reading(0, 0), exit_(1, 5), reading(4.99, 0), reading(6, 1))
    assert late == {1: rose(0, 1, 6)}
    assert folded(exit_(1, 5), reading(4.99, 0), reading(6, 1)) == {1: rose(0, 1, 6)}


def test_a_look_long_after_the_exit_tells_nothing_of_it() -> None:
    """Whatever was counted in between may be another's; a missing sample is none."""
    assert folded(reading(0, 0), exit_(1, 5), reading(16, 1)) == {1: None}
    assert folded(reading(0, 0), exit_(1, 5), reading(16, 0)) == {1: None}


def test_a_look_that_can_not_read_the_count_changes_nothing() -> None:
    """Neither does one that comes out of its turn."""
    seen = folded(reading(0, 0), exit_(1, 5), reading(5.01, None), reading(6, 1), reading(5.5, 9))
    assert seen == {1: rose(0, 1, 6)}


@pytest.mark.parametrize(("kills", "path"), [(0, PATH), (9, "/other/memory.events")])
def test_another_cgroup_is_counted_anew(kills: int, path: str) -> None:
    """A count that fell, or of another file, is another container's."""
    assert folded(reading(0, 3), exit_(1, 5), reading(5.01, kills, path)) == {1: None}
    seen = folded(reading(0, 3), reading(1, kills, path), exit_(1, 5), reading(5.01, kills + 1, path))
    assert seen == {1: OomCount(path, kills, kills + 1, at(5.01))}


def test_an_exit_that_is_told_again_waits_once() -> None:
    """A scan missed it first, and then the kernel told how it ended."""
    ledger, _ = KillsLedger().with_reading(reading(0, 0))
    ledger, _ = ledger.with_exit(exit_(1, 5, None))
    ledger, _ = ledger.with_exit(exit_(1, 5.1))
    _, told = ledger.with_reading(reading(6, 1))
    assert [(each.status, each.oom_killed) for each in told] == [(9, True)]


def test_a_flood_of_exits_is_bounded() -> None:
    """Where nobody ever looks at the container."""
    ledger = KillsLedger()
    for pid in range(WAITING_AT_MOST + 100):
        ledger, _ = ledger.with_exit(exit_(pid, pid / 1000))
    assert len(ledger.waiting) == WAITING_AT_MOST


def test_the_count_is_known_to_be_fresh_or_not() -> None:
    """One look serves for many exits."""
    ledger, _ = KillsLedger().with_reading(reading(5, 0))
    assert ledger.told_since(at(4.9))
    assert ledger.told_since(at(5))
    assert not ledger.told_since(at(5.1))
    assert not KillsLedger().told_since(at(0))


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("kill"), st.floats(0, 3)),
        st.tuples(st.just("exit"), st.sampled_from([9, 9, 0, 11])),
        st.tuples(st.just("look"), st.none()),
        st.tuples(st.just("wait"), st.floats(0.001, 8)),
    ),
    max_size=40,
)


@given(events=EVENTS)
def test_no_more_exits_are_explained_than_kills_were_counted(events: list[tuple[str, object]]) -> None:
    """And none at all where the count never moved; each is told at most once that it was one."""
    ledger, now, count, pid = KillsLedger(), 0.0, 0, 0
    explained: set[int] = set()
    exits: tuple[Exit, ...] = ()
    for what, value in events:
        now += 0.001
        if what == "kill":
            count += 1
        elif what == "wait":
            assert isinstance(value, float)
            now += value
        elif what == "exit":
            assert isinstance(value, int)
            pid += 1
            ledger, exits = ledger.with_exit(exit_(pid, now, value))
        else:
            ledger, exits = ledger.with_reading(reading(now, count))
        if what in ("exit", "look"):
            for each in exits:
                if each.oom_killed:
                    assert each.id.pid not in explained
                    explained.add(each.id.pid)
    assert len(explained) <= count


# A container that is killed as a whole


def grouped(seconds: float, kills: int, groups: int | None, group: bool | None = None) -> ContainerReading:  # noqa: FBT001
    """A look at a container that counts such kills too, or whose ``memory.oom.group`` was read."""
    memory = MemoryUse(oom_kills=kills, oom_kills_path=PATH, oom_group_kills=groups, oom_group=group)
    return ContainerReading(at(seconds), memory=memory)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (grouped(0, 0, 0), grouped(5.2, 1, 1)),
        (grouped(0, 0, 0, group=True), grouped(5.2, 1, 0, group=True)),
        (grouped(0, 0, 0, group=True), grouped(5.2, 1, None)),
    ],
)
def test_a_container_killed_as_a_whole_explains_every_sigkill(
    before: ContainerReading, after: ContainerReading
) -> None:
    """However few of them were counted by then, and although nothing tells any more that the setting was on."""
    told = folded(before, exit_(1, 5), exit_(2, 5.1), after, exit_(3, 6), exit_(4, 6, 0))
    assert {pid: oom is not None and oom.whole and oom.rose for pid, oom in told.items()} == {
        1: True,
        2: True,
        3: True,
        4: False,
    }


@pytest.mark.parametrize(
    "after", [grouped(5.2, 1, 0, group=False), grouped(5.2, 1, 3), grouped(5.2, 1, None)]
)
def test_one_kill_in_a_container_that_dies_singly_explains_one_exit(after: ContainerReading) -> None:
    """A count of whole kills that was not known before has not risen."""
    told = folded(grouped(0, 0, None), exit_(1, 5), exit_(2, 5.1), after)
    assert [oom is not None and (oom.rose, oom.whole) for oom in told.values()] == [
        (True, False),
        (False, False),
    ]


# What is kept


def test_a_rise_keeps_its_victims_and_the_moment_of_the_first_of_them() -> None:
    """A look alone does not tell when it happened; the kernel's word does, or an exit."""
    ledger, _ = KillsLedger().with_reading(reading(0, 0))
    ledger, _ = ledger.with_reading(reading(5, 2))
    assert ledger.rises[0].event_at is None
    ledger, _ = ledger.with_exit(exit_(1, 6))
    ledger, _ = ledger.with_exit(exit_(2, 5.5))
    assert ledger.rises[0].event_at == at(5.5)
    assert (ledger.rises[0].kills, ledger.rises[0].unclaimed) == (2, 0)
    told, _ = ledger.with_count(Count(at(7), PATH, 3), told=True)
    assert told.rises[1].event_at == at(7)


def test_an_exit_that_turns_out_to_be_another_end_gives_its_kill_back() -> None:
    """A scan found it gone, and the kernel tells later that it ended by itself."""
    ledger, _ = KillsLedger().with_reading(reading(0, 0))
    ledger, _ = ledger.with_reading(reading(5, 2))
    for pid in (1, 2):
        ledger, (told,) = ledger.with_exit(exit_(pid, 5.1, None))
        assert told.oom_killed
    again, (told,) = ledger.with_exit(exit_(1, 5.3, None))
    assert told.oom_killed
    assert {each.id.pid for each in again.rises[0].victims} == {1, 2}
    ledger, _ = ledger.with_exit(exit_(1, 5.3, 0))
    assert [each.id.pid for each in ledger.rises[0].victims] == [2]
    waiting, _ = KillsLedger().with_exit(exit_(3, 6, None))
    waiting, _ = waiting.with_exit(exit_(4, 6.1))
    waiting, _ = waiting.with_exit(exit_(3, 6.2, 0))
    assert [each.id.pid for each in waiting.waiting] == [4]


def test_who_is_known_to_be_killed_comes_before_who_ended_nobody_knows_how() -> None:
    """An auto-complete stub that was reaped before anybody saw its status ends beside the victim."""
    told = folded(reading(0, 0), exit_(1, 5, None), exit_(2, 5.2), reading(5.3, 1))
    assert {pid: oom is not None and oom.rose for pid, oom in told.items()} == {1: False, 2: True}


def test_who_is_known_to_be_killed_takes_the_kill_from_who_is_not() -> None:
    """A scan missed both, and the kernel tells later how one of them ended; the kill is still one."""
    told = folded(reading(0, 0), reading(5, 1), exit_(1, 5.1, None), exit_(2, 5.1, None), exit_(2, 5.2))
    assert {pid: oom is not None and oom.rose for pid, oom in told.items()} == {1: False, 2: True}
    waited = folded(reading(0, 0), exit_(1, 5, None), exit_(2, 5, None), reading(5.1, 1), exit_(2, 5.2))
    assert {pid: oom is not None and oom.rose for pid, oom in waited.items()} == {1: False, 2: True}
    both = folded(reading(0, 0), reading(5, 1), exit_(1, 5.1), exit_(2, 5.2))
    assert {pid: oom is not None and oom.rose for pid, oom in both.items()} == {1: True, 2: False}


def test_rises_outlive_their_container_and_their_epoch_and_explain_nothing_there() -> None:
    """They are what there is to tell; a count that fell is another container's."""
    ledger, _ = KillsLedger().with_reading(reading(0, 0))
    ledger, _ = ledger.with_reading(reading(5, 1))
    reset, _ = ledger.with_reading(reading(5.1, 0))
    for over in (reset, ledger.forgotten()):
        assert [each.over for each in over.rises] == [True]
        after, (told,) = over.with_exit(exit_(1, 5.2))
        assert told.oom is None
        assert len(after.rises) == 1
    assert ledger.forgotten().last is None
    assert not ledger.forgotten().with_reading(reading(6, 4))[0].rises[1:]


def test_rises_are_bounded() -> None:
    """The last are kept."""
    ledger = KillsLedger()
    for kills in range(RISES_AT_MOST + 20):
        ledger, _ = ledger.with_reading(reading(kills, kills))
    assert len(ledger.rises) == RISES_AT_MOST
    assert ledger.rises[-1].after.kills == RISES_AT_MOST + 19
