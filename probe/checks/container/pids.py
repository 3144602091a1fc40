"""Does Triton's container have room for another process or thread?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.container.holders import largest
from probe.checks.observation import Observation
from probe.facts.container import ContainerReading
from probe.facts.findings import CONTAINER, Claim, Scalar
from probe.ledgers.strain import REFUSED_FOR, Fill, Refusals

_STEP = 256


def judge(seen: Observation) -> Iterator[Claim]:
    """One claim near the limit, or where it refused a fork in the last minutes."""
    container, strain = seen.book.container, seen.book.strain
    if container is None or seen.book.server.gone is not None:
        return
    refusals = strain.refused_lately(seen.now)
    near = strain.pids is not None and strain.pids.since is not None
    if near or refusals is not None:
        yield _pressure(seen, container, strain.pids, refusals)


def _pressure(
    seen: Observation, container: ContainerReading, fill: Fill | None, refusals: Refusals | None
) -> Claim:
    told = []
    if fill is None:
        told.append("The limit of Triton's container on processes and threads can not be read.")
    else:
        told.append(
            f"Triton's container has {fill.used} processes and threads, of {fill.limit.value:.0f} at most "
            f"({fill.share:.0%})."
        )
    if refusals is not None:
        told.append(
            f"A limit refused it {refusals.lately} new processes or threads within {_minutes(refusals):.0f} min: a "
            "stub that was to start then did not, or runs with fewer threads than its model needs."
        )
    most = largest(seen, lambda process: process.threads)
    if most:
        told.append(f"Threads: {', '.join(f'{name} {count}' for name, count in most)}.")
    wanted = _doubled(fill)
    evidence: dict[str, Scalar] = {
        "used": fill.used if fill is not None else None,
        "limit": int(fill.limit.value or 0) if fill is not None else None,
        "limit_file": fill.limit.path if fill is not None else None,
        "refused_lately": refusals.lately if refusals is not None else None,
        "refused": container.pids.refused,
        **{f"threads_of_{name}": count for name, count in most},
    }
    observed = fill.observed if fill is not None else container.observed
    return Claim(
        "PidsPressure",
        CONTAINER,
        " ".join(told),
        f"Raise the limit{wanted}: podPidsLimit in the kubelet's configuration (a pod's manifest can not set it), "
        "--pids-limit of docker or podman. Or start fewer threads: set OMP_NUM_THREADS in the environment of "
        "Triton's container, which without it is the number of the node's cores in each stub, or fewer instances.",
        observed,
        {name: value for name, value in evidence.items() if value is not None},
    )


def _minutes(refusals: Refusals) -> float:
    spell = refusals.at.mono - refusals.since.mono if refusals.at and refusals.since else 0.0
    return max(REFUSED_FOR, spell) / 60


def _doubled(fill: Fill | None) -> str:
    # Processes cost little: a limit is there to stop a runaway.
    if fill is None:
        return ""
    least = 2 * max(fill.used, int(fill.limit.value or 0))
    return f" to {max(_STEP, -(-least // _STEP) * _STEP)} at least"
