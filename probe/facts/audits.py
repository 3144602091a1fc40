"""What can be wrong with a model repository before any Triton read it: the rules of ``audit``, declared once."""

from __future__ import annotations

import msgspec

from probe.facts.findings import Severity


class Rule(msgspec.Struct, frozen=True):
    """One rule: what it says of a repository, and how bad that is.

    Where the daemon would report the same of a loaded model, the rule has the name of that reason.
    """

    name: str
    says: str
    severity: Severity


class AuditFinding(msgspec.Struct, frozen=True):
    """One thing that is wrong with a repository.

    ``path`` and ``line`` (from 1, None where it is about no line) say where; ``fix`` is the line that
    ``--fix`` would add to that file, empty where there is none.
    """

    rule: str
    severity: Severity
    model: str
    path: str
    line: int | None
    message: str
    remedy: str
    fix: str = ""


_WARNING, _CRITICAL = Severity.WARNING, Severity.CRITICAL

_ALL = (
    Rule("CpuFallback", "The model is meant for a GPU, and its instance_group says KIND_CPU.", _CRITICAL),
    Rule(
        "PlacementImplicit", "No instance_group is written: what Triton sees at its start decides.", _WARNING
    ),
    Rule(
        "SilentFallback",
        "An instance_group says KIND_AUTO, or no kind: without a usable GPU it runs on the CPU, without a word.",
        _WARNING,
    ),
    Rule("PlacementMixed", "Some groups are on GPUs and some on the CPU, and share the requests.", _WARNING),
    Rule(
        "PlacementSkewed",
        "A python model is spread over several GPUs, and its code never asks which one is its own.",
        _WARNING,
    ),
    Rule("KindRefused", "The backend refuses the kind of an instance_group: the load fails.", _CRITICAL),
    Rule("GpusRefused", "gpus are listed for a kind that takes none: the load fails.", _CRITICAL),
    Rule("GpusIgnored", "gpus are listed for a backend that does not look at them.", _WARNING),
    Rule("GpuMissing", "A GPU is listed that this Triton will not have (--gpus): the load fails.", _CRITICAL),
    Rule(
        "AcceleratorIgnored",
        "An execution accelerator is written that this kind or backend never uses.",
        _WARNING,
    ),
    Rule("AcceleratorUnknown", "ONNX Runtime knows no such accelerator: the load fails.", _CRITICAL),
    Rule("DuplicateInstanceName", "Instances on several GPUs get one and the same name.", _WARNING),
    Rule("DuplicateGroupName", "Two groups have one name, and so have their instances.", _WARNING),
    Rule(
        "GroupNamedAsModel",
        "A group has the model's own name, by which groups that nobody wrote are known.",
        _WARNING,
    ),
    Rule("NameMismatch", "The model's name is not its folder's: Triton refuses it.", _CRITICAL),
    Rule(
        "ModelNotUnique",
        "Two repositories of one Triton have a model of this name: it loads neither.",
        _CRITICAL,
    ),
    Rule("NotAModel", "A folder is no model: Triton takes every folder of a repository for one.", _CRITICAL),
    Rule(
        "BackendUnknown",
        "Nothing that Triton knows says which backend the model is for: it refuses it.",
        _CRITICAL,
    ),
    Rule("VersionMissing", "There is no version folder to load: Triton refuses the model.", _CRITICAL),
    Rule("VersionIgnored", "A version folder's number begins with 0: Triton passes over it.", _WARNING),
    Rule(
        "VersionsLoadedTogether",
        "Several versions are loaded at once, each with all of its instances.",
        _WARNING,
    ),
    Rule("ModelFileMissing", "A python model has no source file: its load never ends.", _CRITICAL),
    Rule(
        "EnsembleStepMissing", "An ensemble's step is in none of the repositories, or it has none.", _CRITICAL
    ),
    Rule("ShmTooSmall", "/dev/shm (--shm) is smaller than its stubs can need.", _WARNING),
    Rule(
        "MemoryTooSmall", "The memory (--memory) is less than Triton and its stubs take at least.", _WARNING
    ),
    Rule("ParameterInvalid", "A triton_probe parameter that the probe will not understand.", _WARNING),
    Rule(
        "FieldUnknown",
        "A field or a value that this schema lacks: a Triton that lacks it too refuses the file.",
        _WARNING,
    ),
)

RULES: dict[str, Rule] = {each.name: each for each in _ALL}
"""Every rule by its name, in the order in which findings on one file are listed."""
