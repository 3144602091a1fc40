"""Pods as a node of Kubernetes with cgroup version 2 makes them, for use in the machine.

What the kubelet and a container runtime do is done here by hand: a cgroup for each class, pod and container, with
the limits that follow from ``resources``; a pid and an ipc namespace and a ``/dev/shm`` for the pod; a mount and a
cgroup namespace for each container, in which ``/sys/fs/cgroup`` is its own cgroup, read-only; no capability, and
a user who is not root.  Sources: kubelet ``pkg/kubelet/cm`` and ``qos/policy.go``, Kubernetes 1.28 to 1.33.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from pathlib import Path
from typing import Self

import msgspec

from probe.sandbox.pods import Pod

ROOT = Path("/sys/fs/cgroup")
_CONTROLLERS = "+cpu +memory +pids"
_PERIOD = 100_000
_SECONDS_TO_EMPTY = 10.0
_NUMBERS = itertools.count(1)

# Joins the container's cgroup before anything else, so that nothing of it is accounted elsewhere.
_JOIN = 'echo 0 >"$1/cgroup.procs" && echo "$2" >/proc/self/oom_score_adj && shift 2 && exec "$@"'
_SETTLE = """
umount /sys/fs/cgroup && mount -t cgroup2 -o ro,nosuid,nodev,noexec cgroup2 /sys/fs/cgroup &&
exec setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps -all --bounding-set -all --no-new-privs "$@"
"""


class Resources(msgspec.Struct, frozen=True):
    """A container's ``resources``: bytes of memory and thousandths of a core; what is not set is None.

    ``kill_alone`` is the kubelet's ``singleProcessOOMKill``: without it, an OOM kill takes the whole container.
    """

    memory_request: int | None = None
    memory_limit: int | None = None
    cpu_request: int | None = None
    cpu_limit: int | None = None
    pids_limit: int | None = None
    kill_alone: bool = False

    @property
    def qos(self) -> str:
        """The class of a pod whose containers all have these."""
        if self == Resources(pids_limit=self.pids_limit, kill_alone=self.kill_alone):
            return "besteffort"
        limits = (self.memory_limit, self.cpu_limit)
        same = limits == (self.memory_request, self.cpu_request)
        return "guaranteed" if same and None not in limits else "burstable"

    @property
    def oom_score_adj(self) -> int:
        """What its processes start with; a burstable one's share of a node is taken as a half."""
        return {"guaranteed": -997, "besteffort": 1000}.get(self.qos, 500)

    @property
    def weight(self) -> int:
        """``cpu.weight``, from shares as runc converts them."""
        shares = max(2, (self.cpu_request or 0) * 1024 // 1000)
        return 1 + (shares - 2) * 9999 // 262_142

    def write(self, cgroup: Path) -> None:
        """Set the limits of a cgroup."""
        quota = "max" if self.cpu_limit is None else str(self.cpu_limit * _PERIOD // 1000)
        limit = "max" if self.memory_limit is None else str(self.memory_limit)
        (cgroup / "memory.max").write_text(limit)
        (cgroup / "cpu.max").write_text(f"{quota} {_PERIOD}")
        (cgroup / "cpu.weight").write_text(str(self.weight))
        (cgroup / "pids.max").write_text("max" if self.pids_limit is None else str(self.pids_limit))
        (cgroup / "memory.oom.group").write_text(str(int(not self.kill_alone)))


class Container(Pod):
    """A container of a pod: a cgroup of its own, and what a runtime isolates.  Its pod ends it."""

    def __init__(self, pod: NodePod, name: str, resources: Resources) -> None:
        super().__init__(pod._holder, pod.init_pid)  # noqa: SLF001  (it lives in its pod)
        self.resources = resources
        self.cgroup = pod.cgroup / f"{name}-{next(_NUMBERS)}"
        self.cgroup.mkdir()
        resources.write(self.cgroup)

    def read(self, name: str) -> str:
        """A file of its cgroup."""
        return (self.cgroup / name).read_text()

    def write(self, name: str, text: str) -> None:
        """Write one, as the runtime does."""
        (self.cgroup / name).write_text(text)

    def count(self, name: str, entry: str) -> int:
        """A number in a file of names and numbers (``memory.events``, ``cpu.stat``); 0 where it is not there."""
        entries = dict(line.split() for line in self.read(name).splitlines())
        return int(entries.get(entry, 0))

    def remove(self) -> None:
        """Kill all that is left of it, and remove its cgroup."""
        self.write("cgroup.kill", "1")
        self._reap()
        deadline = time.monotonic() + _SECONDS_TO_EMPTY
        while "populated 0" not in self.read("cgroup.events") and time.monotonic() < deadline:
            time.sleep(0.01)
        self.cgroup.rmdir()

    def close(self) -> None:
        """Remove it; twice is the same as once."""
        if self.cgroup.exists():
            self.remove()

    def _entry(self) -> tuple[str, ...]:
        join = ("sh", "-c", _JOIN, "sh", str(self.cgroup), str(self.resources.oom_score_adj))
        return (*join, *super()._entry(), "unshare", "--mount", "--cgroup", "sh", "-c", _SETTLE, "sh")


class NodePod(Pod):
    """A pod on the machine, which is a node; :meth:`open` makes one, closing it removes its containers."""

    cgroup: Path
    containers: list[Container]

    @classmethod
    def of(cls, resources: Resources, *, shm_bytes: int = 64 << 20) -> Self:
        """A pod of the class of ``resources``, which its container Triton has."""
        pod = cls.open(shm_bytes=shm_bytes)
        above = _cgroup("kubepods")
        if resources.qos != "guaranteed":
            above = _cgroup("kubepods", resources.qos)
        pod.cgroup = above / f"pod{next(_NUMBERS)}"
        pod.cgroup.mkdir()
        _delegate(pod.cgroup)
        pod.containers = []
        return pod

    def container(self, name: str, resources: Resources) -> Container:
        """Make one; nothing runs in it yet."""
        made = Container(self, name, resources)
        self.containers.append(made)
        return made

    def close(self) -> None:
        """End everything in it, and remove its cgroups."""
        for each in self.containers:
            each.close()
        super().close()
        with contextlib.suppress(FileNotFoundError):
            self.cgroup.rmdir()


def node_memory(limit: int | None) -> None:
    """Limit what all pods have together, as a kubelet that enforces what the node can allocate."""
    (_cgroup("kubepods") / "memory.max").write_text("max" if limit is None else str(limit))


def delegate_root() -> None:
    """Let cgroups be made at the top of the machine's hierarchy with every controller that limits."""
    _delegate(ROOT)


def _cgroup(*names: str) -> Path:
    folder = ROOT
    _delegate(folder)
    for name in names:
        folder /= name
        folder.mkdir(exist_ok=True)
        _delegate(folder)
    return folder


def _delegate(folder: Path) -> None:
    (folder / "cgroup.subtree_control").write_text(_CONTROLLERS)
