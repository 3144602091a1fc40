"""How long after the kernel's own event does the probe tell what became of a container that is too small?

Real pods with real limits, one for each sample, and the shipped interval of 5 s.  The event is read where the
kernel counts it, all the time; the finding is asked of ``/status``.  What the kernel tells nobody about is found at
the next look, or after the window that a rate needs: that is what these figures are for.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.harness import MILLISECONDS, BenchError, Measured, Options, of_values
from probe.sandbox.client import TritonError
from probe.sandbox.daemon import OPEN
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from probe.sandbox.wheel import TritonInstallation, installed_triton
from testbed.pods.models import add_greedy
from testbed.pods.pod import MIB, LimitedPod
from testbed.pods.podman import Podman
from testbed.pods.resources import Resources

NAME = "pods"
TIMES, QUICK_TIMES = 10, 1
PERIOD = 0.002
"""Seconds between two reads of the kernel's file, and of ``/status``."""
_GIVE_UP = 45.0
_LIMITED = Resources(memory=256 * MIB, cpu=2.0, pids=200)


class Case(msgspec.Struct, frozen=True):
    """One thing that happens to a container: what does it, when it has happened, and by which reason it is told."""

    name: str
    reason: str
    act: Callable[[LimitedPod, TritonServer], object]
    happened: Callable[[Path], bool]
    """Of Triton's ``/proc/<pid>/root``."""
    shm_bytes: int = 64 * MIB


def _asks(model: str, value: float) -> Callable[[LimitedPod, TritonServer], object]:
    return lambda _, server: server.client.infer(model, (value,), seconds=_GIVE_UP)


def _loads(model: str) -> Callable[[LimitedPod, TritonServer], object]:
    return lambda _, server: server.client.load(model, seconds=_GIVE_UP)


def _throttle(pod: LimitedPod, server: TritonServer) -> None:
    pod.resize(server, msgspec.structs.replace(_LIMITED, cpu=0.3))
    server.client.infer("cpu", (8.0,), seconds=_GIVE_UP)


def _count(file: str, name: str) -> Callable[[Path], bool]:
    """Whether this line of a cgroup's file is above 0."""

    def happened(root: Path) -> bool:
        lines = (root / "sys/fs/cgroup" / file).read_text().splitlines()
        return any(int(line.split()[1]) > 0 for line in lines if line.split()[0] == name)

    return happened


def _reached(part: float) -> Callable[[Path], bool]:
    memory = Path("sys/fs/cgroup/memory")
    return lambda root: (
        int((root / memory / "memory.usage_in_bytes").read_text())
        >= part * int((root / memory / "memory.limit_in_bytes").read_text())
    )


def _filled(root: Path) -> bool:
    seen = os.statvfs(root / "dev/shm")
    return seen.f_bfree * 10 <= seen.f_blocks


_KILLED = _count("memory/memory.oom_control", "oom_kill")
CASES = (
    Case("a stub killed at a request", "StubDead", _asks("memory", 400), _KILLED),
    Case("a stub killed at a request", "OomKilled", _asks("memory", 400), _KILLED),
    Case("a stub killed while it loads", "ModelLoadFailed", _loads("heavy"), _KILLED),
    Case("memory near its limit", "MemoryPressure", _asks("memory", 215), _reached(0.9)),
    Case("/dev/shm nearly full", "ShmPressure", _asks("shm", 13), _filled, shm_bytes=16 * MIB),
    Case(
        "a limit on processes reached", "PidsPressure", _loads("threads"), _count("pids/pids.events", "max")
    ),
    Case(
        "a CPU limit that throttles",
        "CpuThrottled",
        _throttle,
        _count("cpu/cpu.stat", "nr_throttled"),
    ),
)


def run(options: Options) -> list[Measured]:
    """Every case so often, in a pod of its own each time."""
    times = options.repeat or (QUICK_TIMES if options.quick else TIMES)
    installation = installed_triton()
    with contextlib.closing(Podman()) as podman, tempfile.TemporaryDirectory() as scratch:
        models = repository(Path(scratch) / "models")
        return [
            _measured(case, [sample(podman, installation, models, case) for _ in range(times)])
            for case in CASES
        ]


def sample(podman: Podman, installation: TritonInstallation, models: Repository, case: Case) -> float:
    """Seconds from the kernel's event to the finding; raises BenchError where one of them does not come."""
    with LimitedPod(podman, installation, shm_bytes=case.shm_bytes) as pod:
        server = pod.triton(
            models,
            resources=_LIMITED,
            control_mode="explicit",
            load_models=("memory", "shm", "cpu"),
        ).wait_ready(_GIVE_UP)
        probe = pod.probe(server)
        probe.wait_code("/readyz", OPEN)
        root = Path(f"/proc/{server.outer_pid}/root")
        actor = threading.Thread(target=_act, args=(case, pod, server))
        began = time.monotonic()
        actor.start()
        happened: float | None = None
        while time.monotonic() - began < _GIVE_UP:
            if happened is None and case.happened(root):
                happened = time.monotonic()
            if happened is not None and probe.finding(case.reason) is not None:
                found = time.monotonic()
                actor.join()
                return found - happened
            time.sleep(PERIOD)
    raise BenchError(
        f"{case.name}: {'no ' + case.reason if happened else 'it did not happen'} in {_GIVE_UP:g} s"
    )


def _act(case: Case, pod: LimitedPod, server: TritonServer) -> None:
    with contextlib.suppress(TritonError, OSError):  # what is too small fails: that is what happens here
        case.act(pod, server)


def _measured(case: Case, seconds: list[float]) -> Measured:
    return of_values(
        NAME,
        f"{case.name} to {case.reason}",
        [each * MILLISECONDS for each in seconds],
        "ms",
        conditions=f"a pod of two containers by podman and runc, {_words(case)}, interval 5 s; read every "
        f"{PERIOD * MILLISECONDS:g} ms",
    )


def _words(case: Case) -> str:
    given = f"memory {(_LIMITED.memory or 0) // MIB} MiB, {_LIMITED.cpu:g} cores, {_LIMITED.pids} processes"
    return f"{given}, /dev/shm {case.shm_bytes // MIB} MiB"


def repository(path: Path) -> Repository:
    """The models that the cases ask and load."""
    made = Repository(path)
    for takes in ("memory", "shm", "cpu"):
        add_greedy(made, takes, takes=takes)
    add_greedy(made, "heavy", load_mib=400)
    return add_greedy(made, "threads", load_threads=200)
