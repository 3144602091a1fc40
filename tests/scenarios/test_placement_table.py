"""The table of placements: real models on the real Triton, every way to look at them, and what is concluded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from probe.facts.placement import EvidenceMode
from probe.sandbox.wheel import TritonInstallation
from testbed.placement.cases import UNPROVEN, Case, Plan, Sight, false_absences
from testbed.placement.rows import PLANS
from testbed.placement.sights import uuid_of
from testbed.placement.stage import Concluded, play

MIB = 1 << 20

Played = Callable[[Plan], Concluded]

ROWS = [(plan, case, sight) for plan in PLANS for case in plan.cases for sight in plan.sights]
IN_STUBS = [each for each in ROWS if each[1].in_stubs]


def named(value: object) -> str:
    """How a row is called in the test's name."""
    return value.name if isinstance(value, Plan | Case | Sight) else ""


@pytest.fixture(scope="module")
def played(
    pods_work: None, triton_installation: TritonInstallation, tmp_path_factory: pytest.TempPathFactory
) -> Played:
    """Play a plan at its first use: one Triton, and a daemon for each sight beside it."""
    told: dict[str, Concluded] = {}

    def get(plan: Plan) -> Concluded:
        if plan.name not in told:
            told[plan.name] = play(triton_installation, tmp_path_factory.mktemp("plan"), plan)
        return told[plan.name]

    return get


@pytest.mark.parametrize(("plan", "case", "sight"), ROWS, ids=named)
def test_a_placement_is_concluded_from_what_can_be_seen_and_no_further(
    played: Played, plan: Plan, case: Case, sight: Sight
) -> None:
    """Declared, expected, verdict and reasons are the row's; of what lists can not prove nothing is claimed."""
    concluded = played(plan)[case.name, sight]
    assert concluded.mode is sight.mode
    assert (concluded.declared, concluded.expected) == (case.declared, case.expected)
    assert concluded.outcome == case.outcome(sight), concluded.why
    assert false_absences(case, sight, concluded) == frozenset()


@pytest.mark.parametrize(("plan", "case", "sight"), IN_STUBS, ids=named)
def test_gpus_and_bytes_are_those_of_the_models_own_processes(
    played: Played, plan: Plan, case: Case, sight: Sight
) -> None:
    """To the UUID and byte where lists can be trusted; no figure at all where memory or lists can not be."""
    concluded = played(plan)[case.name, sight]
    seen = [each for each in case.holds if not (sight is Sight.ONE_LIST and each.gpu == 0)]
    if sight in UNPROVEN:
        seen = []
    assert concluded.gpus == tuple(sorted({uuid_of(each.gpu, each.device) for each in seen}))
    told = sum(each.mib * MIB for each in seen) if concluded.mode is EvidenceMode.FULL else 0
    assert concluded.gpu_memory_bytes == (told or None)
