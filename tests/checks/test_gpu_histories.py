"""What holds of every history of GPUs: live is never failed, another's GPU fails nothing, what recovers ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from probe.checks import gpu_condition, gpu_memory, gpus, xids
from probe.facts.catalogue import CATALOGUE
from probe.facts.findings import Claim, SubjectKind
from probe.facts.gates import Gate
from probe.facts.models import InstanceKind
from probe.facts.nvml import Gpu, NvmlState
from probe.facts.xids import KNOWN, XidClass, meaning
from tests.worlds import GIB, SERVER_PID, World, gpu, python_model, server, serving, stubs_of

ON_GPU = python_model("m", 2, InstanceKind.GPU, (0,))
UUIDS = ("GPU-a", "GPU-b")
"""GPU-a is this Triton's by its node, GPU-b is not; where nodes can not be read, either may be."""
DAY = 86_400.0

_TOLD = st.fixed_dictionaries(
    {
        "error": st.sampled_from([None, None, None, "GPU_IS_LOST", "RESET_REQUIRED", "TIMEOUT"]),
        "recovery_action": st.sampled_from([None, "none", "none", "gpu_reset", "drain_p2p", "action_9"]),
        "ecc_uncorrected": st.sampled_from([None, 0, 1, 2]),
        "rows_failed": st.sampled_from([None, False, True]),
        "clock_reasons": st.sampled_from([None, (), ("hw_thermal",)]),
        "memory_used_bytes": st.sampled_from([None, 2 * GIB, 99 * GIB]),
    }
)
_LISTS: st.SearchStrategy[dict[int, int | None] | None] = st.sampled_from(
    [None, {}, {SERVER_PID: GIB}, {SERVER_PID: GIB, 100: GIB}, {SERVER_PID: GIB, 7: GIB}]
)


def shown(uuid: str, processes: dict[int, int | None] | None = None, **told: Any) -> Gpu:  # noqa: ANN401
    """One of the two; ours alone holds our processes."""
    listed = processes if uuid == "GPU-a" else {}
    return gpu(uuid, listed, minor=UUIDS.index(uuid), memory_total_bytes=100 * GIB, **told)


def _look(a: dict[str, Any], b: dict[str, Any], processes: dict[int, int | None] | None) -> Event:
    return lambda world: world.looks(shown("GPU-a", processes, **a), shown("GPU-b", **b)).scans(
        existing=(7, SERVER_PID, 100, 101)
    )


def _exits(pid: int, signal: int) -> Event:
    def happens(world: World) -> World:
        here = {each.process.id.pid for each in world.stubs}
        return world.exits(pid, signal=signal) if pid in here else world

    return happens


def _restarts(world: World) -> World:
    pid = world.server.process.id.pid + 1000 if world.server is not None else SERVER_PID
    minors = world.server.gpu_minors if world.server is not None else None
    begun = world.having(server=server(pid=pid, minors=minors), stubs=tuple(stubs_of([ON_GPU], pid + 1)))
    return begun.scans().polls().asks().scans()


Event = Callable[[World], World]
LOOK = st.builds(_look, _TOLD, _TOLD, _LISTS)
SILENT = st.sampled_from([NvmlState.HUNG, NvmlState.ERROR, NvmlState.UNKNOWN_ERROR]).map(
    lambda state: lambda world: world.looks(state=state, patience=1e9)
)
TIME = st.sampled_from([1.0, 30.0, 61.0, 700.0, 4000.0]).map(
    lambda seconds: lambda world: world.later(seconds)
)
DEATH = st.builds(_exits, st.sampled_from([100, 101]), st.sampled_from([6, 9, 11]))
RESTART = st.just(_restarts)


def xid(codes: Iterable[int], *uuids: str) -> st.SearchStrategy[Event]:
    """The driver reports one of these on one of these GPUs."""
    told = st.tuples(st.sampled_from(sorted(codes)), st.sampled_from(uuids))
    return told.map(lambda each: lambda world: world.xid(*each))


ANY_XID = xid({*KNOWN, 4711}, *UUIDS)
ANYTHING = st.lists(LOOK | LOOK | ANY_XID | SILENT | TIME | DEATH | RESTART, max_size=25)
HARMLESS = {code for code in KNOWN if not meaning(code).kind.hardware} | {4711}


def begun(*, readable: bool) -> World:
    """A Triton with a model on GPU-a, whose root can be read or not."""
    return serving(ON_GPU, server=server(minors=(0,) if readable else None))


def played(events: Iterable[Event], *, readable: bool = True) -> World:
    """The world after these."""
    world = begun(readable=readable)
    for event in events:
        world = event(world)
    return world


def claims(world: World) -> list[Claim]:
    """What is said of GPUs."""
    judges = (gpus.judge, xids.judge, gpu_condition.judge, gpu_memory.judge)
    return [claim for judge in judges for claim in world.claims(judge)]


def failed(claim: Claim) -> set[Gate]:
    """The gates that it fails, sooner or later."""
    return {gate for gate, _ in CATALOGUE[claim.reason].fails} - claim.spares


@given(events=ANYTHING, readable=st.booleans())
def test_nothing_of_a_gpu_ever_fails_live(events: list[Event], *, readable: bool) -> None:
    """Nor startup: no restart cures a GPU."""
    for claim in claims(played(events, readable=readable)):
        assert failed(claim) <= {Gate.READY}


@given(events=ANYTHING)
def test_trouble_with_another_s_gpu_fails_nothing(events: list[Event]) -> None:
    """Whatever happened to it."""
    for claim in claims(played(events)):
        if claim.subject.gpu_uuid != "GPU-a":
            assert failed(claim) == set()


@given(events=ANYTHING)
def test_trouble_with_a_gpu_that_may_be_ours_fails_nothing_until_it_shows(events: list[Event]) -> None:
    """Only a process of ours on it makes it ours where nodes can not be read, and no list shows one on GPU-b."""
    world = played(events, readable=False)
    several = len(world.book.gpus.records) > 1
    for claim in claims(world):
        if several and not world.book.gpus.records[claim.subject.gpu_uuid].ours:
            assert failed(claim) == set()


@given(
    events=st.lists(xid(HARMLESS, *UUIDS) | DEATH | TIME | SILENT | RESTART, max_size=25),
    readable=st.booleans(),
)
def test_no_xids_of_programs_ever_fail_a_gate(events: list[Event], *, readable: bool) -> None:
    """Nor those that follow others, nor those that nobody knows, whatever of ours breaks around them."""
    for claim in claims(played(events, readable=readable)):
        assert failed(claim) == set()


@given(
    events=st.lists(
        xid({code for code, each in KNOWN.items() if each.kind is not XidClass.INFORMATIONAL}, "GPU-a")
        | TIME,
        max_size=25,
    )
)
def test_no_xid_on_a_shared_gpu_fails_a_gate_without_evidence_of_our_own(events: list[Event]) -> None:
    """Another tenant is on it, the driver asks for nothing, and nothing of ours breaks."""
    told = shown("GPU-a", {SERVER_PID: GIB, 7: GIB}, recovery_action="none")
    world = begun(readable=True).looks(told)
    for event in events:
        world = event(world)
        assert all(failed(claim) == set() for claim in claims(world))
        world = world.scans(existing=(7, SERVER_PID)).looks(told)


@given(events=ANYTHING, readable=st.booleans())
def test_a_gpu_that_recovers_clears_everything_in_the_end(events: list[Event], *, readable: bool) -> None:
    """It answers, asks for nothing and errs no more; at the latest after a day nothing is left to say."""
    world = played(events, readable=readable)
    well: dict[str, Any] = {
        "recovery_action": "none",
        "ecc_uncorrected": 2,
        "rows_failed": False,
        "clock_reasons": (),
        "memory_used_bytes": GIB,
    }
    for seconds in (1.0, 61.0, 700.0, DAY):
        world = _look(well, well, {SERVER_PID: GIB})(world.later(seconds))
    assert claims(world) == []


@given(events=ANYTHING, silence=st.lists(SILENT, max_size=4), readable=st.booleans())
def test_looks_that_bring_nothing_neither_raise_nor_clear(
    events: list[Event], silence: list[Event], *, readable: bool
) -> None:
    """At the same moment the same is said, with them and without."""
    world = played(events, readable=readable)
    noisy = world
    for event in silence:
        noisy = event(noisy)
    assert told(noisy.having(now=world.now)) == told(world)


def told(world: World) -> set[tuple[object, ...]]:
    """What is claimed, without words and moments."""
    return {(each.reason, each.subject, each.severity, each.spares) for each in claims(world)}


@given(events=ANYTHING, readable=st.booleans())
def test_every_claim_on_a_gpu_can_be_told(events: list[Event], *, readable: bool) -> None:
    """Once for each reason and GPU, with a message and a remedy, of nothing later than now."""
    world = played(events, readable=readable)
    found = claims(world)
    assert len({(each.reason, each.subject) for each in found}) == len(found)
    for claim in found:
        assert claim.subject.kind is SubjectKind.GPU
        assert claim.subject.gpu_uuid
        assert claim.message.endswith(".")
        assert claim.remedy.endswith(".")
        assert claim.observed.mono <= world.now.mono


def test_these_histories_are_worth_reading() -> None:
    """A property over histories in which nothing is ever said would prove nothing."""
    grave: dict[str, Any] = {
        "error": "RESET_REQUIRED",
        "clock_reasons": ("hw_thermal",),
        "memory_used_bytes": 99 * GIB,
    }
    first = begun(readable=True).looks(shown("GPU-a", {100: GIB}, ecc_uncorrected=0), shown("GPU-b"))
    sick = first.xid(95).looks(
        shown(
            "GPU-a", {100: GIB}, ecc_uncorrected=1, **{**grave, "error": None, "recovery_action": "gpu_reset"}
        ),
        shown("GPU-b"),
    )
    reasons = {each.reason for each in claims(sick)}
    assert reasons == {"GpuResetRequired", "GpuXid", "GpuEcc", "GpuThrottled", "GpuMemoryPressure"}
    assert any(failed(each) == {Gate.READY} for each in claims(sick))
