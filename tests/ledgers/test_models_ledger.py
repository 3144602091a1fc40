"""What is known of models over polls and inquiries, and do their counters go on over reloads?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.facts.models import ModelState, ModelStatistics, ModelVersion
from probe.facts.triton import Failure
from probe.ledgers import models as ledger
from probe.ledgers.models import ModelsLedger, Traffic
from tests.worlds import (
    START,
    World,
    config,
    entry,
    failing,
    key,
    python_model,
    row,
    serving,
)

M = python_model("m")


def up(*configs: object) -> World:
    """A Triton whose processes can not be seen, so that only its words count."""
    return serving(*configs, server=None)  # type: ignore[arg-type]


def states(seen: World) -> dict[str, str]:
    """Every version and its state."""
    return {str(found): each.state.value for found, each in seen.book.models.records.items()}


def test_statistics_name_what_is_ready() -> None:
    """A row is a ready version; one that is missing has left, why nobody has told."""
    seen = up(M, python_model("n"))
    assert states(seen) == {"m/1": "ready", "n/1": "ready"}
    assert seen.book.models.vanished == ()
    left = seen.without_model("m").polls()
    assert states(left) == {"m/1": "unknown", "n/1": "ready"}
    assert left.book.models.vanished == (key("m"),)
    assert not left.record("m").ready
    assert (left.record("m").statistics, left.record("m").ready_since) == (None, None)
    assert [each.key for each in left.book.models.named("m")] == [key("m")]


def test_a_poll_without_statistics_teaches_and_forgets_nothing() -> None:
    """A missing sample is no sample."""
    seen = up(M)
    assert seen.polls(statistics=None).book.models == seen.book.models


def test_a_poll_that_is_older_than_the_last_is_not_folded() -> None:
    """Answers may overtake each other."""
    seen = up(M).polls()
    assert seen.later(-3).with_row(row("old")).polls().book.models == seen.book.models


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        (ModelState.LOADING, "", "loading"),
        (ModelState.UNLOADING, "", "unloading"),
        (ModelState.UNAVAILABLE, "unloaded", "unavailable"),
        (ModelState.UNAVAILABLE, "Internal: x", "unavailable"),
        (ModelState.UNKNOWN, "", "unknown"),
    ],
)
def test_the_index_tells_why_a_version_left(state: ModelState, reason: str, expected: str) -> None:
    """Its state and reason are Triton's own, and last since they were first told."""
    seen = up(M).without_model("m").polls()
    told = seen.asks(index=(entry("m", state, reason),))
    assert states(told) == {"m/1": expected}
    assert told.record("m").reason == reason
    again = told.asks(index=(entry("m", state, reason),))
    assert again.record("m").since == told.record("m").since
    other = again.asks(index=(entry("m", state, "another"),))
    assert other.record("m").since == again.now
    assert again.book.models.index_at == again.book.models.asked


def test_the_index_never_outranks_statistics() -> None:
    """Ready by the last poll stays so until a poll says otherwise, and "ready" alone makes nothing ready."""
    seen = up(M).asks(index=(entry("m", ModelState.UNLOADING), entry("n", ModelState.READY)))
    assert states(seen) == {"m/1": "ready"}
    left = seen.without_model("m").polls().asks(index=(entry("m", ModelState.READY),))
    assert states(left) == {"m/1": "unknown"}


def test_what_the_index_no_longer_lists_is_forgotten_unless_it_is_ready() -> None:
    """A loaded model whose folder vanished leaves the index and still serves."""
    seen = up(M, python_model("n")).without_model("n").polls().asks(index=())
    assert states(seen) == {"m/1": "ready"}
    assert seen.book.models.known == {"m"}


def test_a_model_of_the_repository_that_was_never_loaded_is_known_and_has_no_record() -> None:
    """The index names its folder without a state."""
    seen = up(M).asks(index=(entry("m", ModelState.READY), entry("idle", ModelState.UNKNOWN, version="")))
    assert states(seen) == {"m/1": "ready"}
    assert seen.book.models.known == {"m", "idle"}


def test_a_failed_load_is_known_from_the_index_alone() -> None:
    """It never was in the statistics."""
    seen = up().asks(index=(entry("bad", ModelState.UNAVAILABLE, "Internal: no"),))
    assert states(seen) == {"bad/1": "unavailable"}
    assert seen.record("bad").since == seen.book.models.index_at


def test_answers_about_unknown_versions_are_no_records() -> None:
    """They left while Triton was asked."""
    seen = up(M).asks(configs=(config("gone"),), readiness=((key("gone"), False), (key("m"), False)))
    assert states(seen) == {"m/1": "ready"}
    assert seen.record("m").told_ready is False
    assert seen.record("m").config == M


def test_a_configuration_is_as_it_is_since_it_changed() -> None:
    """Reading it again moves only when it was read."""
    seen = up(M)
    began = seen.record("m").config_at
    again = seen.asks()
    assert again.record("m").config_since == began
    assert again.record("m").config_at == seen.now
    other = again.with_config(python_model("m", 2)).asks()
    assert other.record("m").config_since == other.record("m").config_at == again.now


def test_readiness_is_forgotten_with_the_load_and_the_configuration_is_kept() -> None:
    """It said something of that load; the configuration is asked anew for the next."""
    seen = up(M).asks(readiness=((key("m"), False),)).without_model("m").polls()
    assert seen.record("m").told_ready is None
    assert seen.record("m").config == M


def test_a_version_that_triton_denies_is_ready_no_more() -> None:
    """Asked about one model between two polls, it did not list the version."""
    models = up(M).book.models
    denied = models.without(key("m"), START.shifted(50))
    assert denied.records[key("m")].state is ModelState.UNKNOWN
    assert denied.records[key("m")].since == START.shifted(50)
    assert denied.without(key("m"), START) is denied
    assert models.without(key("x"), START) is models
    # A poll that began later has it ready: what was said before is of an earlier load.
    assert models.without(key("m"), START) is models


def test_ready_since_and_exercised_since_are_of_the_present_load() -> None:
    """When the poll that first showed it ended; a reload starts them anew, going on does not."""
    seen = World(rows=(row("m"),)).polls(answered=START.shifted(0.5))
    assert seen.record("m").ready_since == START.shifted(0.5)
    assert seen.record("m").exercised_since is None
    used = seen.with_row(row("m", success=3)).polls()
    first = used.record("m").exercised_since
    assert first == START.shifted(1)
    assert used.with_row(row("m", success=9)).polls().record("m").exercised_since == first
    assert used.record("m").ready_since == START.shifted(0.5)
    again = used.with_row(row("m", success=1)).polls()
    assert again.record("m").reloads == 1
    assert again.record("m").ready_since == again.record("m").exercised_since == START.shifted(2)
    assert again.with_row(row("m")).polls().record("m").exercised_since is None


def test_pending_requests_are_those_of_the_last_poll() -> None:
    """None where Triton's metrics do not tell."""
    seen = up(M)
    assert seen.record("m").pending is None
    assert seen.polls(pending=((key("m"), 4), (key("x"), 1))).record("m").pending == 4
    assert seen.polls(pending=((key("x"), 1),)).record("m").pending is None


def test_compute_time_is_of_the_last_look_that_saw_an_inference() -> None:
    """Not the mean since the load, and it stands while nothing is inferred."""
    seen = up(M).with_row(row("m", success=10, compute_ns=10_000_000)).polls()
    assert seen.record("m").traffic.compute_seconds_per_inference == pytest.approx(0.001)
    slower = seen.with_row(row("m", success=12, compute_ns=50_000_000)).polls()
    assert slower.record("m").traffic.compute_seconds_per_inference == pytest.approx(0.02)
    assert slower.polls().record("m").traffic == slower.record("m").traffic
    first = World(rows=(row("m", success=4),)).polls().record("m")
    assert first.traffic.compute_seconds_per_inference == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (row("m", success=1, last=START.wall - 5), -5),
        (row("m", success=1, last=0.0), 3),
        # Triton's last inference moves with failures too.
        (row("m", success=1, failure=1, last=START.wall - 5), 3),
        (row("m", failure=1, last=START.wall - 5), None),
        (row("m", last=START.wall - 5), None),
    ],
)
def test_the_last_success_is_tritons_moment_where_it_can_be_no_failures(
    after: ModelStatistics, expected: float | None
) -> None:
    """Else the poll's that saw the rise; without a rise there is none."""
    seen = up(M)
    assert seen.record("m").traffic.last_success_wall is None
    told = seen.with_row(after).later(-1).polls().record("m").traffic.last_success_wall
    assert told == (None if expected is None else pytest.approx(START.wall + expected))


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("index", {"index": ()}),
        ("config m", {"configs": (M,)}),
        ("ready m", {"readiness": ((key("m"), True),)}),
    ],
)
def test_a_restricted_call_is_remembered_until_it_is_answered(call: str, answer: dict[str, object]) -> None:
    """A header missing for one call is not mended by the answer to another."""
    refused = failing(call, Failure.RESTRICTED)
    seen = up(M).asks(configs=(), index=None, failures=(refused, failing("config x", Failure.TIMEOUT)))
    assert seen.book.models.restricted == {call.split(" ", maxsplit=1)[0]: refused}
    assert seen.asks(configs=(), index=None).book.models.restricted == seen.book.models.restricted
    told: dict[str, object] = {"configs": (), "index": None, **answer}
    assert seen.asks(**told).book.models.restricted == {}


# Traffic over reloads


class Counters:
    """Triton's own counters of one version: they rise, and start again at a reload."""

    def __init__(self) -> None:
        self.success = self.failure = self.all_success = self.all_failure = 0

    def serve(self, success: int, failure: int) -> None:
        """Requests are answered."""
        self.success += success
        self.failure += failure
        self.all_success += success
        self.all_failure += failure

    def reload(self) -> None:
        """The load ends and the next begins."""
        self.success = self.failure = 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("serve"), st.integers(0, 20), st.integers(0, 5)),
        st.tuples(st.sampled_from(["reload", "poll", "unload", "forget", "epoch", "index"])),
    ),
    max_size=40,
)


@given(STEPS)
def test_traffic_never_falls_and_misses_nothing_that_two_polls_can_tell(
    steps: list[tuple[object, ...]],
) -> None:
    """Totals go on over reloads, unloads and epochs; each step is polled, so that none is lost."""
    triton, models, moment = Counters(), ModelsLedger(), START
    before = (0, 0)
    loaded = True
    for step in steps:
        moment = moment.shifted(1)
        if step[0] == "serve" and loaded:
            triton.serve(int(str(step[1])), int(str(step[2])))
        elif step[0] == "reload":
            triton.reload()
            loaded = True
            # That the old load ended is told by its absence, as after an unload.
            models = polled(models, moment.shifted(-0.5), None)
        elif step[0] == "unload":
            triton.reload()
            loaded = False
        elif step[0] == "epoch":
            triton.reload()
            models = models.forgotten()
        elif step[0] == "index":
            models = indexed(models, moment.shifted(-0.5), loaded=loaded)
        models = polled(models, moment, triton if loaded else None)
        after = total(models)
        assert after >= before
        assert after[0] >= before[0]
        assert after[1] >= before[1]
        before = after
    assert before == (triton.all_success, triton.all_failure)


def polled(models: ModelsLedger, moment: object, triton: Counters | None) -> ModelsLedger:
    """After a poll that tells of these counters, or of nothing loaded."""
    rows = () if triton is None else (row("m", success=triton.success, failure=triton.failure),)
    return World(now=moment, rows=rows).polls_into(models)  # type: ignore[arg-type]


def indexed(models: ModelsLedger, moment: object, *, loaded: bool) -> ModelsLedger:
    """After the index told what there is."""
    entries = (entry("m", ModelState.READY),) if loaded else ()
    return World(now=moment).asks_into(models, index=entries)  # type: ignore[arg-type]


def total(models: ModelsLedger) -> tuple[int, int]:
    """Success and failure of the one version, here or remembered."""
    record = models.records.get(key("m"))
    traffic = record.traffic if record is not None else models.past.get(key("m"), Traffic())
    return traffic.success, traffic.failure


def test_a_reload_between_two_polls_is_told_by_any_counter_that_fell() -> None:
    """Also by one that success does not show: failures alone, or time."""
    seen = up(M).with_row(row("m", success=5, failure=5, compute_ns=100)).polls()
    for after in (
        row("m", success=5, failure=4, compute_ns=100),
        row("m", success=5, failure=5, compute_ns=99),
        row("m", success=5, failure=5, executions=4, compute_ns=100),
    ):
        again = seen.with_row(after).polls().record("m")
        assert again.reloads == 1
        assert again.traffic.success == 10


def test_memory_of_the_past_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions come and go for ever; the oldest are forgotten, and those without traffic at once."""
    monkeypatch.setattr(ledger, "PAST_AT_MOST", 2)
    models = ModelsLedger()
    for version in ("1", "2", "3"):
        models = World(rows=(row("m", version, success=1), row("idle", version))).polls_into(models)
        models = models.forgotten()
    assert set(models.past) == {ModelVersion("m", "2"), ModelVersion("m", "3")}
