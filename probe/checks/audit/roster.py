"""What is asked of a repository, in the order in which the answers are listed."""

from __future__ import annotations

from collections.abc import Collection

from probe.checks.audit import ensembles, folders, names, parameters, placement, refusals, sizes
from probe.checks.audit.terms import Terms
from probe.facts.audits import RULES, AuditFinding
from probe.facts.repository import RepositoryReading

OF_MODELS = (placement.judge, refusals.judge, names.judge, folders.judge, parameters.judge)
"""Asked of each model under each of its configurations."""

_ORDER = {name: index for index, name in enumerate(RULES)}


def findings(
    reading: RepositoryReading, terms: Terms, excluded: Collection[str] = ()
) -> tuple[AuditFinding, ...]:
    """Everything that is wrong with what was read: by file, then by line, then in the order of the rules.

    ``excluded`` are rules to leave out; models of ``models.ignore`` are left out too.
    """
    ignored = frozenset(terms.settings.models.ignore)
    found: list[AuditFinding] = []
    for deployment in reading.deployments:
        of_models: list[AuditFinding] = []
        for model in deployment.models:
            for judge in OF_MODELS:
                of_models += judge(model, terms)
        of_models += ensembles.judge(deployment)
        bare = folders.without_files(deployment)
        if bare is not None:
            of_models = [each for each in of_models if each.rule != bare.rule]
            found.append(bare)
        places = {model.place: index for index, model in enumerate(deployment.models)}
        of_models.sort(key=lambda each: (places[each.path], each.line or 0, _ORDER[each.rule]))
        found += of_models
        found += sizes.judge(deployment, terms)
    return tuple(each for each in found if each.rule not in excluded and each.model not in ignored)
