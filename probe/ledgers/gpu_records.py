"""One GPU over the looks of NVML: what was last told of it, since when it is lost or asks for a recovery; pure."""

from __future__ import annotations

import msgspec

from probe.facts import recoveries
from probe.facts.instants import Instant
from probe.facts.nvml import Gpu, NvmlReading
from probe.facts.placement import Evidence, EvidenceMode
from probe.facts.processes import ProcessReading
from probe.ledgers.evidence import family_pids

OTHERS_BYTES = 1 << 30
"""Memory in use that is none of ours and still nobody else's: what the driver keeps for itself (0.3 to 1 GiB by
NVML's plain figure).  Another tenant's CUDA context of a few hundred MiB may hide in it; with anything of use in
it, a tenant is above."""

_LOST, _RESET = "GPU_IS_LOST", "RESET_REQUIRED"
_LASTING = ("recovery_action", "ecc_uncorrected", "ecc_uncorrected_ever")
_READ = ("memory_total_bytes", "memory_used_bytes", "rows_pending", "rows_failed", "clock_reasons")


class Clients(msgspec.Struct, frozen=True):
    """By which a process list is read: who is ours, and how far the list can be trusted."""

    family: frozenset[int] = frozenset()
    evidence: Evidence = Evidence(EvidenceMode.NO_NVML, "")
    everybody: bool = False
    """We are in the initial pid namespace, where the driver lists all tenants' processes."""

    @classmethod
    def of(cls, processes: ProcessReading | None, evidence: Evidence) -> Clients:
        """As the last scan saw the processes."""
        everybody = processes is not None and processes.initial_namespace
        return cls(family_pids(processes), evidence, everybody)


class GpuRecord(msgspec.Struct, frozen=True):
    """What is known of one GPU or MIG device.

    ``gpu`` is what was last told; what an erring look left out is as it was.  ``told`` is the last good look at
    NVML, whether it listed the GPU or not; ``answered`` the last in which the GPU itself did not err.
    """

    gpu: Gpu
    told: Instant
    answered: Instant | None = None
    driver: str | None = None
    gone_since: Instant | None = None
    """Since when good looks no longer list it."""
    lost_since: Instant | None = None
    needs: str | None = None
    """The recovery that it asks for, None for none: an action of :mod:`probe.facts.recoveries`."""
    needs_since: Instant | None = None
    renewed: Instant | None = None
    """When it was last seen to have recovered: what happened before is over."""
    ecc_base: int | None = None
    """Uncorrected errors that it had when it was first seen, or since it was last renewed."""
    ecc_rose: Instant | None = None
    ours: bool = False
    """A process of this tritonserver was listed on it."""
    own: bool | None = None
    """Whether one was in the last list that proves something."""
    shared: bool | None = None
    """Whether somebody else is on it, as far as the last lists and figures tell."""
    pids: frozenset[int] | None = None
    """Processes of the last two lists that prove something: who has just died on it is in the first of them."""
    listed: frozenset[int] | None = None

    @property
    def ecc_new(self) -> int:
        """Uncorrected errors since it was first seen, or last renewed."""
        return (self.gpu.ecc_uncorrected or 0) - (self.ecc_base or 0)

    def forgotten(self) -> GpuRecord:
        """At the start of an epoch: whether the new tritonserver uses it, its own processes must show."""
        return msgspec.structs.replace(self, ours=False, own=None, shared=None, pids=None, listed=None)

    def missing(self, observed: Instant) -> GpuRecord:
        """After a good look that does not list it."""
        return msgspec.structs.replace(self, told=observed, gone_since=self.gone_since or observed)

    def fallen(self, since: Instant) -> GpuRecord:
        """After it turned out that it fell off the bus at this moment."""
        return msgspec.structs.replace(self, lost_since=self.lost_since or since)


def seen(before: GpuRecord | None, gpu: Gpu, reading: NvmlReading, clients: Clients) -> GpuRecord:
    """The GPU after a good look that lists it."""
    at = reading.observed
    was = before or GpuRecord(gpu, at)
    if None not in (was.driver, reading.driver_version) and was.driver != reading.driver_version:
        # Another driver: nothing of what the old one said holds.
        was = GpuRecord(gpu, at, renewed=at, ours=was.ours)
    told = _merged(was.gpu, gpu)
    lost, needs = _trouble(was, gpu)
    cured = (was.lost_since is not None or was.needs is not None) and not lost and needs is None
    errors, errors_before = told.ecc_uncorrected or 0, was.gpu.ecc_uncorrected or 0
    # The driver begins to count anew after a reset, and only then.
    anew = errors < errors_before
    after = msgspec.structs.replace(
        was,
        gpu=told,
        told=at,
        answered=at if gpu.error is None else was.answered,
        driver=reading.driver_version or was.driver,
        gone_since=None,
        lost_since=(was.lost_since or at) if lost else None,
        needs=needs,
        needs_since=None if needs is None else was.needs_since if needs == was.needs else at,
        renewed=at if anew or cured else was.renewed,
        ecc_base=told.ecc_uncorrected if was.ecc_base is None or anew else was.ecc_base,
        ecc_rose=None
        if anew
        else at
        if was.ecc_base is not None and errors > errors_before
        else was.ecc_rose,
    )
    return _used(after, gpu, clients)


def _merged(before: Gpu, gpu: Gpu) -> Gpu:
    # A GPU that errs leaves out what it did not get to: a missing sample, which changes nothing.
    names = _LASTING if gpu.error is None else (*_LASTING, *_READ)
    missing = {name: getattr(before, name) for name in names if getattr(gpu, name) is None}
    return msgspec.structs.replace(gpu, **missing)


def _trouble(was: GpuRecord, gpu: Gpu) -> tuple[bool, str | None]:
    # Whether it is lost, and which recovery it asks for; an error that says neither leaves both as they were.
    if gpu.error == _LOST:
        return True, was.needs
    action = gpu.recovery_action
    asked = None if action in (None, recoveries.NONE) else action
    if gpu.error == _RESET:
        return False, asked or was.needs or recoveries.RESET_REQUIRED
    if gpu.error is not None:
        return was.lost_since is not None, was.needs if action is None else asked
    if action is None and was.needs != recoveries.RESET_REQUIRED:
        return False, was.needs
    return False, asked


def _used(record: GpuRecord, gpu: Gpu, clients: Clients) -> GpuRecord:
    if clients.evidence.mode is EvidenceMode.FOREIGN_PIDS:
        # Nor was what the same pids seemed to say before.
        return record.forgotten()
    if gpu.processes is None:
        return record
    listed = frozenset(each.pid for each in gpu.processes)
    shared = _shared(gpu, listed, clients)
    if not clients.evidence.lists_prove_absence:
        return msgspec.structs.replace(record, own=None, shared=shared, pids=None, listed=None)
    own = bool(listed & clients.family)
    return msgspec.structs.replace(
        record,
        ours=record.ours or own,
        own=own,
        shared=shared,
        pids=listed | (record.listed or frozenset()),
        listed=listed,
    )


def _shared(gpu: Gpu, listed: frozenset[int], clients: Clients) -> bool | None:
    """Whether others than this Triton are on it; None where that can not be told.

    In a pod's pid namespace the driver hides other tenants' processes, so that an empty list proves nothing; their
    memory it does not hide.
    """
    if listed - clients.family:
        return True
    if not clients.evidence.lists_prove_absence:
        return None
    if clients.everybody:
        return False
    used = [each.used_bytes for each in gpu.processes or ()]
    if gpu.memory_used_bytes is None or not all(used):
        return None
    return gpu.memory_used_bytes - sum(each or 0 for each in used) > OTHERS_BYTES
