"""Trees of files shaped like a ``/proc`` with one process in each kind of cgroup."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from probe.facts.container import ContainerReading, CpuUse, Limit, MemoryUse, PidsUse
from probe.sources.container.source import ContainerSource

PID, START_TICKS = 42, 4200
GIB, MIB = 1 << 30, 1 << 20
V1_UNLIMITED = "9223372036854771712"
V2_MOUNT = "31 23 0:28 {root} /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate"
V2_FILES = {
    "memory.max": "8589934592",
    "memory.current": "3221225472",
    "memory.peak": "4294967296",
    "memory.stat": "anon 5\nshmem 33554432\ninactive_anon 7\ninactive_file 1073741824\nactive_file 9\n",
    "memory.events": "low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\noom_group_kill 1\n",
    "memory.oom.group": "1",
    "memory.pressure": "some avg10=0.00 avg60=0.10 avg300=0.00 total=2500000\nfull avg10=0.00 total=7\n",
    "cpu.max": "150000 100000",
    "cpu.stat": "usage_usec 61000000\nuser_usec 1\nnr_periods 9\nnr_throttled 4\nthrottled_usec 500000\n",
    "cpu.weight": "39",
    "cpu.pressure": "some avg10=0.00 avg60=0.10 avg300=0.00 total=1500000\nfull avg10=0.00 total=0\n",
    "pids.max": "1024",
    "pids.current": "77",
    "pids.events": "max 6\n",
}
V2_READ = (
    MemoryUse(
        Limit(8 * GIB, "/sys/fs/cgroup/memory.max"),
        3 * GIB,
        2 * GIB,
        4 * GIB,
        oom_kills=2,
        stall_seconds=2.5,
        oom_kills_path="/sys/fs/cgroup/memory.events",
        shmem_bytes=32 * MIB,
        oom_group_kills=1,
        oom_group=True,
        active_file_bytes=9,
    ),
    CpuUse(
        Limit(1.5, "/sys/fs/cgroup/cpu.max"),
        61.0,
        0.5,
        periods=9,
        throttled_periods=4,
        weight=39,
        stall_seconds=1.5,
    ),
    PidsUse(Limit(1024, "/sys/fs/cgroup/pids.max"), 77, refused=6),
)
V1_CGROUP = "5:memory:/kubepods/pod1/c1\n4:cpu,cpuacct:/kubepods/pod1/c1\n3:pids:/kubepods/pod1/c1\n"
V1_MOUNTS = "\n".join(
    f"{31 + index} 30 0:{29 + index} /kubepods/pod1/c1 /sys/fs/cgroup/{name} ro - cgroup cgroup rw,{name}"
    for index, name in enumerate(("memory", "cpu,cpuacct", "pids", "name=systemd"))
)
V1_FILES = {
    "memory/memory.limit_in_bytes": "8589934592",
    "memory/memory.usage_in_bytes": "3221225472",
    "memory/memory.max_usage_in_bytes": "4294967296",
    "memory/memory.stat": (
        "shmem 7\ninactive_file 5\ntotal_shmem 33554432\ntotal_inactive_file 1073741824\ntotal_active_file 9\n"
    ),
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "cpu,cpuacct/cpu.cfs_quota_us": "150000",
    "cpu,cpuacct/cpu.cfs_period_us": "100000",
    "cpu,cpuacct/cpu.stat": "nr_periods 9\nnr_throttled 4\nthrottled_time 500000000\n",
    "cpu,cpuacct/cpu.shares": "1024",
    "cpu,cpuacct/cpuacct.usage": "61000000000",
    "pids/pids.max": "1024",
    "pids/pids.current": "77",
    "pids/pids.events": "max 6\n",
}
V1_READ = (
    MemoryUse(
        Limit(8 * GIB, "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        3 * GIB,
        2 * GIB,
        4 * GIB,
        oom_kills=2,
        oom_kills_path="/sys/fs/cgroup/memory/memory.oom_control",
        shmem_bytes=32 * MIB,
        active_file_bytes=9,
    ),
    CpuUse(
        Limit(1.5, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us"),
        61.0,
        0.5,
        periods=9,
        throttled_periods=4,
        weight=39,
    ),
    PidsUse(Limit(1024, "/sys/fs/cgroup/pids/pids.max"), 77, refused=6),
)


class Tree:
    """A ``/proc`` with one process in it."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.base = proc / str(PID)
        self.cgroup_fs = self.base / "root/sys/fs/cgroup"
        self.cgroup_fs.mkdir(parents=True)
        (self.base / "root/dev/shm").mkdir(parents=True)
        (self.base / "oom_score_adj").write_text("-997\n")
        self.starts(START_TICKS)

    def starts(self, ticks: int) -> None:
        """Say when the process began."""
        fields = ["0"] * 49
        fields[0], fields[17], fields[19] = "S", "1", str(ticks)
        (self.base / "stat").write_text(f"{PID} (tritonserver) {' '.join(fields)}\n")

    def process(self, cgroup: str, mounts: str) -> None:
        """Say where the process is and what is mounted."""
        (self.base / "cgroup").write_text(cgroup)
        (self.base / "mountinfo").write_text(mounts + "\n")

    def put(self, contents: dict[str, str], below: str = ".") -> None:
        """Write files below ``/sys/fs/cgroup``."""
        for name, text in contents.items():
            path = self.cgroup_fs / below / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")

    def look(self) -> ContainerReading:
        """Look at the process, and check that the answer can be printed."""
        reading = ContainerSource(self.proc).look(PID)
        msgspec.json.encode(reading)
        return reading


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A process that has nothing but an ``oom_score_adj`` and an empty root."""
    return Tree(tmp_path)
