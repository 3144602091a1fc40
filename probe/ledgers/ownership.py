"""Whose stub is this: from its command line to the model version that it serves; pure."""

from __future__ import annotations

import re
from collections.abc import Container

from probe.facts.models import ModelConfig, ModelVersion
from probe.facts.processes import StubArguments
from probe.ledgers.models import ModelRecord, ModelsLedger

_INSTANCE = re.compile(r"(?P<group>.+)_(?P<index>[0-9]+)\Z", re.DOTALL)


def copies(instance: str, config: ModelConfig | None) -> int:
    """How many instances of a load carry this name: one for each GPU of its group, else one."""
    found = _INSTANCE.match(instance)
    named = [] if config is None or found is None else [g for g in config.groups if g.name == found["group"]]
    return max((len(group.gpus) for group in named), default=1) or 1


def group_of(instance: str) -> str:
    """The name of the group of this instance, or its own where it has none (an auto-complete stub)."""
    found = _INSTANCE.match(instance)
    return instance if found is None else found["group"]


def owner(arguments: StubArguments, models: ModelsLedger) -> ModelVersion | None:
    """Which loaded model version a stub serves; None for an auto-complete stub.

    The python backend runs ``<repository>/<model>/<version>/<file>``; a backend written in python may run
    its own file, and then only the instance's name ``<group>_<i>`` leads to the model.
    """
    instance = _INSTANCE.match(arguments.name)
    if instance is None:
        return None
    group = instance["group"]
    key = _by_path(arguments)
    record = models.records.get(key) if key is not None else None
    if record is not None:
        return key if _calls(record, arguments.name, group) else None
    if arguments.runtime_dir in _PYTHON:
        return _by_group(key, group, models)
    backend = arguments.runtime_dir.rstrip("/").rpartition("/")[2]
    for key, record in models.records.items():
        config = record.config
        if (
            config is not None
            and config.backend == backend
            and any(each.name == group for each in config.groups)
        ):
            return key
    return None


def likely_model(arguments: StubArguments) -> str:
    """The model's name as far as the command line alone tells it, for a count."""
    return likely_version(arguments).name


def likely_version(arguments: StubArguments) -> ModelVersion:
    """The model version as far as the command line alone tells it; the version is empty where it does not."""
    key = _by_path(arguments) if arguments.runtime_dir in _PYTHON else None
    return key or ModelVersion(arguments.name.rpartition("_")[0] or arguments.name, "")


def _by_group(key: ModelVersion | None, group: str, models: ModelsLedger) -> ModelVersion | None:
    # A repository in an object store is copied to a folder of a random name, which is no model's: then the
    # version and the group's name must do, where they mean one model alone.
    if key is None or key.name in models.known:
        return None
    fitting = [
        each.key
        for each in models.records.values()
        if each.key.version == key.version
        and each.config is not None
        and each.config.backend == "python"
        and any(one.name == group for one in each.config.groups)
    ]
    return fitting[0] if len(fitting) == 1 else None


_PYTHON = ("", "DEFAULT")
"""Runtime folders of the python backend itself; empty before 23.10, when no other backend had stubs."""


def _by_path(arguments: StubArguments) -> ModelVersion | None:
    parts = arguments.model_path.split("/")
    # The model, its version, and the file.
    return ModelVersion(parts[-3], parts[-2]) if len(parts) > 2 else None  # noqa: PLR2004


def _calls(record: ModelRecord, name: str, group: str) -> bool:
    # The auto-complete stub of a model called "m_0" is named like the first instance of a group "m":
    # without a configuration it is taken for the former, with one the group must be in it.
    if record.config is None:
        return name != record.key.name
    return any(each.name == group for each in record.config.groups)


def may_be_of(arguments: StubArguments, key: ModelVersion, known: Container[str]) -> bool:
    """Whether a stub may be of this version, loaded or not, where ``known`` are the names of the repository.

    While a model loads, Triton tells of no configuration; a path that leads to no known model (a repository in an
    object store, a backend written in python) leaves the instance's name: ``<model>_<i>`` or ``<model>_<group>_<i>``.
    """
    path = _by_path(arguments)
    if path is not None and path.name in known:
        return path.name == key.name and (not key.version or path.version == key.version)
    return key.name in possible_models(arguments, known)


def possible_models(arguments: StubArguments, known: Container[str]) -> frozenset[str]:
    """The names of all models that a stub may be of, as :func:`may_be_of` has it."""
    path = _by_path(arguments)
    if path is not None and path.name in known:
        return frozenset((path.name,))
    name = group_of(arguments.name)
    return frozenset((arguments.name, name, group_of(name)))
