"""Does every ready ensemble have all of its steps?

Triton calls an ensemble ready whatever becomes of its steps' instances, on every release (core,
``Model::IsReady``), so the steps are judged here.
"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks import stubs
from probe.checks.observation import Observation
from probe.facts.findings import Claim, Subject, SubjectKind
from probe.facts.instants import Instant
from probe.facts.models import ModelVersion
from probe.ledgers.models import ModelRecord

DEPTH = 16
"""Ensembles may hold ensembles; Triton refuses cycles, and garbage is not followed for ever."""


def judge(seen: Observation) -> Iterator[Claim]:
    """One claim an ensemble, naming its first step that is unfit."""
    if not seen.watching:
        return
    for record in seen.records():
        if record.ready and record.config is not None and record.config.ensemble:
            unfit = _unfit_step(seen, record, DEPTH)
            if unfit is not None:
                yield _claim(seen, record, *unfit)


def _unfit_step(seen: Observation, record: ModelRecord, depth: int) -> tuple[str, str, Instant] | None:
    for step in record.config.steps if record.config is not None else ():
        versions = [each for each in _versions(seen, step) if each.ready]
        if not versions:
            if seen.book.models.statistics_at is None:
                continue
            return str(step), "is not ready", seen.book.models.statistics_at
        for each in versions:
            lost = stubs.lost_instances(seen, each)
            if lost is not None:
                return str(each.key), f"has {lost.count} of {lost.expected} instances dead", lost.observed
            if each.told_ready is False and each.told_ready_at is not None:
                return str(each.key), "is said not ready by Triton", each.told_ready_at
            if depth and (deeper := _unfit_step(seen, each, depth - 1)) is not None:
                return deeper
    return None


def _versions(seen: Observation, step: ModelVersion) -> tuple[ModelRecord, ...]:
    named = seen.book.models.named(step.name)
    return tuple(each for each in named if not step.version or each.key.version == step.version)


def _claim(seen: Observation, record: ModelRecord, step: str, trouble: str, observed: Instant) -> Claim:
    return Claim(
        "EnsembleStepUnready",
        Subject(SubjectKind.MODEL, model=record.key.name, version=record.key.version),
        f"Triton says that the ensemble is ready, and its step {step} {trouble}.",
        seen.reload_remedy(step.split("/", maxsplit=1)[0]),
        observed,
        {"step": step},
    )
