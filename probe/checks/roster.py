"""All checks, in the order in which their findings are listed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from probe.checks import (
    canaries,
    control,
    devices,
    ensembles,
    failing,
    gpu_condition,
    gpu_memory,
    gpus,
    models,
    nvml,
    orphans,
    pace,
    placement,
    server,
    staleness,
    stalls,
    stubs,
    visibility,
    workers,
    xids,
)
from probe.checks.container import cpu, limits, memory_pressure, pids, qos, shm
from probe.checks.deaths import ooms
from probe.checks.observation import Observation
from probe.facts.findings import Claim


def _container(seen: Observation) -> Iterator[Claim]:
    if seen.book.container is not None:
        yield from limits.judge(seen.book.container)


CHECKS: tuple[Callable[[Observation], Iterator[Claim]], ...] = (
    server.judge,
    control.judge,
    models.judge,
    stubs.judge,
    workers.judge,
    orphans.judge,
    ensembles.judge,
    stalls.judge,
    failing.judge,
    pace.judge,
    canaries.judge,
    placement.judge,
    devices.judge,
    gpus.judge,
    xids.judge,
    gpu_condition.judge,
    gpu_memory.judge,
    nvml.judge,
    visibility.judge,
    _container,
    qos.judge,
    memory_pressure.judge,
    cpu.judge,
    pids.judge,
    shm.judge,
    ooms.judge,
    staleness.judge,
)


def judge(seen: Observation) -> tuple[Claim, ...]:
    """What every check says of this moment."""
    return tuple(claim for check in CHECKS for claim in check(seen))
