"""The faults, one record each: what is struck, how, and which reasons would name it."""

from __future__ import annotations

import enum
import random
import signal
from collections.abc import Callable

import msgspec

from bench.faults.stage import MODEL, Moment, Stage, moment, strike
from probe.facts.catalogue import CATALOGUE
from probe.facts.gates import Gate
from probe.sandbox.repositories import Repository

CANARY = f"canary: {{{MODEL}: {{inputs: {{INPUT: [0.0]}}, deadline: 2s, idle: 1s}}}}\n"
_CHANCE = random.SystemRandom()


class Restore(enum.Enum):
    """How all is well again afterwards."""

    RELOAD = "the model is reloaded"
    FRESH = "Triton is started anew"
    CONTINUE = "Triton is continued"


class Pace(enum.Enum):
    """How fast the daemon can know, and how often the client asks it for that: seconds."""

    EVENT = 0.001
    """The kernel tells it."""
    POLLED = 0.02
    """It has to look, or to wait."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault.

    ``reasons``: any of them names it.  ``per_second``: requests that flow before and after.  ``patience``:
    seconds for the 503 to come.  ``budget``: milliseconds to the finding, at most.
    """

    name: str
    reasons: tuple[str, ...]
    write: Callable[[Repository], object]
    strike: Callable[[Stage], Moment]
    per_second: float = 0.0
    settings: str = ""
    restore: Restore = Restore.RELOAD
    pace: Pace = Pace.EVENT
    patience: float = 15.0
    budget: float | None = None

    @property
    def closes(self) -> bool:
        """Whether it is for these reasons that the ready gate closes."""
        return any(CATALOGUE[each].hold(Gate.READY) is not None for each in self.reasons)


def _echo(instances: int = 2, **parameters: str) -> Callable[[Repository], object]:
    return lambda repository: repository.add_echo(
        MODEL, kind="KIND_CPU", instances=instances, parameters=parameters
    )


def _misbehaving(how: str) -> Callable[[Repository], object]:
    """Write a model that does this when an input is above 0."""
    return _echo(1, execute=how, execute_when="positive")


def _kill_one(stage: Stage) -> Moment:
    return strike((_CHANCE.choice(stage.stubs()),), signal.SIGKILL)


def _kill_all(stage: Stage) -> Moment:
    return strike(stage.stubs(), signal.SIGKILL)


def _kill_while_loading(stage: Stage) -> Moment:
    serving = stage.stubs()
    stage.begin_load()
    return strike((_CHANCE.choice(serving),), signal.SIGKILL)


def _kill_worker(stage: Stage) -> Moment:
    return strike((_CHANCE.choice(stage.workers()),), signal.SIGKILL)


def _stop_stub(stage: Stage) -> Moment:
    return strike((_CHANCE.choice(stage.stubs()),), signal.SIGSTOP)


def _ask_for_it(stage: Stage) -> Moment:
    began = moment()
    stage.request(1.0)
    return began


def _kill_triton(stage: Stage) -> Moment:
    return strike((stage.deployment.triton.outer_pid,), signal.SIGKILL)


def _orphan(stage: Stage) -> Moment:
    # Stubs whose parent was reaped notice and exit within 0.3 s: stopped ones can not, as those that hang.
    stubs = stage.stubs()
    began = strike((stage.deployment.triton.outer_pid,), signal.SIGKILL)
    strike(stubs, signal.SIGSTOP)
    stage.deployment.triton.stop()
    stage.deployment.start_triton()
    return began


def _stop_triton(stage: Stage) -> Moment:
    began = moment()
    stage.deployment.triton.kill(signal.SIGSTOP)
    return began


STALL_MS = 35_000.0
"""30 s and one interval."""
EVENT_MS = 100.0

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="stub killed at rest",
        reasons=("StubDead",),
        write=_echo(),
        strike=_kill_one,
        budget=EVENT_MS,
    ),
    Fault(
        name="stub killed under traffic",
        reasons=("StubDead",),
        write=_echo(),
        strike=_kill_one,
        per_second=40.0,
        budget=EVENT_MS,
    ),
    Fault(
        name="serving stub killed during a reload",
        reasons=("StubDead",),
        write=_echo(initialize_seconds="3"),
        strike=_kill_while_loading,
        per_second=10.0,
        budget=EVENT_MS,
    ),
    Fault(
        name="one of eight instances killed",
        reasons=("StubDead",),
        write=_echo(8),
        strike=_kill_one,
        per_second=40.0,
        budget=EVENT_MS,
    ),
    Fault(
        name="all of eight instances killed",
        reasons=("StubDead",),
        write=_echo(8),
        strike=_kill_all,
        per_second=40.0,
        budget=EVENT_MS,
    ),
    Fault(
        name="os._exit(3) in execute",
        reasons=("StubDead",),
        write=_misbehaving("exit"),
        strike=_ask_for_it,
        budget=EVENT_MS,
    ),
    Fault(
        name="SIGSEGV in execute",
        reasons=("StubDead",),
        write=_misbehaving("segv"),
        strike=_ask_for_it,
        budget=EVENT_MS,
    ),
    Fault(
        name="worker of a stub killed",
        reasons=("WorkerDead",),
        write=_echo(children="2", child_name="VLLM::EngineCore"),
        strike=_kill_worker,
        budget=EVENT_MS,
    ),
    Fault(
        name="stub stopped (SIGSTOP)",
        reasons=("StubFrozen",),
        write=_echo(),
        strike=_stop_stub,
        restore=Restore.FRESH,
        pace=Pace.POLLED,
        patience=30.0,
    ),
    Fault(
        name="hang in execute, traffic goes on",
        reasons=("ModelStalled",),
        write=_misbehaving("hang"),
        strike=_ask_for_it,
        per_second=5.0,
        restore=Restore.FRESH,
        pace=Pace.POLLED,
        patience=90.0,
        budget=STALL_MS,
    ),
    Fault(
        name="hang in execute, no traffic, canary",
        reasons=("CanaryFailed", "ModelStalled"),
        write=_misbehaving("hang"),
        strike=_ask_for_it,
        settings=CANARY,
        restore=Restore.FRESH,
        pace=Pace.POLLED,
        patience=90.0,
        budget=STALL_MS,
    ),
    Fault(
        name="busy loop that holds the GIL, traffic goes on",
        reasons=("ModelStalled",),
        write=_misbehaving("hold_gil"),
        strike=_ask_for_it,
        per_second=5.0,
        restore=Restore.FRESH,
        pace=Pace.POLLED,
        patience=90.0,
        budget=STALL_MS,
    ),
    Fault(
        name="every request raises",
        reasons=("ModelFailing",),
        write=_misbehaving("poison"),
        strike=_ask_for_it,
        per_second=5.0,
        pace=Pace.POLLED,
        patience=90.0,
        budget=STALL_MS,
    ),
    Fault(
        name="every request raises, no traffic, canary",
        reasons=("CanaryFailed",),
        write=_misbehaving("poison"),
        strike=_ask_for_it,
        settings=CANARY,
        pace=Pace.POLLED,
        patience=60.0,
    ),
    Fault(
        name="tritonserver killed",
        reasons=("TritonDown",),
        write=_echo(),
        strike=_kill_triton,
        per_second=10.0,
        restore=Restore.FRESH,
        budget=EVENT_MS,
    ),
    Fault(
        name="tritonserver killed, its stubs left, another started",
        reasons=("StubOrphaned",),
        write=_echo(),
        strike=_orphan,
        restore=Restore.FRESH,
        pace=Pace.POLLED,
        patience=40.0,
    ),
    Fault(
        name="tritonserver stopped (SIGSTOP) and continued",
        reasons=("TritonHung",),
        write=_echo(),
        strike=_stop_triton,
        restore=Restore.CONTINUE,
        pace=Pace.POLLED,
        patience=25.0,
    ),
)
