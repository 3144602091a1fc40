"""The shipped figures, on virtual time: what becomes of Triton when a stub dies, and when the sidecar does.

Seconds are those of a node that does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from probe.facts.wiring import CONTAINER, LIVENESS
from testbed.kubelet.probing import Result
from testbed.kubelet.timeline import What
from testbed.kubelet.virtual import Answer, Run, VirtualNode
from testbed.kubelet.wired import TRITON, Gate, wired

ALL = (Gate.READINESS, Gate.LIVENESS, Gate.STARTUP)
PASS, FAIL = Answer(Result.SUCCESS), Answer(Result.FAILURE)
REFUSED = FAIL
WORST_START = 30.0
"""Seconds, as ``probe.facts.wiring`` allows for."""
HANGS = Answer(Result.SUCCESS, seconds=1e9)


def played(
    *gates: Gate,
    native: bool = False,
    grace: int = 30,
    says: Callable[[str, float], Answer] = lambda _path, _now: PASS,
    sidecar: Callable[[int], Run] = lambda _times: Run(),
    fraction: float = 0.0,
) -> VirtualNode:
    """A node on which the probe, while it runs, answers what ``says`` tells, and else nobody does."""

    def answers(path: str, now: float) -> Answer:
        life = node.worker.life(CONTAINER)
        return says(path, now) if life is not None and life.running else REFUSED

    node = VirtualNode(
        msgspec.structs.replace(wired(*gates, native=native), termination_grace_period_seconds=grace),
        answers=answers,
        runs=lambda name, times: sidecar(times) if name == CONTAINER else Run(starts_in=1.0),
        fraction=lambda: fraction,
    )
    return node


def ends_of_triton(node: VirtualNode) -> list[float]:
    """When the kubelet began to end Triton."""
    return [each.at for each in node.told.find(What.ENDING, TRITON)]


def test_what_a_restart_cures_is_out_of_service_at_once_and_cured_after_the_threshold() -> None:
    """It fails at 1000 s: out of service within one period of 5 s, ended after the last failure that counts."""

    def says(path: str, now: float) -> Answer:
        ill = now >= 1000 and node.starts[TRITON] == 1
        return FAIL if ill and path in ("/livez", "/readyz") else PASS

    node = played(*ALL, says=says)
    node.run(1500)
    out = node.told.find(What.OUT_OF_SERVICE)
    assert len(out) == 1
    assert 1000 <= out[0].at <= 1005
    (ended,) = ends_of_triton(node)
    least = (LIVENESS.failure_threshold - 1) * LIVENESS.period_seconds
    assert 1000 + least <= ended <= 1000 + least + LIVENESS.period_seconds
    back = node.told.find(What.IN_SERVICE)[-1].at
    assert ended < back <= ended + 10


def test_what_no_restart_cures_never_restarts() -> None:
    """Out of service for hours, with /livez at 200: Triton is left as it is."""
    node = played(*ALL, says=lambda path, now: FAIL if now > 60 and path == "/readyz" else PASS)
    node.run(6 * 3600)
    assert not node.worker.serves
    assert ends_of_triton(node) == []


@pytest.mark.parametrize("seconds", [60, 600, 3300])
@pytest.mark.parametrize("startup", [True, False], ids=["with startup", "without"])
def test_a_load_of_up_to_an_hour_is_never_killed(seconds: float, *, startup: bool) -> None:
    """With or without the startup gate: /livez is open while Triton loads."""
    gates = ALL if startup else ALL[:2]
    node = played(
        *gates, says=lambda path, now: PASS if path in ("/livez", "/healthz") or now > seconds else FAIL
    )
    node.run(4000)
    assert ends_of_triton(node) == []
    assert seconds <= node.told.find(What.IN_SERVICE)[0].at <= seconds + 10


@pytest.mark.parametrize("native", [True, False], ids=["native", "plain"])
def test_a_sidecar_that_is_killed_once_costs_no_restart(*, native: bool) -> None:
    """It is started at once; the pod leaves service for as long as it takes to answer again."""
    node = played(*ALL, native=native, sidecar=lambda _times: Run(starts_in=2.0))
    node.run(1000)
    node.end(CONTAINER)
    node.run(1000)
    assert ends_of_triton(node) == []
    assert node.starts == {TRITON: 1, CONTAINER: 2}
    out, back = node.told.find(What.OUT_OF_SERVICE)[0].at, node.told.find(What.IN_SERVICE)[-1].at
    assert out <= 1001
    assert back - 1000 <= 10


@pytest.mark.parametrize(("grace", "restarted"), [(30, False), (240, False), (400, True)])
@pytest.mark.parametrize("native", [True, False], ids=["native", "plain"])
def test_a_sidecar_that_stops_is_restarted_before_triton_would_be(
    *, native: bool, grace: int, restarted: bool
) -> None:
    """Its own liveness finds it after a minute, SIGKILL comes after the pod's grace, of which 240 s are not too much.

    While it is ended nothing else is done for the pod, so a Triton that failed meanwhile is restarted afterwards.
    """
    hanging = [True]

    def says(_path: str, now: float) -> Answer:
        return HANGS if hanging[0] and now >= 1000 else PASS

    def sidecar(times: int) -> Run:
        hanging[0] = not times
        return Run(starts_in=WORST_START, ends_in=1e9)

    node = played(*ALL, native=native, grace=grace, says=says, sidecar=sidecar)
    node.run(3000)
    assert bool(ends_of_triton(node)) is restarted
    assert node.starts[CONTAINER] == 2
    if not restarted:
        back = node.told.find(What.IN_SERVICE)[-1].at
        assert 1000 + 60 + grace < back < 1000 + 80 + grace + WORST_START


def test_a_sidecar_that_hangs_after_each_start_has_triton_restarted_in_the_longest_back_off() -> None:
    """What ``k8s/README.md`` says: its own liveness and the grace come on top of what a crash would wait for."""
    begun = [0.0]

    def says(_path: str, now: float) -> Answer:
        return HANGS if now >= begun[0] + WORST_START + 15 else PASS

    def sidecar(_times: int) -> Run:
        begun[0] = node.now
        return Run(starts_in=WORST_START, ends_in=1e9)

    node = played(*ALL, says=says, sidecar=sidecar)
    node.run(4 * 3600)
    ended = ends_of_triton(node)
    assert ended
    assert ended[0] > 1000  # not before the back-off has grown


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("lives", [15.0, 212.0])
@pytest.mark.parametrize("native", [True, False], ids=["native", "plain"])
def test_a_sidecar_that_crashes_for_ever_but_answers_between_restarts_nobody(
    *, native: bool, lives: float, fraction: float
) -> None:
    """Over four hours, in the longest back-off too, with the slowest start that is allowed for."""
    node = played(
        *ALL,
        native=native,
        sidecar=lambda _times: Run(starts_in=WORST_START, lives=lives),
        fraction=fraction,
    )
    node.run(4 * 3600)
    assert node.starts[CONTAINER] > 10
    assert ends_of_triton(node) == []


def test_a_sidecar_that_never_answers_restarts_triton_as_often_as_the_threshold_says() -> None:
    """Set up wrongly, it exits at once: nobody answers /livez, which is a failure to the kubelet.

    That is what liveness through a sidecar costs, and why it is a step of its own.
    """
    node = played(Gate.READINESS, Gate.LIVENESS, sidecar=lambda _times: Run(lives=0.5, code=2))
    node.run(3600)
    first, second, *_ = ends_of_triton(node)
    least = (LIVENESS.failure_threshold - 1) * LIVENESS.period_seconds
    assert least <= first <= least + 2 * LIVENESS.period_seconds
    assert second - first >= least
    assert node.told.find(What.IN_SERVICE) == []


def test_a_sidecar_that_never_answers_leaves_a_triton_with_a_startup_gate_its_hour() -> None:
    """Until it has started nobody asks for its liveness."""
    node = played(*ALL, sidecar=lambda _times: Run(lives=0.5, code=2))
    node.run(3700)
    (ended,) = node.told.find(What.ENDING, TRITON)
    assert ended.at >= 3590
    assert ended.words == "failed startup probe"


def test_without_the_liveness_gate_a_sidecar_that_never_answers_restarts_nobody() -> None:
    """It keeps the pod out of service where it gates readiness, and does nothing at all where it only observes."""
    ready = played(Gate.READINESS, sidecar=lambda _times: Run(lives=0.5, code=2))
    ready.run(3600)
    assert ends_of_triton(ready) == []
    assert ready.told.find(What.IN_SERVICE) == []


@pytest.mark.parametrize("native", [True, False], ids=["native", "plain"])
def test_observing_alone_restarts_nobody_whatever_the_sidecar_says(*, native: bool) -> None:
    """With no gate only the sidecar's own running counts: while it does not run, the kubelet calls no pod ready."""
    node = played(native=native, says=lambda path, _now: PASS if path == "/healthz" else FAIL)
    node.run(3600)
    node.end(CONTAINER)
    node.run(3600)
    assert ends_of_triton(node) == []
    assert node.starts[TRITON] == 1
    out, back = node.told.find(What.OUT_OF_SERVICE), node.told.find(What.IN_SERVICE)
    assert len(out) == 1
    assert back[-1].at - out[0].at <= 2
