"""One look at Triton: what each call answered, or how it failed."""

from __future__ import annotations

import enum

import msgspec

from probe.facts.instants import Instant
from probe.facts.models import IndexEntry, ModelConfig, ModelStatistics, ModelVersion


class Failure(enum.StrEnum):
    """How a call failed, told apart because each has another cure."""

    REFUSED = "refused"
    """Nothing listens there (or the host can not be reached)."""
    TIMEOUT = "timeout"
    """Something listens but did not answer within the deadline."""
    RESTRICTED = "restricted"
    """Triton demands a header (``This protocol is restricted``)."""
    TLS = "tls"
    """One side speaks TLS and the other does not, or a certificate is refused."""
    EXITING = "exiting"
    """Triton said that it is shutting down."""
    UNIMPLEMENTED = "unimplemented"
    """This build or release does not offer the call."""
    GARBAGE = "garbage"
    """An answer that is not the protocol."""
    ERROR = "error"
    """Any other error; the detail carries Triton's own text."""


class CallFailure(msgspec.Struct, frozen=True):
    """A call that brought no answer."""

    call: str
    failure: Failure
    detail: str
    seconds: float


_OTHER_THREADS = ("http_live", "metrics")
"""Calls of a poll that Triton answers from other threads than gRPC's one for control."""


class FailureReasons(msgspec.Struct, frozen=True):
    """Failed requests of one load by Triton's own reason (``nv_inference_request_failure``).

    ``rejected`` timed out in the queue, ``canceled`` were given up by their clients, and neither says
    anything against the model; ``other`` is the rest.
    """

    rejected: int = 0
    canceled: int = 0
    other: int = 0


class TritonReading(msgspec.Struct, frozen=True):
    """What one poll of Triton brought; ``None`` is "not answered", never "no".

    ``live``/``ready`` are the gRPC answers, ``http_live`` the cross-check over HTTP, which Triton serves
    from other threads than its single gRPC control thread (server, ``grpc_server.cc``).
    ``observed`` is when the poll began, ``answered`` when it ended (None for the same moment): what Triton
    said was surely true at some moment between the two.
    """

    observed: Instant
    answered: Instant | None = None
    live: bool | None = None
    ready: bool | None = None
    http_live: bool | None = None
    version: str | None = None
    extensions: tuple[str, ...] = ()
    statistics: tuple[ModelStatistics, ...] | None = None
    pending: tuple[tuple[ModelVersion, int], ...] | None = None
    """Requests waiting in each model's queue (``nv_inference_pending_request_count``); None where the
    metrics were not answered."""
    failure_reasons: tuple[tuple[ModelVersion, FailureReasons], ...] = ()
    """Of versions that failed requests since they last succeeded; releases before the label name none."""
    gpu_memory_used: tuple[tuple[str, int], ...] | None = None
    """Bytes in use on each GPU, as Triton's own NVML sees it; whole-GPU figures, by UUID."""
    failures: tuple[CallFailure, ...] = ()

    @property
    def ended(self) -> Instant:
        """When the poll ended."""
        return self.answered or self.observed

    @property
    def timed_out(self) -> CallFailure | None:
        """The gRPC call that got no answer within its deadline; a poll ends with the first."""
        return next(
            (
                each
                for each in self.failures
                if each.failure is Failure.TIMEOUT and each.call not in _OTHER_THREADS
            ),
            None,
        )

    def failed(self, call: str) -> CallFailure | None:
        """How the named call failed, or None where it did not fail (or was not made)."""
        return next((each for each in self.failures if each.call == call), None)


class Inquiry(msgspec.Struct, frozen=True):
    """What to ask Triton beyond the poll: it costs more, so it is asked only for a cause."""

    configs: tuple[ModelVersion, ...] = ()
    readiness: tuple[ModelVersion, ...] = ()
    index: bool = False

    def __bool__(self) -> bool:
        return bool(self.configs or self.readiness or self.index)


class InquiryReading(msgspec.Struct, frozen=True):
    """The answers to an inquiry; what was not answered is missing."""

    observed: Instant
    configs: tuple[ModelConfig, ...] = ()
    readiness: tuple[tuple[ModelVersion, bool], ...] = ()
    index: tuple[IndexEntry, ...] | None = None
    failures: tuple[CallFailure, ...] = ()
    slow: tuple[tuple[ModelVersion, float], ...] = ()
    """Seconds that the questions on readiness took which were slow, answered or not."""
