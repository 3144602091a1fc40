"""Does the container check speak up where there is no limit or no permission, and keep silent else?"""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.checks.container.limits import judge
from probe.checks.container.manifest import suggested_limit
from probe.facts.catalogue import CATALOGUE
from probe.facts.container import ContainerReading, Limit, MemoryUse
from probe.facts.findings import CONTAINER, Claim
from probe.facts.instants import Instant

MIB, GIB = 1 << 20, 1 << 30
NOW = Instant(10.0, 1e9)
FILE = "/sys/fs/cgroup/memory.max"
UNLIMITED = ContainerReading(
    NOW,
    cgroup=2,
    memory=MemoryUse(Limit(None, FILE), 3 * GIB, 2 * GIB, 4 * GIB),
    node_memory_bytes=64 * GIB,
)


def reasons(container: ContainerReading) -> list[str]:
    """The reasons of all claims."""
    return [claim.reason for claim in judge(container)]


def only(container: ContainerReading) -> Claim:
    """The one claim that there is."""
    (claim,) = judge(container)
    return claim


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (None, []),
        (Limit(None, FILE), ["MemoryUnlimited"]),
        (Limit(8 * GIB, FILE), []),
        (Limit(64 * GIB, FILE), ["MemoryUnlimited"]),
        (Limit(60 * GIB, "/sys/fs/cgroup/kubepods.slice/memory.max"), ["MemoryUnlimited"]),
        (
            Limit(60 * GIB, "/sys/fs/cgroup/memory/kubepods/burstable/memory.limit_in_bytes"),
            ["MemoryUnlimited"],
        ),
        (Limit(60 * GIB, "/sys/fs/cgroup/kubelet-kubepods-besteffort.slice/memory.max"), ["MemoryUnlimited"]),
        (Limit(60 * GIB, "/sys/fs/cgroup/kubepods.slice/kubepods-pod1.slice/memory.max"), []),
        (Limit(8 * GIB, ""), []),
    ],
)
def test_a_limit_counts_where_it_is_the_containers_and_below_the_nodes(
    limit: Limit | None, expected: list[str]
) -> None:
    """An unreadable limit is not a missing one; that of all pods, or above the node, protects nobody."""
    memory = msgspec.structs.replace(UNLIMITED.memory, limit=limit)
    assert reasons(msgspec.structs.replace(UNLIMITED, memory=memory)) == expected


def test_a_missing_limit_is_told_with_numbers_and_a_manifest_line() -> None:
    """The message says what can happen, the remedy what to paste and where the figure is from."""
    claim = only(UNLIMITED)
    assert claim.subject == CONTAINER
    assert claim.observed == NOW
    assert claim.message == (
        "Triton's container has no memory limit: it can take all 64.0 GiB of the node's memory;"
        " it holds 2.0 GiB now."
    )
    assert "resources: {limits: {memory: 5632Mi}}" in claim.remedy
    assert "peak use of 4.0 GiB + 25%, rounded up" in claim.remedy
    assert claim.evidence == {
        "limit_file": FILE,
        "working_set_bytes": 2 * GIB,
        "peak_bytes": 4 * GIB,
        "node_memory_bytes": 64 * GIB,
        "suggested_limit_bytes": 5632 * MIB,
    }


def test_what_is_requested_is_told_where_the_score_tells_it() -> None:
    """Of a Burstable pod: what it takes beyond, others may be short of, and then it is evicted first."""
    claim = only(msgspec.structs.replace(UNLIMITED, oom_score_adj=937))
    assert claim.message.endswith("it holds 2.0 GiB now; about 4.0 GiB are requested.")
    assert claim.evidence["requested_bytes_estimate"] == 63 * 64 * GIB // 1000


def test_a_peak_inflated_by_file_cache_yields_to_the_working_set() -> None:
    """A figure beyond the node helps nobody."""
    inflated = msgspec.structs.replace(UNLIMITED.memory, peak_bytes=60 * GIB)
    suggested = suggested_limit(msgspec.structs.replace(UNLIMITED, memory=inflated))
    assert suggested == (2560 * MIB + 512 * MIB, "working set of 2.0 GiB + 25%, rounded up")


def test_without_any_figure_the_remedy_names_none() -> None:
    """No number is invented where none was read."""
    claim = only(ContainerReading(NOW, memory=MemoryUse(Limit(None, FILE))))
    assert not re.search(r"\d+[MG]i", claim.remedy)
    assert claim.evidence == {"limit_file": FILE}


@pytest.mark.parametrize(
    ("denied", "said"),
    [
        (("cgroup",), "the cgroup files"),
        (("cgroup", "shm"), " and the file system at /dev/shm of"),
        (("news",), "news"),
    ],
)
def test_a_refusal_is_told_once_with_the_security_context_that_cures_it(
    denied: tuple[str, ...], said: str
) -> None:
    """One claim for all that was refused."""
    claim = only(ContainerReading(NOW, cgroup=2, denied=denied))
    assert claim.reason == "ProcessAccessDenied"
    assert said in claim.message
    assert all(word in claim.remedy for word in ("runAsUser", "runAsGroup", "SYS_PTRACE"))
    assert claim.evidence == {"denied": ", ".join(denied)}


def test_an_empty_reading_says_nothing() -> None:
    """What was not seen is no finding."""
    assert reasons(ContainerReading(NOW)) == []


SIZES = st.none() | st.integers(0, 1 << 50)


@given(
    limit=st.none() | st.builds(Limit, st.none() | st.floats(0, 1e20), st.text(max_size=60)),
    used=SIZES,
    working_set=SIZES,
    peak=SIZES,
    node=SIZES,
)
def test_every_claim_is_of_the_catalogue_and_its_figure_has_headroom(
    limit: Limit | None, used: int | None, working_set: int | None, peak: int | None, node: int | None
) -> None:
    """Whatever was read: known reasons, a suggestion above the use it comes from and below the node."""
    container = ContainerReading(
        NOW, memory=MemoryUse(limit, used, working_set, peak), node_memory_bytes=node, denied=("shm",)
    )
    for claim in judge(container):
        assert claim.reason in CATALOGUE
        assert claim.remedy
        assert None not in claim.evidence.values()
    suggested = suggested_limit(container)
    if suggested is not None:
        assert suggested[0] % (64 * MIB) == 0
        assert any(figure and suggested[0] > figure * 1.2499 for figure in (peak, working_set))
        assert node is None or suggested[0] < node
    if limit is not None and limit.value is None:
        assert "MemoryUnlimited" in reasons(container)
    if limit is None:
        assert reasons(container) == ["ProcessAccessDenied"]
