"""Does a death propose a line that cures it, from what was seen and never below what is?"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.checks.deaths.around import (
    evidence,
    memory_remedy,
    memory_says,
    shm_full,
    shm_remedy,
    shm_says,
)
from probe.checks.stubs import judge
from probe.facts.container import CpuUse, Limit, MemoryUse, ShmUse
from probe.facts.findings import Claim
from probe.facts.qos import QosClass
from probe.kits.quantities import parse_size
from probe.ledgers.obituaries import ObituariesLedger
from probe.ledgers.scenes import Scene
from tests.worlds import GIB, MIB, World, at, python_model, serving

TWO = python_model("m", 2)
FILE = "/sys/fs/cgroup/memory.max"


def scene(limit: float | None = 2 * GIB, held: int | None = None, **more: Any) -> Scene:  # noqa: ANN401
    """A look at a container with this limit (None: there is none) and this working set."""
    memory = MemoryUse(Limit(limit, FILE), held, held, more.pop("peak", None))
    return Scene(at(0), memory, **more)


def looked(
    world: World,
    held: int,
    kills: int = 0,
    *,
    limit: float | None = 2 * GIB,
    shm: ShmUse | None = None,
    **memory: Any,  # noqa: ANN401
) -> World:
    """The container is looked at."""
    use = MemoryUse(Limit(limit, FILE), held, held, oom_kills=kills, oom_kills_path="/c/events", **memory)
    return world.contained(memory=use, shm=shm, cpu=CpuUse(throttled_seconds=0.0))


def dead(world: World) -> Claim:
    """The one dead stub."""
    return world.scans().polls().only("StubDead", judge)


SEEN = serving(TWO).seen


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            None,
            None,
            ["Raise resources.limits.memory of Triton's container (the process last held 100 MiB), or"],
        ),
        (Scene(at(0)), None, ["Raise resources.limits.memory of Triton's container (the"]),
        # The limit was reached.
        (scene(held=2 * GIB - MIB), None, ["from 2Gi to 3Gi or more", "{limits: {memory: 3Gi}}"]),
        (None, scene(held=GIB), ["from 2Gi to 3Gi or more"]),
        (
            scene(held=100 * MIB),
            scene(peak=2 * GIB),
            ["from 2Gi to 3Gi", "It held 100 MiB when it was last looked at", "nobody saw how much"],
        ),
        (scene(40 * GIB, 39 * GIB, node_memory_bytes=64 * GIB), None, ["from 40Gi to 51Gi"]),
        (
            scene(60 * GIB, 59 * GIB, node_memory_bytes=64 * GIB),
            None,
            ["the node has 64.0 GiB in all: give the model fewer instances", "{limits: {memory: 76Gi}}"],
        ),
        # It was not.
        (
            scene(held=GIB),
            scene(peak=GIB),
            [
                "peak of 1.0 GiB never came near its limit of 2.0 GiB",
                "requests: {memory: 2Gi}, limits: {memory: 2Gi}",
            ],
        ),
        # There is none.
        (scene(None), None, ["has no memory limit of its own", "requests: {memory: …}"]),
        (
            scene(None, GIB),
            scene(None, MIB, peak=3 * GIB),
            ["requests: {memory: 4Gi}", "seen to hold up to 3.0 GiB"],
        ),
        (
            scene(64 * GIB, GIB, node_memory_bytes=64 * GIB, peak=60 * GIB),
            None,
            [
                "has no memory limit of its own",
                "peak of 60.0 GiB, of the node's 64.0 GiB, counts the files that it read; without them 1.0 GiB was",
                "requests: {memory: 1536Mi}",
                "larger node and set resources: {requests: {memory: 76Gi}",
            ],
        ),
        (
            scene(None, 60 * GIB, node_memory_bytes=64 * GIB, peak=61 * GIB),
            None,
            ["has no memory limit of its own", "61.0 GiB of the node's 64.0 GiB", "larger node"],
        ),
    ],
)
def test_the_remedy_of_a_kill_fits_what_was_seen(
    before: Scene | None, after: Scene | None, said: list[str]
) -> None:
    """Raise the limit, reserve what is needed, or take a larger node."""
    remedy = memory_remedy(SEEN, before, after, 100 * MIB)
    assert [each for each in said if each not in remedy] == []
    assert "100 MiB" in remedy


def test_a_limit_that_was_raised_since_is_the_one_to_begin_from() -> None:
    """A proposal below it would undo what somebody did."""
    raised = looked(serving(TWO), MIB, limit=8 * GIB).seen
    remedy = memory_remedy(raised, scene(held=2 * GIB))
    assert "was 2.0 GiB then, and it is 8.0 GiB now, which may be enough" in remedy
    assert "{memory: 10752Mi}" in remedy
    given = memory_remedy(raised, scene(None, GIB, peak=30 * GIB))
    assert "had no limit then, and it is 8.0 GiB now, which may be enough" in given
    assert "{memory: 10752Mi}" in given
    lowered = looked(serving(TWO), MIB, limit=GIB).seen
    assert "from 2Gi to 3Gi" in memory_remedy(lowered, scene(held=2 * GIB))


SIZES = st.none() | st.integers(0, 1 << 42)


@given(
    limit=st.none() | st.integers(MIB, 1 << 42),
    held=SIZES,
    peak=SIZES,
    node=SIZES,
    size=st.integers(0, 1 << 42),
)
def test_no_proposal_is_below_the_limit_or_below_what_was_held(
    limit: int | None, held: int | None, peak: int | None, node: int | None, size: int
) -> None:
    """Whatever the files said."""
    before = scene(limit, held, peak=peak, node_memory_bytes=node)
    for after in (None, before):
        remedy = memory_remedy(SEEN, before, after, size)
        for found in re.findall(r"memory: (\w+)}", remedy):
            assert parse_size(found) >= (held or 0)
            if limit is not None and (node is None or limit < node):
                assert parse_size(found) >= limit


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (None, None, ""),
        (scene(), None, ""),
        (scene(held=GIB), None, "The container held 1.0 GiB of its limit of 2.0 GiB 3.0 s before."),
        (scene(held=GIB), scene(), "The container held 1.0 GiB of its limit of 2.0 GiB 3.0 s before."),
        (
            scene(held=GIB),
            scene(peak=2 * GIB),
            "The container held 1.0 GiB of its limit of 2.0 GiB 3.0 s before; its peak was 2.0 GiB.",
        ),
        (
            scene(None, GIB, qos=QosClass.BEST_EFFORT),
            None,
            (
                "The container held 1.0 GiB, without a memory limit of its own, 3.0 s before, in a pod that is "
                "BestEffort."
            ),
        ),
        (Scene(at(0), MemoryUse(used_bytes=GIB)), None, "The container held 1.0 GiB 3.0 s before."),
    ],
)
def test_what_the_container_held_is_told_as_far_as_it_was_seen(
    before: Scene | None, after: Scene | None, said: str
) -> None:
    """A limit that can not be read is not a missing one."""
    assert memory_says(before, at(3), after) == said


@pytest.mark.parametrize(
    ("shm", "full", "said", "line"),
    [
        (None, False, "", "sizeLimit: 1Gi}"),
        (ShmUse(0, 0), False, "", "sizeLimit: 1Gi}"),
        (ShmUse(64 * MIB, 10 * MIB, 5, 9), False, "/dev/shm held 10 MiB of 64 MiB", "sizeLimit: 128Mi}"),
        (ShmUse(16 * MIB, 15 * MIB + 1), True, "/dev/shm held 15 MiB of 16 MiB", "--shm-size=64m)"),
        (
            ShmUse(GIB, MIB, 0, 100),
            True,
            "/dev/shm held 1 MiB of 1.0 GiB, and no inode was left",
            "--shm-size=2g)",
        ),
    ],
)
def test_dev_shm_is_told_and_its_remedy_is_twice_what_it_has(
    *,
    shm: ShmUse | None,
    full: bool,
    said: str,
    line: str,
) -> None:
    """A python instance can not begin with less than 1 MiB."""
    assert shm_full(shm) is full
    assert shm_says(shm) == said
    assert line in shm_remedy(shm)
    assert "medium: Memory" in shm_remedy(shm)


def test_a_stub_killed_for_want_of_memory_tells_the_container_around_it() -> None:
    """In words, with figures, and with the line that cures it before the way to get the instance back."""
    full = ShmUse(64 * MIB, 64 * MIB)
    seen = looked(serving(TWO), GIB, stall_seconds=1.0)
    seen = looked(seen.later(3), 2 * GIB - MIB, stall_seconds=3.0, shm=full).later(1).exits(101, signal=9)
    claim = dead(looked(seen, GIB, 1, peak_bytes=2 * GIB))
    assert (
        "The container held 2.0 GiB of its limit of 2.0 GiB 2.0 s before; its peak was 2.0 GiB."
        in claim.message
    )
    assert claim.message.endswith("/dev/shm held 64 MiB of 64 MiB.")
    assert claim.remedy.index("resources: {limits: {memory: 3Gi}}") < claim.remedy.index(" Then: ")
    assert {
        "tree_rss_bytes": 100 * MIB,
        "tree_grown_bytes": 0,
        "container_limit_bytes": 2 * GIB,
        "container_used_bytes": 2 * GIB - MIB,
        "container_working_set_bytes": 2 * GIB - MIB,
        "container_seconds_before": 2.0,
        "shm_used_bytes": 64 * MIB,
        "shm_size_bytes": 64 * MIB,
        "memory_stall_share": 0.5,
        "cpu_throttled_share": 0.0,
        "container_peak_bytes": 2 * GIB,
    }.items() <= claim.evidence.items()


def test_a_bus_error_with_a_full_dev_shm_is_its_fault_and_another_is_not() -> None:
    """The kernel sends SIGBUS to who touches a page of tmpfs that it can not have."""
    full, roomy = ShmUse(16 * MIB, 16 * MIB), ShmUse(16 * MIB, MIB)
    claim = dead(looked(serving(TWO), MIB, shm=full).exits(101, signal=7))
    assert "sizeLimit: 64Mi" in claim.remedy
    assert "/dev/shm held 16 MiB of 16 MiB." in claim.message
    after = dead(looked(looked(serving(TWO), MIB, shm=roomy).exits(101, signal=7), MIB, shm=full))
    assert "sizeLimit: 64Mi" in after.remedy
    for shm, number in ((roomy, 7), (full, 11)):
        claim = dead(looked(serving(TWO), MIB, shm=shm).exits(101, signal=number))
        assert "sizeLimit" not in claim.remedy


def test_of_a_death_that_nobody_kept_nothing_is_told() -> None:
    """A hundred others died since."""
    assert evidence(None) == {}
    seen = looked(looked(serving(TWO), GIB).exits(101, signal=9), MIB, 1).scans().polls()
    book = msgspec.structs.replace(seen.book, obituaries=ObituariesLedger())
    forgotten = msgspec.structs.replace(seen, book=book)
    claim = forgotten.only("StubDead", judge)
    assert "killed by the kernel for want of memory" in claim.message
    assert "container_limit_bytes" not in claim.evidence
