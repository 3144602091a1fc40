"""Whose process tritonserver is, as ``/proc/<pid>/status`` tells it to everybody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.facts.container import Owner
from probe.sources.container.owner import owner

STATUS = b"Name:\ttritonserver\nUid:\t1\t%s\t1\t1\nGid:\t2\t%s\t2\t2\nGroups:\t2 3\nCapPrm:\t%s\nCapEff:\t0\n"


@pytest.mark.parametrize(
    ("uid", "gid", "permitted", "expected"),
    [
        (b"1000", b"1000", b"0000000000000000", Owner(1000, 1000, capable=False)),
        (b"0", b"0", b"00000000a80425fb", Owner(0, 0, capable=True)),
        (b"1000", b"0", b"0000000000080000", Owner(1000, 0, capable=True)),
        (b"x", b"0", b"0", None),
        (b"1", b"-1", b"0", None),
        (b"", b"1", b"0", None),
    ],
)
def test_the_owner_is_the_effective_user_and_group(
    uid: bytes, gid: bytes, permitted: bytes, expected: Owner | None
) -> None:
    """Those that whoever reads its files must match, and whether it holds capabilities."""
    assert owner(STATUS % (uid, gid, permitted)) == expected


def test_this_very_process_is_its_owner_s() -> None:
    """As the kernel writes it."""
    told = owner(Path("/proc/self/status").read_bytes())
    assert told is not None
    assert (told.uid, told.gid) == (os.geteuid(), os.getegid())


@given(st.binary(max_size=200) | st.none())
def test_no_bytes_make_it_raise(text: bytes | None) -> None:
    """Nor do they become somebody."""
    assert owner(text) is None
