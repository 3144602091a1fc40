"""Do the figures of the kubelet's probes hold what they promise?"""

from __future__ import annotations

import msgspec

from probe.facts.wiring import GUARANTEED, LIVENESS, OWN_LIVENESS, READINESS, RESOURCES, SECURITY, STARTUP


def test_a_probe_in_its_longest_back_off_restarts_nobody() -> None:
    """The kubelet waits 300 s at most before it starts a container again."""
    assert LIVENESS.seconds_to_fail > 300 + OWN_LIVENESS.timeout_seconds


def test_a_probe_that_hangs_is_back_before_triton_would_be_restarted() -> None:
    """Whatever grace the pod gives Triton: its own probe ends it, kills it, and it has 30 s to answer again."""
    hung = OWN_LIVENESS.seconds_to_fail + OWN_LIVENESS.timeout_seconds
    assert OWN_LIVENESS.grace_seconds is not None
    assert OWN_LIVENESS.grace_seconds >= 2
    least = (LIVENESS.failure_threshold - 1) * LIVENESS.period_seconds
    assert hung + OWN_LIVENESS.grace_seconds + 30 < least


def test_one_bad_answer_takes_a_pod_out_of_service() -> None:
    """Within one period: what may pass by itself the daemon has waited for."""
    assert READINESS.failure_threshold == 1


def test_a_load_of_an_hour_is_waited_for() -> None:
    """A startup probe that gives up kills a Triton that is loading."""
    assert STARTUP.seconds_to_fail >= 3600


def test_no_probe_is_asked_again_before_it_has_timed_out() -> None:
    """The kubelet asks one after the other; a longer timeout would stretch the period."""
    for each in (READINESS, LIVENESS, STARTUP, OWN_LIVENESS):
        assert each.timeout_seconds <= each.period_seconds


def test_the_records_are_what_a_manifest_says() -> None:
    """Their names are those of Kubernetes, and what is not stated is not written."""
    assert msgspec.to_builtins(RESOURCES) == {
        "requests": {"cpu": "20m", "memory": "96Mi"},
        "limits": {"memory": "192Mi"},
    }
    assert msgspec.json.decode(msgspec.json.encode(SECURITY)) == {
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_a_guaranteed_pod_stays_one() -> None:
    """Its class is lost where one container asks for less than it is limited to."""
    assert GUARANTEED.requests == GUARANTEED.limits
    assert GUARANTEED.limits.memory == RESOURCES.limits.memory
