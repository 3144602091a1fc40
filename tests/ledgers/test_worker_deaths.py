"""Is the end of a worker a death, a part of an unload or a reload, or nothing at all?"""

from __future__ import annotations

import pytest

from probe.checks.workers import judge
from probe.facts.models import InstanceKind, ModelConfig, ModelState
from probe.facts.processes import Exit, Process, ProcessId, ProcessState
from probe.ledgers.workers import DEAD_AT_MOST, DOUBT_AT_MOST
from tests.worlds import (
    World,
    config,
    entry,
    group,
    key,
    process,
    python_model,
    row,
    server,
    serving,
    stub,
    worker,
)

TWO = python_model("m", 2)
"""Stubs 100 (m_0_0) and 101 (m_0_1)."""


def child(pid: int) -> Process:
    """A forked worker of the first stub: it keeps its name and its command line."""
    return process(pid, parent=100, title="stub /models/m/1/model.py region")


def beside(seen: World, *workers: Process) -> World:
    """Workers below the stubs that their parents are."""
    for each in workers:
        seen = seen.with_worker(each.parent, each)
    return seen


def running(*workers: Process, configs: tuple[ModelConfig, ...] = (TWO,)) -> World:
    """A Triton whose stubs had these workers from the start, seen in two scans while it served."""
    whole = serving(*configs)
    fresh = World(server=whole.server, rows=whole.rows, configs=whole.configs, stubs=whole.stubs)
    return beside(fresh, *workers).scans().polls().asks().scans().scans()


def dead(seen: World) -> list[tuple[str, object]]:
    """Instance and first dead worker of every claim."""
    return [(claim.subject.instance, claim.evidence["pid"]) for claim in seen.claims(judge)]


def explained(seen: World) -> World:
    """The engine's reaction to an exit."""
    return seen.explains("m")


ENGINE = running(worker(110, parent=100), worker(111, parent=101))


# A death is a death


@pytest.mark.parametrize("how", [{"signal": 9}, {"signal": 11}, {"code": 1}, {"code": 0}, {}])
def test_an_engine_never_ends_while_its_stub_lives_and_its_model_is_loaded(how: dict[str, int]) -> None:
    """Whatever way it ended, known or not."""
    assert dead(explained(ENGINE.worker_exits(110, **how))) == [("m_0_0", 110)]


def test_an_exit_is_no_death_before_everything_was_seen() -> None:
    """A scan that still shows the stub, Triton's word, and the configuration, each of after the exit."""
    seen = ENGINE.worker_exits(110, signal=9)
    for early in (
        seen,
        seen.scans(),
        seen.says("m"),
        seen.asks(),
        seen.says("m").asks(),
        seen.scans().asks(),
    ):
        assert dead(early) == []
    for whole in (seen.scans().says("m").asks(), seen.asks().says("m").scans(), seen.polls().scans().asks()):
        assert dead(whole) == [("m_0_0", 110)]


def test_what_was_seen_before_the_exit_proves_nothing() -> None:
    """Looks that began earlier may show a moment before it."""
    seen = ENGINE.worker_exits(110, signal=9)
    early = seen.later(-2).scans().later(-1).says("m").later(-1).asks()
    assert dead(early) == []
    assert dead(early.later(-2).polls().later(5)) == []


def test_an_engine_that_a_scan_no_longer_finds_has_ended() -> None:
    """Nobody told how, and nothing else is needed than what any death needs."""
    seen = ENGINE.without_worker(110).scans()
    assert dead(seen) == []
    assert dead(seen.says("m").asks()) == [("m_0_0", 110)]
    assert seen.says("m").asks().claims(judge)[0].evidence["signal"] is None


def test_the_kernel_may_tell_how_after_a_scan_told_that() -> None:
    """The status comes late and is kept; another one of the same process is not taken over it."""
    seen = ENGINE.without_worker(110).scans()
    told = seen.tells_exit(ProcessId(110, 1100), signal=9).tells_exit(ProcessId(110, 1100), code=3)
    (claim,) = told.says("m").asks().claims(judge)
    assert claim.evidence["signal"] == 9


def test_a_child_whose_end_a_scan_saw_first_is_told_by_the_kernel() -> None:
    """The pidfd wakes the loop a moment later."""
    seen = running(child(110)).without_worker(110).scans()
    assert dead(explained(seen)) == []
    assert dead(explained(seen.tells_exit(ProcessId(110, 1100), signal=9))) == [("m_0_0", 110)]


def test_an_adopted_worker_that_dies_is_a_death_too() -> None:
    """A worker of a worker whose parent ended; its stub still lives."""
    seen = ENGINE.adopted(110).scans()
    assert dead(explained(seen)) == []
    assert dead(explained(seen.worker_exits(110, signal=9))) == [("m_0_0", 110)]


def test_workers_that_die_together_are_one_claim_of_their_instance() -> None:
    """The engine among them is named, and the others are counted; another instance has a claim of its own."""
    seen = running(
        child(120),
        worker(110, parent=100),
        worker(112, "VLLM::Worker_TP0", parent=100),
        worker(111, parent=101),
    )
    seen = explained(seen.worker_exits(120, signal=9).worker_exits(110, signal=9).worker_exits(112, code=1))
    (claim,) = seen.claims(judge)
    assert dead(seen) == [("m_0_0", 110)]
    assert claim.evidence["workers_dead"] == 3
    assert dead(explained(seen.worker_exits(111, signal=9))) == [("m_0_0", 110), ("m_0_1", 111)]


# A child may end, and a helper always


@pytest.mark.parametrize(
    ("how", "told"), [({"signal": 15}, True), ({"code": 1}, True), ({"code": 0}, False), ({}, False)]
)
def test_a_settled_child_dies_only_violently(how: dict[str, int], *, told: bool) -> None:
    """Its work may be done; and of an end that nobody knows nothing is raised."""
    seen = running(child(110)).worker_exits(110, **how)
    assert dead(explained(seen)) == ([("m_0_0", 110)] if told else [])


def test_a_helper_is_nobodys_business() -> None:
    """However it ended."""
    seen = running(process(110, name="nvcc", parent=100)).worker_exits(110, code=1)
    assert dead(explained(seen)) == []


def test_a_child_that_was_hardly_seen_was_an_errand() -> None:
    """One scan while its model was ready, and less than five seconds; with either it is settled."""
    fresh = World(server=ENGINE.server, rows=ENGINE.rows, configs=ENGINE.configs, stubs=serving(TWO).stubs)
    fresh = beside(fresh, child(110)).scans().polls().asks()
    assert dead(explained(fresh.worker_exits(110, signal=9))) == []
    assert dead(explained(fresh.later(2).worker_exits(110, signal=9))) == [("m_0_0", 110)]
    assert dead(explained(fresh.scans().worker_exits(110, signal=9))) == []
    assert dead(explained(fresh.scans().scans().worker_exits(110, signal=9))) == [("m_0_0", 110)]


def test_a_child_that_began_while_its_model_served_is_settled_after_a_minute() -> None:
    """It is likely of one request, whose error its model tells."""
    seen = beside(running(), child(110)).scans().scans().scans()
    assert dead(explained(seen.later(50).worker_exits(110, signal=9))) == []
    assert dead(explained(seen.later(60).worker_exits(110, signal=9))) == [("m_0_0", 110)]


# Over when it is mended


def test_a_younger_worker_of_the_same_name_replaces_the_dead_one() -> None:
    """A pool starts its workers again; one newcomer stands in for one of the dead."""
    seen = running(child(110), child(111), child(112))
    seen = explained(seen.worker_exits(110, signal=9).worker_exits(111, signal=9))
    assert seen.claims(judge)[0].evidence["workers_dead"] == 2
    one = beside(seen, child(120)).scans()
    for each in (one, one.scans(), one.scans().scans()):
        assert [claim.evidence["workers_dead"] for claim in each.claims(judge)] == [1]
    assert dead(beside(one, child(121)).scans()) == []
    assert dead(beside(seen, child(120), child(121)).scans()) == []


def test_a_replacement_that_a_scan_saw_with_the_loss_counts() -> None:
    """An engine that was started again between two scans."""
    seen = beside(ENGINE.without_worker(110), worker(120, parent=100)).scans().says("m").asks()
    assert dead(seen) == []


@pytest.mark.parametrize(
    "other",
    [
        worker(120, "VLLM::Worker_TP0", parent=100),
        worker(120, parent=101),
        worker(105, parent=100),
        process(120, name="sh", parent=100),
    ],
    ids=["another name", "another stub", "no younger", "a helper"],
)
def test_what_is_not_like_it_or_not_younger_replaces_nobody(other: Process) -> None:
    """A worker that was there all the time did not come in its place."""
    seen = explained(ENGINE.worker_exits(110, signal=9))
    assert dead(beside(seen, other).scans()) == [("m_0_0", 110)]


def test_a_worker_that_was_too_many_to_be_watched_replaces_nobody() -> None:
    """When one of the watched dies, an old one takes its place among them."""
    many = running(*(child(200 + index) for index in range(70)))
    seen = explained(many.worker_exits(210, signal=9))
    assert len(seen.scans().book.families.members) == 64
    assert dead(seen.scans()) == [("m_0_0", 210)]


def test_a_death_is_over_with_its_stub() -> None:
    """StubDead says it all."""
    seen = explained(ENGINE.worker_exits(110, signal=9)).exits(100, signal=9).scans().polls()
    assert dead(seen) == []
    assert "StubDead" in seen.reasons()


def test_a_death_is_over_when_its_model_is_unloaded_and_stays_over() -> None:
    """Also where the stub lingers because the unload waits for something."""
    seen = explained(ENGINE.worker_exits(110, signal=9)).without_model("m").polls()
    assert dead(seen) == []
    again = seen.asks(index=(entry("m", ModelState.UNLOADING),)).scans()
    assert dead(again.having(rows=ENGINE.rows).polls().asks()) == []


def test_a_death_is_over_when_its_model_is_reloaded() -> None:
    """The new load has stubs and workers of its own."""
    seen = explained(ENGINE.worker_exits(110, signal=9))
    new = (stub(200, "m_0_0", workers=(210,)), stub(201, "m_0_1", workers=(211,)))
    both = seen.with_stub(*new).scans().polls().asks()
    assert dead(both) == [("m_0_0", 110)]
    after = both.exits(100, code=0).exits(101, code=0).scans().polls().asks()
    assert dead(after) == []


def test_a_death_is_over_when_another_load_serves_although_its_own_stub_lingers() -> None:
    """Requests that wait for the dead worker keep it; the counters tell that the new stubs took over."""
    one = serving(python_model("m"), rows=(row("m", success=5),))
    seen = one.with_worker(100, worker(110, parent=100)).scans().scans().polls().asks()
    seen = explained(seen.worker_exits(110, signal=9)).polls().scans()
    assert dead(seen) == [("m_0_0", 110)]
    seen = seen.with_stub(stub(200, "m_0_0", workers=(210,))).scans().polls().asks()
    assert dead(seen) == [("m_0_0", 110)]
    seen = seen.with_row(row("m", success=1)).polls()
    assert dead(seen) == dead(explained(seen.scans()).polls()) == []
    seen = explained(seen.scans().asks().worker_exits(210, signal=9)).polls().scans()
    assert dead(seen) == [("m_0_0", 210)]


def test_a_new_epoch_forgets_the_dead() -> None:
    """Another tritonserver has other stubs."""
    seen = explained(ENGINE.worker_exits(110, signal=9))
    assert seen.having(server=server(pid=77), stubs=()).scans().book.workers.dead == ()


# Unloading and reloading is no death


@pytest.mark.parametrize("how", [{"signal": 9}, {"signal": 15}, {"code": 0}, {}])
def test_an_unload_that_ends_its_workers_is_no_death(how: dict[str, int]) -> None:
    """``finalize`` kills them, and the stub ends later; Triton says at once that the model is unloading."""
    seen = ENGINE.without_model("m").worker_exits(110, **how).worker_exits(111, **how)
    for told in (explained(seen), explained(seen).polls(), seen.polls().asks(), seen.polls()):
        assert dead(told) == []
        assert told.book.workers.dead == ()


def test_a_worker_that_ended_while_its_model_was_loading_was_not_needed() -> None:
    """The load went well without it: Triton says "not loaded" first, or is seen ready only since."""
    world = serving(TWO)
    loading = World(server=world.server, configs=(TWO,), stubs=world.stubs).scans().polls()
    loading = loading.asks(configs=(), index=(entry("m", ModelState.LOADING),))
    loading = beside(loading, worker(110, parent=100)).scans()
    ended = loading.worker_exits(110, signal=9)
    served = ended.having(rows=world.rows).polls().asks().scans()
    assert dead(served) == []
    assert served.book.workers.dead == ()
    asked = ended.says("m").having(rows=world.rows).polls().asks().scans()
    assert dead(asked) == []


def test_a_worker_that_died_right_after_its_model_became_ready_is_found() -> None:
    """No poll saw it ready yet, and Triton says so when it is asked."""
    world = serving(TWO)
    loading = World(server=world.server, configs=(TWO,), stubs=world.stubs).scans().polls()
    loading = loading.asks(configs=(), index=(entry("m", ModelState.LOADING),))
    loading = beside(loading, worker(110, parent=100)).scans().having(rows=world.rows)
    seen = loading.worker_exits(110, signal=9).scans().says("m")
    assert dead(seen) == []
    assert dead(seen.polls().asks()) == [("m_0_0", 110)]


def both_loads(count: int = 2, *, new: tuple[str, ...] = ("m_0_0", "m_0_1")) -> World:
    """A reload has started its new stubs beside the old ones, each with an engine; Triton says "ready"."""
    workers = [worker(110 + index, parent=100 + index) for index in range(count)]
    seen = running(*workers, configs=(python_model("m", count),))
    young = (stub(200 + index, name, "m", workers=(210 + index,)) for index, name in enumerate(new))
    return seen.with_stub(*young).scans().polls()


def test_the_old_load_of_a_reload_ends_its_workers_without_a_death() -> None:
    """Its stubs are superseded by younger ones of the same names."""
    seen = both_loads()
    for pid in (110, 111):
        seen = explained(seen.worker_exits(pid, signal=9))
        assert dead(seen) == []
    seen = seen.exits(100, code=0).exits(101, code=0).scans().polls().asks()
    assert dead(seen) == []
    assert seen.book.workers.dead == ()


@pytest.mark.parametrize(
    ("after", "new"),
    [
        (python_model("m", 1), ("m_0_0",)),
        (config("m", group("other", InstanceKind.CPU, 2)), ("other_0", "other_1")),
        (config("m", group("m")), ("m_0",)),
    ],
    ids=["fewer instances", "another name", "no group written"],
)
def test_a_reload_that_changes_its_instances_is_no_death(after: ModelConfig, new: tuple[str, ...]) -> None:
    """The configuration, read since, is the new load's, and tells who has to go; they go one after the other."""
    seen = both_loads(3, new=new).with_config(after)
    for index in (2, 0, 1):
        seen = explained(seen.worker_exits(110 + index, signal=9))
        assert dead(seen) == []
        seen = explained(seen.exits(100 + index, code=0))
        assert dead(seen) == []
    assert seen.book.workers.dead == ()
    assert dead(explained(seen.worker_exits(210, signal=9))) == [(new[0], 210)]


@pytest.mark.parametrize("leaves", [100, 101])
def test_an_instance_that_is_removed_in_place_ends_its_workers_without_a_death(leaves: int) -> None:
    """Whichever it is: Triton tells no name, and the configuration calls for one fewer before it goes."""
    stays = 201 - leaves
    seen = ENGINE.with_config(python_model("m", 1))
    seen = explained(seen.worker_exits(leaves + 10, signal=9))
    assert dead(seen) == []
    seen = explained(seen.exits(leaves, code=0))
    assert dead(seen) == []
    assert seen.reasons() == []
    assert dead(explained(seen.worker_exits(stays + 10, signal=9))) == [(f"m_0_{stays - 100}", stays + 10)]


def test_a_worker_of_the_new_load_that_dies_is_found() -> None:
    """As soon as the old one went, or after a minute; which of the two loads is ending is not told before."""
    seen = both_loads()
    during = explained(seen.worker_exits(211, signal=9))
    assert dead(during) == []
    assert dead(during.later(DOUBT_AT_MOST).scans()) == [("m_0_1", 211)]
    assert dead(during.exits(100, code=0).exits(101, code=0).scans()) == [("m_0_1", 211)]
    after = seen.exits(100, code=0).exits(101, code=0).scans().polls().asks()
    assert dead(explained(after.worker_exits(210, signal=9))) == [("m_0_0", 210)]


def test_a_worker_of_the_old_load_that_died_while_a_reload_failed_is_found_then() -> None:
    """The new stubs go, the old ones serve on, and nothing has to be asked again."""
    seen = explained(both_loads().worker_exits(110, signal=9))
    assert dead(seen) == []
    seen = seen.exits(200, signal=9).exits(201, signal=9).scans()
    assert dead(seen) == [("m_0_0", 110)]


def test_instances_of_one_name_on_two_gpus_supersede_nobody_of_their_own_load() -> None:
    """A KIND_GPU group with two GPUs makes two stubs of the same name."""
    two = python_model("m", 1, InstanceKind.GPU, (0, 1))
    seen = running(worker(110, parent=100), configs=(two,))
    assert dead(explained(seen.worker_exits(110, signal=9))) == [("m_0_0", 110)]
    reload = running(worker(110, parent=100), configs=(two,))
    reload = reload.with_stub(stub(200, "m_0_0"), stub(201, "m_0_0")).scans()
    assert dead(explained(reload.worker_exits(110, signal=9))) == []


def test_a_doubt_that_nothing_resolves_ends_in_belief() -> None:
    """Too many stubs for more than a minute, because one never ends: who lives that long does not end now."""
    seen = running(worker(110, parent=100)).with_stub(stub(300, "m_0_7", "m")).scans()
    seen = explained(seen.worker_exits(110, signal=9))
    assert dead(seen) == []
    assert dead(seen.later(DOUBT_AT_MOST - 10).scans()) == []
    assert dead(seen.later(DOUBT_AT_MOST).scans()) == [("m_0_0", 110)]


def test_instances_of_one_name_that_were_added_in_place_are_all_watched() -> None:
    """Triton numbers the new ones after those that it kept, whatever these are called."""
    seen = running(worker(110, parent=100), configs=(python_model("m", 2),)).exits(101, code=0)
    seen = seen.with_stub(stub(200, "m_0_0", workers=(210,))).scans().polls().asks().scans()
    assert dead(explained(seen.worker_exits(110, signal=9))) == [("m_0_0", 110)]
    assert dead(explained(seen.worker_exits(210, signal=9))) == [("m_0_0", 210)]
    fewer = seen.with_config(python_model("m", 1))
    assert dead(explained(fewer.worker_exits(210, signal=9))) == []


def test_a_stub_of_another_version_supersedes_nobody() -> None:
    """Both versions are loaded, and their stubs have the same names."""
    second = python_model("m", 2, version="2")
    seen = running(worker(110, parent=100), configs=(TWO, second))
    assert len(seen.alive("m", "2")) == 2
    assert dead(explained(seen.worker_exits(110, signal=9))) == [("m_0_0", 110)]
    assert seen.book.workers.of(key("m", "2")) == ()


# What can not be judged


def test_a_worker_of_a_stub_that_serves_no_model_dies_unseen() -> None:
    """An auto-complete stub that ends with its work, or one of a folder that is no model's."""
    seen = serving(TWO).with_stub(stub(300, "m", workers=(310,))).scans().worker_exits(310, signal=9)
    assert dead(explained(seen).polls().asks().scans()) == []
    assert explained(seen.exits(300, code=0)).book.workers.dead == ()
    odd = serving(TWO).with_stub(stub(300, "z_0_0", path="/tmp/x/y/1/model.py", workers=(310,))).scans()
    odd = odd.worker_exits(310, signal=9)
    assert explained(odd).book.workers.dead == ()


def test_a_worker_of_a_load_whose_configuration_was_not_read_yet_is_found_when_it_is() -> None:
    """Its stub has no model until then: a reload named its group anew."""
    new = config("m", group("other", InstanceKind.CPU))
    seen = running().with_stub(stub(200, "other_0", "m", workers=(210,))).scans()
    seen = seen.exits(100, code=0).exits(101, code=0).scans().worker_exits(210, signal=9)
    assert seen.book.workers.model_of(ProcessId(210, 2100)) == key("m")
    assert dead(seen.scans().says("m")) == []
    assert dead(explained(seen.with_config(new))) == [("other_0", 210)]


def test_a_worker_that_ends_after_its_stub_is_no_death() -> None:
    """Whoever ends first: a scan that shows the stub's zombie settles it."""
    stub_first = ENGINE.adopted(110).exits(100, signal=9).worker_exits(110, signal=9)
    assert dead(explained(stub_first)) == []
    seen = ENGINE.worker_exits(110, signal=9)
    zombie = stub(100, "m_0_0", state=ProcessState.ZOMBIE)
    assert dead(explained(seen.with_stub(zombie))) == []


def test_an_exit_that_is_told_twice_is_one() -> None:
    """Found lost by a scan, and told by the kernel."""
    seen = explained(ENGINE.without_worker(110).scans().tells_exit(ProcessId(110, 1100), signal=9))
    assert seen.claims(judge)[0].evidence["workers_dead"] == 1


def test_what_waits_for_more_is_known() -> None:
    """Whose word and whose configuration to ask for, and of which models to learn more."""
    seen, gone = ENGINE.worker_exits(110, signal=9), ProcessId(110, 1100)
    book = seen.book
    assert book.workers.model_of(gone) == key("m")
    assert book.workers.doubtful == {"m"}
    assert book.workers.unexplained(gone)
    assert not book.workers.configuration_wanted(gone, book.models)
    said = seen.says("m").book
    assert not said.workers.unexplained(gone)
    assert said.workers.configuration_wanted(gone, said.models)
    read = seen.says("m").asks().book
    assert not read.workers.configuration_wanted(gone, read.models)
    assert not explained(seen).book.workers.doubtful
    assert ENGINE.book.workers.model_of(gone) is None


def test_a_word_on_another_model_or_of_before_says_nothing() -> None:
    """It is about one model and one moment."""
    seen = ENGINE.worker_exits(110, signal=9)
    assert seen.says("other").book.workers == seen.book.workers
    assert seen.without_model("m").later(-2).says("m").book.workers == seen.book.workers


def test_a_flood_of_deaths_is_bounded() -> None:
    """The latest are kept."""
    seen = ENGINE
    member = seen.book.families.members[ProcessId(110, 1100)]
    ledger = seen.book.workers
    for pid in range(DEAD_AT_MOST + 10):
        ledger = ledger.with_exit(Exit(ProcessId(10_000 + pid, 1), seen.now), member, seen.book.stubs)
    assert len(ledger.dead) == DEAD_AT_MOST
