"""NVML broken in every way beside the sixteen models on eight GPUs: what is done to it, and what must follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from probe.facts.placement import EvidenceMode, Verdict
from probe.facts.status import Status
from probe.sandbox.daemon import OPEN, Daemon
from probe.sandbox.tritonserver import TritonServer
from testbed.nvml.double import EVERY, FOREVER, GpuState, NvmlDouble
from testbed.placement.eight import EIGHT
from testbed.placement.sights import LISTS, NO_PERMISSION
from testbed.placement.stage import beside, reasons_ever

LOST = 15
State = Mapping[str, object]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One way to break NVML, and what must follow.

    ``state`` are arguments of the double; None: no library at all.  ``hidden`` are the GPUs of which
    nothing is known any more; None: of none anything is.
    """

    name: str
    state: Callable[[list[GpuState]], State] | None
    reasons: frozenset[str]
    mode: EvidenceMode = EvidenceMode.NO_NVML
    hidden: frozenset[int] | None = None
    from_the_start: bool = False
    closes: bool = False
    """Whether ready fails while it lasts."""


def _changed(numbers: frozenset[int], **changes: object) -> Callable[[list[GpuState]], State]:
    return lambda gpus: {
        "gpus": [msgspec.structs.replace(gpu, **changes) if gpu.minor in numbers else gpu for gpu in gpus]
    }


def _without_processes(gpus: list[GpuState]) -> State:
    return {
        "gpus": [
            msgspec.structs.replace(
                gpu, processes=(), migs=[msgspec.structs.replace(mig, processes=()) for mig in gpu.migs]
            )
            for gpu in gpus
        ]
    }


def _init(code: int) -> Callable[[list[GpuState]], State]:
    return lambda gpus: {"gpus": gpus, "init_code": code, "epoch": 1}


ALL = frozenset(range(EIGHT.devices))
UNAVAILABLE = frozenset(("NvmlUnavailable",))
MISMATCH = frozenset(("NvmlVersionMismatch",))
NOTHING = frozenset[str]()

FAULTS = (
    Fault(name="no library", state=None, reasons=UNAVAILABLE, from_the_start=True),
    Fault(name="999 from the start", state=_init(999), reasons=UNAVAILABLE, from_the_start=True),
    Fault(name="18 from the start", state=_init(18), reasons=MISMATCH, from_the_start=True),
    Fault(
        name="hung",
        state=lambda gpus: {"gpus": gpus, "hang": {EVERY: FOREVER}},
        reasons=frozenset(("NvmlHung",)),
    ),
    Fault(name="999 after it worked", state=_init(999), reasons=frozenset(("NvmlAccessLost",))),
    Fault(name="driver mismatch", state=_init(18), reasons=MISMATCH),
    Fault(name="driver not loaded", state=_init(9), reasons=UNAVAILABLE),
    Fault(name="no permission", state=_init(4), reasons=UNAVAILABLE),
    Fault(
        name="one GPU lost",
        state=_changed(frozenset((4,)), returns={EVERY: LOST}),
        reasons=frozenset(("GpuLost",)),
        closes=True,
        mode=EvidenceMode.FULL,
        hidden=frozenset((4,)),
    ),
    Fault(
        name="all GPUs lost",
        state=_changed(ALL, returns={EVERY: LOST}, migs=()),
        reasons=frozenset(("GpuLost",)),
        closes=True,
        mode=EvidenceMode.BLIND,
    ),
    Fault(
        name="one list not to be had",
        state=_changed(frozenset((3,)), returns=dict.fromkeys(LISTS, NO_PERMISSION)),
        reasons=NOTHING,
        mode=EvidenceMode.FULL,
        hidden=frozenset((3,)),
    ),
    Fault(name="lists empty", state=_without_processes, reasons=NOTHING, mode=EvidenceMode.BLIND),
)


class Told(msgspec.Struct):
    """What the daemon told while NVML was broken, and after it was well again."""

    broken: Status
    answers: dict[str, int]
    gates_moved: int
    healed: Status | None
    ever: set[str]


def play_all(server: TritonServer, gpus: list[GpuState], folders: Sequence[Path]) -> dict[str, Future[Told]]:
    """Every fault's story, a few at the same time, each in its folder; by name.

    A future raises SandboxError where what must follow did not.
    """
    with ThreadPoolExecutor(max_workers=4) as pool:
        return {
            fault.name: pool.submit(story, server, gpus, fault, folder)
            for fault, folder in zip(FAULTS, folders, strict=True)
        }


def story(server: TritonServer, gpus: list[GpuState], fault: Fault, folder: Path) -> Told:
    """NVML is well (unless it never was), breaks, and is well again; the Triton stays as it was."""
    double = NvmlDouble(folder)
    broken = fault.state(gpus) if fault.state is not None else {}
    double.set(**(broken if fault.from_the_start else {"gpus": gpus}))  # type: ignore[arg-type]
    environment = double.environment if fault.state is not None else {}
    with beside(server, folder, EIGHT, environment, interval="1s") as daemon:
        daemon.wait_code("/readyz", OPEN)
        if not fault.from_the_start:
            well(daemon)
        moved = gates_moved(daemon)
        double.set(**broken)  # type: ignore[arg-type]
        for reason in fault.reasons:
            daemon.wait_finding(reason)
        while_broken = daemon.wait_until(f"{fault.name}: verdicts", lambda: concluded(daemon, fault))
        answers = {path: daemon.ask(path).code for path in ("/livez", "/readyz", "/startupz", "/healthz")}
        healed = None
        if fault.state is not None:
            double.set(gpus=gpus, epoch=1 if "epoch" in broken else 0)
            for reason in fault.reasons:
                daemon.wait_clear(reason)
            healed = well(daemon)
        ever = {reason for reasons in reasons_ever(daemon).values() for reason in reasons}
        return Told(while_broken, answers, gates_moved(daemon) - moved, healed, ever)


def well(daemon: Daemon) -> Status:
    """Wait until all that NVML shows is known (again), and return what was told then."""

    def known() -> Status | None:
        status = daemon.status()
        return status if outcomes(status) == WELL and status.evidence.mode is EvidenceMode.FULL else None

    return daemon.wait_until("every verdict, and the evidence", known)


def concluded(daemon: Daemon, fault: Fault) -> Status | None:
    """What is told, once the verdicts are those that are left and its findings are its own."""
    status = daemon.status()
    reasons = {each.reason for each in status.findings}
    as_it_must_be = outcomes(status) == left(fault) and status.evidence.mode is fault.mode
    return status if as_it_must_be and fault.reasons <= reasons else None


def outcomes(status: Status) -> dict[str, Verdict]:
    """The verdict on each model."""
    return {each.name: each.placement.verdict for each in status.models}


WELL = {each.name: each.whole.verdict for each in EIGHT.cases}


def left(fault: Fault) -> dict[str, Verdict]:
    """What can still be concluded: of a model that is seen on a GPU what was, of all others nothing."""
    hidden = ALL if fault.hidden is None else fault.hidden
    return {
        each.name: (each.one_list or each.whole).verdict
        if any(hold.gpu not in hidden for hold in each.holds)
        else each.unproven.verdict
        for each in EIGHT.cases
    }


def gates_moved(daemon: Daemon) -> int:
    """How often any gate has moved so far."""
    return sum(each["kind"] in {"gate_opened", "gate_failed"} for each in daemon.events())
