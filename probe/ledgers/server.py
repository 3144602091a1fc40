"""The server over time: which tritonserver this is, whether it was ever up, what it last said."""

from __future__ import annotations

import msgspec

from probe.facts.instants import Instant
from probe.facts.processes import Exit, ProcessId, ProcessReading, Server
from probe.facts.triton import Failure, TritonReading


class ServerLedger(msgspec.Struct, frozen=True):
    """One epoch is one tritonserver; a new process (or, unseen, a port that opens again) begins the next.

    ``up`` says that it answered in this epoch; ``gone`` since when its process is gone; ``misses`` how
    many looks in a row both liveness calls timed out, ``hung_since`` since when.
    """

    epoch: int = 0
    began: Instant | None = None
    process: ProcessId | None = None
    server: Server | None = None
    seen: Instant | None = None
    """When processes were last scanned."""
    gone: Instant | None = None
    exit_status: int | None = None
    up: bool = False
    ever_seen: bool = False
    polled: Instant | None = None
    last: TritonReading | None = None
    """The last poll, whatever it brought."""
    told: TritonReading | None = None
    """The last poll that said something definite of the server: an answer, or why there is none."""
    http_up: bool = False
    """Whether HTTP answered in this epoch."""
    http_refusals: int = 0
    """How many looks in a row HTTP, which had answered, refused while gRPC answered."""
    gpu_uuids: frozenset[str] = frozenset()
    """GPUs that Triton's own metrics showed in this epoch: those that CUDA shows to it."""
    misses: int = 0
    blocked_looks: int = 0
    """How many looks in a row a gRPC call timed out while HTTP liveness answered."""
    blocked_since: Instant | None = None
    version: str | None = None
    ready: bool | None = None

    @property
    def gpus_told(self) -> bool:
        """Whether Triton's own metrics showed a GPU in this epoch."""
        return bool(self.gpu_uuids)

    @property
    def refused(self) -> bool:
        """Whether the last poll that said something definite found nobody listening for gRPC."""
        failed = self.told.failed("live") if self.told is not None else None
        return failed is not None and failed.failure is Failure.REFUSED

    @property
    def reachable(self) -> bool | None:
        """Whether the last poll got any answer over gRPC; None before the first."""
        return None if self.last is None else self.last.live is not None

    @property
    def alive(self) -> bool | None:
        """Whether its process is there; None where no tritonserver was ever seen."""
        return None if not self.ever_seen else self.gone is None and self.process is not None

    def with_processes(self, reading: ProcessReading) -> ServerLedger:
        """After one scan."""
        found = reading.server
        if found is None or found.process.gone:
            left = self.process is not None and self.gone is None
            return msgspec.structs.replace(
                self, seen=reading.observed, gone=reading.observed if left else self.gone
            )
        if found.process.id == self.process:
            if self.gone is not None and reading.observed.mono <= self.gone.mono:
                # The scan began before the exit that the pidfd told: the exit stands.
                return self
            # Seen again after a scan that missed it (out of file descriptors, for one): it never left.
            return msgspec.structs.replace(
                self, seen=reading.observed, server=found, gone=None, exit_status=None
            )
        return ServerLedger(
            epoch=self.epoch + 1 if self.process is not None or not self.up else self.epoch,
            began=reading.observed,
            process=found.process.id,
            server=found,
            seen=reading.observed,
            # A server first seen after it had answered is the same server, only now visible.
            up=self.up and self.process is None,
            ever_seen=True,
            polled=self.polled,
            last=self.last if self.process is None else None,
            told=self.told if self.process is None else None,
            http_up=self.http_up and self.process is None,
            gpu_uuids=self.gpu_uuids if self.process is None else frozenset(),
            version=self.version if self.process is None else None,
            ready=self.ready if self.process is None else None,
        )

    def with_exit(self, event: Exit) -> ServerLedger:
        """After the kernel told of an exit; one of another process changes nothing."""
        if event.id != self.process or self.gone is not None:
            return self
        return msgspec.structs.replace(self, gone=event.observed, exit_status=event.status)

    def with_poll(self, reading: TritonReading) -> ServerLedger:
        """After one poll.  One that began before this epoch's process, or that a dead one answered, is void."""
        if self.began is not None and reading.observed.mono < self.began.mono and self.process is not None:
            return self
        came_back = (
            not self.ever_seen and self.up and self.refused and reading.live is not None and self.epoch > 0
        )
        first = self.epoch == 0 and reading.live is not None
        http_up = (self.http_up and not came_back) or reading.http_live is not None
        # Where HTTP never answered (--allow-http=false, another port) it can not be asked to agree.
        timed_out = _failed(reading, "live", Failure.TIMEOUT) and (
            _failed(reading, "http_live", Failure.TIMEOUT) or not http_up
        )
        refused = http_up and _failed(reading, "http_live", Failure.REFUSED) and reading.live is not None
        answered = reading.live is not None and self.gone is None
        blocked = reading.http_live is not None and reading.timed_out is not None
        return msgspec.structs.replace(
            self,
            epoch=self.epoch + 1 if came_back or first else self.epoch,
            began=reading.observed if came_back or first else self.began,
            polled=reading.observed,
            last=reading,
            told=reading if _definite(reading) else self.told,
            http_up=http_up,
            http_refusals=self.http_refusals + 1 if refused else 0,
            gpu_uuids=frozenset(uuid for uuid, _ in reading.gpu_memory_used or ())
            | (frozenset() if came_back else self.gpu_uuids),
            up=self.up or answered,
            misses=self.misses + 1 if timed_out else 0,
            blocked_looks=self.blocked_looks + 1 if blocked else 0,
            blocked_since=(self.blocked_since or reading.observed) if blocked else None,
            version=reading.version or (None if came_back else self.version),
            ready=reading.ready if reading.live is not None else None,
        )


_DEFINITE = (Failure.REFUSED, Failure.EXITING, Failure.RESTRICTED, Failure.TLS)


def _definite(reading: TritonReading) -> bool:
    failed = reading.failed("live")
    return reading.live is not None or (failed is not None and failed.failure in _DEFINITE)


def _failed(reading: TritonReading, call: str, how: Failure) -> bool:
    failed = reading.failed(call)
    return failed is not None and failed.failure is how
