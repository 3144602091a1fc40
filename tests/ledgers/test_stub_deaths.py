"""Is an exit a death or an unload, and is every death of the present load seen?"""

from __future__ import annotations

import msgspec
import pytest

from probe.facts.container import MemoryUse
from probe.facts.models import InstanceKind, ModelState
from probe.facts.processes import ExitCause, ProcessId, ProcessState, Stub
from probe.ledgers.stubs import StubsLedger
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

TWO = python_model("m", 2)
"""Stubs 100 (m_0_0) and 101 (m_0_1)."""
UNLOADED = (entry("m", ModelState.UNAVAILABLE, "unloaded"),)


def counted(seen: World) -> dict[tuple[str, str], int]:
    """The settled exits by model and cause."""
    return seen.book.stubs.exits


def dead(seen: World) -> list[str]:
    """The instances that are said to be dead."""
    return [claim.subject.instance for claim in seen.claims() if claim.reason == "StubDead"]


def settled(seen: World) -> World:
    """Everybody looks once more."""
    return seen.scans().polls().asks().scans()


def reloaded(seen: World, *pids: int) -> World:
    """The model's stubs replaced by new ones of these pids; nobody looked."""
    new = (stub(pid, f"m_0_{index}") for index, pid in enumerate(pids))
    return seen.having(stubs=tuple(new))


# A death is a death


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ({"signal": 9}, ExitCause.SIGNAL),
        ({"signal": 11 | 0x80}, ExitCause.SIGNAL),
        ({"code": 1}, ExitCause.ERROR),
        ({"code": 0}, ExitCause.UNKNOWN),
        ({}, ExitCause.UNKNOWN),
    ],
)
def test_an_exit_after_which_the_model_is_still_loaded_is_a_death(how: dict[str, int], cause: str) -> None:
    """Whatever way it ended: Triton has the model at a later moment, and a scan shows no other stub."""
    seen = settled(serving(TWO).exits(101, **how))
    assert dead(seen) == ["m_0_1"]
    assert counted(seen) == {("m", cause): 1}
    assert [each.id.pid for each in seen.book.stubs.deaths_of(key("m"))] == [101]


def test_an_exit_without_violence_is_no_death_before_the_configuration_was_read_again() -> None:
    """It may call for one instance fewer by now: Triton removes it in place, and stays ready."""
    seen = serving(TWO).exits(101, code=0).scans().polls()
    assert dead(seen) == []
    assert dead(seen.asks()) == ["m_0_1"]
    fewer = seen.with_config(python_model("m", 1)).asks()
    assert dead(fewer) == []
    assert fewer.book.stubs.dead == ()
    assert counted(fewer) == {("m", ExitCause.UNLOAD): 1}
    assert dead(settled(fewer.with_config(TWO).with_stub(stub(300, "m_0_0")))) == []
    assert dead(settled(fewer.exits(100, signal=9))) == ["m_0_0"]


def test_an_exit_is_no_death_before_triton_and_a_scan_have_spoken() -> None:
    """Statistics of before the exit prove nothing, and neither does a poll without a scan."""
    seen = serving(TWO).exits(101, signal=9)
    assert dead(seen) == dead(seen.polls()) == dead(seen.scans()) == []
    assert dead(seen.polls().scans()) == dead(seen.scans().polls()) == ["m_0_1"]


@pytest.mark.parametrize("how", [{"code": 0}, {}])
def test_a_stub_that_a_lower_count_of_instances_ended_is_no_death(how: dict[str, int]) -> None:
    """Triton ends it in place, without a reload: nothing is said before the configuration was read again."""
    seen = serving(TWO).exits(101, **how).with_config(python_model("m", 1)).scans().polls().scans()
    assert dead(seen) == []
    told = seen.asks()
    assert dead(told) == dead(settled(told)) == []
    assert told.book.stubs.deaths_of(key("m")) == ()
    assert counted(told) == {("m", ExitCause.UNLOAD): 1}


@pytest.mark.parametrize("how", [{"code": 0}, {}])
def test_a_quiet_exit_is_a_death_where_the_configuration_still_calls_for_the_stub(
    how: dict[str, int],
) -> None:
    """Read again after the exit it says what it said before; one that was never read is not waited for."""
    seen = serving(TWO).exits(101, **how).scans().polls()
    assert dead(seen) == []
    assert dead(seen.asks()) == ["m_0_1"]
    unread = serving(TWO, rows=()).with_row(row("m")).polls().exits(101, **how).scans().polls()
    assert unread.record("m").config is None
    assert unread.book.stubs.dead[0].believed


def test_whichever_stub_a_lower_count_leaves_is_the_one_that_is_called_for() -> None:
    """Triton keeps names: of two instances the second may be the one that stays."""
    seen = settled(serving(TWO).exits(100, code=0).with_config(python_model("m", 1)))
    assert dead(seen) == []
    # What stayed from then would come up again as soon as the next reload shows nobody for a moment.
    assert settled(reloaded(seen, 200)).book.stubs.dead == ()


def test_a_poll_that_began_before_the_exit_confirms_nothing() -> None:
    """It was answered by a Triton that had not lost anything yet."""
    seen = serving(TWO).exits(101, signal=9)
    assert dead(seen.later(-2).polls().later(10).scans()) == []


def test_a_violent_exit_is_believed_when_triton_was_asked_in_vain() -> None:
    """The engine waits a moment for "I unloaded it"; without, the signal speaks for itself."""
    seen = serving(TWO).exits(101, signal=9).believes(101)
    assert dead(seen) == ["m_0_1"]
    assert counted(seen) == counted(settled(seen)) == {("m", ExitCause.SIGNAL): 1}


def test_believing_twice_or_in_a_stranger_counts_nothing() -> None:
    """A death is counted once."""
    seen = serving(TWO).exits(101, signal=9).believes(101).believes(101, 7)
    assert counted(seen) == {("m", ExitCause.SIGNAL): 1}


def test_a_stub_that_a_scan_no_longer_finds_is_dead_for_an_unknown_cause() -> None:
    """Where no exit is told, absence tells it, and the next scans change nothing."""
    seen = settled(serving(TWO).without_stub(100))
    assert dead(seen) == dead(settled(seen)) == ["m_0_0"]
    assert counted(seen) == {("m", ExitCause.UNKNOWN): 1}


def test_a_zombie_is_dead_and_stays_dead_when_it_vanishes() -> None:
    """Triton 25.12 reaps the zombie when it is asked: a vanished pid is no recovery."""
    seen = serving(TWO).with_stub(stub(100, "m_0_0", state=ProcessState.ZOMBIE))
    zombie = settled(seen)
    assert dead(zombie) == ["m_0_0"]
    gone = settled(settled(zombie.without_stub(100)))
    assert dead(gone) == ["m_0_0"]
    assert counted(gone) == {("m", ExitCause.UNKNOWN): 1}


def test_the_kernel_may_tell_how_after_a_scan_told_that() -> None:
    """The status comes late and is kept; another one of the same process is not taken over it."""
    seen = serving(TWO).without_stub(100).scans()
    gone = ProcessId(100, 1000)
    told = settled(seen.tells_exit(gone, signal=9).tells_exit(gone, code=3))
    assert told.book.stubs.dead[0].exit.signal == 9
    assert counted(told) == {("m", ExitCause.SIGNAL): 1}


def test_an_exit_of_nobody_watched_changes_nothing() -> None:
    """A pid and a start time that no stub has."""
    seen = settled(serving(TWO).without_stub(100))
    assert seen.tells_exit(ProcessId(7, 7), signal=9).book.stubs == seen.book.stubs


def test_a_stub_that_one_scan_missed_and_the_next_finds_never_died() -> None:
    """A scan out of file descriptors sees less than there is."""
    whole = serving(TWO)
    back = whole.without_stub(100).scans().having(stubs=whole.stubs)
    assert dead(settled(back)) == []
    assert len(settled(back).alive("m")) == 2


def test_a_scan_that_began_before_an_exit_does_not_revive_it() -> None:
    """Its list was read while the stub still ran."""
    whole = serving(TWO)
    seen = whole.exits(100, signal=9)
    late = seen.having(stubs=whole.stubs).later(-2).scans().later(5)
    assert [each.stub.process.id.pid for each in late.alive("m")] == [101]
    assert dead(settled(late.without_stub(100))) == ["m_0_0"]


def test_a_reused_pid_is_somebody_else() -> None:
    """The new stub of the old pid lives; the old one's late exit does not touch it."""
    seen = serving(TWO).exits(100, signal=9).with_stub(stub(100, "m_0_0", start=5000))
    again = settled(settled(seen).tells_exit(ProcessId(100, 1000), signal=9))
    assert dead(again) == []
    assert {each.stub.process.id for each in again.alive("m")} == {
        ProcessId(100, 5000),
        ProcessId(101, 1010),
    }


def test_all_instances_may_die() -> None:
    """Each is named."""
    seen = settled(serving(TWO).exits(100, signal=9).exits(101, signal=9))
    assert sorted(dead(seen)) == ["m_0_0", "m_0_1"]
    assert counted(seen) == {("m", ExitCause.SIGNAL): 2}


def test_instances_of_one_name_on_two_gpus_are_two() -> None:
    """A KIND_GPU group with two GPUs makes two stubs of the same name; one left is one dead."""
    seen = serving(python_model("m", 1, InstanceKind.GPU, (0, 1)))
    assert [each.stub.arguments.name for each in seen.alive("m")] == ["m_0_0", "m_0_0"]
    one = settled(seen.exits(101, signal=9))
    assert dead(one) == ["m_0_0"]
    assert dead(settled(one.exits(100, signal=9))) == ["m_0_0", "m_0_0"]
    assert dead(settled(one.with_stub(stub(300, "m_0_0")))) == []


# An unload or a reload is no death


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        (None, ExitCause.UNLOAD),
        ({}, ExitCause.UNLOAD),
        ({"code": 0}, ExitCause.UNLOAD),
        ({"signal": 9}, ExitCause.SIGNAL),
        ({"code": 1}, ExitCause.ERROR),
    ],
)
def test_an_unload_is_no_death_however_the_stubs_end(how: dict[str, int] | None, cause: str) -> None:
    """Triton's next statistics have no such model any more; ``how`` None: only a scan finds them gone."""
    seen = serving(TWO)
    if how is not None:
        seen = seen.exits(100, **how).exits(101, **how)
    seen = seen.having(stubs=()).scans().without_model("m").polls()
    for later in (seen, seen.asks(index=UNLOADED), settled(seen.asks(index=UNLOADED))):
        assert dead(later) == []
        assert later.book.stubs.dead == ()
        assert counted(later) == {("m", cause): 2}


def test_an_unload_that_triton_tells_of_when_asked_about_the_exit_is_no_death() -> None:
    """``ModelsLedger.without``: the engine asked, and Triton no longer had the version ready."""
    seen = serving(TWO).exits(100, code=0)
    models = seen.book.models.without(key("m"), seen.now)
    book = seen.book.with_models(models)
    assert book.stubs.dead == ()
    assert book.stubs.exits == {("m", ExitCause.UNLOAD): 1}


@pytest.mark.parametrize("success", [0, 3, 50], ids="success {}".format)
@pytest.mark.parametrize("order", ["exits first", "starts first", "between two scans"])
def test_a_reload_is_no_death(order: str, success: int) -> None:
    """Old stubs go, new ones come, in any order, with counters that start again or rise on."""
    seen = serving(TWO).with_row(row("m", success=10)).polls()
    if order == "exits first":
        seen = reloaded(seen.exits(100, code=0).exits(101, code=0).scans(), 200, 201)
    elif order == "starts first":
        # Triton stays ready throughout: it starts the new load before it ends the old.
        seen = seen.with_stub(stub(200, "m_0_0"), stub(201, "m_0_1")).scans().polls()
        seen = seen.exits(100, code=0).polls().exits(101, code=0)
    else:
        seen = reloaded(seen, 200, 201)
    seen = settled(seen.with_row(row("m", success=success)))
    assert dead(seen) == []
    assert seen.reasons() == []
    assert counted(seen) == {("m", ExitCause.UNLOAD): 2}


def test_the_unload_of_one_version_does_not_excuse_a_death_of_another() -> None:
    """Versions are judged apart: a death of 2 counts, the end of 1 does not."""
    first, second = python_model("m"), python_model("m", version="2")
    seen = serving(first, second)
    one, two = seen.stubs
    seen = seen.exits(one.process.id.pid, code=0).having(rows=(row("m", "2"),))
    assert dead(settled(seen)) == []
    died = settled(seen.exits(two.process.id.pid, signal=9))
    assert [claim.subject.version for claim in died.claims() if claim.reason == "StubDead"] == ["2"]


def test_a_death_during_a_reload_is_not_missed() -> None:
    """The old load's exits are explained by the new stubs, the death of a new one is not."""
    seen = serving(TWO).exits(100, code=0).exits(101, code=0)
    seen = reloaded(seen, 200, 201).scans().exits(201, signal=9)
    seen = settled(seen.with_row(row("m")))
    assert dead(seen) == ["m_0_1"]


def test_of_two_that_bore_one_name_the_later_is_the_dead_one() -> None:
    """The old load's stub ended unheard, and is found gone after the new one's death was told."""
    seen = serving(TWO).with_stub(stub(200, "m_0_0"), stub(201, "m_0_1")).scans().polls()
    seen = seen.exits(100, code=0).exits(201, signal=9).without_stub(101)
    seen = settled(seen.with_row(row("m")))
    (claim,) = (each for each in seen.claims() if each.reason == "StubDead")
    assert (claim.subject.instance, claim.evidence["pid"]) == ("m_0_1", 201)
    assert [each.id.pid for each in seen.book.stubs.dead] == [201]


def zombie(pid: int, name: str) -> Stub:
    """A stub that Triton has not reaped."""
    return stub(pid, name, "m", state=ProcessState.ZOMBIE)


def reloading() -> World:
    """One instance that served; a reload has begun whose stub initializes; the serving one is killed."""
    seen = serving(python_model("m"), rows=(row("m", success=5),))
    seen = seen.with_stub(stub(200, "m_0_0")).scans()
    seen = seen.exits(100, signal=9).believes(100)
    return seen.with_stub(zombie(100, "m_0_0"))


def test_a_stub_that_only_initializes_does_not_cover_for_a_dead_one_that_served() -> None:
    """Triton says ready all the time, and until the reload takes over every request fails."""
    seen = reloading().scans()
    assert dead(seen) == dead(settled(seen)) == ["m_0_0"]
    assert "0 of 1 instances are left" in seen.only("StubDead").message
    # The new load takes over: its counters begin anew, whether the old one is ever reaped or not.
    assert dead(settled(seen.with_row(row("m")))) == []


def test_the_new_load_serves_once_the_old_ones_dead_are_reaped() -> None:
    """Counters that were at zero can not fall; Triton reaps the dead when it takes their load down."""
    seen = reloading().scans()
    assert dead(seen) == ["m_0_0"]
    assert dead(seen.without_stub(100).scans()) == []


def test_a_reload_that_fails_leaves_the_death() -> None:
    """Its stub goes, and nobody ever took the dead one's place."""
    seen = reloading().scans().exits(200, code=1).scans()
    assert dead(settled(seen)) == ["m_0_0"]


def test_a_sibling_of_a_dead_stub_serves_until_the_reload_takes_over() -> None:
    """It is not retired while the new load only initializes, so its death is told too."""
    seen = serving(TWO, rows=(row("m", success=5),)).exits(100, signal=9).believes(100)
    seen = seen.with_stub(zombie(100, "m_0_0"), stub(200, "m_0_0"), stub(201, "m_0_1")).scans().polls()
    assert not any(each.retired for each in seen.book.stubs.live.values())
    seen = seen.exits(101, signal=9).believes(101).with_stub(zombie(101, "m_0_1")).scans()
    assert sorted(dead(seen)) == ["m_0_0", "m_0_1"]
    assert "0 of 2 instances are left" in seen.claims()[0].message
    assert dead(settled(seen.with_row(row("m")))) == []


def test_a_load_that_is_known_to_have_ended_well_has_taken_over() -> None:
    """The zombie may stay for ever where it had failed a request, and busy counters are soon as high again."""
    seen = reloading().scans()
    began = seen.now
    seen = seen.with_row(row("m", success=50)).polls()
    assert dead(seen) == ["m_0_0"]
    other = seen.book.taken_over("n", began)
    assert dead(seen.having(book=other)) == ["m_0_0"]
    assert dead(seen.having(book=seen.book.taken_over("m", seen.book.stubs.dead[0].exit.observed))) == []
    early = seen.book.taken_over("m", began.shifted(-60.0))
    assert dead(seen.having(book=early)) == ["m_0_0"]


def test_requests_that_all_succeed_are_served_by_a_load_that_took_over() -> None:
    """So many in a row that the dead instance must have had its share; a failure begins the count anew."""
    seen = reloading().scans().with_row(row("m", success=6, failure=1)).polls()
    seen = seen.with_row(row("m", success=14, failure=1)).polls()
    assert dead(seen) == ["m_0_0"]
    seen = seen.with_row(row("m", success=15, failure=2)).polls().asks()
    seen = seen.with_row(row("m", success=24, failure=2)).polls()
    assert dead(seen) == ["m_0_0"]
    assert dead(seen.with_row(row("m", success=25, failure=2)).polls()) == []


def test_a_successor_is_looked_for_only_beside_the_dead() -> None:
    """When the youngest of them was first seen: so long ago the model began to load anew."""
    seen = serving(python_model("m"), rows=(row("m", success=5),)).with_stub(stub(200, "m_0_0")).scans()
    assert seen.book.stubs.succession is None
    begun = reloading()
    assert begun.book.stubs.succession == begun.book.stubs.live[ProcessId(200, 2000)].first_seen
    assert settled(begun.with_row(row("m"))).book.stubs.succession is None


def test_an_end_by_force_of_an_unloaded_load_is_no_death() -> None:
    """Triton kills what does not end by itself, and reaps it at once: the new load serves already."""
    seen = serving(python_model("m"), rows=(row("m", success=5),)).with_stub(stub(200, "m_0_0")).scans()
    seen = seen.exits(100, signal=9).scans()
    assert dead(settled(seen)) == []


def test_a_death_is_over_when_the_model_is_reloaded() -> None:
    """The new load has all of its stubs, and the counters of exits stay."""
    seen = settled(serving(TWO).exits(101, signal=9))
    again = settled(reloaded(seen, 200, 201))
    assert dead(again) == []
    assert again.reasons() == []
    assert counted(again)[("m", ExitCause.SIGNAL)] == 1


def test_a_stub_that_triton_started_again_ends_the_death() -> None:
    """Before 24.06 the next request brings a new stub of the same name."""
    seen = settled(serving(TWO).exits(101, signal=9))
    assert dead(settled(seen.with_stub(stub(300, "m_0_1")))) == []


@pytest.mark.parametrize("listed", [True, False], ids=["loading by the index", "left the statistics"])
def test_a_death_right_after_a_load_and_before_a_poll_saw_it_is_not_missed(*, listed: bool) -> None:
    """The model became ready since the last look: the exit waits for what Triton says next."""
    seen = serving(TWO).without_model("m").having(stubs=()).polls()
    if listed:
        seen = seen.asks(index=(entry("m", ModelState.LOADING),))
    seen = seen.with_stub(stub(200, "m_0_0"), stub(201, "m_0_1")).scans().exits(201, signal=9)
    assert dead(seen) == []
    ready = seen.having(rows=(row("m"),), configs=(TWO,))
    assert dead(settled(ready)) == ["m_0_1"]
    # Where the load was given up, its stubs ended with it.
    failed = seen.having(stubs=()).scans().asks(index=(entry("m", ModelState.UNAVAILABLE, "Internal: x"),))
    assert failed.book.stubs.dead == ()
    assert counted(failed)["m", ExitCause.SIGNAL] == 1


def test_an_exit_of_a_model_that_left_the_repository_too_is_no_death() -> None:
    """Neither statistics nor the index have it any more."""
    left = serving(TWO).without_model("m").polls()
    begun = left.with_stub(stub(200, "m_0_0")).scans()
    for seen in (left.exits(100, code=0), begun.exits(200, code=0)):
        after = seen.asks(index=())
        assert after.book.stubs.dead == ()
        assert counted(after) == {("m", ExitCause.UNLOAD): 1}


def test_an_exit_of_a_load_that_the_index_calls_failed_is_no_death() -> None:
    """Its stubs end with it, told before or after."""
    seen = serving(TWO).without_model("m").having(stubs=()).polls()
    seen = seen.asks(index=(entry("m", ModelState.UNAVAILABLE, "Internal: x"),)).with_stub(stub(200, "m_0_0"))
    ended = seen.scans().exits(200, signal=9).polls()
    assert ended.book.stubs.dead == ()
    assert counted(ended)["m", ExitCause.SIGNAL] == 1


def test_a_reload_that_is_given_up_leaves_the_old_load_and_its_deaths() -> None:
    """Triton keeps what served: the stubs of the new load ended, those of the old are watched on."""
    seen = settled(serving(TWO).with_stub(stub(200, "m_0_0"), stub(201, "m_0_1")))
    seen = settled(seen.exits(200, signal=9).exits(201, signal=9))
    assert dead(seen) == []
    assert [each.stub.process.id.pid for each in seen.alive("m")] == [100, 101]
    assert dead(settled(seen.exits(100, signal=9))) == ["m_0_0"]


# Stubs that linger


@pytest.mark.parametrize("noticed", [True, False], ids=["unload seen", "between two polls"])
def test_a_stub_that_outlives_its_load_never_covers_for_a_dead_one_of_the_next(*, noticed: bool) -> None:
    """An unload hangs after a death and keeps the other stubs; the new load's death is told all the same."""
    seen = settled(serving(TWO).exits(100, signal=9))
    assert dead(seen) == ["m_0_0"]
    if noticed:
        seen = seen.having(rows=()).polls().asks(index=(entry("m", ModelState.UNLOADING),)).scans()
    seen = seen.with_stub(stub(200, "m_0_0"), stub(201, "m_0_1"))
    seen = settled(seen.having(rows=(row("m"),)))
    assert seen.reasons() == []
    assert [each.stub.process.id.pid for each in seen.alive("m")] == [200, 201]
    again = settled(seen.exits(201, signal=9))
    assert dead(again) == ["m_0_1"]


@pytest.mark.parametrize("told", [True, False], ids=["told by the kernel", "found by a scan"])
def test_a_lingering_stub_that_ends_at_last_is_an_unload(*, told: bool) -> None:
    """It is counted, and nobody is called dead."""
    seen = settled(serving(TWO).exits(100, signal=9))
    seen = settled(seen.with_stub(stub(200, "m_0_0"), stub(201, "m_0_1")))
    seen = seen.exits(101, code=0) if told else seen.without_stub(101)
    seen = settled(seen)
    assert seen.reasons() == []
    assert counted(seen) == {("m", ExitCause.SIGNAL): 1, ("m", ExitCause.UNLOAD): 1}


def test_a_stub_that_was_wounded_alone_is_not_retired() -> None:
    """A death beside it ends nothing: it serves on as long as no other takes its name."""
    seen = settled(settled(serving(TWO).exits(100, signal=9)))
    assert [each.stub.process.id.pid for each in seen.alive("m")] == [101]
    # Triton before 24.06 starts the dead one again: that replaces 100, not 101.
    seen = settled(seen.with_stub(stub(300, "m_0_0")))
    assert [each.stub.process.id.pid for each in seen.alive("m")] == [300, 101]


# What is no instance


@pytest.mark.parametrize("model", ["m", "m_0"])
@pytest.mark.parametrize("known", [True, False], ids=["with a configuration", "before"])
def test_an_auto_complete_stub_is_no_instance(model: str, *, known: bool) -> None:
    """It carries the bare model name, even where that reads like an instance of a group."""
    own = config(model, group(model))
    seen = serving(own, server=server()).with_stub(stub(300, model, model))
    if not known:
        seen = World(server=seen.server, rows=seen.rows, stubs=seen.stubs).scans().polls().scans()
    assert [each.stub.process.id.pid for each in seen.alive(model)] == [100]
    ended = settled(seen.exits(300, code=0))
    assert dead(ended) == []
    assert counted(ended) == {}


def test_an_auto_complete_stub_that_is_killed_is_counted_for_its_model() -> None:
    """The model never became ready: its name is told by the path, or else by the instance."""
    seen = World(server=server(), stubs=(stub(300, "m"), stub(301, "odd", path="odd"))).scans()
    odd = stub(302, "v_0_0", runtime="/opt/tritonserver/backends/vllm", path="/b/vllm/model.py")
    seen = seen.with_stub(odd).scans().exits(300, signal=9).exits(301, code=1).exits(302, signal=9)
    seen = settled(seen)
    assert counted(seen) == {
        ("m", ExitCause.SIGNAL): 1,
        ("odd", ExitCause.ERROR): 1,
        ("v_0", ExitCause.SIGNAL): 1,
    }
    assert seen.book.stubs.dead == ()


def test_a_stub_older_than_its_tritonserver_is_nobodys() -> None:
    """It is what an earlier server left behind, and covers for nobody."""
    seen = serving(TWO).with_stub(stub(300, "m_0_0", start=1))
    assert len(settled(seen).alive("m")) == 2
    died = settled(settled(seen).exits(100, signal=9))
    assert dead(died) == ["m_0_0"]


def test_a_stub_before_its_model_is_ready_finds_it_later() -> None:
    """At the start, stubs are seen before statistics are."""
    seen = World(server=server(), stubs=serving(TWO).stubs, rows=(row("m"),), configs=(TWO,)).scans()
    assert seen.alive("m") == ()
    assert len(seen.polls().alive("m")) == 2


def test_an_exit_before_its_model_was_ever_ready_is_no_death() -> None:
    """A load that fails ends its stubs; so does the auto-complete step."""
    seen = World(server=server(), stubs=(stub(100, "m_0_0"),)).scans().exits(100, code=0).polls()
    assert seen.book.stubs.dead == ()
    assert seen.reasons() == ["Initializing"]


def test_an_ensemble_has_no_stubs_to_miss() -> None:
    """It is composed of others."""
    seen = serving(TWO, ensemble("e", "m"))
    assert seen.book.stubs.expected(key("e"), seen.record("e").config) is None
    assert seen.reasons() == []


def test_a_new_epoch_drops_the_dead_and_keeps_the_counters() -> None:
    """Another tritonserver has other stubs; what was counted was counted."""
    seen = settled(serving(TWO).exits(100, signal=9))
    ledger = seen.book.stubs.forgotten()
    assert ledger == StubsLedger(exits={("m", ExitCause.SIGNAL): 1})


def test_the_ledger_is_frozen() -> None:
    """A fold returns the next record and leaves the one before as it was."""
    before = serving(TWO)
    kept = msgspec.json.encode([each.stub.process.id.pid for each in before.book.stubs.live.values()])
    settled(before.exits(100, signal=9))
    assert kept == b"[100,101]"
    assert len(before.book.stubs.live) == 2


# A reload that fails


def failed_reload(seen: World, pid: int, **how: int) -> World:
    """A stub of a load beside the one that serves is seen, ends, and stays a zombie until Triton looks."""
    seen = settled(seen.with_stub(stub(pid, "m_0_0")))
    seen = seen.exits(pid, **how).believes(pid)
    return seen.with_stub(stub(pid, "m_0_0", state=ProcessState.ZOMBIE)).scans().polls().asks()


@pytest.mark.parametrize("how", [{"signal": 9}, {"code": 1}, {"code": 0}])
@pytest.mark.parametrize("unseen", [False, True])
def test_a_stub_of_a_reload_that_fails_is_no_death_and_costs_the_serving_one_nothing(
    how: dict[str, int], *, unseen: bool
) -> None:
    """However often that is tried: the load before it goes on, and its stubs stay those of the present load."""
    seen = serving(python_model("m"))
    for pid in (200, 300, 400):
        if unseen:
            seen = settled(settled(seen.with_stub(stub(pid, "m_0_0"))).without_stub(pid))
        else:
            seen = failed_reload(seen, pid, **how)
        assert seen.reasons() == []
        seen = settled(seen.without_stub(pid))
        assert seen.reasons() == []
        assert [each.stub.process.id.pid for each in seen.alive("m")] == [100]
    assert dead(settled(seen.exits(100, signal=9))) == ["m_0_0"]


def test_the_death_of_a_reloaded_stub_beside_one_that_lingers_is_told_when_that_ends() -> None:
    """Before, nobody can tell that the new load serves: no counter fell, and the old one may go on."""
    seen = settled(serving(python_model("m")).with_stub(stub(200, "m_0_0")))
    seen = settled(seen.exits(200, signal=9).believes(200))
    assert dead(seen) == []
    assert dead(settled(seen.exits(100, code=0))) == ["m_0_0"]


def test_the_death_of_a_reloaded_stub_is_told_at_once_where_the_counters_told_of_the_reload() -> None:
    """The old load's stub may take its time to end, and serves nobody."""
    seen = serving(python_model("m"), rows=(row("m", success=5),)).with_stub(stub(200, "m_0_0")).scans()
    seen = settled(seen.with_row(row("m", success=1)))
    seen = seen.exits(200, signal=9).believes(200).with_stub(stub(200, "m_0_0", state=ProcessState.ZOMBIE))
    assert dead(settled(seen)) == ["m_0_0"]


@pytest.mark.parametrize(("success", "standing"), [(0, ["m_0_0"]), (3, [])])
def test_a_dead_that_is_never_reaped_is_over_when_the_model_answers(
    success: int, standing: list[str]
) -> None:
    """No counter fell at the reload of a model that had answered nothing; only the new stub can answer."""
    seen = serving(python_model("m")).exits(100, signal=9).believes(100)
    seen = settled(seen.with_stub(stub(100, "m_0_0", state=ProcessState.ZOMBIE), stub(200, "m_0_0")))
    assert dead(seen) == ["m_0_0"]
    assert dead(settled(seen.with_row(row("m", success=success)))) == standing


def test_an_answer_of_another_instance_does_not_end_a_death() -> None:
    """One of two serves on, beside the stubs of a load that serves nobody yet."""
    seen = serving(TWO).exits(100, signal=9).believes(100)
    zombie = stub(100, "m_0_0", state=ProcessState.ZOMBIE)
    seen = settled(seen.with_stub(zombie, stub(200, "m_0_0"), stub(201, "m_0_1")))
    assert dead(settled(seen.with_row(row("m", success=3)))) == ["m_0_0"]


def test_the_kernels_own_word_of_an_oom_kill_explains_the_death() -> None:
    """No look at the container has to come after it: the changed count was told with the kill."""
    seen = serving(python_model("m")).contained(
        memory=MemoryUse(oom_kills=0, oom_kills_path="/c/memory.events")
    )
    seen = seen.oom(1).exits("m_0_0", signal=9)
    (death,) = seen.book.stubs.dead
    assert death.exit.oom is not None
    assert death.exit.oom_killed
