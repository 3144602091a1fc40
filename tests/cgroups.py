"""Real cgroups of this machine, for tests of what the kernel counts and limits."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from probe.sources.container import cgroups
from testbed.tools import until


def own_place(controller: bytes) -> cgroups.Place | None:
    """Where this machine accounts this process."""
    known = cgroups.memberships(Path("/proc/self/cgroup").read_bytes())
    return cgroups.place(known, cgroups.mounts(Path("/proc/self/mountinfo").read_bytes()), controller)


def emptied(directory: Path) -> bool:
    """Whether the cgroup could be removed: its processes are all gone."""
    try:
        directory.rmdir()
    except OSError:
        return False
    return True


@pytest.fixture
def made_cgroup() -> Iterator[Callable[[bytes], Path]]:
    """Makes a cgroup of a controller beside this process's top, and removes it at the end.

    ``cgroups.UNIFIED``: one of version 2 without any controller.
    """
    made: list[Path] = []
    # Not our pid: test runs in several pid namespaces may share the machine's cgroups.
    name = f"probe-test-{secrets.token_hex(4)}"

    def make(controller: bytes) -> Path:
        place = own_place(controller)
        if place is None:
            pytest.skip(f"no mount of the {controller.decode()} controller")
        directory = Path(os.fsdecode(place.point)) / name
        if place.version == 2 and controller not in (
            cgroups.UNIFIED,
            *(directory.parent / "cgroup.subtree_control").read_bytes().split(),
        ):
            pytest.skip(f"{controller.decode()} is not enabled below {directory.parent}")
        try:
            directory.mkdir(exist_ok=True)
        except OSError as refused:
            pytest.skip(f"cgroups can not be made here: {refused}")
        made.append(directory)
        return directory

    yield make
    for directory in made:
        until(lambda directory=directory: emptied(directory) or not directory.exists())  # type: ignore[misc]


def limit_memory(directory: Path, size: int) -> str:
    """Set the limit; the name of the file it went into."""
    name = "memory.max" if (directory / "memory.max").exists() else "memory.limit_in_bytes"
    (directory / name).write_text(str(size))
    return name
