"""Model repositories in a test's own folder, and readings of such, in few words."""

from __future__ import annotations

import random
from collections.abc import Iterator
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
FULL = """\
# an ONNX model
name: "ranker"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "x", data_type: TYPE_FP32, dims: [ -1 ] } ]
instance_group [
  {
    name: "first"
    count: 2
    kind: KIND_GPU
    gpus: [ 0, 1 ]
  },
  { count: 1 }
]
instance_group { kind: KIND_CPU passive: true }
optimization {
  execution_accelerators {
    gpu_execution_accelerator: [ { name: "tensorrt" }, { name: "cuda" } ]
    cpu_execution_accelerator { name: "openvino" }
  }
}
parameters { key: "triton_probe.device" value { string_value: "gpu" } }
parameters: { key: 'a' value: { string_value: 'b' } }
version_policy: { specific { versions: [ 1, 3 ] } }
"""
"""A configuration with everything that an audit asks for."""

PIECES = (
    *FULL.encode().split(),
    *b"{ } [ ] < > : , ; # \" ' \\ \x00 \xff - 9999999999999999999999 1e400 nan 0x".split(),
    *b"KIND_MODEL ensemble_scheduling step latest \n".split(b" "),
)
"""Words of such a file, and some that break one."""


def mutants(count: int, seed: int) -> Iterator[bytes]:
    """So many files of which some bytes or words were lost, doubled, changed, or put elsewhere."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    for _ in range(count):
        raw = bytearray(FULL.encode())
        for _ in range(chance.randint(1, 2)):
            at, other = sorted((chance.randrange(len(raw) + 1), chance.randrange(len(raw) + 1)))
            match chance.randrange(5):
                case 0:
                    del raw[at : min(other, at + 40)]
                case 1:
                    raw[at:at] = b" " + chance.choice(PIECES) + b" "
                case 2:
                    raw[at : at + 1] = bytes([chance.randrange(256)])
                case 3:
                    raw[at:at] = raw[at : min(other, at + 200)]
                case _:
                    raw[at:] = b"" if chance.randrange(4) == 0 else raw[at:]
        yield bytes(raw)


_OF_FOLDER = ("config_file", "config", "variant", "versions", "ignored", "lone", "listed")


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
