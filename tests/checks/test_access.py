"""Does the probe that was refused something name the very lines that let it see?"""

from __future__ import annotations

import re

import pytest
import yaml

from probe.checks.container.access import remedy
from probe.facts.container import Owner

LINE = re.compile(r"securityContext: \{(?:[^{}]|\{[^{}]*\})*\}")
TRACING = {"runAsUser": 0, "capabilities": {"add": ["SYS_PTRACE"]}}


def contexts(owner: Owner | None) -> list[object]:
    """Every security context that the remedy would have somebody paste, as YAML reads it."""
    return [yaml.safe_load(line)["securityContext"] for line in LINE.findall(remedy(owner))]


@pytest.mark.parametrize(("uid", "gid"), [(1000, 1000), (1000, 0), (0, 0), (65534, 7)])
def test_a_triton_without_capabilities_is_seen_by_its_own_user(uid: int, gid: int) -> None:
    """Its user and group, all capabilities dropped; its group counts as well as its user."""
    wanted = {"runAsUser": uid, "runAsGroup": gid, "capabilities": {"drop": ["ALL"]}}
    assert contexts(Owner(uid, gid, capable=False)) == [wanted, TRACING]


def test_a_triton_with_capabilities_is_seen_by_who_holds_no_fewer() -> None:
    """Better without any on both sides; else nothing that it keeps may be dropped."""
    both = {"runAsUser": 1000, "runAsGroup": 1000, "capabilities": {"drop": ["ALL"]}}
    assert contexts(Owner(0, 0, capable=True)) == [both, {"runAsUser": 0, "runAsGroup": 0}, TRACING]


def test_an_owner_that_is_not_known_is_not_made_up() -> None:
    """The remedy says where to look for the numbers."""
    assert contexts(None) == [TRACING]
    assert all(word in remedy(None) for word in ("runAsUser", "runAsGroup", "Triton's container"))
