"""Model repositories in a test's own folder, and readings of such, in few words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from probe.checks.audit.roster import findings
from probe.checks.audit.terms import Terms
from probe.facts.audits import AuditFinding
from probe.facts.models import InstanceKind
from probe.facts.repository import (
    Deployment,
    RepositoryModel,
    RepositoryReading,
    VersionFolder,
    WrittenConfig,
    WrittenGroup,
)
from probe.settings import ModelPlacement, PlacementSettings, Policy, Settings

GPU, CPU, MODEL, AUTO = InstanceKind.GPU, InstanceKind.CPU, InstanceKind.MODEL, InstanceKind.AUTO
SOURCE = "model_instance_device_id = 0\n"
"""A model.py that asks for its device."""
_OF_FOLDER = ("config_file", "config", "variant", "versions", "ignored", "lone")


def lay(
    root: Path, name: str, config: str | bytes | None = None, *, files: tuple[str, ...] = ("1/model.py",)
) -> Path:
    """A model's folder with this configuration and these files; its path."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        raw = config if isinstance(config, bytes) else config.encode()
        (folder / "config.pbtxt").write_bytes(raw)
    for each in files:
        (folder / each).parent.mkdir(parents=True, exist_ok=True)
        (folder / each).write_text(SOURCE)
    return folder


def group(
    kind: InstanceKind = GPU, count: int = 0, *gpus: int, name: str = "", line: int = 3, kind_line: int = 4
) -> WrittenGroup:
    """A group as it is written at line 3, its kind at line 4."""
    return WrittenGroup(name, kind, count, gpus, line, kind_line)


def version(number: int = 1, *files: str, **told: Any) -> VersionFolder:  # noqa: ANN401 - VersionFolder's own
    """A version's folder; with ``model.py`` where nothing else is said."""
    return VersionFolder(number, files or ("model.py",), **told)


def model(
    name: str = "m",
    /,
    *groups: WrittenGroup,
    backend: str = "python",
    folder: str = "",
    **told: Any,  # noqa: ANN401 - either's own
) -> RepositoryModel:
    """A model of one version; ``told`` goes to its configuration or to its folder, whichever has it."""
    of_folder = {key: told.pop(key) for key in list(told) if key in _OF_FOLDER}
    config = WrittenConfig(backend=backend, groups=groups, **told)
    place = folder or f"models/{name}"
    plain: dict[str, Any] = {
        "config_file": f"{place}/config.pbtxt",
        "config": config,
        "versions": (version(),),
    }
    return RepositoryModel(name=name, folder=place, **{**plain, **of_folder})


def without_file(name: str = "m", *versions: VersionFolder) -> RepositoryModel:
    """A model that nobody wrote a configuration for."""
    return RepositoryModel(name=name, folder=f"models/{name}", versions=versions or (version(),))


def terms(device: str = "auto", models: dict[str, str] | None = None, **told: Any) -> Terms:  # noqa: ANN401 - Terms' own
    """What the caller wants, by the words of its policy."""
    placement = PlacementSettings(
        default=Policy(device),
        models={name: ModelPlacement(device=Policy(each)) for name, each in (models or {}).items()},
    )
    return Terms(Settings(placement=placement), **told)


def audited(
    *models: RepositoryModel, by: Terms | None = None, beside: tuple[str, ...] = ()
) -> list[AuditFinding]:
    """What is found on models that go to one Triton together."""
    deployment = Deployment(("models",), models, frozenset(beside))
    return list(findings(RepositoryReading((deployment,)), by or terms()))


def rules(*models: RepositoryModel, by: Terms | None = None, beside: tuple[str, ...] = ()) -> list[str]:
    """The rules that models break, in order."""
    return [each.rule for each in audited(*models, by=by, beside=beside)]


def only(rule: str, *models: RepositoryModel, by: Terms | None = None) -> AuditFinding:
    """The one finding of this rule."""
    (found,) = [each for each in audited(*models, by=by) if each.rule == rule]
    return found
