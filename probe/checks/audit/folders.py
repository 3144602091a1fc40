"""Would Triton find in each folder what it needs to load a model?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.audit.backends import backend_of
from probe.checks.audit.terms import Terms, finding, instances
from probe.facts.audits import RULES, AuditFinding
from probe.facts.backends import OF_PLATFORM
from probe.facts.findings import Severity
from probe.facts.repository import Deployment, RepositoryModel
from probe.kits.words import quoted

_NAMED = 3


def judge(model: RepositoryModel, terms: Terms) -> Iterator[AuditFinding]:
    """Name, backend, versions, and the source of a python model; nothing where that is not known."""
    if model.lone or not model.readable or not model.listed:
        return
    if model.empty:
        yield finding(
            "NotAModel",
            model,
            None,
            "The folder holds neither a config.pbtxt nor a version folder, and Triton takes every folder of a "
            "repository for a model: it refuses this one.",
            "Move the folder out of the repository.",
        )
        return
    said = model.said
    if said.name and said.name != model.name:
        yield finding(
            "NameMismatch",
            model,
            said.name_line,
            f"It is named {said.name!r} in a folder named {model.name!r}: Triton refuses it.",
            f'Write name: "{model.name}", or nothing, or rename the folder.',
        )
    backend = backend_of(model)
    if not said.ensemble and said.platform and not backend:
        yield finding(
            "BackendUnknown",
            model,
            None,
            f"Its platform is {quoted(said.platform)}, and Triton knows {', '.join(OF_PLATFORM)} alone: it refuses "
            "the model.",
            f'Write backend: "{said.platform}" in its place, where that is the backend\'s name.',
        )
    elif model.versions and not backend and not said.ensemble:
        yield finding(
            "BackendUnknown",
            model,
            None,
            "Neither its configuration nor a file in its first version folder says which backend it is for: "
            "Triton refuses it.",
            'Write a backend, such as backend: "python".',
        )
    yield from _versions(model, terms)
    if backend == "python" and not said.ensemble:
        yield from _source(model)


def without_files(deployment: Deployment) -> AuditFinding | None:
    """One finding in place of many, where no model has any version: configurations without their models."""
    models = [
        each
        for each in deployment.models
        if each.readable and each.listed and not each.lone and not each.variant
    ]
    if len(models) < 2 or any(each.versions or each.ignored for each in models):  # noqa: PLR2004 - many
        return None
    names = ", ".join(each.name for each in models[:_NAMED])
    more = f" and {len(models) - _NAMED} more" if len(models) > _NAMED else ""
    return AuditFinding(
        "VersionMissing",
        RULES["VersionMissing"].severity,
        "",
        deployment.paths[0],
        None,
        f"None of its {len(models)} models ({names}{more}) has a version folder (1, 2, …): as it lies here, Triton "
        "refuses all of them.",
        "Where the models' files come later, leave this out: --exclude VersionMissing",
    )


def _versions(model: RepositoryModel, terms: Terms) -> Iterator[AuditFinding]:
    policy = model.said.policy
    there = [each.version for each in model.versions]
    for name in model.ignored:
        yield finding(
            "VersionIgnored",
            model,
            None,
            f"Triton passes over the version folder {name}, for its number begins with 0.",
            f"Rename it to {int(name)}.",
        )
    kept = policy.kept(there)
    absent = [each for each in policy.specific or () if each not in there]
    if not kept:
        listed = f"of {', '.join(map(str, there))} its version_policy keeps none" if there else "it has none"
        yield finding(
            "VersionMissing",
            model,
            policy.line,
            f"Triton loads a model by its version folders (1, 2, …), and {listed}: it refuses the model.",
            f"mkdir {model.folder}/1, and put the model's files there"
            f"{' (an ensemble needs the folder too, and it may be empty)' if model.said.ensemble else ''}.",
        )
    elif absent:
        yield finding(
            "VersionMissing",
            model,
            policy.line,
            f"Its version_policy asks for version {absent[0]}, and there is no such folder: Triton logs an error and "
            f"loads {', '.join(map(str, kept))} alone.",
            f"mkdir {model.folder}/{absent[0]}, or take it out of the version_policy.",
            severity=Severity.WARNING,
        )
    each = instances(model, terms)
    if len(kept) > 1 and each:
        yield finding(
            "VersionsLoadedTogether",
            model,
            policy.line,
            f"{len(kept)} versions ({', '.join(map(str, kept))}) are loaded at once, each with {each} "
            f"instance{'s' if each > 1 else ''}: {len(kept) * each} in all, with {len(kept)} times the memory.",
            "Where the latest is enough: version_policy { latest { num_versions: 1 } }",
        )


def _source(model: RepositoryModel) -> Iterator[AuditFinding]:
    file = model.said.default_file or "model.py"
    kept = model.said.policy.kept(each.version for each in model.versions)
    # A name with a slash leads below what was listed.
    lacking = [each.version for each in model.versions if each.version in kept and file not in each.files]
    if lacking and "/" not in file:
        yield finding(
            "ModelFileMissing",
            model,
            None,
            f"Version {lacking[0]} has no {file}: its stub exits, and the model stays LOADING for ever"
            " (seen in 24.10), which keeps Triton's ports closed unless it runs in EXPLICIT mode.",
            f"Put {file} into {model.folder}/{lacking[0]}, or name the file that is there in default_model_filename.",
        )
