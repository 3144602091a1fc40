"""Does a GPU of this Triton lose bits of its memory, or slow down for heat or for power?

Both are said of what NVML told in its last good look, and only as long as it tells.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from probe.checks.gpus import named, subject
from probe.checks.observation import Observation
from probe.checks.ours import Whose, whose
from probe.facts.findings import Claim, Severity
from probe.ledgers.book import age
from probe.ledgers.gpu_records import GpuRecord

ECC_SHOWN = 86_400.0
"""Seconds for which new uncorrected errors are shown after the last: a ticket is filed within a day."""
ERRING = 60.0
"""Seconds for which a GPU that errs in every look keeps what it last told."""

_HARMFUL = {
    "hw_thermal": "it is too hot, and its hardware slows it down",
    "sw_thermal": "it is too hot, and the driver slows it down",
    "hw_power_brake": "the node's power supply brakes it",
    "hw_slowdown": "its hardware slows it down, for heat or for power",
}
"""Of NVML's reasons for slower clocks.  The others are how a GPU is meant to work: idle, at its power cap, at clocks
that somebody chose."""


def judge(seen: Observation) -> Iterator[Claim]:
    """At most two claims a GPU."""
    for record in telling(seen):
        found = [*_ecc(seen, record), *_throttled(record)]
        if found:
            yield from of_ours(seen, record, *found)


def telling(seen: Observation) -> Iterator[GpuRecord]:
    """The GPUs of which NVML tells something now."""
    if seen.book.evidence.good is None:
        return
    for _, record in sorted(seen.book.gpus.records.items()):
        lately = record.answered is not None and record.told.mono - record.answered.mono <= ERRING
        if lately and record.gone_since is None and record.lost_since is None:
            yield record


def of_ours(seen: Observation, record: GpuRecord, *claims: Claim) -> Iterator[Claim]:
    """These claims where the GPU is Triton's, as information where that can not be told, none where it is not."""
    concern = whose(seen, record.gpu)
    if concern is Whose.OURS:
        yield from claims
    elif concern is Whose.UNKNOWN:
        for each in claims:
            yield msgspec.structs.replace(each, severity=Severity.INFO)


def _ecc(seen: Observation, record: GpuRecord) -> Iterator[Claim]:
    gpu = record.gpu
    rose, seconds = record.ecc_new, age(seen.now, record.ecc_rose)
    said, remedies = [], []
    if rose > 0 and seconds is not None and seconds <= ECC_SHOWN:
        count = f"{rose} uncorrected memory error{'s' if rose != 1 else ''}"
        said.append(f"It had {count} since the probe first saw it, the last {seconds:.0f} s ago.")
        remedies.append("Programs that met them have ended or must begin anew: look for Xids 48, 94 and 95.")
    if gpu.rows_failed:
        said.append("A faulty row of its memory could not be set aside, for no spare is left.")
        remedies.append("Have the GPU replaced: more errors are to be expected.")
    if gpu.rows_pending:
        said.append(
            "A faulty row of its memory is set aside with the next reset; further work is not affected."
        )
        remedies.append("Reset the GPU when the node is drained; it is not urgent.")
    if not said:
        return
    yield Claim(
        "GpuEcc",
        subject(gpu.uuid),
        f"The {named(record)} has trouble with its memory. {' '.join(said)}",
        " ".join(remedies),
        record.told,
        {
            "new_errors": rose,
            "errors_since_driver_loaded": gpu.ecc_uncorrected,
            "errors_ever": gpu.ecc_uncorrected_ever,
            "rows_failed": gpu.rows_failed,
            "rows_pending": gpu.rows_pending,
        },
    )


def _throttled(record: GpuRecord) -> Iterator[Claim]:
    reasons = [each for each in record.gpu.clock_reasons or () if each in _HARMFUL]
    # The plain word stands beside the one that says why.
    told = [each for each in reasons if each != "hw_slowdown"] or reasons
    if not told:
        return
    yield Claim(
        "GpuThrottled",
        subject(record.gpu.uuid),
        f"The {named(record)} runs slower than it could: {'; '.join(_HARMFUL[each] for each in told)}.",
        "Look at the node's cooling (fans, filters, inlet temperature)"
        + (" and at its power supplies" if "hw_power_brake" in told or "hw_slowdown" in told else "")
        + ". Inference is slower meanwhile, and right.",
        record.told,
        {"clock_reasons": " ".join(reasons)},
    )
