"""Does the real Triton do with a repository what the audit says of it?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from probe.cli import group
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from testbed.cuda import cuda_double
from testbed.tools import until

StartTriton = Callable[..., TritonServer]

_TENSORS = """\
backend: "python"
input [{ name: "INPUT", data_type: TYPE_FP32, dims: [-1] }]
output [{ name: "OUTPUT", data_type: TYPE_FP32, dims: [-1] }]
"""
ALL = {"control_mode": "explicit", "load_models": ("*",)}


def audit(path: Path, *arguments: str) -> Any:  # noqa: ANN401 - any JSON
    """The report on a repository."""
    result = CliRunner().invoke(group, ["audit", str(path), "--format", "json", *arguments])
    return json.loads(result.stdout)


def broken(report: Any) -> dict[str, set[str]]:  # noqa: ANN401 - any JSON
    """The rules by model."""
    found: dict[str, set[str]] = {}
    for each in report["findings"]:
        found.setdefault(each["model"], set()).add(each["rule"])
    return found


def loads(server: TritonServer) -> dict[str, str]:
    """What became of each model: its state, or nothing where Triton did not even try; all loads have ended."""
    until(lambda: all(each.get("state") != "LOADING" for each in server.client.index()))
    return {each["name"]: each.get("state", "") for each in server.client.index()}


def rewrite(repository: Repository, name: str, text: str) -> None:
    """Put another configuration into a model's folder."""
    (repository.path / name / "config.pbtxt").write_text(text, "utf-8")


def test_what_the_audit_calls_refused_triton_refuses_and_nothing_else(
    triton: StartTriton, repository: Repository
) -> None:
    """Kinds, gpus, names, versions, folders, steps, unknown fields, byte order marks."""
    repository.add_echo("good", kind="KIND_CPU", instances=2)
    repository.add_echo("odd_bytes", kind="KIND_CPU").add_echo(
        "same_names", group='[{name: "g"}, {name: "g"}]'
    )
    repository.add_echo("cpu_gpus", group="[{ kind: KIND_CPU gpus: [0] }]")
    repository.add_echo("model_gpus", group="[{ kind: KIND_MODEL gpus: [0] }]")
    repository.add_echo("no_version", kind="KIND_CPU", versions=())
    repository.add_ensemble("chain", steps=("good",)).add_ensemble("broken_chain", steps=("good", "absent"))
    for name in ("strange_platform", "both", "misnamed", "strange_field", "marked", "latest_none", "zeros"):
        repository.add_echo(name, kind="KIND_CPU")
    group_line = "instance_group { kind: KIND_CPU }\n"
    rewrite(repository, "misnamed", f'name: "other"\n{_TENSORS}{group_line}')
    as_platform = _TENSORS.replace("backend:", "platform:")
    rewrite(repository, "strange_platform", f"{as_platform}{group_line}")
    for name, rest in (("no_steps", 'platform: "ensemble"'), ("empty_steps", "ensemble_scheduling { }")):
        repository.add_echo(name)
        rewrite(repository, name, f"{_TENSORS.partition(chr(10))[2]}{rest}\n")
    rewrite(repository, "both", f'platform: "somebodys"\n{_TENSORS}{group_line}')
    rewrite(repository, "strange_field", f"{_TENSORS}{group_line}shiny: 1\n")
    rewrite(repository, "marked", f"\ufeff{_TENSORS}{group_line}")
    rewrite(repository, "latest_none", f"{_TENSORS}{group_line}version_policy {{ latest {{ }} }}\n")
    (repository.path / "odd_bytes" / "config.pbtxt").write_bytes(
        f"{_TENSORS}{group_line}".encode() + b"# caf\xe9\n"
    )
    (repository.path / "zeros" / "1").rename(repository.path / "zeros" / "01")
    (repository.path / "notes").mkdir()
    report = audit(repository.path)
    states = loads(triton(**ALL))

    assert broken(report) == {
        "broken_chain": {"EnsembleStepMissing"},
        "cpu_gpus": {"GpusRefused"},
        "empty_steps": {"EnsembleStepMissing"},
        "no_steps": {"EnsembleStepMissing"},
        "latest_none": {"VersionMissing"},
        "misnamed": {"NameMismatch"},
        "model_gpus": {"GpusRefused"},
        "no_version": {"VersionMissing"},
        "notes": {"NotAModel"},
        "same_names": {"DuplicateGroupName", "SilentFallback"},
        "strange_field": {"FieldUnknown"},
        "strange_platform": {"BackendUnknown"},
        "zeros": {"VersionMissing", "VersionIgnored"},
    }
    assert [Path(each["path"]).parent.name for each in report["unreadable"]] == ["marked"]
    served = {name for name, state in states.items() if state == "READY"}
    assert served == {"good", "odd_bytes", "same_names", "both", "chain"}


def test_a_fixed_repository_fails_where_it_fell_back_and_runs_where_it_was_meant_to(
    triton: StartTriton, repository: Repository
) -> None:
    """Before: on the CPU without a word. After: refused without a GPU, and on every GPU there is."""
    repository.add_echo("implicit").add_echo("left_out", group="[{ count: 2 }]")
    before = audit(repository.path, "--device", "gpu")
    assert broken(before) == {"implicit": {"PlacementImplicit"}, "left_out": {"SilentFallback"}}

    client = triton(**ALL).wait_ready().client
    silent = client.config("implicit")["instance_group"]
    assert [(each["name"], each["kind"]) for each in silent] == [("implicit", "KIND_CPU")]
    assert client.config("left_out")["instance_group"][0]["kind"] == "KIND_CPU"

    after = audit(repository.path, "--device", "gpu", "--fix", "--exclude", "SilentFallback")
    assert after["findings"] == []
    refused = triton(**ALL)
    assert loads(refused)["implicit"] == "UNAVAILABLE"
    assert any("no GPUs are available" in each.get("reason", "") for each in refused.client.index())

    beside = triton(**ALL, environment=cuda_double(2)).wait_ready().client
    (written,) = beside.config("implicit")["instance_group"]
    assert (written["name"], written["kind"], written["gpus"]) == ("implicit_0", "KIND_GPU", [0, 1])
    assert "DuplicateInstanceName" in broken(audit(repository.path, "--gpus", "2"))["implicit"]
