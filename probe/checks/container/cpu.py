"""Does a CPU limit hold Triton's container back, and is there one at all?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.container.manifest import CONTAINER as WHERE
from probe.checks.container.manifest import cores_up, cpu_quantity
from probe.checks.observation import Observation
from probe.facts.container import ContainerReading, Limit
from probe.facts.findings import CONTAINER, Claim, Scalar
from probe.ledgers.strain import StrainLedger, Throttling


def judge(seen: Observation) -> Iterator[Claim]:
    """One claim without a limit, from one look; one where it throttles much, from a window of looks."""
    container = seen.book.container
    if container is None or seen.book.server.gone is not None:
        return
    limit, throttling = container.cpu.limit, seen.book.strain.throttling
    if limit is not None and limit.value is None:
        yield _unlimited(container, limit, seen.book.strain.cores)
    elif throttling is not None and throttling.since is not None:
        yield _throttled(seen.book.strain, throttling, limit)


def _unlimited(container: ContainerReading, limit: Limit, cores: float | None) -> Claim:
    weight = container.cpu.weight
    now = f"; it uses {cores:.2f} cores now" if cores is not None else ""
    share = f" (its weight is {weight} of 10000)" if weight is not None else ""
    evidence: dict[str, Scalar] = {
        "limit_file": limit.path,
        "cpu_weight": weight,
        "used_cores": round(cores, 3) if cores is not None else None,
    }
    return Claim(
        "CpuUnlimited",
        CONTAINER,
        f"Triton's container has no CPU limit: nothing throttles it, and it may take every core of the node{now}. "
        f"While the node is busy, its share goes by its CPU request{share}.",
        "Nothing has to be done: a CPU request keeps its share, and a limit can only throttle. Where neighbours must "
        f"be spared, or for the QoS class Guaranteed, set resources: {{limits: {{cpu: …}}}} on {WHERE}, not below "
        "what it takes under full load, which triton-probe size tells once it has seen that.",
        container.observed,
        {name: value for name, value in evidence.items() if value is not None},
    )


def _throttled(strain: StrainLedger, throttling: Throttling, limit: Limit | None) -> Claim:
    window, cores = throttling.window, strain.cores
    allowed = limit.value if limit is not None else None
    if throttling.periods is not None:
        counted = f"in {throttling.throttled} of {throttling.periods} periods ({throttling.share:.0%})"
    else:
        counted = f"for {throttling.share:.0%} of the time"
    is_limit = f" of {allowed:g} cores" if allowed is not None else ""
    used = f"; it used {cores:.2f} cores" if cores is not None else ""
    waited = (
        f", and for {strain.cpu_stall:.0%} of the time some task waited for a CPU" if strain.cpu_stall else ""
    )
    if allowed is None:
        remedy = f"Raise resources.limits.cpu of {WHERE} by {throttling.share:.0%}, or remove it"
    else:
        # In a period that was cut short nobody knows what it would have taken.
        wanted = cpu_quantity(cores_up(allowed * (1 + throttling.share)))
        remedy = (
            f"Raise the limit of {WHERE} from {cpu_quantity(allowed)} to {wanted}: "
            f"resources: {{limits: {{cpu: {wanted}}}}}, and look again; or remove it"
        )
    evidence: dict[str, Scalar] = {
        "limit_cores": allowed,
        "limit_file": limit.path if limit is not None else None,
        "used_cores": round(cores, 3) if cores is not None else None,
        "throttled_share": round(throttling.share, 3),
        "periods": throttling.periods,
        "throttled_periods": throttling.throttled,
        "throttled_seconds": _rounded(strain.held_back),
        "cpu_stall_share": _rounded(strain.cpu_stall),
        "window_seconds": round(window.seconds, 1),
    }
    return Claim(
        "CpuThrottled",
        CONTAINER,
        f"The CPU limit{is_limit} held Triton's container back {counted} within the last {window.seconds:.0f} s"
        f"{used}{waited}.",
        f"{remedy}. Fewer threads or instances help too: a framework starts a thread for each core of the node "
        "(OMP_NUM_THREADS), and they use up the limit together.",
        window.ended,
        {name: value for name, value in evidence.items() if value is not None},
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
