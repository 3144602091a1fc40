"""Is growth of tritonserver's memory laid to a model only where nothing else can have caused it?"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.facts.models import InstanceKind, ModelState, ModelVersion
from probe.facts.nvml import NvmlState
from probe.facts.placement import Verdict
from probe.ledgers.growth import Growth
from tests.insiders import CONTEXT, LOOK, POLL, Story, inside, onnx
from tests.worlds import MIB, entry, key, python_model, server, serving


def grown(story: Story, name: str = "x") -> Growth | None:
    """What is known of this model's present load."""
    return story.world.book.growth.of(story.world.record(name))


def mib(growth: Growth | None) -> dict[str, int]:
    """By GPU, in MiB."""
    assert growth is not None
    return {uuid: each // MIB for uuid, each in growth.memory.items()}


X, Y = onnx("x"), onnx("y")
SERVED = inside("m", "n")
"""A Triton that has served two models for a while."""


def test_what_one_load_made_it_grow_by_is_its_models() -> None:
    """On every GPU where it is more than a library takes."""
    two = SERVED.holds(a=0, b=0).goes(10).loads(X).holds(a=300, b=15).goes(20)
    found = grown(two)
    assert mib(found) == {"GPU-a": 300}
    assert found is not None
    assert (found.company, found.beside, found.pooled_bytes) == ((), False, 0)
    assert found.load == two.world.record("x").ready_since
    assert grown(two, "m") is None


def test_it_is_told_when_a_poll_after_the_look_found_nothing_else_coming() -> None:
    """Another might have been loading while the GPUs were looked at."""
    loaded = SERVED.loads(X).holds(a=300)
    polled = loaded.goes(2)
    assert polled.world.record("x").ready
    assert grown(polled) is None
    looked = loaded.goes(4)
    assert grown(looked) is None
    assert mib(grown(loaded.goes(7))) == {"GPU-a": 300}


def test_a_look_that_began_before_the_load_ended_is_no_look_after_it() -> None:
    """Its figure may be from before."""
    loaded = SERVED.loads(X).goes(2).holds(a=300)
    world = loaded.told()
    for asked, told in ((world.now, True), (world.now.shifted(-5.0), False)):
        looked = world.looks(*loaded.gpus({}), asked=asked).polls()
        assert (grown(loaded.but(looked)) is not None) == told


def test_no_load_that_was_there_before_the_first_look_is_told() -> None:
    """Triton's context and pool appear in the same time as its first models."""
    begun = inside("m").holds(a=300).goes(30)
    assert grown(begun, "m") is None
    assert begun.world.book.growth.grown == {}


def test_a_context_on_a_gpu_is_no_growth() -> None:
    """It was not there before: whatever it holds says nothing of the model."""
    found = grown(SERVED.loads(X).holds(b=300).goes(20))
    assert mib(found) == {}
    moved = msgspec.structs.replace(SERVED.loads(X), memory={"GPU-b": CONTEXT}).goes(20)
    assert grown(moved) is None


@pytest.mark.parametrize("apart", [0, 1, 4])
def test_models_that_are_loaded_in_the_same_time_are_told_together(apart: int) -> None:
    """Whose the growth is can not be told, in whatever order they came."""
    story = SERVED.loads(X).holds(a=300).goes(apart).loads(Y).holds(a=900).goes(30)
    for name, other in (("x", "y"), ("y", "x")):
        found = grown(story, name)
        assert mib(found) == {"GPU-a": 900}
        assert found is not None
        assert found.company == (key(other),)


def test_one_that_came_and_went_is_company_all_the_same() -> None:
    """What it took it may have left behind."""
    story = SERVED.loads(X, Y).holds(a=300).goes(1).unloads("y").goes(20)
    assert key("y") not in story.world.book.models.records
    found = grown(story)
    assert found is not None
    assert found.company == (key("y"),)
    assert key("y") not in story.world.book.growth.grown


def test_loads_one_after_the_other_are_told_apart() -> None:
    """Each by the look between them."""
    story = SERVED.loads(X).holds(a=300).goes(20).loads(Y).holds(a=900).goes(20)
    assert mib(grown(story, "x")) == {"GPU-a": 300}
    assert mib(grown(story, "y")) == {"GPU-a": 600}


def test_two_that_made_nothing_grow_are_not_told() -> None:
    """There is nothing to share."""
    story = SERVED.loads(X, Y).goes(20)
    assert (grown(story, "x"), grown(story, "y")) == (None, None)


def test_an_unload_in_the_same_time_makes_it_uncertain() -> None:
    """What the one gave back the other may have taken."""
    story = SERVED.unloads("m").loads(X).holds(a=300).goes(30)
    found = grown(story)
    assert found is not None
    assert found.company == (key("m"),)


def test_a_load_that_failed_beside_it_makes_it_uncertain() -> None:
    """It may have left memory behind; Triton names no version of it."""
    story = SERVED.loads(X).holds(a=300).goes(2)
    index = (entry("m", ModelState.READY), entry("y", ModelState.UNAVAILABLE, "no", ""))
    failed = story.but(story.world.asks(index=index)).goes(20)
    found = grown(failed)
    assert found is not None
    assert found.company == (ModelVersion("y", ""),)


def test_its_own_state_of_loading_is_no_company() -> None:
    """The index tells of it while it loads, first without a version."""
    loading = (entry("m", ModelState.READY), entry("x", ModelState.LOADING, version=""))
    story = SERVED.but(SERVED.world.asks(index=loading)).goes(5).holds(a=100).goes(5).holds(a=300)
    done = story.loads(X).goes(6)
    assert mib(grown(done.but(done.world.asks()).goes(20))) == {"GPU-a": 300}


def test_a_model_with_a_process_of_its_own_is_no_company() -> None:
    """A python model is known by its configuration, which is read after its load."""
    story = SERVED.loads(X, python_model("p")).holds(a=300).goes(20)
    assert mib(grown(story)) == {"GPU-a": 300}
    alone = SERVED.loads(python_model("p")).holds(a=300).goes(20)
    assert grown(alone, "p") is None
    assert alone.world.book.growth.episode is None


def test_others_that_executed_meanwhile_may_have_taken_it() -> None:
    """An arena grows with what it is asked for."""
    found = grown(SERVED.loads(X).holds(a=300).goes(20, {"m": 0.1}))
    assert found is not None
    assert found.beside
    just_before = SERVED.goes(4, {"m": 0.1}).loads(X).holds(a=300).goes(20)
    found = grown(just_before)
    assert found is not None
    assert found.beside


def test_its_own_first_executions_belong_to_its_load() -> None:
    """Some take memory with their first use; later, beside others, nothing can be told."""
    idle = SERVED.loads(X).goes(20)
    assert mib(grown(idle)) == {}
    used = idle.holds(a=200).goes(20, {"x": 0.1})
    assert mib(grown(used)) == {"GPU-a": 200}
    shared = idle.goes(10, {"m": 0.1}).holds(a=200).goes(20, {"x": 0.1})
    assert mib(grown(shared)) == {}


def test_a_load_with_no_look_before_or_after_it_is_not_told() -> None:
    """NVML has to answer, in ``full`` mode, on both sides."""
    assert grown(SERVED.loads(X).holds(a=300).goes(20, looking=False)) is None
    unseen = Story(serving(onnx("m"))).goes(20, looking=False)
    assert grown(unseen.loads(X).holds(a=300).goes(30)) is None


def test_looks_that_fail_are_waited_for() -> None:
    """The look before stands, as long as nothing else comes."""
    hung = SERVED.but(SERVED.world.looks(state=NvmlState.HUNG))
    loaded = hung.loads(X).holds(a=300).goes(10, looking=False)
    assert grown(loaded) is None
    assert mib(grown(loaded.goes(10))) == {"GPU-a": 300}
    beside = grown(hung.loads(X).holds(a=300).goes(10, {"m": 0.1}, looking=False).goes(10))
    assert beside is not None
    assert beside.beside


def test_a_reload_subtracts_what_it_gave_back() -> None:
    """What the load before held is in the look before."""
    first = SERVED.loads(X).holds(a=300).goes(20, {"x": 0.5})
    assert mib(grown(first)) == {"GPU-a": 300}
    same = first.loads(X).goes(20, {"x": 0.1})
    assert same.world.record("x").reloads == 1
    assert mib(grown(same)) == {"GPU-a": 300}
    larger = first.loads(X).holds(a=700).goes(20, {"x": 0.1})
    assert mib(grown(larger)) == {"GPU-a": 700}
    moved = first.loads(X).holds(a=0).goes(20, {"x": 0.1})
    assert grown(moved) is None


def test_of_a_reload_whose_first_load_nobody_saw_only_more_is_told() -> None:
    """As much as before may be anything."""
    used = SERVED.goes(20, {"m": 0.5})
    assert grown(used.loads(onnx("m")).goes(20, {"m": 0.1}), "m") is None
    assert mib(grown(used.loads(onnx("m")).holds(a=100).goes(20, {"m": 0.1}), "m")) == {"GPU-a": 100}


def test_a_reload_after_one_that_was_uncertain_counts_from_nothing() -> None:
    """What two had together is neither's."""
    both = SERVED.loads(X, Y).holds(a=300).goes(20, {"x": 0.5})
    assert grown(both.loads(X).goes(20, {"x": 0.1})) is None


def test_what_an_unload_leaves_behind_is_remembered() -> None:
    """A framework's pool serves the next model, which then makes nothing grow."""
    held = SERVED.loads(X).holds(a=300).goes(20)
    kept = held.unloads("x").holds(a=250).goes(20)
    assert kept.world.book.growth.pools == {"GPU-a": 250 * MIB}
    assert kept.world.book.growth.grown == {}
    later = grown(kept.loads(Y).goes(20), "y")
    assert later is not None
    assert (later.memory, later.pooled_bytes) == ({}, 250 * MIB)
    gone = held.unloads("x").holds(a=0).goes(20)
    assert gone.world.book.growth.pools == {"GPU-a": 0}


def test_an_unload_of_what_was_not_told_leaves_nothing_known() -> None:
    """How much of it stayed can not be said."""
    assert SERVED.unloads("m").goes(20).world.book.growth.pools == {}


def test_with_another_tritonserver_everything_is_forgotten() -> None:
    """Its memory is another's."""
    story = SERVED.loads(X).holds(a=300).goes(20)
    assert story.world.book.growth.grown
    new = story.world.having(server=server(start=99)).scans()
    assert new.book.growth.grown == {}
    assert new.book.growth.base is None


def test_what_is_known_of_one_load_is_not_told_of_the_next() -> None:
    """Another moment of becoming ready is another load, before the growth of that one is known."""
    story = SERVED.loads(X).holds(a=300).goes(20)
    again = story.unloads("x").goes(6).loads(X).goes(5)
    assert again.world.record("x").ready
    assert grown(again) is None


def test_a_look_while_triton_was_being_polled_waits_for_the_next_poll() -> None:
    """What the poll told may be older than the look."""
    polled = SERVED.loads(X).goes(2).holds(a=300)
    world = polled.told().looks(*polled.gpus({}))
    began = msgspec.structs.replace(world, now=world.now.shifted(-1.5)).polls(answered=world.now)
    assert grown(polled.but(began)) is None
    assert mib(grown(polled.but(began.later(2.0).polls()))) == {"GPU-a": 300}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["x", "y", "m"]),
        st.sampled_from(["loads", "unloads", "both", "waits"]),
        st.integers(0, 500),
        st.integers(0, 12),
    ),
    max_size=6,
)


@given(steps=STEPS)
def test_growth_is_one_models_only_where_no_other_came_or_went_since_a_look(
    steps: list[tuple[str, str, int, int]],
) -> None:
    """Whatever is loaded and unloaded when: of two that changed within a look, neither is told alone."""
    story = SERVED
    changes: list[tuple[int, str]] = []

    def changed(*names: str) -> None:
        for name in names:
            last = max((second for second, each in changes if each == name), default=-1)
            if last >= 0 and not any(each % POLL == 1 for each in range(last + 1, story.second + 1)):
                # Back as it was before any poll: nobody saw it.
                changes.remove((last, name))
            else:
                changes.append((story.second, name))

    for name, what, held, seconds in steps:
        present = {each.key.name for each in story.world.configs}
        if what == "unloads" and name in present:
            changed(name)
            story = story.unloads(name)
        elif what in ("loads", "both"):
            new = {name} if what == "loads" else {"x", "y"}
            changed(*new - present)
            story = story.loads(*(onnx(each) for each in new - present))
        story = story.holds(a=held).goes(seconds)
    story = story.goes(12)
    for record in story.world.book.models.records.values():
        growth = story.world.book.growth.of(record)
        if growth is None or growth.company or not growth.memory:
            continue
        loaded = max(second for second, name in changes if name == record.key.name)
        for second, name in changes:
            between = range(min(second, loaded) + 1, max(second, loaded) + 1)
            assert name == record.key.name or any(each % LOOK == 3 for each in between)


def test_models_that_triton_resolved_to_the_cpu_take_part_as_all_others() -> None:
    """A backend's word is no proof that its load takes no memory."""
    story = SERVED.loads(X, onnx("c", InstanceKind.CPU)).holds(a=300).goes(20)
    found = grown(story)
    assert found is not None
    assert found.company == (key("c"),)
    assert story.verdict("x") is Verdict.UNKNOWN
