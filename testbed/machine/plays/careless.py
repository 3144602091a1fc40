"""A pod with ``resources: {}`` and a small ``/dev/shm``, on a node that has little memory left."""

from __future__ import annotations

import select
import subprocess
import sys
import time

import msgspec

from probe.facts.findings import Finding
from probe.facts.status import ContainerStatus
from probe.sandbox.repositories import Repository
from testbed.machine.kubelet import NodePod, Resources, node_memory
from testbed.machine.plays import stage as stages
from testbed.machine.plays.stage import MIB, SECONDS, Kill, Stage, killed
from testbed.pods.models import add_greedy

NAME = "careless"
SHM = 16 * MIB
REGION = 4 * MIB
NEIGHBOUR = 300 * MIB
TAKEN = 240 * MIB
LACKING = 30 * MIB
_NEIGHBOUR = Resources(memory_request=NEIGHBOUR, memory_limit=NEIGHBOUR, cpu_request=500, cpu_limit=500)
# Takes, step by step, what it was promised, then keeps it.
_TAKES = """
import sys
kept = []
for _ in range(int(sys.argv[1]) >> 20):
    kept.append(bytearray(b"x" * (1 << 20)))
print("taken", flush=True)
sys.stdin.read()
"""


class Careless(msgspec.Struct, frozen=True):
    """What is told of it before anything happens."""

    container: ContainerStatus
    best_effort: Finding
    unlimited: Finding


class Shared(msgspec.Struct, frozen=True):
    """More instances than ``/dev/shm`` has room for."""

    complaint: str
    failed: Finding
    too_small: Finding


class Filled(msgspec.Struct, frozen=True):
    """A region grew at a request, and the next request found no room."""

    pressed: Finding
    complaint: str
    """Of the second request."""


class Sacrificed(msgspec.Struct, frozen=True):
    """The node ran out of memory, for another pod that took what it was promised."""

    kill: Kill
    neighbour_lives: bool
    qos_of_neighbour: str


def open_stage() -> None:
    """Start it."""
    arguments = (f"--backend-config=python,shm-default-byte-size={REGION}",)
    careless = Stage(
        NAME, _fill, Resources(kill_alone=True), shm_bytes=SHM, load=("echo",), arguments=arguments
    )
    stages.opened(careless, NAME).ready()


def close_stage() -> None:
    """End it."""
    stages.close(NAME)


def _fill(models: Repository) -> None:
    # The largest process of the pod, and so the one that the kernel chooses.
    models.add_echo(kind="KIND_CPU", parameters={"memory_mib": "200"})
    models.add_echo("crowd", kind="KIND_CPU", instances=4)
    add_greedy(models, "big", takes="shm")


def looked() -> Careless:
    """What is told of it."""
    stage = stages.stage(NAME)
    best_effort, unlimited = stage.finding("BestEffortPod"), stage.finding("MemoryUnlimited")
    return Careless(stage.probe.status().container, best_effort, unlimited)


def shared() -> Shared:
    """Load a model with more instances than there is room for."""
    stage = stages.stage(NAME)
    complaint = stage.load("crowd")
    return Shared(complaint, stage.finding("ModelLoadFailed", "crowd"), stage.finding("ShmTooSmall"))


def filled() -> Filled:
    """Ask for an answer that fills ``/dev/shm``, and then for one that does not fit."""
    stage = stages.stage(NAME)
    stage.load("big")
    stage.infer("big", 7.0)
    return Filled(stage.finding("ShmPressure"), stage.infer("big", 13.0))


def sacrificed() -> Sacrificed:
    """A Guaranteed pod beside it takes what it was promised, and the node has less."""
    stage = stages.stage(NAME)
    kubepods = stage.pod.cgroup.parent.parent
    figures = dict(line.split() for line in (kubepods / "memory.stat").read_text().splitlines())
    kept = sum(int(figures[name]) for name in ("anon", "shmem", "kernel"))
    with NodePod.of(_NEIGHBOUR) as pod:
        node_memory(kept + TAKEN - LACKING)
        neighbour = pod.container("neighbour", _NEIGHBOUR)
        command = [sys.executable, "-I", "-S", "-c", _TAKES, str(TAKEN)]
        taking = neighbour.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            kill = killed(stage, lambda: _relieved(stage))
            out = taking.process.stdout
            taken = out is not None and out.readline() == b"taken\n"
            return Sacrificed(kill, taken and taking.poll() is None, _NEIGHBOUR.qos)
        finally:
            node_memory(None)


def _relieved(stage: Stage) -> None:
    """Lift the node's limit at the first kill: the kernel may go on to the next before the first one's memory is free.

    Linux 6.1 passes over a victim whose last thread has begun to end (css_task_iter counts the living), though its
    memory is still charged; who waits for memory asks for another victim then.
    """
    with (stage.container.cgroup / "memory.events").open() as events:
        waiting = select.poll()
        waiting.register(events, select.POLLPRI)
        deadline = time.monotonic() + SECONDS
        while not stage.container.count("memory.events", "oom_kill") and time.monotonic() < deadline:
            events.seek(0)
            events.read()
            waiting.poll(1000)
    node_memory(None)
