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
        if record.ready:
            unfit = _unfit_step(seen, record, record.statistics_at or seen.now, frozenset())
            if unfit is not None:
                yield _claim(seen, record, *unfit)


def _unfit_step(
    seen: Observation, record: ModelRecord, told: Instant, above: frozenset[ModelVersion]
) -> tuple[str, str, Instant] | None:
    within = above | {record.key}
    # A model may be several steps of one ensemble.
    for step in dict.fromkeys(record.config.steps if record.config is not None else ()):
        meant = seen.meant(step)
        if meant is None:
            if _left_since(seen, step, told):
                # An unload takes the ensemble with it: wait until Triton says that it stayed.
                continue
            return str(step), "is not ready", told
        lost = stubs.lost_instances(seen, meant)
        if lost is not None:
            return str(meant.key), f"has {lost.count} of {lost.expected} instances dead", lost.observed
        unready = seen.told_unready(meant)
        if unready is not None:
            return str(meant.key), "is said not ready by Triton", unready
        if meant.key in within or len(within) > DEPTH:
            continue
        deeper = _unfit_step(seen, meant, told, within)
        if deeper is not None:
            return deeper
    return None


def _left_since(seen: Observation, step: ModelVersion, told: Instant) -> bool:
    named = seen.book.models.named(step.name)
    return any(each.since is not None and each.since.mono > told.mono for each in named)


def _claim(seen: Observation, record: ModelRecord, step: str, trouble: str, observed: Instant) -> Claim:
    return Claim(
        "EnsembleStepUnready",
        Subject(SubjectKind.MODEL, model=record.key.name, version=record.key.version),
        f"Triton says that the ensemble is ready, and its step {step} {trouble}.",
        seen.reload_remedy(step.split("/", maxsplit=1)[0]),
        observed,
        {"step": step},
        action=seen.reload_action,
    )
