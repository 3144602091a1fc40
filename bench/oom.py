"""How long after the kernel kills a stub for want of memory does the probe say so, and say why?

A real Triton runs in a cgroup of this machine with a real limit, and its model outgrows it at a request.  The
moment of the kill is when the cgroup's own count rises, which the bench reads all the time; the kernel counts
before it kills.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from bench.deployment import Deployment, deployed
from bench.harness import MILLISECONDS, BenchError, Measured, Options, of_figure, of_values
from probe.sandbox.client import TritonError
from probe.sources.container import cgroups
from probe.sources.container.files import entry

NAME = "oom"
MODEL = "greedy"
LIMIT_MIB = 600
BUDGET_MS = 250.0
TIMES, QUICK_TIMES = 50, 5
PERIOD = 0.0005
"""Seconds between reads of the count; how far apart they really were is reported."""

_GREEDY = {"execute": "grow", "execute_when": "positive", "grow_mib": "4000"}
_REASONS = ("StubDead", "OomKilled")
_WANT_OF_MEMORY = "want of memory"
_GIVE_UP = 30.0
_VERSION_1 = 1
_RACE_BYTES = 4096


class Kill(msgspec.Struct, frozen=True):
    """One kill: seconds from the count's rise to the victim's exit and to findings by reason.

    ``explained``: the dead stub's cause is want of memory.  ``resolution``: the longest time between two reads of
    the count around its rise.
    """

    exited: float
    findings: dict[str, float]
    explained: bool
    resolution: float


class Cage:
    """A cgroup with a memory limit, made for this bench; ``version`` says of which hierarchy."""

    def __init__(self, directory: Path, version: int) -> None:
        """Nobody is in it yet, and there is no limit."""
        self.directory = directory
        self.version = version
        name = "memory.oom_control" if version == _VERSION_1 else "memory.events"
        self._counts = os.open(directory / name, os.O_RDONLY)

    def limit(self, mebibytes: int) -> None:
        """Set the limit."""
        name = "memory.limit_in_bytes" if self.version == _VERSION_1 else "memory.max"
        (self.directory / name).write_text(str(mebibytes << 20))

    def take(self, pid: int) -> None:
        """Put a process into it; what it starts from now on is in it too."""
        (self.directory / "cgroup.procs").write_text(f"{pid}\n")

    def kills(self) -> int:
        """How many processes the kernel killed in it."""
        count = entry(os.pread(self._counts, _RACE_BYTES, 0), b"oom_kill")
        if count is None:
            raise BenchError(f"{self.directory} does not count OOM kills")
        return count

    def close(self) -> None:
        """Let go; the cgroup is removed once it is empty."""
        os.close(self._counts)
        deadline = time.monotonic() + _GIVE_UP
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                self.directory.rmdir()
                return
            time.sleep(0.02)


def run(options: Options) -> list[Measured]:
    """Kill in a deployment of its own."""
    times = options.repeat or (QUICK_TIMES if options.quick else TIMES)
    with contextlib.ExitStack() as stack:
        cage = stack.enter_context(caged())
        deployment = stack.enter_context(deployed())
        prepare(deployment, cage)
        return measure(deployment, cage, times)


@contextlib.contextmanager
def caged() -> Iterator[Cage]:
    """Make the cgroup.  Raises BenchError where this machine grants none with a memory controller."""
    known = cgroups.memberships(Path("/proc/self/cgroup").read_bytes())
    place = cgroups.place(known, cgroups.mounts(Path("/proc/self/mountinfo").read_bytes()), b"memory")
    if place is None:
        raise BenchError("no cgroup here accounts memory")
    directory = Path(os.fsdecode(place.point)) / f"triton-probe-bench-{os.getpid()}"
    try:
        directory.mkdir()
        cage = Cage(directory, place.version)
    except OSError as refused:
        raise BenchError(f"no cgroup with a memory limit can be made here: {refused}") from refused
    try:
        yield cage
    finally:
        cage.close()


def prepare(deployment: Deployment, cage: Cage) -> None:
    """Start Triton in the cage, with a model that outgrows it."""
    deployment.repository.add_echo(MODEL, kind="KIND_CPU", parameters=_GREEDY)
    triton = deployment.start_triton()
    triton.client.unload(MODEL)
    cage.take(triton.outer_pid)
    cage.limit(LIMIT_MIB)
    triton.client.load(MODEL)


def measure(deployment: Deployment, cage: Cage, times: int) -> list[Measured]:
    """Have the stub killed so often, and all well in between."""
    kills = [_kill(deployment, cage) for _ in range(times)]
    conditions = (
        f"{deployment.conditions}; a cgroup of version {cage.version} with {LIMIT_MIB} MiB, which one python model"
        f" outgrows at a request; delays from the rise of the cgroup's count, read every {PERIOD * MILLISECONDS:g} ms,"
        f" by the clock of the machine; reload and a new daemon after each"
    )
    told = [
        of_values(
            NAME,
            f"OOM kill to {reason}",
            [each.findings[reason] * MILLISECONDS for each in kills if reason in each.findings],
            "ms",
            budget=BUDGET_MS,
            conditions=conditions,
        )
        for reason in _REASONS
    ]
    missed = sum(not each.explained for each in kills)
    return [
        *told,
        of_figure(
            NAME,
            f"deaths not laid to want of memory, of {times}",
            missed,
            "deaths",
            budget=0,
            conditions=conditions,
        ),
        of_values(
            NAME,
            "OOM kill to the victim's exit, which is the kernel's",
            [each.exited * MILLISECONDS for each in kills],
            "ms",
            conditions=conditions,
        ),
        of_values(
            NAME,
            "the victim's exit to StubDead, which is the probe's",
            [
                (each.findings["StubDead"] - each.exited) * MILLISECONDS
                for each in kills
                if "StubDead" in each.findings
            ],
            "ms",
            conditions=conditions,
        ),
        of_values(
            NAME,
            "resolution: time between reads of the count",
            [each.resolution * MILLISECONDS for each in kills],
            "ms",
            conditions=conditions,
        ),
    ]


def _kill(deployment: Deployment, cage: Cage) -> Kill:
    # OomKilled stands for ten minutes: only a daemon that knows of no kill raises it.
    deployment.start_daemon()
    deployment.wait_known(deployment.models)
    daemon = deployment.daemon
    began = cage.kills()
    daemon.wait_until("the count", lambda: daemon.status().container.memory.oom_kills == began, _GIVE_UP)
    (stub,) = deployment.triton.stubs(MODEL)
    victim = os.pidfd_open(stub.pid)
    asking = threading.Thread(target=_outgrow, args=(deployment,), daemon=True)
    try:
        asking.start()
        struck, resolution = _rise(cage, began)
        if not select.select([victim], [], [], _GIVE_UP)[0]:
            raise BenchError("the victim of an OOM kill did not end")
        exited = time.time() - struck
        dead = daemon.wait_finding("StubDead", MODEL)
        findings = _wait(lambda: _findings(deployment, struck))
    finally:
        os.close(victim)
        asking.join()
    _reload(deployment)
    return Kill(exited, findings, _WANT_OF_MEMORY in str(dead.evidence.get("cause")), resolution)


def _outgrow(deployment: Deployment) -> None:
    with contextlib.suppress(TritonError, OSError):
        deployment.triton.client.infer(MODEL, (1.0,))


def _rise(cage: Cage, count: int) -> tuple[float, float]:
    """When the count rose, on the wall clock, and how long the read before that was ago."""
    deadline = time.monotonic() + _GIVE_UP
    before = time.time()
    while time.monotonic() < deadline:
        now = time.time()
        if cage.kills() > count:
            return now, now - before
        before = now
        time.sleep(PERIOD)
    raise BenchError(f"nobody was killed within {_GIVE_UP:.0f} s of a request that needs too much memory")


def _wait(look: Callable[[], dict[str, float]]) -> dict[str, float]:
    # Every reason that is judged has its finding; what does not come in time is left out.
    deadline = time.monotonic() + _GIVE_UP
    while len(found := look()) < len(_REASONS) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _findings(deployment: Deployment, struck: float) -> dict[str, float]:
    delays: dict[str, float] = {}
    for event in reversed(deployment.daemon.events()):
        delay = datetime.datetime.fromisoformat(event["at"]).timestamp() - struck
        if event["kind"] == "finding_raised" and event["reason"] in _REASONS and delay >= 0:
            delays.setdefault(event["reason"], delay)
    return delays


def _reload(deployment: Deployment) -> None:
    client = deployment.triton.client
    client.unload(MODEL)
    deployment.daemon.wait_until("the unload", lambda: not client.model_ready(MODEL))
    client.load(MODEL)
    deployment.daemon.wait_clear("StubDead", MODEL)
