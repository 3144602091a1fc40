"""Is every model there that an ensemble needs, and each only once?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.audit.terms import finding
from probe.facts.audits import AuditFinding
from probe.facts.repository import Deployment, RepositoryModel


def judge(deployment: Deployment) -> Iterator[AuditFinding]:
    """Steps that lead nowhere, and names that two folders have."""
    models: dict[str, RepositoryModel] = {}
    for model in deployment.models:
        if model.variant or model.lone:
            continue
        first = models.setdefault(model.name, model)
        if first is not model:
            yield finding(
                "ModelNotUnique",
                model,
                None,
                f"{first.folder} and {model.folder} are both given: a Triton with both repositories loads neither.",
                "Rename one of them, or audit what goes to another Triton by itself.",
            )
    known = models.keys() | deployment.beside
    for model in deployment.models:
        if model.said.ensemble and not model.lone:
            yield from _steps(model, models, known)


def _steps(
    model: RepositoryModel, models: dict[str, RepositoryModel], known: frozenset[str] | set[str]
) -> Iterator[AuditFinding]:
    if not model.said.steps:
        yield finding(
            "EnsembleStepMissing",
            model,
            None,
            "It is an ensemble and names no step: Triton refuses it.",
            "Write ensemble_scheduling { step [ … ] }, or the backend that it is for.",
        )
    for step in model.said.steps:
        other = models.get(step.model)
        if step.model not in known:
            what = "which is in none of the given repositories"
        elif (
            other is not None
            and other.readable
            and other.listed
            and step.version is not None
            and step.version not in _kept(other)
        ):
            what = f"version {step.version}, which is not loaded"
        else:
            continue
        yield finding(
            "EnsembleStepMissing",
            model,
            step.line,
            f"Its step names {step.model!r}, {what}: Triton refuses the ensemble.",
            "Add the model, mend the step, or give the other repository too: triton-probe audit PATH PATH",
        )


def _kept(model: RepositoryModel) -> tuple[int, ...]:
    return model.said.policy.kept(each.version for each in model.versions)
