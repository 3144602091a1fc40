"""What holds of every history: noise moves nothing, counters never fall, every claim can be told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from probe.facts.catalogue import CATALOGUE
from probe.facts.models import ModelVersion
from tests.histories import HISTORY, NOISES, History, disturbed, happens, started
from tests.worlds import World

ABSENCE = ("CpuFallback", "GpuNotUsed")


def told(seen: World) -> frozenset[tuple[object, ...]]:
    """What is claimed, but for the state of NVML and of gRPC's thread, which such looks rightly tell."""
    own = ("Nvml", "ControlPlaneBlocked")
    return frozenset(each for each in seen.told() if not str(each[0]).startswith(own))


@given(events=HISTORY, noises=st.lists(NOISES, min_size=41, max_size=41), visible=st.booleans())
def test_looks_that_bring_nothing_neither_raise_nor_clear(
    events: list[tuple[str, int]], noises: list[list[str]], *, visible: bool
) -> None:
    """The same claims and the same epoch after every event, with and without them."""
    quiet = noisy = started(visible=visible)
    for (event, which), between in zip(events, noises, strict=False):
        noisy = disturbed(noisy, between)
        quiet, noisy = happens(quiet, event, which), happens(noisy, event, which)
        assert told(noisy.world) == told(quiet.world)
        after = disturbed(noisy, between)
        assert told(after.world) == told(quiet.world)
        assert after.world.book.server.epoch == quiet.world.book.server.epoch


def counters(now: History) -> dict[object, int]:
    """Everything that is only ever counted up."""
    book = now.world.book
    traffic = {**book.models.past, **{key: each.traffic for key, each in book.models.records.items()}}
    exits: dict[object, int] = {named: count for named, count in book.stubs.exits.items()}  # noqa: C416  (widens)
    return {
        **exits,
        **{(key, "success"): each.success for key, each in traffic.items()},
        **{(key, "failure"): each.failure for key, each in traffic.items()},
        "epoch": book.server.epoch,
    }


@given(events=HISTORY, visible=st.booleans())
def test_counters_never_fall(events: list[tuple[str, int]], *, visible: bool) -> None:
    """Traffic and exits go on over reloads and epochs."""
    now = started(visible=visible)
    for event, which in events:
        before = counters(now)
        now = happens(now, event, which)
        after = counters(now)
        assert all(after.get(name, 0) >= value for name, value in before.items())


@given(events=HISTORY, visible=st.booleans())
def test_every_claim_can_be_told(events: list[tuple[str, int]], *, visible: bool) -> None:
    """Of the catalogue, once for each subject, with a message and a remedy; never of the future."""
    now = started(visible=visible)
    for event, which in events:
        now = happens(now, event, which)
        for claim in now.world.claims():
            assert claim.reason in CATALOGUE
            assert claim.message.strip()
            assert claim.remedy.strip()
            assert claim.observed.mono <= now.world.now.mono
            # Instances of one name on two GPUs share a subject; everything else is claimed once.
        subjects = [(each.reason, each.subject) for each in now.world.claims() if each.subject.model != "b"]
        assert len(subjects) == len(set(subjects))


@given(events=HISTORY, visible=st.booleans())
def test_absence_is_concluded_only_where_lists_prove_it(
    events: list[tuple[str, int]], *, visible: bool
) -> None:
    """In blind, foreign_pids and no_nvml nothing is said to be not on the GPU from a list."""
    now = started(visible=visible)
    for event, which in events:
        now = happens(now, event, which)
        seen = now.world
        claimed = [claim for claim in seen.claims() if claim.reason in ABSENCE]
        if not seen.book.evidence.evidence.lists_prove_absence:
            assert all(
                claim.evidence["declared"] == "cpu" for claim in claimed if "declared" in claim.evidence
            )
            assert "GpuNotUsed" not in {claim.reason for claim in claimed}


@given(events=HISTORY)
def test_an_unload_or_a_reload_alone_is_never_a_death(events: list[tuple[str, int]]) -> None:
    """Without a stub that ended by itself there is no StubDead.

    A scan that finds stubs gone is followed by a poll, as the engine does it: a load that is complete
    between the two would leave nothing by which to tell it.
    """
    now = started(visible=True)
    for event, which in events:
        if event in ("stub exits", "stub vanishes", "exit"):
            continue
        now = happens(now, event, which)
        if event == "scan":
            now = happens(now, "poll", 0)
        assert "StubDead" not in now.world.reasons()


@given(events=HISTORY, which=st.integers(0, 11))
def test_a_new_epoch_drops_every_verdict_about_the_old_server(
    events: list[tuple[str, int]], which: int
) -> None:
    """What is said right after a restart is only that it is starting."""
    now = started(visible=True)
    for event, number in events:
        now = happens(now, event, number)
    before = now.world.book.server.epoch
    now = happens(happens(now, "restart", which), "scan", 0)
    assert now.world.book.server.epoch == before + 1
    of_triton = {
        each.reason
        for each in now.world.claims()
        if each.subject.kind.value in ("server", "model", "instance")
    }
    assert of_triton <= {"TritonStarting", "Initializing"}
    assert not now.world.book.models.records


def test_the_histories_are_worth_reading() -> None:
    """A property over histories that never say anything would prove nothing."""
    now = started(visible=True)
    assert {each.key.name for each in now.world.book.models.records.values()} == {"a", "b", "c", "e", "o"}
    assert ModelVersion("c", "2") in now.world.book.models.records
    for event, which in (("stub exits", 1), ("stub stops", 1), ("fail", 3), ("traffic", 0)):
        now = happens(now, event, which)
    for event in ("poll", "ask", "scan", "look"):
        now = happens(now, event, 1)
    assert set(now.world.reasons()) >= {"StubDead", "StubFrozen", "ModelLoadFailed", "EnsembleStepUnready"}
    for event in ("queue", "queue", "errors", "errors"):
        now = happens(now, event, 4)
        if event == "queue":
            queued = now.world.reasons()
    assert "ModelStalled" in queued
    assert "ModelFailing" in now.world.reasons()
