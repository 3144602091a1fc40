"""What containers leave on a machine, and its removal: also what a test run left that was killed."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from probe.sandbox.processes import all_pids, read_process
from probe.sources.container import cgroups
from testbed.tools import until

PREFIX = "triton-probe-pods-"
_SECONDS_TO_END = 20.0
_ALIVE = "alive"


def claimed_folder() -> tuple[Path, IO[bytes]]:
    """Make a folder, whose name is that of a cgroup too, and a lock on it: the kernel lets go of it with us."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    folder.chmod(0o755)
    lock = (folder / "new").open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    # Only now has it a name that somebody who sweeps looks for.
    (folder / "new").rename(folder / _ALIVE)
    return folder, lock


def sweep() -> None:
    """Remove the folders, cgroups and mounts of those who are gone and could not do it themselves."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), (folder / _ALIVE).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _busy(folder.name):
                remove(folder)


def remove(folder: Path) -> None:
    """Remove it with what belongs to it, as soon as no process is about it any more."""
    # What podman leaves to its monitors goes on for a moment, and would make the folder anew.
    until(lambda: not _busy(folder.name), _SECONDS_TO_END)
    for mount in cgroups.mounts(Path("/proc/self/mountinfo").read_bytes()):
        until(functools.partial(_removed, Path(os.fsdecode(mount.point)) / folder.name), _SECONDS_TO_END)
    points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    for point in [each for each in points if each.startswith(f"{folder}/")]:
        subprocess.run(["umount", point], check=True)
    shutil.rmtree(folder)


def _busy(name: str) -> bool:
    processes = (read_process(each) for each in all_pids())
    return any(name in word for each in processes if each for word in each.arguments)


def _removed(group: Path) -> bool:
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
    return not group.exists()
