"""What is known of the driver's releases?"""

from __future__ import annotations

import pytest

from probe.facts.drivers import hint_on_memory, hint_on_pids, release, shown


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("570.86.15", (570, 86)),
        ("535.104", (535, 104)),
        ("560", (560, 0)),
        ("", None),
        (None, None),
        ("what", None),
        ("570.x", None),
        ("9999999.1", None),
        ("\u0665\u0667\u0660.1", None),
    ],
)
def test_a_release_is_its_first_two_numbers(version: str | None, told: tuple[int, int] | None) -> None:
    """What is no version is none."""
    assert release(version) == told


@pytest.mark.parametrize(
    ("version", "pids", "memory"),
    [
        ("525.60.13", "list the host's pids", ""),
        ("535.104.05", "list the host's pids", ""),
        ("535.113.01", "of the asking process's pid namespace", "give none outside"),
        ("560.35.03", "of the asking process's pid namespace", "give none outside"),
        ("565.57.01", "of the asking process's pid namespace", ""),
        ("580.1", "of the asking process's pid namespace", ""),
        (None, "", ""),
    ],
)
def test_hints_go_by_the_release(version: str | None, pids: str, memory: str) -> None:
    """Where nothing is known of it, nothing is said."""
    assert pids in hint_on_pids(version)
    assert bool(pids) == bool(hint_on_pids(version))
    assert memory in hint_on_memory(version)
    assert bool(memory) == bool(hint_on_memory(version))


def test_an_unknown_driver_is_named_so() -> None:
    """No release is made up."""
    assert shown("570.1") == "driver 570.1"
    assert shown(None) == "driver of unknown release"
