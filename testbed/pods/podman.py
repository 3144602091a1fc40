"""Podman with a state of its own: nothing that a user of this machine runs is seen or touched."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from probe.sandbox.errors import SandboxError
from probe.sources.container import cgroups
from testbed.pods.remnants import claimed_folder, remove, sweep
from testbed.tools import until

_SECONDS = 60.0
_SECONDS_TO_END = 20.0
_TOOLS = ("podman", "runc", "conmon")

# File locks: podman's usual ones lie in the host's /dev/shm under one name for all its users.
_CONFIGURATION = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "none"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime = "runc"
static_dir = "{folder}/static"
tmp_dir = "{folder}/tmp"
volume_path = "{folder}/volumes"
[network]
network_backend = "cni"
network_config_dir = "{folder}/networks"
"""


class Podman:
    """Podman's command line over a temporary folder; :meth:`close` leaves nothing behind."""

    def __init__(self) -> None:
        """Raises :class:`SandboxError` where podman can not run here."""
        absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
        if absent:
            raise SandboxError(
                f"{', '.join(absent)} not on this machine; on Debian: apt-get install podman runc"
            )
        if os.geteuid() != 0:
            raise SandboxError("limits on containers need root here; run the tests as root")
        sweep()
        self.folder, self._lock = claimed_folder()
        self.cgroup = f"/{self.folder.name}"
        """The cgroup, in every hierarchy, under which all of its containers are."""
        configuration = self.folder / "containers.conf"
        configuration.write_text(_CONFIGURATION.format(folder=self.folder))
        self.environment = {**os.environ, "CONTAINERS_CONF": str(configuration)}

    def command(self, *arguments: str) -> list[str]:
        """The whole command line of a call."""
        state = (f"--root={self.folder}/root", f"--runroot={self.folder}/run", "--storage-driver=vfs")
        return ["podman", *state, *arguments]

    def call(self, *arguments: str, seconds: float = _SECONDS) -> subprocess.CompletedProcess[str]:
        """Run a call to its end, for which it has so many seconds."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def group(self, controller: str, cgroup: str) -> Path:
        """The folder of a cgroup in version 1's hierarchy of this controller, made where it is not there."""
        for mount in cgroups.mounts(Path("/proc/self/mountinfo").read_bytes()):
            if mount.version == 1 and controller.encode() in mount.controllers:
                folder = Path(os.fsdecode(mount.point)) / cgroup[1:]
                folder.mkdir(parents=True, exist_ok=True)
                return folder
        raise SandboxError(f"no {controller} hierarchy of cgroup version 1 is mounted here")

    def close(self) -> None:
        """End and remove every container, the cgroups and the folder."""
        # A container that just ended is in the hands of its monitor for a moment.
        until(lambda: self.call("rm", "--all", "--force", "--time=0").returncode == 0, _SECONDS_TO_END)
        remove(self.folder)
        self._lock.close()
