"""The shipped figures, on virtual time: what becomes of Triton when a stub dies, and when the sidecar does.

Seconds are those of a node that does nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.facts.wiring import CONTAINER, LIVENESS, OWN_LIVENESS
from testbed.kubelet.probing import Result
from testbed.kubelet.timeline import What
from testbed.kubelet.virtual import Answer, Run, VirtualNode
from testbed.kubelet.wired import TRITON, Gate, timed, wired

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
    own_grace: int | None = OWN_LIVENESS.grace_seconds,
    says: Callable[[str, float], Answer] = lambda _path, _now: PASS,
    sidecar: Callable[[int], Run] = lambda _times: Run(),
    fraction: Callable[[], float] = lambda: 0.0,
) -> VirtualNode:
    """A node on which the probe, while it runs, answers what ``says`` tells, and else nobody does."""

    def answers(path: str, now: float) -> Answer:
        life = node.worker.life(CONTAINER)
        return says(path, now) if life is not None and life.running else REFUSED

    pod = timed(
        wired(*gates, native=native), CONTAINER, Gate.LIVENESS, termination_grace_period_seconds=own_grace
    )
    node = VirtualNode(
        msgspec.structs.replace(pod, termination_grace_period_seconds=grace),
        answers=answers,
        runs=lambda name, times: sidecar(times) if name == CONTAINER else Run(starts_in=1.0),
        fraction=fraction,
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


@pytest.mark.parametrize("grace", [30, 1800])
@pytest.mark.parametrize("native", [True, False], ids=["native", "plain"])
def test_a_sidecar_that_stops_is_back_long_before_triton_would_be_restarted(
    *, native: bool, grace: int
) -> None:
    """Its own liveness finds it after a minute, SIGKILL comes after its own grace, whatever the pod gives Triton."""
    node = stopped(native=native, grace=grace)
    assert ends_of_triton(node) == []
    assert node.starts[CONTAINER] == 2
    back = node.told.find(What.IN_SERVICE)[-1].at
    assert 1000 + 60 < back < 1000 + 80 + WORST_START


def test_without_a_grace_of_its_own_it_would_not_be() -> None:
    """While a container is ended nothing else is done for its pod: a Triton that failed meanwhile is restarted then."""
    node = stopped(native=False, grace=400, own_grace=None)
    (ended,) = ends_of_triton(node)
    assert ended >= 1000 + 400


def stopped(*, native: bool, grace: int, own_grace: int | None = OWN_LIVENESS.grace_seconds) -> VirtualNode:
    """A sidecar that is stopped after 1000 s, and starts as slowly as is allowed for; 3000 s of it."""
    hanging = [True]

    def says(_path: str, now: float) -> Answer:
        return HANGS if hanging[0] and now >= 1000 else PASS

    def sidecar(times: int) -> Run:
        hanging[0] = not times
        return Run(starts_in=WORST_START, ends_in=1e9)

    node = played(*ALL, native=native, grace=grace, own_grace=own_grace, says=says, sidecar=sidecar)
    node.run(3000)
    return node


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
        fraction=lambda: fraction,
    )
    node.run(4 * 3600)
    assert node.starts[CONTAINER] > 10
    assert ends_of_triton(node) == []


@given(
    lives=st.lists(st.floats(12.0, 900.0), min_size=1, max_size=8),
    starts=st.lists(st.floats(0.0, WORST_START), min_size=1, max_size=8),
    late=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8),
    native=st.booleans(),
)
@settings(max_examples=20)
def test_no_order_of_crashes_restarts_triton_while_the_sidecar_answers_in_each_of_its_lives(
    lives: list[float], starts: list[float], late: list[float], *, native: bool
) -> None:
    """However long it lives and starts, within what is allowed for, and however late the kubelet looks: two hours."""
    runs = zip(itertools.cycle(starts), itertools.cycle(lives), strict=False)
    fractions = itertools.cycle(late)

    def sidecar(_times: int) -> Run:
        starts_in, lasts = next(runs)
        return Run(starts_in=starts_in, lives=lasts)

    node = played(*ALL, native=native, sidecar=sidecar, fraction=lambda: next(fractions))
    node.run(2 * 3600)
    assert ends_of_triton(node) == []


@pytest.mark.parametrize("lives", [15.0, 212.0])
def test_a_sidecar_that_crashes_for_ever_restarts_nobody_though_the_kubelet_looks_as_late_as_it_may(
    lives: float,
) -> None:
    """It begins to sleep a minute before the end of the back-off, and sleeps for half as long again."""
    nodes: list[VirtualNode] = []

    def fraction() -> float:
        found = [told for each in nodes for told in each.told.find(What.BACK_OFF, CONTAINER, since=each.now)]
        left = float(found[0].words.split()[0]) if found else 0.0
        if left < 61:
            return 1.0
        # So many looks, each a minute or up to half as much more after the one before, and a minute is left.
        looks = max(1, (left - 60) // 60)
        return min(max((left - 60) / looks / 30 - 2, 0.0), 1.0)

    node = played(*ALL, sidecar=lambda _times: Run(starts_in=WORST_START, lives=lives), fraction=fraction)
    nodes.append(node)
    told = node.run(4 * 3600)
    ends = [each.at for each in told.find(What.ENDED, CONTAINER)]
    starts = [each.at for each in told.find(What.STARTED, CONTAINER)]
    downs = [after - before for before, after in zip(ends, starts[1:], strict=False)]
    assert max(downs) >= 329 + WORST_START
    assert ends_of_triton(node) == []


@pytest.mark.parametrize(("answers_for", "restarted"), [(60.0, True), (200.0, False)])
def test_a_sidecar_that_hangs_over_and_over_soon_after_each_start_restarts_triton(
    *, answers_for: float, restarted: bool
) -> None:
    """What takes its own liveness and the grace comes on top of the longest back-off, and is more than is waited for.

    Who answers for 200 s has outlived every back-off when it is ended.
    """

    def says(_path: str, now: float) -> Answer:
        life = node.worker.life(CONTAINER)
        return PASS if life is not None and now - life.started_at <= answers_for else HANGS

    node = played(*ALL, says=says, sidecar=lambda _times: Run(starts_in=WORST_START, ends_in=1e9))
    node.run(4 * 3600)
    ends = ends_of_triton(node)
    assert bool(ends) is restarted
    assert all(after - before >= 600 for before, after in itertools.pairwise(ends))


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


@pytest.mark.parametrize(("native", "longest"), [(True, 330), (False, 2)], ids=["native", "plain"])
def test_a_triton_that_ends_while_a_native_sidecar_is_down_waits_for_it(
    *, native: bool, longest: float
) -> None:
    """With none of the others running the kubelet begins with the init containers; a plain one holds up nobody."""
    node = played(native=native, sidecar=lambda _times: Run(lives=15.0), fraction=lambda: 1.0)
    node.run(3000)
    down_at = node.told.find(What.ENDED, CONTAINER)[-1].at
    node.run(max(0.0, down_at + 5 - node.now))
    node.end(TRITON)
    ended_at = node.now
    node.run(600)
    started = node.told.first(What.STARTED, TRITON, since=ended_at)
    assert started is not None
    assert started.at - ended_at <= longest
    assert native is (started.at - ended_at > 60)


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
