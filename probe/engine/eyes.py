"""What the engine looks with: the sources' shapes, so that tests can give it eyes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from probe.facts.canaries import CanaryOrder, CanaryResult
from probe.facts.container import ContainerReading, OomCounts, ShmLevel
from probe.facts.instants import Instant
from probe.facts.models import ModelVersion
from probe.facts.nvml import NvmlReading, Xid
from probe.facts.processes import Exit, ProcessId, ProcessReading
from probe.facts.triton import CallFailure, Inquiry, InquiryReading, TritonReading


class TritonEye(Protocol):
    """Asks Triton."""

    async def poll(self) -> TritonReading:
        """The cheap questions, every interval."""
        ...

    async def inquire(self, inquiry: Inquiry, *, budget: float) -> InquiryReading:
        """What costs more, asked for a cause."""
        ...

    async def still_ready(self, name: str) -> tuple[Instant, tuple[ModelVersion, ...]] | CallFailure:
        """Which versions of one model are ready at this moment."""
        ...

    async def canary(self, order: CanaryOrder) -> CanaryResult | None:
        """One inference and its answer, within its deadline; None where it taught nothing of the model."""
        ...

    async def load_model(self, name: str, seconds: float) -> CallFailure | None:
        """Have a model loaded, waiting so long for its end; how it failed, or None."""
        ...

    async def reload_model(self, name: str, seconds: float) -> CallFailure | None:
        """Have it unloaded, and loaded whatever the unload says."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...


class NvmlEye(Protocol):
    """Looks at GPUs."""

    async def look(self) -> NvmlReading:
        """One look; a hang is a reading too."""
        ...

    def listen(self, on_xid: Callable[[Xid], None]) -> None:
        """Be told of each Xid at once, in the loop, whatever a look does; once looks have begun."""
        ...

    async def close(self) -> None:
        """Let go, whatever the helper does."""
        ...


class ProcessEye(Protocol):
    """Scans processes; blocking."""

    def scan(self, asked: Iterable[int] = (), kept: Iterable[ProcessId] = ()) -> ProcessReading:
        """One scan; ``asked`` are pids to look up beside, ``kept`` processes to find again."""
        ...


class ContainerEye(Protocol):
    """Reads Triton's container; blocking."""

    def look(self, pid: int | None, suspects: frozenset[str] = frozenset()) -> ContainerReading:
        """One look at the container of this pid; of these files in ``/dev/shm``, who maps them."""
        ...


class ContainerEventEye(Protocol):
    """Is told by the kernel of what happens to Triton's container."""

    def watch(self, process: ProcessId | None) -> None:
        """Watch the container of this process from now on, or none; does not wait, is called again and again."""
        ...

    def counts(self) -> OomCounts | None:
        """The counts of OOM kills at this moment, without a wait; None where a look must tell."""
        ...

    def close(self) -> None:
        """Let go of all."""
        ...


class ShmEye(Protocol):
    """Is told by the kernel of what changes in Triton's ``/dev/shm``."""

    def watch(self, process: ProcessId | None) -> None:
        """Watch that of this process from now on, or none."""
        ...

    def close(self) -> None:
        """Let go of all."""
        ...


class ExitEye(Protocol):
    """Is told of exits by the kernel."""

    def watch(self, wanted: Iterable[ProcessId]) -> None:
        """Watch exactly these from now on."""
        ...

    def close(self) -> None:
        """Let go of all."""
        ...


class Eyes(msgspec.Struct, frozen=True):
    """All of them.  ``exits``, ``events`` and ``shm`` make their watch once the loop runs and the engine can be told.

    The first call of ``events`` brings counts of OOM kills, the second says that a limit was written; ``shm``
    tells of Triton's ``/dev/shm``, and is None where nobody can.
    """

    triton: TritonEye
    nvml: NvmlEye
    processes: ProcessEye
    container: ContainerEye
    exits: Callable[[Callable[[Exit], None]], ExitEye]
    events: Callable[[Callable[[OomCounts], None], Callable[[], None]], ContainerEventEye]
    shm: Callable[[Callable[[ShmLevel], None]], ShmEye] | None = None
