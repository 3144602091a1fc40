"""Is a container that requests nothing told, with what to write, and no other?"""

from __future__ import annotations

from typing import Any

import pytest

from probe.checks.container.qos import judge
from probe.facts.container import CpuUse, Limit, MemoryUse
from probe.facts.findings import CONTAINER
from tests.worlds import GIB, World

NO_LIMIT = Limit(None, "/sys/fs/cgroup/memory.max")
USE = MemoryUse(NO_LIMIT, 5 * GIB, 3 * GIB, 4 * GIB)
NODES_OWN = Limit(60 * GIB, "/sys/fs/cgroup/memory/kubepods/memory.limit_in_bytes")


def look(score: int | None, weight: int | None = None, memory: MemoryUse = USE, **more: Any) -> World:  # noqa: ANN401
    """A container with this oom_score_adj and CPU weight."""
    return World().contained(
        oom_score_adj=score, cpu=CpuUse(weight=weight), memory=memory, node_memory_bytes=64 * GIB, **more
    )


@pytest.mark.parametrize(
    ("score", "weight", "limit", "expected"),
    [
        (1000, 1, NO_LIMIT, True),
        (1000, None, None, True),
        (1000, 39, NO_LIMIT, False),
        (999, 1, NO_LIMIT, True),
        (999, 1, NODES_OWN, True),
        (999, 1, Limit(4.0 * GIB, "/sys/fs/cgroup/memory.max"), False),
        (999, 1, None, False),
        (999, 4, NO_LIMIT, False),
        (999, None, NO_LIMIT, False),
        (998, 1, NO_LIMIT, False),
        (-997, 1, NO_LIMIT, False),
        (0, 100, NO_LIMIT, False),
        (None, 1, NO_LIMIT, False),
    ],
)
def test_it_is_told_where_every_witness_says_that_nothing_is_requested(
    score: int | None,
    weight: int | None,
    limit: Limit | None,
    expected: bool,  # noqa: FBT001
) -> None:
    """In a BestEffort pod, or beside a sidecar that alone makes it Burstable; what is not known is no finding."""
    assert bool(look(score, weight, MemoryUse(limit)).reasons(judge)) is expected


def test_it_says_what_follows_and_what_to_write() -> None:
    """The first to be killed, the last to get a CPU; requests like limits, from what was seen."""
    claim = look(1000, 1).only("BestEffortPod", judge)
    assert claim.subject == CONTAINER
    assert claim.message == (
        "Triton's container runs with resources: {}, its pod is BestEffort: when the node is short of memory its "
        "processes are the first to be killed (oom_score_adj 1000 of at most 1000), and when its CPUs are busy it gets "
        "what others leave (CPU weight 1 of 10000)."
    )
    assert "resources: {requests: {memory: 5632Mi}, limits: {memory: 5632Mi}}" in claim.remedy
    assert "spec.predictor.model" in claim.remedy
    assert "peak use of 4.0 GiB + 25%" in claim.remedy
    assert "triton-probe size" in claim.remedy
    assert claim.evidence == {
        "qos": "BestEffort",
        "oom_score_adj": 1000,
        "cpu_weight": 1,
        "working_set_bytes": 3 * GIB,
        "peak_bytes": 4 * GIB,
        "suggested_limit_bytes": 5632 << 20,
    }


def test_a_sidecar_s_request_is_named_as_what_it_is() -> None:
    """The pod is Burstable, and Triton's container none the safer."""
    claim = look(999, 1).only("BestEffortPod", judge)
    assert "only other containers of its Burstable pod request anything" in claim.message
    assert claim.evidence["qos"] == "Burstable"


def test_cores_join_the_line_once_a_window_has_shown_them() -> None:
    """Two looks, 20 s apart; as a request alone, for what it takes now may be the use of an idle Triton."""
    world = look(1000, 1)
    used = CpuUse(used_seconds=100.0, weight=1)
    world = world.contained(oom_score_adj=1000, cpu=used, memory=USE).later(19)
    used = CpuUse(used_seconds=124.0, weight=1)
    claim = world.contained(oom_score_adj=1000, cpu=used, memory=USE).only("BestEffortPod", judge)
    assert "{requests: {cpu: 1500m, memory: 5632Mi}, limits: {memory: 5632Mi}}" in claim.remedy
    assert "1.20 cores now" in claim.remedy
    assert claim.evidence["used_cores"] == 1.2


def test_where_nothing_was_read_no_figure_is_invented() -> None:
    """The class alone may be known, by the path of the cgroup."""
    claim = World().contained(path="/kubepods/besteffort/pod1/2").only("BestEffortPod", judge)
    assert "{requests: {cpu: …, memory: …}, limits: {memory: …}}" in claim.remedy
    assert claim.evidence == {"qos": "BestEffort"}
    assert "(" not in claim.message


def test_before_the_first_look_nothing_is_said() -> None:
    """There is no container yet."""
    assert World().reasons(judge) == []
