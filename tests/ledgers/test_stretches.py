"""Is it known from poll to poll which models inside tritonserver executed, came or went?"""

from __future__ import annotations

from probe.facts.models import InstanceKind, ModelState, ModelVersion
from probe.ledgers.stretches import Stretch
from tests.insiders import onnx
from tests.worlds import World, config, ensemble, entry, group, key, python_model, row, server, serving, stub

GPU = InstanceKind.GPU


def last(world: World) -> Stretch:
    """What the last poll told."""
    return world.book.exertion.stretches[-1]


def names(keys: tuple[ModelVersion, ...]) -> list[str]:
    """Without versions."""
    return [each.name for each in keys]


def test_the_first_poll_tells_of_no_stretch() -> None:
    """There is no poll before it; one without statistics is none either."""
    first = serving(onnx("m"))
    assert first.book.exertion.stretches == ()
    assert first.polls(statistics=None).book.exertion.stretches == ()
    assert len(first.polls(statistics=None).polls().book.exertion.stretches) == 1


def test_it_lasts_from_the_beginning_of_one_poll_to_the_end_of_the_next() -> None:
    """What the counters show happened in between."""
    seen = serving(onnx("m"))
    began = seen.book.models.statistics_at
    told = last(seen.polls(answered=seen.now.shifted(0.4)))
    assert (told.began, told.polled, told.ended) == (began, seen.now, seen.now.shifted(0.4))
    assert (told.clear, told.solo) == (True, None)


def test_who_executed_is_named_with_the_time_of_its_executions() -> None:
    """Each counted once, however many requests it served; a failure is something that was done too."""
    seen = serving(onnx("m"), onnx("n")).with_row(row("m", success=4, batch_ns=3 * 10**9)).polls()
    move = last(seen).solo
    assert move is not None
    assert (move.key, move.executions, move.seconds) == (key("m"), 4, 3.0)
    failed = seen.with_row(row("n", failure=1)).polls()
    assert names(tuple(each.key for each in last(failed).moved)) == ["n"]
    both = failed.with_row(row("m", success=5, batch_ns=3 * 10**9), row("n", failure=2)).polls()
    assert last(both).still
    assert not last(both).clear
    assert last(both).solo is None


def test_models_with_processes_of_their_own_and_ensembles_are_not_inside() -> None:
    """A python model before its stub is seen, a backend that is written in python, an ensemble."""
    llm = config("llm", group("llm_0", GPU), backend="vllm")
    seen = serving(python_model("p"), llm, ensemble("e", "p"), first_pid=50)
    seen = seen.with_stub(stub(70, "llm_0_0", runtime="/b/vllm")).scans()
    done = seen.with_row(*(row(name, success=3) for name in ("p", "llm", "e"))).polls()
    assert last(done).moved == ()
    again = done.with_row(row("p"), row("llm"), row("e")).polls()
    assert last(again).still
    assert last(again.without_model("p", "llm", "e").polls()).still


def test_one_whose_configuration_is_not_read_may_be_inside() -> None:
    """It is read after the load."""
    bare = World(server=server(), rows=(row("m"),)).scans().polls().polls()
    assert last(bare.with_row(row("m", success=1)).polls()).solo is not None


def test_what_came_went_or_was_loaded_anew_is_named() -> None:
    """Counters that fall tell of a reload, which is both."""
    seen = serving(onnx("m"), onnx("n"))
    come = seen.with_row(row("x", success=2)).polls()
    assert (names(last(come).loaded), names(last(come).left), last(come).moved) == (["x"], [], ())
    gone = come.having(rows=come.rows[:2]).polls()
    assert (names(last(gone).left), names(last(gone).stirring)) == (["x"], ["x"])
    again = seen.with_row(row("m", success=9)).polls().with_row(row("m", success=1)).polls()
    assert (names(last(again).loaded), names(last(again).left)) == (["m"], ["m"])
    assert not last(again).still
    back = gone.asks().with_row(row("x")).polls()
    assert (names(last(back).loaded), names(last(back).left)) == (["x"], [])


def test_what_loads_or_failed_to_is_stirring() -> None:
    """Also where it never comes to serve; a failure of long ago is quiet."""
    seen = serving(onnx("m"))
    loading = seen.asks(index=(entry("m", ModelState.READY), entry("x", ModelState.LOADING))).polls()
    assert (names(last(loading).stirring), last(loading).quiet) == (["x"], False)
    failed = loading.asks(index=(entry("m", ModelState.READY), entry("x", ModelState.UNAVAILABLE, "no")))
    assert names(last(failed.polls()).stirring) == ["x"]
    assert last(failed.polls().polls()).still


def test_a_server_that_is_not_ready_may_be_loading() -> None:
    """Unless the index was read since the last poll and names nothing that loads."""
    seen = serving(onnx("m")).polls()
    assert last(seen.polls(ready=True)).quiet
    assert not last(seen.polls(ready=False)).quiet
    assert not last(seen.polls(ready=None)).quiet
    assert last(seen.asks().polls(ready=False)).quiet
