"""Whatever NVML says and however the probe was placed: is nothing claimed that was not proven?"""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from probe.checks import devices, placement
from probe.checks.verdicts import placement_of
from probe.facts.models import InstanceKind
from probe.facts.nvml import Gpu, NvmlState
from probe.facts.placement import EvidenceMode, Verdict
from probe.settings import Policy, Settings
from probe.settings.schema import ModelPlacement, PlacementSettings
from tests.worlds import GIB, MIB, SERVER_PID, START, World, config, gpu, group, process, row, server, serving

CPU, GPU, MODEL = InstanceKind.CPU, InstanceKind.GPU, InstanceKind.MODEL
PIDS = (SERVER_PID, 100, 101, 4242)
BYTES = st.sampled_from([None, 0, 300 * MIB, 2 * GIB])
LISTS = st.none() | st.dictionaries(st.sampled_from(PIDS), BYTES)
OF_LISTS = {"GpuNotUsed", "WrongGpu", "PlacementSkewed"}
"""What is claimed only from process lists."""


def told(seen: World) -> set[str]:
    """The reasons of both checks."""
    return {*seen.reasons(placement.judge), *seen.reasons(devices.judge)}


@st.composite
def gpus(draw: st.DrawFn) -> tuple[Gpu, ...]:
    """Up to three GPUs, one of them perhaps partitioned."""
    found: list[Gpu] = []
    for minor in range(draw(st.integers(0, 3))):
        shown = draw(st.sampled_from([minor, None]))
        if draw(st.integers(0, 4)) == 0:
            found.append(gpu(f"GPU-{minor}", minor=shown))
            found.append(gpu(f"MIG-{minor}", draw(LISTS), minor=shown, mig=True, parent=f"GPU-{minor}"))
        else:
            found.append(gpu(f"GPU-{minor}", draw(LISTS), minor=shown))
    return tuple(found)


@st.composite
def stories(draw: st.DrawFn) -> World:
    """A Triton with one model and GPUs, seen by a probe that may be given more, fewer, or none of them."""
    groups = draw(
        st.sampled_from(
            [
                (group("m_0", GPU, 1, 0, 1),),
                (group("m_0", GPU, 2, 0),),
                (group("m_0", CPU), group("m_1", GPU, 1, 1)),
                (group("m_0", MODEL, 2),),
                (group("m_0", CPU, 2),),
                (group("m", CPU, 2),),
            ]
        )
    )
    model = config("m", *groups)
    entry = ModelPlacement(
        device=draw(st.sampled_from([None, Policy.GPU, Policy.CPU])),
        gpus=draw(st.sampled_from([(), ("GPU-0",), ("GPU-1", "MIG-0"), ("GPU-9",)])),
        min_instances=draw(st.none() | st.integers(1, 3)),
    )
    triton = server(
        minors=draw(st.sampled_from([None, (), (0,), (0, 1), (0, 1, 2)])),
        visible=draw(st.sampled_from([None, ("GPU-1", "GPU-0"), ("MIG-0",)])),
    )
    seen = serving(model, server=triton, settings=Settings(placement=PlacementSettings(models={"m": entry})))
    seen = seen.polls(gpu_memory_used=draw(st.sampled_from([None, (), (("GPU-0", 1), ("GPU-1", 1))])))
    for _ in range(draw(st.integers(1, 3))):
        executions = draw(st.sampled_from([0, 1, 40]))
        seen = seen.with_row(row("m", success=executions, last=START.wall - 1000)).polls()
        stranger = process(4242, parent=1, name="other", start=draw(st.sampled_from([1, 2])))
        seen = seen.scans(asked=draw(st.sampled_from([(), (stranger,)])), initial=draw(st.booleans()))
        if draw(st.integers(0, 5)) == 0:
            seen = seen.looks(state=NvmlState.ERROR, patience=draw(st.sampled_from([0.0, 60.0])))
        seen = seen.looks(*draw(gpus()))
    return seen


@given(stories())
def test_where_lists_prove_nothing_no_finding_rests_on_one(seen: World) -> None:
    """In blind, foreign_pids and no_nvml, and where a GPU of Triton's is hidden or has no list."""
    mode = seen.book.evidence.evidence.mode
    if mode not in (EvidenceMode.FULL, EvidenceMode.MEMBERSHIP):
        assert seen.seen.gap is not None
        assert seen.seen.on_gpus == {}
    if seen.seen.gap is None:
        return
    assert not told(seen) & OF_LISTS
    # Of the fallback all that remains is Triton's own word on what it resolved: the lists change nothing.
    verdict = placement_of(seen.seen, seen.record("m")).verdict
    by_triton = {each.kind for each in seen.record("m").config.groups} == {CPU}  # type: ignore[union-attr]
    assert verdict is not Verdict.CPU or by_triton
    assert verdict is not Verdict.MIXED
    if "CpuFallback" in told(seen):
        assert any(each.kind is CPU for each in seen.record("m").config.groups) or (  # type: ignore[union-attr]
            seen.settings.placement.models["m"].min_instances == 3
        )


@given(stories(), st.dictionaries(st.sampled_from(PIDS), BYTES))
def test_without_figures_nothing_rests_on_one(seen: World, other: dict[int, int | None]) -> None:
    """In membership other figures change neither verdict nor finding, and no memory is told."""
    if seen.book.evidence.evidence.mode is not EvidenceMode.MEMBERSHIP:
        return
    shown = placement_of(seen.seen, seen.record("m"))
    assert shown.gpu_memory_bytes is None
    assert shown.memory_bytes_by_gpu == {}
    good = seen.book.evidence.good
    assert good is not None
    swapped = tuple(
        msgspec.structs.replace(
            each,
            processes=tuple(
                msgspec.structs.replace(one, used_bytes=other.get(one.pid)) for one in each.processes
            )
            if each.processes is not None
            else None,
        )
        for each in good.gpus
    )
    evidence = msgspec.structs.replace(seen.book.evidence, good=msgspec.structs.replace(good, gpus=swapped))
    again = seen.having(book=msgspec.structs.replace(seen.book, evidence=evidence))
    assert placement_of(again.seen, again.record("m")) == shown
    assert told(again) == told(seen)


@given(stories())
def test_what_is_claimed_of_lists_is_of_those_that_show_every_gpu_of_tritons(seen: World) -> None:
    """Each device node and each UUID that Triton told is among the GPUs, with a list or with MIG devices that have."""
    if not told(seen) & OF_LISTS:
        return
    good, triton = seen.book.evidence.good, seen.book.server.server
    assert good is not None
    assert triton is not None
    assert frozenset(triton.gpu_minors or ()) <= {each.minor for each in good.gpus}
    assert seen.book.server.gpu_uuids <= {each.uuid for each in good.gpus}
    for each in good.gpus:
        ours = each.minor in (triton.gpu_minors or ()) or each.uuid in seen.book.server.gpu_uuids
        parts = [one for one in good.gpus if one.parent == each.uuid]
        assert not ours or all(one.processes is not None for one in parts or [each])
