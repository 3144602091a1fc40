"""A frozen cgroup of this machine's own kernel, for what a test started itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from probe.sources.container import cgroups
from testbed.tools import until


class FreezableCgroup:
    """A cgroup that can be frozen: version 1's ``freezer`` hierarchy or version 2's only one."""

    def __init__(self, version: int, folder: Path) -> None:
        self.version = version
        self.folder = folder

    def take(self, pid: int) -> None:
        """Move a process into it."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def freeze(self) -> None:
        """Hold everything in it, and wait until it is held."""
        if self.version == 1:
            self._write("freezer.state", "FROZEN")
            until(lambda: self._read("freezer.state") == "FROZEN\n")
        else:
            self._write("cgroup.freeze", "1")
            until(lambda: "frozen 1\n" in self._read("cgroup.events"))

    def thaw(self) -> None:
        """Let everything go on."""
        if self.version == 1:
            self._write("freezer.state", "THAWED")
        else:
            self._write("cgroup.freeze", "0")

    def below(self) -> FreezableCgroup:
        """A cgroup in it, removed with it."""
        folder = self.folder / "inner"
        folder.mkdir(exist_ok=True)
        return FreezableCgroup(self.version, folder)

    def remove(self) -> None:
        """Let go of everything in it, which goes to where it came from, and remove it."""
        self.thaw()
        inner = self.folder / "inner"
        if inner.exists():
            FreezableCgroup(self.version, inner).remove()
        home = self.folder.parent / "cgroup.procs"
        for pid in self._read("cgroup.procs").split():
            with contextlib.suppress(ProcessLookupError):
                home.write_text(pid)
        until(lambda: _removed(self.folder))

    def _read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)


def _removed(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()


@contextlib.contextmanager
def freezable_cgroup(version: int, scratch: Path) -> Iterator[FreezableCgroup]:
    """A cgroup of this test's own; ``scratch`` is where version 1's hierarchy may be mounted.

    Skips the test, with the reason, where this machine has no such hierarchy or grants none.
    """
    if os.geteuid() != 0:
        pytest.skip("making a cgroup needs root")
    with contextlib.ExitStack() as undone:
        top = _mounted(version) or (_mount(scratch, undone) if version == 1 else None)
        if top is None:
            pytest.skip("no cgroup2 file system is mounted here")
        try:
            # Not named for our pid: test runs in several pid namespaces may share the machine's cgroups.
            folder = Path(tempfile.mkdtemp(prefix="probe-test-", dir=top))
        except OSError as refused:
            pytest.skip(f"cgroups can not be made here: {refused}")
        made = FreezableCgroup(version, folder)
        if version == 2 and not (folder / "cgroup.freeze").exists():
            undone.callback(folder.rmdir)
            pytest.skip("this kernel's cgroup2 has no freezer (Linux 5.2)")
        undone.callback(made.remove)
        yield made


def _mounted(version: int) -> Path | None:
    known = cgroups.mounts(Path("/proc/self/mountinfo").read_bytes())
    fitting = (each for each in known if each.version == version and _freezes(each))
    return next((Path(os.fsdecode(each.point)) for each in fitting), None)


def _freezes(mount: cgroups.Mount) -> bool:
    return mount.version != 1 or b"freezer" in mount.controllers


def _mount(scratch: Path, undone: contextlib.ExitStack) -> Path:
    scratch.mkdir(exist_ok=True)
    command = ["mount", "-t", "cgroup", "-o", "freezer", "freezer", str(scratch)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode != 0:
        pytest.skip(f"the freezer of cgroup version 1 can not be mounted here: {told.stderr.strip()}")
    undone.callback(subprocess.run, ["umount", str(scratch)], check=True)
    return scratch
