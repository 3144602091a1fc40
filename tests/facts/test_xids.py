"""The catalogues of Xids and of recovery actions: every code in one class, with a remedy."""

from __future__ import annotations

import pytest

from probe.facts import recoveries
from probe.facts.xids import FELL_OFF_THE_BUS, KNOWN, XidClass, meaning

APPLICATION, INFORMATIONAL, FOLLOW = XidClass.APPLICATION, XidClass.INFORMATIONAL, XidClass.FOLLOW
RESET, REBOOT, MECHANICAL = XidClass.RESET, XidClass.REBOOT, XidClass.MECHANICAL

TABLE: dict[XidClass, set[int]] = {
    APPLICATION: {
        *(
            8,
            11,
            13,
            25,
            31,
            32,
            39,
            40,
            41,
            60,
            68,
            69,
            70,
            71,
            72,
            75,
            76,
            77,
            80,
            82,
            83,
            84,
            85,
            86,
            88,
            89,
        ),
        *range(96, 106),
        *range(126, 136),
        *(94, 109, 139),
    },
    RESET: {46, 62, 64, 95, 110, 119, 120, 136, 140, 143, 155, 156, 158},
    REBOOT: {79, 151},
    MECHANICAL: {54},
    INFORMATIONAL: {
        *(37, 38, 43, 44, 63, 66, 67, 92, 93, 106, 107, 121, 137, 141, 152, 153, 157, 160, 161),
    },
    FOLLOW: {45, 48, 74, 78, *range(144, 151), 154, 168, 171, 172},
}
"""NVIDIA's catalogue, written by hand, but for 109, which that catalogue answers with a reset."""


@pytest.mark.parametrize("kind", TABLE)
def test_every_code_is_in_the_class_that_the_driver_s_catalogue_gives_it(kind: XidClass) -> None:
    """And in no other."""
    assert {code for code, each in KNOWN.items() if each.kind is kind} == TABLE[kind]


def test_only_the_hardware_s_classes_are_the_hardware_s() -> None:
    """What a program did, what follows another, and what nobody knows is none."""
    assert [kind for kind in XidClass if kind.hardware] == [RESET, REBOOT, MECHANICAL]


def test_a_code_that_this_release_does_not_know_is_said_to_be_unknown() -> None:
    """It is neither grave nor harmless."""
    told = meaning(4711)
    assert told.kind is XidClass.UNKNOWN
    assert "not known to this release" in told.words
    assert "catalogue" in told.remedy


def test_a_context_switch_that_timed_out_is_the_application_s() -> None:
    """Where it needs a reset all the same, the recovery action says so."""
    assert meaning(109).kind is APPLICATION


def test_every_code_has_a_remedy_and_that_of_hardware_is_no_restart_of_triton() -> None:
    """A restart puts the same work on the same GPU."""
    for each in KNOWN.values():
        assert each.remedy.endswith(".")
        assert ("Restarting Triton does not help" in each.remedy) == each.kind.hardware


def test_the_code_of_a_lost_gpu_asks_for_a_reboot() -> None:
    """It is the one that says what NVML says too."""
    assert meaning(FELL_OFF_THE_BUS).kind is REBOOT
    assert "fell off the bus" in meaning(FELL_OFF_THE_BUS).words


@pytest.mark.parametrize(
    ("action", "asks", "peers"),
    [
        ("reset_required", "is reset", False),
        ("gpu_reset", "is reset", False),
        ("node_reboot", "node is rebooted", False),
        ("drain_p2p", "traffic between GPUs", True),
        ("drain_and_reset", "takes no new work", False),
        ("recover_imex_domain", "IMEX", True),
        ("bus_reset", "bus is reset", False),
        ("system_reboot", "whole system", False),
        ("action_9", "not known to this release (action_9)", False),
    ],
)
def test_each_recovery_action_says_what_it_asks_for(action: str, asks: str, *, peers: bool) -> None:
    """One that only concerns traffic between GPUs leaves work on this one alone."""
    told = recoveries.recovery(action)
    assert asks in told.asks
    assert told.peers is peers
    assert told.remedy.endswith(".")
