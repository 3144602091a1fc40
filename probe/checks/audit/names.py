"""Can each instance be told from the others, by its name and by its GPU?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from probe.checks.audit.backends import CHOOSES_ITSELF, backend_of
from probe.checks.audit.terms import Terms, finding
from probe.facts.audits import AuditFinding
from probe.facts.models import InstanceKind
from probe.facts.repository import RepositoryModel, WrittenGroup

_SPREAD = (InstanceKind.GPU, InstanceKind.AUTO)


def judge(model: RepositoryModel, terms: Terms) -> Iterator[AuditFinding]:
    """Names of groups, then of instances on several GPUs, then code that does not ask for its GPU."""
    if model.said.ensemble or not model.readable:
        return
    groups = model.said.groups
    named = [each.name or f"{model.name}_{index}" for index, each in enumerate(groups)]
    for name, times in Counter(named).items():
        if times > 1:
            last = [each for each, its in zip(groups, named, strict=True) if its == name][-1]
            yield finding(
                "DuplicateGroupName",
                model,
                last.line,
                f"{times} of its instance groups are named {name}: their instances are all {name}_0 and so on in "
                "every log, and in the command line of every stub.",
                "Give each group a name of its own, or none (then it is <model>_<number of the group>).",
            )
    if model.name in named and not model.lone:
        own = groups[named.index(model.name)]
        yield finding(
            "GroupNamedAsModel",
            model,
            own.line,
            f"An instance group is named {model.name}, as Triton names the group that it makes up where none is "
            "written: a running model's placement then looks implicit.",
            "Give the group another name, or none.",
        )
    backend = backend_of(model)
    if backend in CHOOSES_ITSELF:
        return
    for group, name in zip(groups, named, strict=True):
        if group.kind in _SPREAD and len(_gpus(group, terms)) > 1:
            yield _same_names(model, group, name, terms)
    yield from _skewed(model, backend, terms)


def _gpus(group: WrittenGroup, terms: Terms) -> tuple[int, ...]:
    """The GPUs of a group; where none are listed, all that there are known to be."""
    if group.gpus or group.kind is not InstanceKind.GPU:
        return group.gpus
    return tuple(range(terms.gpus or 0))


def _same_names(model: RepositoryModel, group: WrittenGroup, name: str, terms: Terms) -> AuditFinding:
    gpus, count = _gpus(group, terms), max(group.count, 1)
    listed = ", ".join(str(each) for each in gpus)
    several = [f"{{ count: {count} kind: KIND_GPU gpus: [ {each} ] }}" for each in dict.fromkeys(gpus)]
    names = f"{name}_0" if count == 1 else f"{name}_0 to {name}_{count - 1}"
    return finding(
        "DuplicateInstanceName",
        model,
        group.line,
        f"Its {count * len(gpus)} instances on the GPUs {listed} have one name for each {len(gpus)} of them "
        f"({names}): neither a log nor a stub's command line tells on which GPU one is.",
        f"Write a group for each GPU: instance_group [ {', '.join(several)} ]",
    )


def _skewed(model: RepositoryModel, backend: str, terms: Terms) -> Iterator[AuditFinding]:
    gpus = {gpu for each in model.said.groups for gpu in _gpus(each, terms)}
    deaf = [each.version for each in model.versions if each.asks_device is False]
    if backend != "python" or len(gpus) < 2 or not deaf:  # noqa: PLR2004 - several
        return
    yield finding(
        "PlacementSkewed",
        model,
        model.said.groups[0].line,
        f"Its instances are spread over {len(gpus)} GPUs, and the code of version {deaf[0]} names neither "
        "model_instance_device_id nor CUDA_VISIBLE_DEVICES: frameworks put all of them on the first GPU.",
        "In initialize(), use the device that Triton gives: f\"cuda:{args['model_instance_device_id']}\".",
    )
