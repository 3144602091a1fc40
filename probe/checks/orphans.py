"""Does anything hold memory that nobody has use for: a stub without tritonserver, a worker without its stub?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.observation import Observation
from probe.checks.outside import gpu_use
from probe.facts.findings import Claim, Subject, SubjectKind
from probe.facts.instants import Instant
from probe.facts.placement import EvidenceMode
from probe.ledgers.kinds import named
from probe.ledgers.orphans import Orphan
from probe.ledgers.ownership import likely_version


def judge(seen: Observation) -> Iterator[Claim]:
    """One claim for each instance that left something behind, also while no Triton is there."""
    ledger = seen.book.orphans
    if ledger.scanned is None:
        return
    left: dict[Subject, list[Orphan]] = {}
    for each in ledger.lasting:
        model = likely_version(each.arguments)
        subject = Subject(
            SubjectKind.INSTANCE, model=model.name, version=model.version, instance=each.arguments.name
        )
        left.setdefault(subject, []).append(each)
    ignored = set(seen.settings.models.ignore)
    for subject, orphans in left.items():
        if subject.model not in ignored:
            yield _orphaned(seen, subject, orphans, ledger.scanned)


def _orphaned(seen: Observation, subject: Subject, orphans: list[Orphan], scanned: Instant) -> Claim:
    # The stub itself first, then whoever holds the most.
    first, *others = sorted(orphans, key=lambda each: (not each.stub, -each.process.rss_bytes))
    rss = sum(each.process.rss_bytes for each in orphans)
    gpus, gpu_bytes = _on_gpus(seen, orphans)
    on_gpu = ""
    if gpus:
        size = f"{_mib(gpu_bytes)} of memory on " if gpu_bytes is not None else ""
        on_gpu = f" and {size}{', '.join(gpus)}"
    pid = first.process.id.pid
    if first.stub:
        whom, of = f"The stub process (pid {pid})", "tritonserver"
    else:
        whom, of = f"{named(first.process)} (pid {pid})", "stub"
    more = f" and {len(others)} more process{'es' if len(others) > 1 else ''}" if others else ""
    since = min(each.since.mono for each in orphans)
    pids = " ".join(str(each.process.id.pid) for each in orphans)
    return Claim(
        "StubOrphaned",
        subject,
        f"{whom}{more} outlived {'their' if others else 'its'} {of}, for {scanned.mono - since:.0f} s by now, and "
        f"{'hold' if others else 'holds'} {_mib(rss)}{on_gpu}.",
        "Restart the Triton container, which ends all of its processes; outside of a container, kill -9 "
        f"{pids}. Whoever starts tritonserver must reap it: to its stubs, a zombie is a living parent.",
        scanned,
        {
            "pid": pid,
            "title": first.arguments.name if first.stub else named(first.process),
            "outlived": of,
            "processes": len(orphans),
            "rss_bytes": rss,
            "gpu_memory_bytes": gpu_bytes,
            "gpus": ",".join(gpus) if gpus is not None else None,
        },
    )


def _on_gpus(seen: Observation, orphans: list[Orphan]) -> tuple[tuple[str, ...] | None, int | None]:
    # To be listed proves itself, unless the pids are another namespace's; not to be listed proves nothing
    # where the lists do not show Triton's processes.
    evidence = seen.book.evidence
    if evidence.good is None or evidence.evidence.mode in (EvidenceMode.FOREIGN_PIDS, EvidenceMode.NO_NVML):
        return None, None
    use = gpu_use(evidence.good, (each.process.id.pid for each in orphans))
    if not use:
        return ((), 0) if seen.gap is None else (None, None)
    figures = [each for each in use.values() if each is not None]
    return tuple(sorted(use)), sum(figures) if figures else None


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
