"""Whose region each file of ``/dev/shm`` is, how full it was, and what nobody owns any more."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.facts.processes import ProcessState
from probe.ledgers import shm
from probe.ledgers.shm import ASKED_AGAIN, Growth, ShmLedger
from tests.worlds import (
    MIB,
    START,
    World,
    key,
    python_model,
    server,
    serving,
    stub,
)

UUID = "051f6f90-7f0c-4e43-9d6a-0a3f5c1d2e3b"
LEFT = f"triton_python_backend_shm_region_{UUID}"
FIRST, SECOND = "triton_python_backend_shm_region_100", "triton_python_backend_shm_region_101"


def names(world: World) -> list[str]:
    """The orphans."""
    return [each.name for each in world.book.shm.orphans]


def restarted(world: World, *, pid: int = 6) -> World:
    """Another tritonserver in the same pod, without a model yet; what the old one's stubs shared is left."""
    return world.having(server=server(pid=pid), stubs=(), rows=(), configs=()).scans()


def test_a_region_belongs_to_the_stub_that_names_it() -> None:
    """With its model, its instance, and what it holds."""
    seen = serving(python_model("m", instances=2)).shm(("input_data", 3 * MIB))
    ledger = seen.book.shm
    assert set(ledger.regions) == {FIRST, SECOND}
    owner = ledger.owners[FIRST]
    assert (owner.model, owner.instance, owner.live) == (key("m"), "m_0_0", True)
    assert set(ledger.of(key("m"))) == {FIRST, SECOND}
    assert ledger.of(key("other")) == {}
    assert ledger.others_bytes == 3 * MIB
    assert (ledger.orphans, ledger.orphan_bytes, ledger.suspects) == ((), 0, frozenset())


def test_a_dead_stubs_region_stays_its_models_while_tritonserver_maps_it() -> None:
    """So it is until the model is unloaded; it is asked about, and no orphan."""
    seen = serving(python_model("m", instances=2)).shm().exits("m_0_1", signal=9).scans().shm(SECOND)
    assert seen.book.shm.suspects == {SECOND}
    seen = seen.shm(SECOND, mapped=[SECOND]).shm(SECOND).later(ASKED_AGAIN).shm(SECOND, mapped=[SECOND])
    assert names(seen) == []
    assert set(seen.book.shm.of(key("m"))) == {FIRST, SECOND}
    assert not seen.book.shm.owners[SECOND].live
    assert seen.shm().book.shm.owners.keys() == {FIRST}


def test_what_a_killed_server_left_is_an_orphan_once_two_looks_found_nobody() -> None:
    """Whose it was is still known; one look may fall between the making of a file and its first mapping."""
    seen = restarted(serving(python_model("m", instances=2)).shm())
    assert seen.book.shm.suspects == {FIRST, SECOND}
    once = seen.shm(FIRST, SECOND)
    assert names(once) == []
    assert once.book.shm.unsure
    twice = once.shm(FIRST, SECOND)
    assert names(twice) == [FIRST, SECOND]
    assert twice.book.shm.orphan_bytes == 2 * MIB
    assert twice.book.shm.of(key("m")) == {}
    assert not twice.book.shm.unsure
    assert names(twice.shm(SECOND)) == [SECOND]


def test_two_searches_in_the_same_moment_are_one() -> None:
    """What is asked twice within a second may be the same race."""
    seen = restarted(serving(python_model("m")).shm())
    looked = seen.shm(FIRST)
    again = looked.having(now=looked.now.shifted(-0.5)).shm(FIRST)
    assert names(again) == []
    assert names(again.shm(FIRST)) == [FIRST]


def test_a_file_that_is_named_like_a_region_is_found_without_having_known_its_stub() -> None:
    """It was left before the probe began."""
    seen = serving(python_model("m")).shm(LEFT)
    assert seen.book.shm.suspects == {LEFT}
    assert names(seen.shm(LEFT).shm(LEFT)) == [LEFT]


def test_a_prefix_of_the_servers_options_names_regions_too() -> None:
    """As TensorRT-LLM's launcher sets one for each rank."""
    name = f"prefix0_{UUID}"
    option = "--backend-config=python,shm-region-prefix-name=prefix0_"
    with_option = serving(python_model("m"), server=server(option)).shm(name).shm(name).shm(name)
    assert names(with_option) == [name]
    unseen = with_option.having(server=None).scans()
    assert unseen.book.shm.prefixes == ("prefix0_",)
    without = serving(python_model("m")).shm(name).shm(name).shm(name)
    assert (names(without), without.book.shm.others_bytes) == ([], MIB)


def test_where_others_may_use_it_unseen_only_known_regions_are_doubted() -> None:
    """With the machine's own ``/dev/shm``, a file of another Triton's looks like one that was left."""
    seen = serving(python_model("m")).shm(LEFT, shared_beyond=True)
    assert seen.book.shm.suspects == frozenset()
    assert seen.book.shm.orphan_bytes is None
    assert seen.shm(shared_beyond=True).book.shm.orphan_bytes == 0
    again = restarted(seen)
    for _ in range(3):
        again = again.shm(FIRST, LEFT, shared_beyond=True)
    assert names(again) == [FIRST]


def test_files_of_others_are_never_doubted() -> None:
    """Clients' shared memory, semaphores and what frameworks exchange tensors by."""
    others = ("input_data", "sem.x", "torch_1_2", "psm_ab12", "nccl-abc")
    seen = serving(python_model("m")).shm(*others).shm(*others).shm(*others)
    assert (names(seen), seen.book.shm.suspects, seen.book.shm.others_bytes) == ([], frozenset(), 5 * MIB)


def test_what_somebody_maps_is_asked_again_only_after_a_while() -> None:
    """Each search reads what every process maps."""
    seen = serving(python_model("m")).shm(LEFT).shm(LEFT, mapped=[LEFT])
    assert seen.book.shm.suspects == frozenset()
    assert not seen.book.shm.unsure
    later = seen.later(ASKED_AGAIN).shm(LEFT)
    assert later.book.shm.suspects == {LEFT}
    assert names(later.shm(LEFT).shm(LEFT)) == [LEFT]


def test_an_orphan_that_somebody_maps_after_all_is_none() -> None:
    """The search is repeated, and the last one counts."""
    seen = serving(python_model("m")).shm(LEFT).shm(LEFT).shm(LEFT)
    assert names(seen) == [LEFT]
    later = seen.later(ASKED_AGAIN).shm(LEFT)
    assert names(later) == [LEFT]
    assert names(later.shm(LEFT, mapped=[LEFT])) == []


def test_what_can_not_be_told_is_neither_and_the_sum_is_unknown() -> None:
    """A process that may not be read could map it."""
    seen = serving(python_model("m")).shm(LEFT).shm(LEFT, undecided=[LEFT])
    assert (names(seen), seen.book.shm.orphan_bytes) == ([], None)
    assert seen.book.shm.suspects == frozenset()
    assert not seen.book.shm.unsure


def test_a_stub_that_takes_the_name_again_owns_it() -> None:
    """Up to 24.03 regions are numbered from 1 by every tritonserver."""
    region = "triton_python_backend_shm_region_1"
    config = python_model("m")
    old = serving(config).having(stubs=(stub(100, "m_0_0", region=region),)).scans().shm()
    seen = restarted(old).shm(region).shm(region)
    assert names(seen) == [region]
    taken = seen.having(stubs=(stub(200, "n_0_0", region=region),)).scans()
    assert (names(taken), taken.book.shm.doubts) == ([], {})
    assert taken.book.shm.owners[region].model == key("n")


def test_a_zombie_keeps_its_region_and_a_stranger_zombie_has_none() -> None:
    """A zombie's arguments are remembered; one that was never seen alive tells nothing new."""
    living = stub(100, "m_0_0", "m")
    dead = stub(100, "m_0_0", "m", state=ProcessState.ZOMBIE)
    seen = serving(python_model("m")).having(stubs=(living,)).scans().having(stubs=(dead,)).scans()
    assert seen.book.shm.owners[FIRST].model == key("m")
    assert not seen.book.shm.owners[FIRST].live
    fresh = World(server=server(), stubs=(dead, stub(101, "x", region=""))).scans()
    assert fresh.book.shm.owners == {}


def test_the_model_is_known_after_triton_has_let_go_of_it() -> None:
    """A python-based backend's command line leads to the model only by its configuration."""
    vllm = stub(100, "grp_0", "", path="/opt/backends/vllm/model.py", runtime="/opt/backends/vllm")
    config = msgspec.structs.replace(
        python_model("llm"),
        backend="vllm",
        groups=(msgspec.structs.replace(python_model("llm").groups[0], name="grp"),),
    )
    seen = serving(config).having(stubs=(vllm,)).scans()
    assert seen.book.shm.owners[FIRST].model == key("llm")
    gone = seen.without_model("llm").polls().asks().scans()
    assert gone.book.shm.owners[FIRST].model == key("llm")


def test_a_listing_that_is_cut_or_missing_forgets_nobody_it_should_not() -> None:
    """Where not all is listed, what is not may still be there; where nothing can be listed, nobody is kept."""
    seen = restarted(serving(python_model("m", instances=2)).shm())
    cut = seen.shm(FIRST, cut=True)
    assert cut.book.shm.owners.keys() == {FIRST, SECOND}
    assert cut.book.shm.orphan_bytes is None
    blind = seen.shm(files=None)
    assert blind.book.shm.files == {}
    assert blind.book.shm.orphan_bytes is None
    assert blind.book.shm.level is not None


def test_a_look_that_saw_no_file_system_teaches_nothing() -> None:
    """Neither does one that began before the last."""
    seen = serving(python_model("m")).shm(LEFT).shm(LEFT).shm(LEFT)
    assert seen.contained().book.shm == seen.book.shm
    late = seen.having(now=START).shm()
    assert late.book.shm.files == seen.book.shm.files


def test_regions_that_were_never_listed_are_not_remembered_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A probe that may not see ``/dev/shm`` learns of regions by their stubs alone."""
    monkeypatch.setattr(shm, "MOST_OWNERS", 3)
    seen = World(server=server())
    for pid in range(100, 110):
        seen = seen.having(stubs=(stub(pid, "m_0_0"),)).scans()
        assert len(seen.book.shm.owners) <= 3
    assert [each.live for each in seen.book.shm.owners.values()][-1]


def test_growth_is_told_by_region() -> None:
    """From what to what, by how much at once, and when last; a region never shrinks."""

    def grown(world: World, held: int) -> World:
        return world.with_stub(stub(100, "m_0_0", shm=held)).shm()

    seen = grown(grown(grown(serving(python_model("m")).shm(), 5 * MIB), 5 * MIB), 9 * MIB)
    growth = seen.book.shm.growths[FIRST]
    assert (growth.first_bytes, growth.held_bytes, growth.step_bytes) == (MIB, 9 * MIB, 4 * MIB)
    assert seen.book.shm.looked == growth.at
    assert grown(seen, 2 * MIB).book.shm.growths[FIRST] == growth
    assert restarted(seen).book.shm.growths == {}
    assert grown(restarted(seen), 3 * MIB).book.shm.growths[FIRST] == Growth(3 * MIB, 3 * MIB)


def test_the_peak_is_the_fullest_moment_of_looks_and_of_the_kernels_words() -> None:
    """A file system that filled and was emptied between two looks is told by events alone."""
    seen = serving(python_model("m")).shm().shm_changes(60 * MIB).shm_changes(2 * MIB).shm()
    ledger = seen.book.shm
    assert ledger.peak is not None
    assert ledger.peak.used_bytes == 60 * MIB
    assert ledger.level is not None
    assert ledger.level.used_bytes == MIB
    late = seen.having(now=START).shm_changes(63 * MIB)
    assert late.book.shm == ledger
    other = seen.shm_changes(MIB, size=128 * MIB)
    assert other.book.shm.peak is not None
    assert other.book.shm.peak.size_bytes == 128 * MIB


def test_how_full_it_is_counts_bytes_and_inodes() -> None:
    """Nine tenths of the bytes; or of the inodes, where few are left."""

    def nearly(used: int, **level: int) -> bool:
        told = World().shm_changes(used, **level).book.shm.level
        assert told is not None
        return told.nearly_full

    assert nearly(58 * MIB)
    assert not nearly(57 * MIB)
    assert nearly(MIB, inodes_free=10, inodes_total=1000)
    assert not nearly(MIB, inodes_free=101, inodes_total=1000)
    assert not nearly(MIB, inodes_free=9000, inodes_total=1_000_000)
    level = World().shm_changes(65 * MIB).book.shm.level
    assert level is not None
    assert level.free_bytes == 0


REGIONS = [FIRST, SECOND, "triton_python_backend_shm_region_102", LEFT, "input_data"]
STEP = st.one_of(
    st.tuples(st.just("live"), st.sets(st.sampled_from([100, 101, 102]))),
    st.tuples(st.just("list"), st.sets(st.sampled_from(REGIONS))),
    st.tuples(st.just("map"), st.sets(st.sampled_from(REGIONS))),
    st.tuples(st.just("wait"), st.integers(0, 100)),
    st.tuples(st.just("restart"), st.none()),
)


@given(st.lists(STEP, max_size=30))
def test_no_history_makes_an_orphan_of_what_a_live_stub_names_or_a_process_maps(
    steps: list[tuple[str, object]],
) -> None:
    """Whatever loads, exits, restarts and listings come between; a search brings what is true at its moment."""
    seen = World(server=server()).scans()
    mapped: frozenset[str] = frozenset()
    for number, (step, what) in enumerate(steps):
        if step == "live":
            pids = sorted(what) if isinstance(what, set) else []
            seen = seen.having(stubs=tuple(stub(each, "m_0_0") for each in pids)).scans()
        elif step == "map" and isinstance(what, set):
            mapped = frozenset(what)
        elif step == "list" and isinstance(what, set):
            before = seen.book.shm.suspects
            here = {each.arguments.shm_region for each in seen.stubs}
            seen = seen.shm(*(what - here), mapped=mapped)
            found = set(names(seen))
            assert not found & before & mapped
            assert found <= seen.book.shm.files.keys()
        elif step == "wait" and isinstance(what, int):
            seen = seen.later(what)
        elif step == "restart":
            seen = seen.having(server=server(pid=10 + number), stubs=()).scans()
            assert names(seen) == []
        named = {name for name, each in seen.book.shm.owners.items() if each.live}
        assert named == {each.arguments.shm_region for each in seen.stubs}
        assert not set(names(seen)) & named
        assert "input_data" not in names(seen)


def test_a_ledger_of_nothing_knows_nothing() -> None:
    """Unknown is no zero."""
    ledger = ShmLedger()
    assert (ledger.orphan_bytes, ledger.suspects, ledger.unsure) == (None, frozenset(), False)
