"""Does the probe say what it can not see: NVML, and sources that stopped delivering?"""

from __future__ import annotations

import pytest

from probe.checks import nvml, roster, staleness
from probe.checks.observation import Staleness
from probe.facts.catalogue import CATALOGUE
from probe.facts.findings import SubjectKind
from probe.facts.nvml import NvmlState
from tests.worlds import START, World, gpu, python_model, serving

FRESH = World()
WORKED = World().looks(gpu(processes={}))


@pytest.mark.parametrize(
    ("before", "state", "reason", "said", "cure"),
    [
        (FRESH, NvmlState.NO_LIBRARY, "NvmlUnavailable", "libnvidia-ml.so.1", "NVIDIA_VISIBLE_DEVICES"),
        (FRESH, NvmlState.NO_DRIVER, "NvmlUnavailable", "no NVIDIA driver", "NVIDIA_VISIBLE_DEVICES"),
        (FRESH, NvmlState.NO_PERMISSION, "NvmlUnavailable", "may not open", "/dev/nvidiactl"),
        (FRESH, NvmlState.UNKNOWN_ERROR, "NvmlUnavailable", "does not answer", "kernel log"),
        (WORKED, NvmlState.UNKNOWN_ERROR, "NvmlAccessLost", "now answers 999", "Recreate the pod"),
        (FRESH, NvmlState.VERSION_MISMATCH, "NvmlVersionMismatch", "was upgraded", "Recreate the pod"),
        (WORKED, NvmlState.VERSION_MISMATCH, "NvmlVersionMismatch", "was upgraded", "Recreate the pod"),
        (FRESH, NvmlState.HUNG, "NvmlHung", "has not come back for 12 s", "Xid"),
        (WORKED, NvmlState.ERROR, "NvmlUnavailable", "does not answer", "kernel log"),
    ],
)
def test_each_state_of_nvml_has_its_reason_and_its_cure(
    before: World, state: NvmlState, reason: str, said: str, cure: str
) -> None:
    """At once, and with what is unknown because of it."""
    seconds = 12.0 if state is NvmlState.HUNG else 0.0
    seen = before.looks(state=state, detail="the detail", code=3, outstanding_seconds=seconds)
    (claim,) = seen.claims(nvml.judge)
    assert claim.reason == reason
    assert claim.subject.source == "nvml"
    assert said in claim.message
    assert "nothing is concluded from its silence" in claim.message
    assert ("(the detail)" in claim.message) == (state is not NvmlState.HUNG)
    assert cure in claim.remedy
    assert claim.evidence == {
        "state": state.value,
        "code": 3,
        "detail": "the detail",
        "outstanding_seconds": seconds or None,
    }
    assert CATALOGUE[reason].fails == ()


@pytest.mark.parametrize("seen", [FRESH, WORKED, FRESH.looks()])
def test_an_nvml_that_answers_or_was_not_asked_is_not_told(seen: World) -> None:
    """No GPU is an answer."""
    assert seen.reasons(nvml.judge) == []


def test_an_nvml_without_a_detail_has_no_brackets() -> None:
    """Nothing is made up."""
    (claim,) = FRESH.looks(state=NvmlState.NO_LIBRARY).claims(nvml.judge)
    assert "()" not in claim.message


@pytest.mark.parametrize(
    ("source", "age", "error", "said"),
    [
        ("triton", 20.4, "live: timeout", "source triton last delivered 20 s ago: live: timeout."),
        ("triton", 20.4, "", "the state of the server and its models"),
        ("nvml", None, "", "source nvml has not delivered yet: no answer."),
        ("processes", 9.0, "", "stub processes and their exits"),
        ("container", 9.0, "", "the limits and use of Triton's container"),
        ("new", 9.0, "", "what it shows"),
    ],
)
def test_a_stale_source_is_told_with_what_is_not_known(
    source: str, age: float | None, error: str, said: str
) -> None:
    """Verdicts stand as last seen."""
    seen = World(stale=(Staleness(source, age, error, START),))
    (claim,) = seen.claims(staleness.judge)
    assert claim.reason == "ObservationStale"
    assert (claim.subject.kind, claim.subject.source) == (SubjectKind.PROBE, source)
    assert said in claim.message
    assert claim.observed == START
    assert claim.evidence == {"source": source, "age_seconds": age, "error": error}


def test_a_stale_source_takes_no_verdict_back() -> None:
    """What was last seen still holds beside it."""
    seen = serving(python_model("m")).exits(100, signal=9).scans().polls()
    stale = seen.having(stale=(Staleness("triton", 30.0, "x", START),))
    assert stale.reasons() == [*seen.reasons(), "ObservationStale"]


def test_the_roster_asks_every_check_in_the_order_of_its_list() -> None:
    """The container's check is asked once there is a reading."""
    seen = serving(python_model("m"), server=None).looks(state=NvmlState.NO_LIBRARY)
    assert seen.reasons(roster.judge)[-2:] == ["NvmlUnavailable", "ProcessesNotShared"]
    assert seen.contained(denied=("shm",)).reasons(roster.judge)[-1] == "ProcessAccessDenied"
