"""A Guaranteed pod, of which the kernel kills processes one by one (``singleProcessOOMKill``)."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from probe.facts.findings import Finding
from probe.facts.status import ContainerStatus
from probe.sandbox.repositories import Repository
from testbed.machine.kubelet import Resources
from testbed.machine.plays import stage as stages
from testbed.machine.plays.stage import MIB, Kill, Stage, killed

NAME = "guaranteed"
LIMIT = 640 * MIB
RAISED = 704 * MIB
RESOURCES = Resources(
    memory_request=LIMIT,
    memory_limit=LIMIT,
    cpu_request=2000,
    cpu_limit=2000,
    pids_limit=1000,
    kill_alone=True,
)
_GROWS = {"execute": "grow", "execute_when": "positive", "grow_mib": "4000"}
_SPINS = "while True: pass"
_TAKES = "import sys, time; kept = b'x' * int(sys.argv[1]); time.sleep(1000)"
# Each child waits until the parent, which alone keeps the pipe open for writing, is gone.  It is no model that is
# loaded: tritonserver 2.51 itself ends where the fork of a stub is refused.
_FORKS = """
import os, time
reading, writing = os.pipe()
try:
    while os.fork():
        pass
    os.close(writing)
    os.read(reading, 1)
except BlockingIOError:
    time.sleep(1000)
"""


class Outgrown(msgspec.Struct, frozen=True):
    """A stub outgrew its container's limit at a request."""

    complaint: str
    kill: Kill
    dead: Finding
    gate_delay_seconds: float | None


class Ended(msgspec.Struct, frozen=True):
    """The kernel killed the whole container."""

    events: str
    """``memory.events`` of it, afterwards."""
    down: Finding
    gate_delay_seconds: float | None
    told: Finding


class Restarted(msgspec.Struct, frozen=True):
    """The container runs again, in a cgroup that counts from nothing."""

    counted: int
    told: Finding
    leaked: Finding
    regions: list[str]
    """What lay in ``/dev/shm`` from before, by name."""
    left: list[str]
    """What lies there once Triton runs without what was to be removed."""


class Swollen(msgspec.Struct, frozen=True):
    """A stub outgrew its container's limit in ``initialize``."""

    complaint: str
    failed: Finding


def open_stage() -> None:
    """Start it, with models that behave until they are asked not to."""
    stages.opened(Stage(NAME, _fill, RESOURCES, load=("hog",)), NAME).ready()


def close_stage() -> None:
    """End it."""
    stages.close(NAME)


def _fill(models: Repository) -> None:
    models.add_python("hog", kind="KIND_CPU", parameters=_GROWS)
    models.add_echo("swollen", kind="KIND_CPU", parameters={"memory_mib": "4000"})


def container() -> ContainerStatus:
    """What is told of the container, once it was looked at."""
    stage = stages.stage(NAME)
    stage.wait("a look at the container", lambda: stage.probe.status().container.cgroup)
    return stage.probe.status().container


def raised() -> ContainerStatus:
    """Raise the memory limit while everything runs, and what is told once it is seen."""
    stage = stages.stage(NAME)

    def seen() -> bool:
        return stage.probe.status().container.memory.limit_bytes == RAISED

    stage.container.write("memory.max", str(RAISED))
    stage.wait("the new limit to be seen", seen)
    told = stage.probe.status().container
    stage.container.write("memory.max", str(LIMIT))
    return told


def throttled() -> Finding:
    """A CPU limit of half a core, and a process of Triton's container that would take a whole one."""
    stage = stages.stage(NAME)
    stage.container.write("cpu.max", "50000 100000")
    spinning = stage.container.popen([sys.executable, "-I", "-S", "-c", _SPINS])
    try:
        return stage.finding("CpuThrottled")
    finally:
        stage.container.write("cpu.max", "200000 100000")
        spinning.stop(0.0)


def crowded() -> Finding:
    """A process of Triton's container that starts others until the limit refuses one."""
    stage = stages.stage(NAME)
    stage.container.write("pids.max", str(int(stage.container.read("pids.current")) + 10))
    forking = stage.container.popen([sys.executable, "-I", "-S", "-c", _FORKS])
    try:
        return stage.wait("a refused fork to be told", lambda: _refused(stage))
    finally:
        stage.container.write("pids.max", str(RESOURCES.pids_limit))
        forking.stop(0.0)


def _refused(stage: Stage) -> Finding | None:
    told = stage.probe.finding("PidsPressure")
    return told if told is not None and told.evidence.get("refused_lately") else None


def pressed() -> Finding:
    """A process of Triton's container that takes nearly all that is left of its memory."""
    stage = stages.stage(NAME)
    kept = int(stage.container.read("memory.current")) - stage.container.count("memory.stat", "file")
    ballast = LIMIT * 95 // 100 - kept
    taking = stage.container.popen([sys.executable, "-I", "-S", "-c", _TAKES, str(ballast)])
    try:
        return stage.finding("MemoryPressure")
    finally:
        taking.stop(0.0)


def outgrown() -> Outgrown:
    """A request makes a stub outgrow the limit."""
    stage = stages.stage(NAME)
    complaints: list[str] = []
    kill = killed(stage, lambda: complaints.append(stage.infer("hog")))
    dead = stage.finding("StubDead", "hog")
    return Outgrown(complaints[0], kill, dead, stage.moved("StubDead"))


def ended() -> Ended:
    """With the kubelet's default, ``memory.oom.group``, the same request ends everything in the container."""
    stage = stages.stage(NAME)
    stage.reload("hog")
    stage.clear("StubDead", "hog")
    stage.container.write("memory.oom.group", "1")
    stage.wait("the switch to be seen", lambda: stage.probe.status().container.memory.oom_group)
    stage.infer("hog")
    down = stage.finding("TritonDown")
    stage.triton.program.wait(stages.SECONDS)
    stage.wait("the last of its processes to end", lambda: not stage.container.read("cgroup.procs"))
    told = stage.wait("the kill of the whole container to be told", lambda: _whole(stage))
    return Ended(stage.container.read("memory.events"), down, stage.moved("TritonDown"), told)


def _whole(stage: Stage) -> Finding | None:
    told = stage.probe.finding("OomKilled")
    return told if told is not None and told.evidence.get("whole_container") else None


def restarted() -> Restarted:
    """The container is made anew, as the kubelet does; what lay in the pod's ``/dev/shm`` lies there still."""
    stage = stages.stage(NAME)
    regions = _regions(stage)
    stage.restart()
    stage.ready()
    leaked = stage.finding("ShmLeaked")
    told = stage.finding("OomKilled")
    counted = stage.container.count("memory.events", "oom_kill")
    for each in regions:
        Path(_shm(stage), each).unlink()
    stage.clear("ShmLeaked")
    return Restarted(counted, told, leaked, regions, _regions(stage))


def _shm(stage: Stage) -> Path:
    return Path(f"/proc/{stage.pod.init_pid}/root/dev/shm")


def _regions(stage: Stage) -> list[str]:
    return sorted(each.name for each in _shm(stage).glob("triton_python_backend_shm_region_*"))


def swollen() -> Swollen:
    """A model that is loaded now outgrows the limit before it is."""
    stage = stages.stage(NAME)
    complaint = stage.load("swollen")
    return Swollen(complaint, stage.finding("ModelLoadFailed", "swollen"))
