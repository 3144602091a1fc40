"""Is the pod's QoS class told where its witnesses agree, and only there?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.facts.container import ContainerReading, CpuUse
from probe.facts.instants import Instant
from probe.facts.qos import QosClass, qos_of, requested_memory

GIB = 1 << 30
NOW = Instant(10.0, 1e9)
BEST_EFFORT, BURSTABLE, GUARANTEED = QosClass
SLICE = "/kubepods.slice/kubepods-{0}.slice/kubepods-{0}-pod1_2.slice/cri-containerd-3.scope"


def reading(
    score: int | None, path: str = "", weight: int | None = None, node: int | None = None
) -> ContainerReading:
    """A container of which no more is known."""
    return ContainerReading(
        NOW, path=path, cpu=CpuUse(weight=weight), oom_score_adj=score, node_memory_bytes=node
    )


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (1000, BEST_EFFORT),
        (-997, GUARANTEED),
        (2, BURSTABLE),
        (937, BURSTABLE),
        (999, BURSTABLE),
        (1, None),
        (0, None),
        (-998, None),
        (1001, None),
        (None, None),
    ],
)
def test_the_score_alone_tells_the_class(score: int | None, expected: QosClass | None) -> None:
    """As the kubelet writes it; 0 is what an engine outside Kubernetes leaves it at."""
    assert qos_of(reading(score)) is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (SLICE.format("besteffort"), BEST_EFFORT),
        (SLICE.format("burstable"), BURSTABLE),
        ("/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-3.scope", GUARANTEED),
        ("/kubepods/besteffort/pod1-2/3", BEST_EFFORT),
        ("/kubepods/burstable/pod1-2/3", BURSTABLE),
        ("/kubepods/pod1-2/3", GUARANTEED),
        ("/docker/1/kubelet/kubepods/burstable/pod1-2/3", BURSTABLE),
        ("/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice", BEST_EFFORT),
        ("/../../kubepods-burstable-pod1_2.slice/cri-containerd-3.scope", BURSTABLE),
        ("/../cri-containerd-3.scope", None),
        ("/kubepods.slice", None),
        ("/system.slice/docker-1.scope", None),
        ("/besteffort", None),
        ("/", None),
        ("", None),
    ],
)
def test_the_path_alone_tells_the_class(path: str, expected: QosClass | None) -> None:
    """By systemd's names and by plain ones, below whatever the kubelet itself runs in, where it can be seen."""
    assert qos_of(reading(None, path)) is expected


@pytest.mark.parametrize(
    ("score", "path", "weight"),
    [
        (1000, SLICE.format("burstable"), None),
        (-997, SLICE.format("besteffort"), 1),
        (999, "/kubepods/pod1-2/3", None),
        (0, SLICE.format("besteffort"), 1),
        (1000, "", 100),
        (None, "/kubepods/besteffort/pod1-2/3", 39),
    ],
)
def test_witnesses_that_contradict_each_other_tell_nothing(score: int, path: str, weight: int | None) -> None:
    """A score that somebody changed, a critical pod, docker's --oom-score-adj."""
    assert qos_of(reading(score, path, weight)) is None


@pytest.mark.parametrize("weight", [None, 1])
def test_best_effort_has_no_share_of_the_cpus(weight: int | None) -> None:
    """Where the weight can be read it must be the least; where it can not, the score is enough."""
    assert qos_of(reading(1000, SLICE.format("besteffort"), weight)) is BEST_EFFORT


@pytest.mark.parametrize("score", [100, 200])
def test_a_user_s_session_is_no_burstable_pod(score: int) -> None:
    """What users start gets a score of its own from systemd, and a rootless container does not show its path."""
    session = "/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope"
    for path in (session, "/", "/../libpod-1.scope", ""):
        assert qos_of(reading(score, path)) is None
        assert requested_memory(reading(score, path, node=64 * GIB)) is None
    assert qos_of(reading(score, SLICE.format("burstable"))) is BURSTABLE


@pytest.mark.parametrize(
    ("score", "requested"),
    [
        (937, 63 * 64 * GIB // 1000),
        (4, 996 * 64 * GIB // 1000),
        (999, None),
        (3, None),
        (1000, None),
        (None, None),
    ],
)
def test_the_score_of_a_burstable_pod_tells_its_request(score: int | None, requested: int | None) -> None:
    """To a thousandth of the node; at the ends of the scale the kubelet cuts it off."""
    assert requested_memory(reading(score, node=64 * GIB)) == requested


def test_without_the_size_of_the_node_no_request_is_told() -> None:
    """A share of nothing known is no figure."""
    assert requested_memory(reading(937)) is None


@given(st.integers(1 << 20, 1 << 45), st.data())
def test_what_the_kubelet_wrote_is_read_back_to_a_thousandth_of_the_node(
    node: int, data: st.DataObject
) -> None:
    """The estimate is never further from the request than the score can tell."""
    request = data.draw(st.integers(1, node))
    score = min(max(1000 - 1000 * request // node, 3), 999)
    told = requested_memory(reading(score, node=node))
    assert told is None or abs(told - request) <= node / 1000 + 1


@given(st.none() | st.integers(-(1 << 70), 1 << 70), st.text(max_size=40), st.none() | st.integers())
def test_nothing_that_can_be_read_breaks_it(score: int | None, path: str, weight: int | None) -> None:
    """Any score, path and weight give a class or none."""
    assert qos_of(reading(score, path, weight)) in (None, *QosClass)
