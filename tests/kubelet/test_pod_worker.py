"""What does the stand-in do for a whole pod: whom it starts, ends and restarts, and when the pod is in service?"""

from __future__ import annotations

import itertools

import pytest

from testbed.kubelet.probing import Result
from testbed.kubelet.specs import ContainerSpec, HttpGet, PodSpec, ProbeSpec
from testbed.kubelet.timeline import What
from testbed.kubelet.virtual import Answer, Run, VirtualNode

PASS, FAIL = Answer(Result.SUCCESS), Answer(Result.FAILURE)


def probe(path: str, **fields: int) -> ProbeSpec:
    """One that is asked every second and fails at once."""
    return ProbeSpec(HttpGet(80, path), **{"period_seconds": 1, "failure_threshold": 1, **fields})


def pod(main: ContainerSpec, *inits: ContainerSpec, **fields: object) -> PodSpec:
    """A pod with this container, and these init containers."""
    return PodSpec((main,), init_containers=inits, **fields)  # type: ignore[arg-type]


MAIN = ContainerSpec("main")
NATIVE = ContainerSpec("native", restart_policy="Always")


def starts(node: VirtualNode, container: str) -> list[float]:
    """When it was started."""
    return [each.at for each in node.told.find(What.STARTED, container)]


def test_containers_start_at_once_and_in_order() -> None:
    """Without init containers all start with the pod."""
    node = VirtualNode(PodSpec((MAIN, ContainerSpec("beside"))))
    node.run(5)
    assert [(each.container, each.at) for each in node.told if each.what is What.STARTED] == [
        ("main", 0.0),
        ("beside", 0.0),
    ]


def test_a_native_sidecar_runs_before_the_others_start() -> None:
    """The kubelet has to have seen it running, which it looks for every second."""
    node = VirtualNode(pod(MAIN, NATIVE))
    node.run(5)
    assert starts(node, "native") == [0.0]
    assert starts(node, "main") == [1.0]


def test_a_native_sidecar_with_a_startup_probe_holds_the_others_back() -> None:
    """Until it has succeeded, however long that takes."""
    native = ContainerSpec(
        "native", restart_policy="Always", startup_probe=probe("/up", failure_threshold=99)
    )
    node = VirtualNode(pod(MAIN, native), answers=lambda _path, now: PASS if now >= 40 else FAIL)
    node.run(60)
    assert len(starts(node, "main")) == 1
    assert 40 <= starts(node, "main")[0] <= 42


def test_an_init_container_that_is_no_sidecar_ends_before_the_next() -> None:
    """And is tried again where it fails."""
    init = ContainerSpec("init")
    node = VirtualNode(
        pod(MAIN, init), runs=lambda name, times: Run(lives=3, code=1 - times) if name == "init" else Run()
    )
    node.run(60)
    assert len(starts(node, "init")) == 2
    assert starts(node, "main") == [starts(node, "init")[1] + 3 + 0]


@pytest.mark.parametrize(("lives", "expected"), [(0.0, []), (1.5, [1.0])])
def test_a_native_sidecar_that_ends_before_it_was_seen_keeps_the_others_from_starting(
    lives: float, expected: list[float]
) -> None:
    """The kubelet looks once a second: what lives for less is seen by luck, and until then nothing else starts."""
    node = VirtualNode(
        pod(MAIN, NATIVE), runs=lambda name, _: Run(lives=lives) if name == "native" else Run()
    )
    node.run(600)
    assert len(starts(node, "native")) > 3
    assert starts(node, "main") == expected


def test_a_native_sidecar_that_is_down_holds_back_the_restart_of_the_others() -> None:
    """While any of the others runs it holds back nothing; when all are down, they wait for it once more."""
    node = VirtualNode(
        pod(MAIN, NATIVE), runs=lambda name, times: Run(lives=0.0) if name == "native" and times else Run()
    )
    node.run(10)
    node.end("native")
    node.run(100)
    assert len(starts(node, "native")) > 3
    assert len(starts(node, "main")) == 1
    node.end("main")
    node.run(600)
    assert len(starts(node, "main")) == 1


def test_a_container_that_crashes_is_restarted_with_a_growing_pause() -> None:
    """At once, then 10, 20, 40 s after its end (and up to a second later, when the end is seen)."""
    node = VirtualNode(pod(MAIN), runs=lambda _name, _times: Run(lives=2.0))
    node.run(120)
    at = starts(node, "main")
    pauses = [after - before - 2.0 for before, after in itertools.pairwise(at)]
    assert pauses == [0.0, 10.0, 20.0, 40.0]
    assert next(each.words for each in node.told.find(What.ENDED, "main")) == "1"


@pytest.mark.parametrize(("policy", "expected"), [("Always", 2), ("OnFailure", 1), ("Never", 1)])
def test_the_pods_restart_policy_holds_for_containers_that_end_well(policy: str, expected: int) -> None:
    """Only a pod that is to run always starts again what ended with 0."""
    node = VirtualNode(pod(MAIN, restart_policy=policy), runs=lambda _name, _times: Run(lives=5.0, code=0))
    node.run(8)
    assert len(starts(node, "main")) == expected


def test_a_failed_liveness_probe_ends_and_restarts_the_container() -> None:
    """SIGTERM and the pod's grace, then the restart, which waits for no back-off the first time."""
    main = ContainerSpec("main", liveness_probe=probe("/live", failure_threshold=3, period_seconds=10))
    node = VirtualNode(
        pod(main),
        answers=lambda _path, now: FAIL if 100 <= now < 150 else PASS,
        runs=lambda _name, _times: Run(ends_in=60.0),
    )
    node.run(300)
    assert [each.at for each in node.told.find(What.ENDING, "main")] == [120.0]
    assert [each.at for each in node.told.find(What.ENDED, "main")] == [150.0]
    assert starts(node, "main") == [0.0, 150.0]


def test_a_second_restart_by_liveness_waits_from_the_end_before() -> None:
    """What a sync ends itself still runs to it: it looks at the end before, and so begins late to back off."""
    main = ContainerSpec("main", liveness_probe=probe("/live", failure_threshold=2))
    node = VirtualNode(pod(main), answers=lambda _path, _now: FAIL)
    node.run(100)
    at = starts(node, "main")
    assert at[:3] == [0.0, 2.0, 4.0]
    # Its end is younger than the back-off of 10 s then, and counted anew from what this sync ended.
    assert at[3] - node.told.find(What.ENDED, "main")[2].at == 10.0


@pytest.mark.parametrize("ends_in", [30.0, 29.5])
def test_a_sync_that_waits_for_an_end_does_not_learn_of_it(ends_in: float) -> None:
    """Also where the kubelet looks what runs in the moment of that end: a sync goes by what it began with."""
    main = ContainerSpec("main", liveness_probe=probe("/live"))
    node = VirtualNode(
        pod(main), answers=lambda _path, _now: FAIL, runs=lambda _name, _times: Run(ends_in=ends_in)
    )
    node.run(100)
    ends = [each.at for each in node.told.find(What.ENDED, "main")]
    assert starts(node, "main")[1:4] == ends[:3]
    assert node.told.find(What.BACK_OFF, "main") == []


def test_nothing_else_is_done_for_the_pod_while_a_container_is_ended() -> None:
    """A sidecar that takes its grace of 30 s delays every restart in the pod by as much."""
    main = ContainerSpec("main")
    slow = ContainerSpec("slow", liveness_probe=probe("/live"))
    node = VirtualNode(
        PodSpec((main, slow)),
        answers=lambda _path, now: FAIL if 10 <= now < 20 else PASS,
        runs=lambda name, _: Run(ends_in=60.0) if name == "slow" else Run(),
    )
    node.run(15)
    node.end("main")
    node.run(85)
    assert starts(node, "slow") == [0.0, 40.0]
    assert starts(node, "main")[1] >= 40.0


def test_a_startup_probe_keeps_the_others_from_being_asked() -> None:
    """No liveness and no readiness until it succeeded; its failure ends the container."""
    main = ContainerSpec(
        "main",
        startup_probe=probe("/up", failure_threshold=30),
        liveness_probe=probe("/live"),
        readiness_probe=probe("/ready"),
    )
    node = VirtualNode(pod(main), answers=lambda path, now: PASS if now >= 20 or path == "/none" else FAIL)
    node.run(40)
    assert node.told.find(What.FAILED, "main", subject="liveness") == []
    assert node.told.find(What.ENDING, "main") == []
    first = node.told.first(What.IN_SERVICE)
    assert first is not None
    assert 20 <= first.at <= 22
    assert node.told.find(What.PASSED, "main", subject="startup")[1:] == []

    never = VirtualNode(pod(main), answers=lambda _path, _now: FAIL)
    never.run(40)
    assert never.told.find(What.ENDING, "main")[0].words == "failed startup probe"


def test_a_pod_is_in_service_while_all_that_lasts_in_it_is_ready() -> None:
    """Native sidecars count; a container without a readiness probe counts as soon as it runs."""
    main = ContainerSpec("main", readiness_probe=probe("/ready"))
    node = VirtualNode(pod(main, NATIVE), answers=lambda _path, now: FAIL if 20 <= now < 30 else PASS)
    node.run(50)
    node.end("native")
    node.run(20)
    told = [(each.what, each.at) for each in node.told if each.what in (What.IN_SERVICE, What.OUT_OF_SERVICE)]
    assert [each for each, _ in told] == [
        What.IN_SERVICE,
        What.OUT_OF_SERVICE,
        What.IN_SERVICE,
        What.OUT_OF_SERVICE,
        What.IN_SERVICE,
    ]
    assert [at for _, at in told][1:3] == [20.0, 30.0]
    assert [at for _, at in told][3] == 51.0, "its end is seen within a second"
    assert node.told.find(What.OUT_OF_SERVICE)[1].words == "native"


def test_an_answer_that_is_late_is_a_failure_and_an_error_is_nothing() -> None:
    """The timeout is the probe's own; what can not be asked leaves everything as it was."""
    main = ContainerSpec("main", readiness_probe=probe("/ready", timeout_seconds=3))

    def answers(_path: str, now: float) -> Answer:
        if 10 <= now < 20:
            return Answer(None)
        return Answer(Result.SUCCESS, seconds=4.0) if 30 <= now < 40 else PASS

    node = VirtualNode(pod(main), answers=answers)
    node.run(60)
    assert node.told.find(What.ERRED, "main", subject="readiness") != []
    assert [each.at for each in node.told.find(What.OUT_OF_SERVICE)] == [33.0]


def test_what_must_end_and_is_not_to_be_restarted_stays_down() -> None:
    """In a pod that is never restarted a failed liveness probe ends the container for good."""
    node = VirtualNode(
        pod(ContainerSpec("main", liveness_probe=probe("/live")), restart_policy="Never"),
        answers=lambda _path, _now: FAIL,
    )
    node.run(30)
    assert len(starts(node, "main")) == 1
    assert len(node.told.find(What.ENDED, "main")) == 1
