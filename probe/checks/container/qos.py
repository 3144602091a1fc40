"""Does Triton run with ``resources: {}``, so that it is the first to be killed and the last to get a CPU?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.container.limits import unlimited
from probe.checks.container.manifest import CONTAINER as WHERE
from probe.checks.container.manifest import cores_up, reserved_line, suggested_limit
from probe.checks.observation import Observation
from probe.facts.container import ContainerReading
from probe.facts.findings import CONTAINER, Claim, Scalar
from probe.facts.qos import FIRST_TO_DIE, NO_REQUEST, NO_SHARE, QosClass, qos_of


def judge(seen: Observation) -> Iterator[Claim]:
    """One claim where Triton's container surely requests nothing; silent where the class can not be told."""
    container = seen.book.container
    if container is not None and requests_nothing(container):
        yield _best_effort(seen, container)


def requests_nothing(container: ContainerReading) -> bool:
    """Whether this container has ``resources: {}``, whatever else runs in its pod.

    A sidecar with a request of its own, the probe's too, makes the pod Burstable and helps its neighbour in no way.
    """
    found = qos_of(container)
    if found is not QosClass.BURSTABLE:
        return found is QosClass.BEST_EFFORT
    limit = container.memory.limit
    return (
        container.oom_score_adj == NO_REQUEST
        and container.cpu.weight == NO_SHARE
        and limit is not None
        and unlimited(limit, container.node_memory_bytes) is not None
    )


def _best_effort(seen: Observation, container: ContainerReading) -> Claim:
    alone = qos_of(container) is QosClass.BEST_EFFORT
    score, weight = container.oom_score_adj, container.cpu.weight
    pod = "its pod is BestEffort" if alone else "only other containers of its Burstable pod request anything"
    scored = f" (oom_score_adj {score} of at most {FIRST_TO_DIE})" if score is not None else ""
    share = f" (CPU weight {weight} of 10000)" if weight is not None else ""
    suggested = suggested_limit(container)
    cores = seen.book.strain.cores
    cpu = cores_up(cores) if cores is not None else None
    if suggested is None:
        line = "resources: {requests: {cpu: …, memory: …}, limits: {memory: …}}"
        why = "each a quarter above its peak under load"
    else:
        line = reserved_line(suggested[0], cpu)
        why = f"memory: {suggested[1]}" + (f"; CPU: {cores:.2f} cores now" if cores is not None else "")
    evidence: dict[str, Scalar] = {
        "qos": qos_of(container),
        "oom_score_adj": score,
        "cpu_weight": weight,
        "working_set_bytes": container.memory.working_set_bytes,
        "peak_bytes": container.memory.peak_bytes,
        "used_cores": round(cores, 3) if cores is not None else None,
        "suggested_limit_bytes": suggested[0] if suggested is not None else None,
    }
    return Claim(
        "BestEffortPod",
        CONTAINER,
        f"Triton's container runs with resources: {{}}, {pod}: when the node is short of memory its processes are the "
        f"first to be killed{scored}, and when its CPUs are busy it gets what others leave{share}.",
        f"Set {line} on {WHERE}; {why}. After it has been under full load, triton-probe size gives the figures from "
        "the peaks. The class Guaranteed asks for limits like requests, of the CPU too, on every container of the pod.",
        container.observed,
        {name: value for name, value in evidence.items() if value is not None},
    )
